package inventory

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

var update = flag.Bool("update", false, "rewrite want.json")

// plant makes the tree that a machine's tree.txt describes: "path = content"
// with Go's quoting, "path -> target" for a symbolic link. Paths of sysfs have
// colons, which file names in a Go module may not.
func plant(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for n, line := range strings.Split(string(b), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if path, target, ok := strings.Cut(line, " -> "); ok && !strings.Contains(path, " ") {
			plantOne(t, root, path, func(p string) error { return os.Symlink(target, p) })
			continue
		}
		path, quoted, ok := strings.Cut(line, " = ")
		content, err := strconv.Unquote(quoted)
		if !ok || err != nil {
			t.Fatalf("%s:%d: neither a file nor a link", file, n+1)
		}
		plantOne(t, root, path, func(p string) error { return os.WriteFile(p, []byte(content), 0o644) })
	}
	return root
}

func plantOne(t testing.TB, root, path string, make func(string) error) {
	t.Helper()
	p := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := make(p); err != nil {
		t.Fatal(err)
	}
}

func plantFile(t testing.TB, root, path, content string) {
	t.Helper()
	plantOne(t, root, path, func(p string) error { return os.WriteFile(p, []byte(content), 0o644) })
}

func machines(t testing.TB) []string {
	t.Helper()
	trees, err := filepath.Glob("../testdata/machines/*/tree.txt")
	if err != nil || len(trees) == 0 {
		t.Fatalf("no machines below ../testdata: %v", err)
	}
	return trees
}

func TestMachines(t *testing.T) {
	for _, tree := range machines(t) {
		dir := filepath.Dir(tree)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			res := Stream(t.Context(), plant(t, tree), func(Result) {})
			golden(t, filepath.Join(dir, "want.json"), res.Inventory)
			goldenReadings(t, filepath.Join(dir, "want-readings.json"), res.Readings)
			for _, r := range res.Readers {
				if r.Err != "" {
					t.Errorf("reader %s: %s", r.Reader, r.Err)
				}
			}
		})
	}
}

func golden(t *testing.T, file string, inv hardware.Inventory) {
	t.Helper()
	b, err := inv.Encode()
	if err != nil {
		t.Fatal(err)
	}
	goldenJSON(t, file, b)
}

func goldenReadings(t *testing.T, file string, r hardware.Readings) {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	goldenJSON(t, file, b)
}

func goldenJSON(t *testing.T, file string, b []byte) {
	t.Helper()
	var got bytes.Buffer
	if err := json.Indent(&got, b, "", "  "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; make it with -update", err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}

// BenchmarkRead is the whole inventory of a recorded server.
func BenchmarkRead(b *testing.B) {
	root := plant(b, "../testdata/machines/ingot-ls1/tree.txt")
	for b.Loop() {
		Read(b.Context(), root)
	}
}
