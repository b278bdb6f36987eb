package qemutests

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReleaseIsReproducible builds the release from two copies of the sources
// at two paths: the same bytes come out.
func TestReleaseIsReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("two builds and two images take half a minute")
	}
	tools, err := filepath.Abs("../build/tools")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tools); err != nil {
		t.Fatalf("%v (make image makes it)", err)
	}
	var sums [2]map[string]string
	for i := range sums {
		dir := filepath.Join(t.TempDir(), strings.Repeat("deeper/", i), "copy")
		copySources(t, dir)
		sums[i] = release(t, dir, tools)
	}
	for name, sum := range sums[0] {
		if sums[1][name] != sum {
			t.Errorf("%s: %.12s from one place, %.12s from another", name, sum, sums[1][name])
		}
	}
	if len(sums[0]) != 5 {
		t.Errorf("%d files are released, want 5: %v", len(sums[0]), sums[0])
	}
}

// copySources copies what git knows of the tree.
func copySources(t *testing.T, dir string) {
	t.Helper()
	out := command(t, "..", "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for name := range strings.SplitSeq(strings.TrimRight(out, "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join("..", name))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func release(t *testing.T, dir, tools string) map[string]string {
	t.Helper()
	out := filepath.Join(dir, "out")
	for _, p := range []string{"./fleet/cmd/ingot", "./agent/cmd/ingot-agent"} {
		command(t, dir, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(out, filepath.Base(p)), p)
	}
	command(t, dir, filepath.Join(out, "ingot"), "image", "build", "--tools", tools, "--agent", filepath.Join(out, "ingot-agent"), "--out", out)
	files := []string{"ingot", "ingot-agent", "vmlinuz", "initramfs.cpio.zst"}
	args := []string{"run", "./images/cmd/sbom", "--tools", tools, "--out", filepath.Join(out, "sbom.cdx.json")}
	for _, f := range files {
		args = append(args, filepath.Join(out, f))
	}
	command(t, dir, "go", args...)
	sums := map[string]string{}
	for _, name := range append(files, "sbom.cdx.json") {
		f, err := os.Open(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		sums[name] = fmt.Sprintf("%x", h.Sum(nil))
	}
	return sums
}

func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "SOURCE_DATE_EPOCH=1780000000")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said.String())
	}
	return string(out)
}
