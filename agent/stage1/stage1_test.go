package stage1

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCopyTree(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	for path, text := range map[string]string{"etc/unit": "[Unit]", "usr/bin/x": "x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/dev/null", filepath.Join(from, "etc/masked")); err != nil {
		t.Fatal(err)
	}
	if err := copyTree(from, to); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "etc/unit")); err != nil || string(b) != "[Unit]" {
		t.Errorf("etc/unit = %q, %v", b, err)
	}
	if l, err := os.Readlink(filepath.Join(to, "etc/masked")); err != nil || l != "/dev/null" {
		t.Errorf("etc/masked -> %q, %v", l, err)
	}
	if err := copyTree(filepath.Join(from, "none"), to); err != nil {
		t.Errorf("a source that is not there: %v; want nothing copied", err)
	}
}

func TestRoleThatIsNotKnownIsRefused(t *testing.T) {
	err := Run(t.Context(), "agent", func(s string) { t.Errorf("did %q", s) })
	if err == nil {
		t.Error("role agent was carried out by stage 1")
	}
}
