package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseBenchmarks(t *testing.T) {
	got := parseBenchmarks(`goos: linux
BenchmarkEvents/uplinks-16-2   	    3000	    600000 ns/op	      1612 events/s
BenchmarkEvents/bare-16-2      	    3000	    300000 ns/op	      3333.5 events/s	 12 B/op
PASS
ok  	x	3.1s
`)
	want := map[string]map[string]float64{
		"BenchmarkEvents/uplinks-16": {"ns/op": 600000, "events/s": 1612},
		"BenchmarkEvents/bare-16":    {"ns/op": 300000, "events/s": 3333.5, "B/op": 12},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("parseBenchmarks (-want +got):\n%s", d)
	}
}

func TestTable(t *testing.T) {
	res := Result{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Seconds: 610, Figures: []Figure{
		{What: "a|b", Value: 12.34, Unit: "s", Floor: 10, FloorWhat: "nothing", Ratio: 1.234, Aim: "1.3", Note: "how"},
		{What: "alone", Value: 1234.5, Unit: "KiB"},
	}}
	got, err := withTable("before\n"+tableBegin+"\nold\n"+tableEnd+"\nafter\n", res)
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n" + tableBegin + `
| what | figure | floor or peer, same run | ratio | aim |
|---|---|---|---|---|
| a\|b (how) | 12.3 s | 10 s: nothing | 1.23 | 1.3 |
| alone | 1234 KiB |  |  |  |

Taken 2026-01-02 in 10 minutes.
` + tableEnd + "\nafter\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("withTable (-want +got):\n%s", d)
	}
	for _, text := range []string{"", tableBegin, tableEnd + tableBegin} {
		if _, err := withTable(text, res); err == nil || !strings.Contains(err.Error(), "do not stand in it") {
			t.Errorf("withTable(%q) = %v; want that the lines are missing", text, err)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 2}, 2}} {
		if got := median(c.v); got != c.want {
			t.Errorf("median(%v) = %v; want %v", c.v, got, c.want)
		}
	}
}

func TestBootFigures(t *testing.T) {
	ours := []life{
		{report: 10, assign: 4, answer: 30, parts: parts{1, 2, 3}, inside: 2, phases: map[string]float64{"network": 0.5, "enrol": 0.1}, readers: map[string]float64{"pci": 0.01, "ipmi": 0.2}},
		{report: 30, assign: 9, answer: 40, parts: parts{1, 2, 3}, inside: 4, phases: map[string]float64{"network": 0.7, "enrol": 0.2}, readers: map[string]float64{"pci": 0.03, "ipmi": 0.4}},
		{report: 12, assign: 6, answer: 20, parts: parts{1, 2, 3}, inside: 3, phases: map[string]float64{"network": 0.6, "enrol": 0.3}, readers: map[string]float64{"pci": 0.02, "ipmi": 0.3}},
	}
	got := map[string]Figure{}
	for _, f := range bootFigures(ours, []float64{8, 10, 8}, []float64{2, 3, 4}, []float64{4, 4, 4}) {
		got[f.Name] = f
	}
	// The middle life was slow beside a slow floor: 1.25, 3 and 1.5.
	for name, want := range map[string][3]float64{
		"power-to-report": {12, 8, 1.5}, "assign-to-init": {6, 3, 2}, "jump-to-answer": {30, 10, 3},
	} {
		f := got[name]
		if d := cmp.Diff(want, [3]float64{f.Value, f.Floor, f.Ratio}); d != "" {
			t.Errorf("%s: value, floor, ratio (-want +got):\n%s", name, d)
		}
	}
	if got, want := got["init-to-report"].Note, "network 600 ms, enrol 200 ms; readers side by side: ipmi 300 ms, pci 20 ms"; got != want {
		t.Errorf("note of init-to-report = %q; want %q", got, want)
	}
}

func TestUnknownMeasurement(t *testing.T) {
	err := Run(t.Context(), Options{Only: []string{"boot", "speed"}, Out: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), `measurement "speed": want one of sizes, boot,`) {
		t.Errorf("Run = %v; want that it is not known", err)
	}
}
