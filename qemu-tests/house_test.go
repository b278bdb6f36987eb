// Package qemutests holds the tests that need more than one tree: the house
// rules here, and whole boots in virtual machines.
package qemutests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ingot-metal/ingot"

// line is the order of the trees: each imports only what stands before it.
var line = []string{"hardware", "images", "boot", "fleet", "agent", "qemu-tests"}

// contracts are the trees whose root package is a contract.
var contracts = []string{"hardware", "images", "boot", "fleet"}

type goPackage struct {
	ImportPath  string
	Name        string
	Doc         string
	Imports     []string
	TestImports []string
	Deps        []string
}

func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Doc,Imports,TestImports,Deps"}, args...)...)
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// arrow says what is wrong with one import, or "".
func arrow(from, to string) string {
	ours := strings.HasPrefix(to, module+"/")
	from, to = strings.TrimPrefix(from, module+"/"), strings.TrimPrefix(to, module+"/")
	tree, _, child := strings.Cut(from, "/")
	if strings.Contains(from, "/cmd/") {
		return ""
	}
	contract := !child && slices.Contains(contracts, tree)
	if !ours {
		if first, _, _ := strings.Cut(to, "/"); contract && strings.Contains(first, ".") {
			return "a contract imports the standard library only"
		}
		return ""
	}
	toTree, _, toChild := strings.Cut(to, "/")
	switch {
	case slices.Index(line, toTree) > slices.Index(line, tree):
		return "the arrow runs back: " + strings.Join(line, " → ")
	case contract && toChild:
		return "a contract imports no doer"
	}
	return ""
}

func TestImportArrows(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, to := range slices.Concat(p.Imports, p.TestImports) {
			// A test may compare with go-cmp anywhere.
			if strings.HasPrefix(to, "github.com/google/go-cmp") {
				continue
			}
			if why := arrow(p.ImportPath, to); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, why)
			}
		}
	}
}

func TestArrow(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		good     bool
	}{
		{"hardware/ipmi", "hardware", true},
		{"boot", "hardware", true},
		{"boot", "boot/fetch", false},
		{"boot", "images/sign", false},
		{"images", "fleet", false},
		{"boot/netboot", "fleet", false},
		{"fleet/cmd/ingot", "qemu-tests/lab", true},
		{"agent/uplink", "fleet", true},
		{"agent", "fleet/bus", true},
	} {
		if got := arrow(module+"/"+tc.from, module+"/"+tc.to); (got == "") != tc.good {
			t.Errorf("arrow(%s, %s) = %q; want good = %v", tc.from, tc.to, got, tc.good)
		}
	}
	if arrow(module+"/fleet", "github.com/nats-io/nats.go") == "" {
		t.Error("a contract may import NATS; want a refusal")
	}
}

// agentRefuses are what the agent must never link: servers, and libraries that
// cost more than the agent itself.
var agentRefuses = []string{"github.com/nats-io/nats-server", "github.com/stmcginnis/gofish", "github.com/spf13/cobra", module + "/fleet/bus", module + "/fleet/control", module + "/boot/netboot"}

func TestAgentLinksNoServer(t *testing.T) {
	for _, p := range list(t, "./agent/cmd/ingot-agent") {
		for _, d := range p.Deps {
			for _, bad := range agentRefuses {
				if strings.HasPrefix(d, bad) {
					t.Errorf("ingot-agent links %s", d)
				}
			}
		}
	}
}

func TestPackagesAreDocumented(t *testing.T) {
	for _, p := range list(t, "./...") {
		if p.Doc == "" && p.ImportPath != module+"/qemu-tests" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		for _, bad := range []string{"pkg", "util", "utils", "common", "types", "helpers"} {
			if p.Name == bad {
				t.Errorf("%s: a package is not called %s", p.ImportPath, bad)
			}
		}
	}
}

// Budgets of the house: what a reader can hold at once.
const (
	mostFileLines     = 500
	mostFunctionLines = 40
	// A few functions read better whole; more than this share does not.
	mostLongShare   = 0.03
	neverLines      = 80
	mostFolderDepth = 3 // below a tree
)

// built are files that make makes, and what each may weigh.
var built = []struct {
	what, path string
	most       int64
}{
	{"ingot-agent", "../build/ingot-agent", 12 << 20},
	{"initramfs with all modules", "../build/agent/initramfs.cpio.zst", 24 << 20},
}

// size is what a file weighs, where it is built.
func size(t *testing.T, path string, most int64) string {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "not built"
	}
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() > most {
		t.Errorf("%s: %d bytes, at most %d", path, st.Size(), most)
	}
	return fmt.Sprintf("%.1f MiB", float64(st.Size())/(1<<20))
}

// TestBudgets reads the sources: files, functions, folders, init functions.
func TestBudgets(t *testing.T) {
	var functions, long, files, longestFile, deepest, longest int
	fset := token.NewFileSet()
	for _, tree := range line {
		err := filepath.WalkDir(filepath.Join("..", tree), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			depth := strings.Count(filepath.Dir(path), string(filepath.Separator)) - 1
			if deepest = max(deepest, depth); depth > mostFolderDepth {
				t.Errorf("%s: %d folders deep, at most %d", path, depth, mostFolderDepth)
			}
			f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			test := strings.HasSuffix(path, "_test.go")
			if n := fset.Position(f.End()).Line; !test {
				files, longestFile = files+1, max(longestFile, n)
				if n > mostFileLines {
					t.Errorf("%s: %d lines, at most %d", path, n, mostFileLines)
				}
			}
			for _, decl := range f.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok || test {
					continue
				}
				if fn.Name.Name == "init" && fn.Recv == nil {
					t.Errorf("%s: init function", fset.Position(fn.Pos()))
				}
				functions++
				n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
				if longest = max(longest, n); n > mostFunctionLines {
					long++
				}
				if n > neverLines {
					t.Errorf("%s: %s is %d lines, at most %d", fset.Position(fn.Pos()), fn.Name.Name, n, neverLines)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	share := float64(long) / float64(functions)
	tell := func(what, is, most string) { t.Logf("budget: %-46s %10s   at most %s", what, is, most) }
	tell(fmt.Sprintf("functions over %d lines, of %d", mostFunctionLines, functions), fmt.Sprintf("%.1f %%", 100*share), fmt.Sprintf("%.0f %%", 100*mostLongShare))
	tell("the longest function, lines", fmt.Sprint(longest), fmt.Sprint(neverLines))
	tell(fmt.Sprintf("the longest of %d files, lines", files), fmt.Sprint(longestFile), fmt.Sprint(mostFileLines))
	tell("the deepest folder below a tree", fmt.Sprint(deepest), fmt.Sprint(mostFolderDepth))
	for _, b := range built {
		tell(b.what, size(t, b.path, b.most), fmt.Sprintf("%.0f MiB", float64(b.most)/(1<<20)))
	}
	if functions < 500 || share > mostLongShare {
		t.Errorf("%d of %d functions are longer than %d lines, at most %.0f %%", long, functions, mostFunctionLines, 100*mostLongShare)
	}
}
