package inventory

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSnapshots reads the real machines that ghw's module carries.
func TestSnapshots(t *testing.T) {
	dir := moduleDir(t, "github.com/jaypipes/ghw")
	archives, err := filepath.Glob(filepath.Join(dir, "testdata/snapshots/linux-a*.tar.gz"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no snapshots in %s: %v", dir, err)
	}
	for _, a := range archives {
		name := "ghw-" + strings.TrimSuffix(filepath.Base(a), ".tar.gz")
		t.Run(name, func(t *testing.T) {
			res := Read(t.Context(), unpack(t, a))
			golden(t, filepath.Join("testdata", name+".json"), res.Inventory)
		})
	}
}

func moduleDir(t testing.TB, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil || len(out) < 2 {
		t.Fatalf("find module %s: %v", module, err)
	}
	return strings.TrimSpace(string(out))
}

func unpack(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err != nil {
			t.Fatal(err)
		}
		path := h.Name
		if !filepath.IsLocal(strings.TrimPrefix(path, "/")) {
			t.Fatalf("%s leads out of its tree", path)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			plantOne(t, root, path, func(p string) error { return os.WriteFile(p, b, 0o644) })
		case tar.TypeSymlink:
			plantOne(t, root, path, func(p string) error { return os.Symlink(h.Linkname, p) })
		}
	}
}
