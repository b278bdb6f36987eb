package qemutests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/fleet"
)

// reasonTypes are the types whose constants are reason codes.
var reasonTypes = []string{module + "/fleet.ReasonCode", module + "/boot.Reason", module + "/images/sign.Reason", module + "/hardware.Code"}

// silent are the packages that ask for reasons and give none: the table itself,
// what shows it, and tests.
var silent = []string{"fleet", "fleet/render", "fleet/cmd/ingot", "qemu-tests"}

// TestReasonsAreDocumented reads every package by its types. A code that is
// given must stand in fleet.Reasons, and one that stands there must be given.
func TestReasonsAreDocumented(t *testing.T) {
	table := map[string]bool{}
	for _, r := range fleet.Reasons() {
		table[string(r.Code)] = true
	}
	// What fleet.FaultOf puts together of a layer and its state.
	given := map[string]string{}
	for _, l := range []fleet.LayerName{fleet.LayerHost, fleet.LayerHypervisor, fleet.LayerVM, fleet.LayerContainer, fleet.LayerService} {
		for _, s := range []fleet.LayerState{fleet.LayerDown, fleet.LayerStarting, fleet.LayerUnknown} {
			given[string(fleet.FaultOf(l, s))] = "fleet.FaultOf"
		}
	}
	for _, p := range reasonPackages(t) {
		found, wrong := reasonsGiven(p.fset, p.files, p.info)
		maps.Copy(given, found)
		for _, w := range wrong {
			t.Error(w)
		}
	}
	if len(given) < 50 {
		t.Fatalf("only %d codes were found in the source: the test does not see what it should", len(given))
	}
	for _, c := range slices.Sorted(maps.Keys(given)) {
		if !table[c] {
			t.Errorf("%s: reason %q is given and fleet.Reasons lacks it: add a constant to fleet/reasons.go and a row to its table, then: go test ./fleet -update", given[c], c)
		}
	}
	for _, c := range slices.Sorted(maps.Keys(table)) {
		if given[c] == "" {
			t.Errorf("fleet.Reasons explains %q, which nobody gives: remove the row, then: go test ./fleet -update", c)
		}
	}
}

type checkedPackage struct {
	fset  *token.FileSet
	files []*ast.File
	info  *types.Info
}

// reasonPackages type-checks the packages that may give reasons.
func reasonPackages(t *testing.T) []checkedPackage {
	t.Helper()
	type listed struct {
		ImportPath, Dir, Export string
		GoFiles, Imports        []string
	}
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Imports", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	exports := map[string]string{}
	var ours []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		short := strings.TrimPrefix(p.ImportPath, module+"/")
		speaks := slices.ContainsFunc(append(p.Imports, p.ImportPath), func(i string) bool {
			return slices.ContainsFunc(reasonTypes, func(r string) bool { return strings.HasPrefix(r, i+".") })
		})
		if short != p.ImportPath && speaks && !slices.Contains(silent, short) && !strings.HasPrefix(short, "qemu-tests/") {
			ours = append(ours, p)
		}
	}
	var checked []checkedPackage
	for _, p := range ours {
		c := checkedPackage{fset: token.NewFileSet(), info: &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(c.fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			c.files = append(c.files, f)
		}
		conf := types.Config{Importer: importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })}
		if _, err := conf.Check(p.ImportPath, c.fset, c.files, c.info); err != nil {
			t.Fatal(err)
		}
		checked = append(checked, c)
	}
	return checked
}

// reasonsGiven are the codes that stand in a package's source where they are
// not declared and not compared with, each with its place; wrong is what turns
// any string into a code, past the table.
func reasonsGiven(fset *token.FileSet, files []*ast.File, info *types.Info) (given map[string]string, wrong []string) {
	given = map[string]string{}
	place := func(n ast.Node) string {
		p := fset.Position(n.Pos())
		return fmt.Sprintf("%s:%d", strings.TrimPrefix(p.Filename, filepath.Dir(mustGetwd())+"/"), p.Line)
	}
	take := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			return n.Tok != token.CONST
		case *ast.BinaryExpr:
			return n.Op != token.EQL && n.Op != token.NEQ
		case *ast.CallExpr:
			if fun, ok := info.Types[n.Fun]; ok && fun.IsType() && isReason(fun.Type) && len(n.Args) == 1 {
				arg := info.Types[n.Args[0]]
				if arg.Value == nil && !isReason(arg.Type) {
					wrong = append(wrong, fmt.Sprintf("%s: a string is made a reason code: give one of the constants of fleet/reasons.go", place(n)))
				}
			}
		}
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		if tv := info.Types[e]; tv.Value != nil && isReason(tv.Type) && tv.Value.Kind() == constant.String {
			if c := constant.StringVal(tv.Value); c != "" {
				given[c] = place(n)
			}
		}
		return true
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CaseClause); ok { // what is looked for is not given; what follows may be
				for _, s := range c.Body {
					ast.Inspect(s, take)
				}
				return false
			}
			return n == nil || take(n)
		})
	}
	return given, wrong
}

func mustGetwd() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir
}

func isReason(t types.Type) bool {
	n, ok := types.Unalias(t).(*types.Named)
	return ok && n.Obj().Pkg() != nil && slices.Contains(reasonTypes, n.Obj().Pkg().Path()+"."+n.Obj().Name())
}

// The test itself sees what it must: a literal, a constant, a string that is
// made a code; and passes over a declaration, a comparison and a case.
func TestReasonsGiven(t *testing.T) {
	const source = `package fleet
type ReasonCode string
const Declared ReasonCode = "only-declared"
const Used ReasonCode = "used"
func f(c ReasonCode, s string) ReasonCode {
	if c == "compared" { return "literal" }
	switch c {
	case "looked-for": return Used
	}
	return ReasonCode(s)
}`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "f.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	if _, err := (&types.Config{}).Check(module+"/fleet", fset, []*ast.File{f}, info); err != nil {
		t.Fatal(err)
	}
	given, wrong := reasonsGiven(fset, []*ast.File{f}, info)
	if got := slices.Sorted(maps.Keys(given)); !slices.Equal(got, []string{"literal", "used"}) {
		t.Errorf("reasonsGiven = %q; want the literal and the used constant", got)
	}
	if len(wrong) != 1 || !strings.HasPrefix(wrong[0], "f.go:10: ") {
		t.Errorf("reasonsGiven says wrong: %q; want line 10", wrong)
	}
}
