package fleet

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestReasonsMarkdown keeps the page of reasons that of the table.
func TestReasonsMarkdown(t *testing.T) {
	got := markdown(Reasons())
	if *update {
		if err := os.WriteFile("REASONS.md", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("REASONS.md")
	if err != nil {
		t.Fatalf("%v (go test ./fleet -update writes it)", err)
	}
	if string(want) != got {
		t.Error("REASONS.md is not that of fleet.Reasons: go test ./fleet -update writes it anew")
	}
}

// markdown is the table of reasons as a page.
func markdown(all []Reason) string {
	var b strings.Builder
	b.WriteString("# Reasons\n\nEvery reason code that Ingot gives, made from the table in `fleet/reasons*.go` (`go test ./fleet -update`).\n" +
		"`ingot explain CODE` shows one of them, `ingot why NODE` says which one holds a node up.\n\n" +
		"Classes: **fault**, something is broken; **refused**, it was asked for and not done; **waits**, nothing is wrong and a person has to decide; **finding**, it was noticed and the node goes on.\n")
	cell := func(s string) string {
		return strings.NewReplacer("|", `\|`, "<", "&lt;", "NODE", "`NODE`", "STACK", "`STACK`").Replace(s)
	}
	where := ""
	for _, r := range all {
		if r.Where != where {
			where = r.Where
			fmt.Fprintf(&b, "\n## %s\n\n| code | class | what it means | likely causes | what to do | what to look at |\n|---|---|---|---|---|---|\n", strings.ToUpper(where[:1])+where[1:])
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", r.Code, r.Class, cell(r.Meaning), cell(strings.Join(r.Causes, "; ")), cell(r.Hint), cell(r.Evidence))
	}
	return b.String()
}

// Every row says all that it should, once, in one sentence.
func TestReasonsAreWhole(t *testing.T) {
	seen := map[ReasonCode]bool{}
	places := map[string]bool{}
	last := ""
	for _, r := range Reasons() {
		if !r.Code.WellFormed() || seen[r.Code] {
			t.Errorf("%q: is malformed or stands twice", r.Code)
		}
		seen[r.Code] = true
		switch r.Class {
		case ClassFault, ClassRefused, ClassWaits, ClassFinding:
		default:
			t.Errorf("%s: class %q is not known", r.Code, r.Class)
		}
		if r.Where == "" || len(r.Causes) == 0 || r.Hint == "" || r.Evidence == "" {
			t.Errorf("%s: place, causes, hint or evidence is missing: %+v", r.Code, r)
		}
		if !strings.HasSuffix(r.Meaning, ".") || strings.Count(r.Meaning, ". ") > 0 || r.Meaning[0] < 'A' || r.Meaning[0] > 'Z' {
			t.Errorf("%s: %q is not one sentence", r.Code, r.Meaning)
		}
		if r.Where != last && places[r.Where] {
			t.Errorf("%s: the rows of %q do not stand together", r.Code, r.Where)
		}
		places[r.Where], last = true, r.Where
	}
}

func TestExplain(t *testing.T) {
	if r, ok := Explain(ReasonVMDown); !ok || r.Where != "layer vm" || ReasonVMDown.Hint() != r.Hint {
		t.Errorf("Explain(%s) = %+v, %v", ReasonVMDown, r, ok)
	}
	if r, ok := Explain("no-such"); ok || ReasonCode("no-such").Hint() != "" {
		t.Errorf("Explain(no-such) = %+v, %v; want nothing", r, ok)
	}
	for code, want := range map[ReasonCode]bool{"vm-down": true, "": false, "VM": false, "a--b": false, "a b": false, "\x1b[2J": false, ReasonCode(strings.Repeat("a", 65)): false} {
		if got := code.WellFormed(); got != want {
			t.Errorf("%q.WellFormed() = %v; want %v", code, got, want)
		}
	}
}

func TestFaultOf(t *testing.T) {
	for _, tt := range []struct {
		l    LayerName
		s    LayerState
		want ReasonCode
	}{{LayerVM, LayerDown, "vm-down"}, {LayerVM, LayerUnknown, "vm-not-up"}, {LayerService, LayerStarting, "service-not-up"}, {LayerHost, LayerDown, "host-down"}} {
		if got := FaultOf(tt.l, tt.s); got != tt.want {
			t.Errorf("FaultOf(%s, %s) = %s; want %s", tt.l, tt.s, got, tt.want)
		}
	}
}
