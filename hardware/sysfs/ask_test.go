package sysfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestAsk(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "answers/nvme/nvme0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "answers/nvme/nvme0/identify"), []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	live := func() ([]byte, error) { return []byte("live"), nil }
	if b, err := Root(root).Ask(t.Context(), "nvme/nvme0/identify", 3, live); string(b) != "abc" || err != nil {
		t.Errorf("a recorded answer = %q, %v", b, err)
	}
	if _, err := Root(root).Ask(t.Context(), "nvme/nvme0/identify", 2, live); err == nil {
		t.Error("an answer of more than its bound is taken")
	}
	for _, name := range []string{"nvme/nvme1/identify", "../answers/nvme/nvme0/identify"} {
		if _, err := Root(root).Ask(t.Context(), name, 3, live); !errors.Is(err, ErrNotRecorded) {
			t.Errorf("Ask(%q) = %v; want ErrNotRecorded", name, err)
		}
	}
	got := map[string]string{}
	ctx := WithRecorder(t.Context(), func(name string, b []byte) { got[name] = string(b) })
	if b, err := Root("/").Ask(ctx, "x/y", 9, live); string(b) != "live" || err != nil || got["x/y"] != "live" {
		t.Errorf("a live answer = %q, %v; recorded %v", b, err, got)
	}
	if _, err := Root("/").Ask(ctx, "x/z", 9, func() ([]byte, error) { return nil, os.ErrPermission }); err == nil || len(got) != 1 {
		t.Errorf("what failed: %v; recorded %v", err, got)
	}
}
