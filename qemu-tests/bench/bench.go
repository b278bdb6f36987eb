package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options say what to measure, and with what.
type Options struct {
	Ingot  string // the operator's binary
	Build  string // the directory that make image stack filled
	Out    string // for result.json, consoles and logs
	README string // whose table is written anew; "" for none
	// Only are the measurements to take, by name; all when empty.
	Only []string
	// Repeat is how often what takes a boot is measured; the median counts.
	Repeat int
	Stdout io.Writer
}

// Figure is one line of the table.
type Figure struct {
	Name string `json:"name"`
	// What is measured, for people.
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Floor is the same without us, or a peer's; zero where there is none.
	Floor     float64 `json:"floor,omitempty"`
	FloorWhat string  `json:"floor_what,omitempty"`
	// Ratio is Value to Floor, or how many times the peer's rate ours is.
	Ratio float64 `json:"ratio,omitempty"`
	Aim   string  `json:"aim,omitempty"`
	Note  string  `json:"note,omitempty"`
}

// measurement takes some figures.
type measurement struct {
	name string
	take func(*run, context.Context) ([]Figure, error)
}

// measurements is all that can be taken, in order.
func measurements() []measurement {
	return []measurement{
		{"sizes", (*run).sizes},
		{"boot", (*run).boot},
		{"memory", (*run).leastMemory},
		{"bootserver", (*run).bootServer},
		{"bus", (*run).bus},
	}
}

// Names are the measurements that there are.
func Names() []string {
	var out []string
	for _, m := range measurements() {
		out = append(out, m.name)
	}
	return out
}

// run is one run of the benchmarks.
type run struct {
	o     Options
	start time.Time
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.o.Stdout, "%7.1fs  %s\n", time.Since(r.start).Seconds(), fmt.Sprintf(format, args...))
}

// Result is what result.json holds.
type Result struct {
	Time    time.Time `json:"time"`
	Seconds float64   `json:"seconds"`
	Figures []Figure  `json:"figures"`
}

// Run takes the measurements and writes what came of them.
func Run(ctx context.Context, o Options) error {
	for _, name := range o.Only {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("measurement %q: want one of %s", name, strings.Join(Names(), ", "))
		}
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", o.Out, err)
	}
	r := &run{o: o, start: time.Now()}
	res := Result{Time: r.start.UTC().Truncate(time.Second)}
	for _, m := range measurements() {
		if len(o.Only) > 0 && !slices.Contains(o.Only, m.name) {
			continue
		}
		r.say("%s", m.name)
		figures, err := m.take(r, ctx)
		if err != nil {
			return fmt.Errorf("measure %s: %w", m.name, err)
		}
		for i := range figures {
			f := &figures[i]
			if f.Ratio == 0 && f.Floor > 0 {
				f.Ratio = f.Value / f.Floor
			}
			r.say("  %s", f.line())
		}
		res.Figures = append(res.Figures, figures...)
	}
	res.Seconds = time.Since(r.start).Seconds()
	b, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return fmt.Errorf("write the result: %v", err)
	}
	if err := os.WriteFile(filepath.Join(o.Out, "result.json"), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if o.README == "" || len(o.Only) > 0 {
		return nil // a table of some figures would lose the others
	}
	return writeTable(o.README, res)
}

func (f Figure) line() string {
	s := fmt.Sprintf("%s: %s", f.What, amount(f.Value, f.Unit))
	if f.Floor > 0 {
		s += fmt.Sprintf("; %s: %s; ratio %.2f", f.FloorWhat, amount(f.Floor, f.Unit), f.Ratio)
	}
	if f.Aim != "" {
		s += "; aim " + f.Aim
	}
	return s
}

// amount is a number with as many digits as it is good for.
func amount(v float64, unit string) string {
	switch {
	case v >= 100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f %s", v, unit)
	case v >= 10:
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}

// The table stands between these lines of the README.
const (
	tableBegin = "<!-- figures: make bench writes this table -->"
	tableEnd   = "<!-- end of figures -->"
)

func writeTable(path string, res Result) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	text, err := withTable(string(b), res)
	if err != nil {
		return fmt.Errorf("write the table into %s: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

func withTable(text string, res Result) (string, error) {
	before, rest, ok := strings.Cut(text, tableBegin)
	_, after, closed := strings.Cut(rest, tableEnd)
	if !ok || !closed {
		return "", fmt.Errorf("the lines %q and %q do not stand in it", tableBegin, tableEnd)
	}
	return before + tableBegin + "\n" + res.table() + tableEnd + after, nil
}

// table is the figures in Markdown.
func (res Result) table() string {
	var s strings.Builder
	s.WriteString("| what | figure | floor or peer, same run | ratio | aim |\n|---|---|---|---|---|\n")
	for _, f := range res.Figures {
		floor, ratio := "", ""
		if f.Floor > 0 {
			floor = amount(f.Floor, f.Unit) + ": " + f.FloorWhat
			ratio = fmt.Sprintf("%.2f", f.Ratio)
		}
		what := f.What
		if f.Note != "" {
			what += " (" + f.Note + ")"
		}
		cells := []string{what, amount(f.Value, f.Unit), floor, ratio, f.Aim}
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", "\\|")
		}
		fmt.Fprintf(&s, "| %s |\n", strings.Join(cells, " | "))
	}
	fmt.Fprintf(&s, "\nTaken %s in %.0f minutes.\n", res.Time.Format(time.DateOnly), res.Seconds/60)
	return s.String()
}

// median of some numbers; zero of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}
