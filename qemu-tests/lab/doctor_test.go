package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoctorNamesWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	err := Doctor(t.Context(), Options{Tools: dir})
	if err == nil || !strings.Contains(err.Error(), "make build/tools/.stamp") {
		t.Fatalf("doctor without tools = %v; want what makes them", err)
	}
	// Each file is asked for: with all but one there, it is that one.
	files := tools(dir).files()
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := tools(dir).check(); err != nil {
		t.Errorf("check of all files = %v; want nil", err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
		if err := tools(dir).check(); err == nil || !strings.Contains(err.Error(), f) {
			t.Errorf("check without %s = %v; want it named", f, err)
		}
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUpRefusesWithoutTools(t *testing.T) {
	if _, err := Up(t.Context(), Options{Name: "none", Tools: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "cannot run here") {
		t.Errorf("up without tools = %v; want it refused", err)
	}
}
