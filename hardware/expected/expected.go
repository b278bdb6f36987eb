// Package expected reads the files in which operators say what was bought:
// machines by serial, rack and unit, and for each SKU its bill of materials. A
// file is YAML or CSV; it is taken whole or not at all, and every mistake is
// told with its line and column.
//
// YAML has two parts, both optional:
//
//	skus:
//	  R650-A:
//	    model: PowerEdge R650
//	    cpus: 2
//	    memory: 512GiB
//	    dimms: 16
//	    drives: ["2x 480GB sata", "8x 3.84TB nvme"]
//	    nics: ["2x 25000"]          # ports, Mbit/s
//	machines:
//	  - {serial: 7XK3LM2, name: r7u12, rack: r7, unit: 12, sku: R650-A}
//	  - {macs: [52:54:00:01:01:01], rack: r7, unit: 13}
//
// CSV has one row a machine, or, where the first column is sku, one row a bill;
// the first line names the columns. Cells that hold several values have
// semicolons between them.
package expected

import (
	"bytes"
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ingot-metal/ingot/hardware"
)

const (
	// MaxBytes bounds a file.
	MaxBytes   = 8 << 20
	mostErrors = 20
	mostList   = 64 // drives, ports and MACs that one row names
)

// Mistake is one fault of a file, and where it is; both count from 1.
type Mistake struct {
	Line, Column int
	Text         string
}

func (m Mistake) String() string {
	return fmt.Sprintf("line %d, column %d: %s", m.Line, m.Column, m.Text)
}

// Error is a file that was not taken: its mistakes, in the order of the file.
type Error struct {
	Mistakes []Mistake
	More     int // beyond those that are listed
}

func (e *Error) Error() string {
	var lines []string
	for _, m := range e.Mistakes {
		lines = append(lines, m.String())
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", e.More))
	}
	return strings.Join(lines, "\n")
}

// Parse reads a file. Its name tells the form; one that ends neither in .csv nor
// in .yaml, .yml or .json is told by its first line. A machine may be of a SKU
// that the file has, or of a known one.
func Parse(name string, b []byte, known map[string]hardware.SKU) (hardware.Expected, error) {
	f := &file{known: known, serials: map[string]cell{}, macs: map[hardware.MAC]cell{}, names: map[string]cell{}, skus: map[string]cell{}}
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	switch {
	case len(b) > MaxBytes:
		return hardware.Expected{}, fmt.Errorf("it is %d bytes, at most %d are read", len(b), MaxBytes)
	case !utf8.Valid(b):
		f.bad(place(b), "this is not UTF-8")
	case isCSV(name, b):
		f.csv(b)
	default:
		f.yaml(b)
	}
	return f.finish()
}

// place is where a file ceases to be UTF-8.
func place(b []byte) cell {
	good := 0
	for good < len(b) {
		r, n := utf8.DecodeRune(b[good:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		good += n
	}
	line := bytes.LastIndexByte(b[:good], '\n') + 1
	return cell{line: 1 + bytes.Count(b[:good], []byte("\n")), column: 1 + utf8.RuneCount(b[line:good])}
}

func isCSV(name string, b []byte) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return true
	case ".yaml", ".yml", ".json":
		return false
	}
	for line := range strings.Lines(string(b[:min(len(b), 4096)])) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return !strings.ContainsAny(line, ":{") && line != "---"
		}
	}
	return false
}

// cell is one value of a file and where it stands.
type cell struct {
	text         string
	line, column int
}

// file is one file as it is read.
type file struct {
	known    map[string]hardware.SKU
	out      hardware.Expected
	mistakes []Mistake
	// wanted are the SKUs that machines name; the others say who has which
	// name first.
	wanted  []cell
	serials map[string]cell
	macs    map[hardware.MAC]cell
	names   map[string]cell
	skus    map[string]cell
}

func (f *file) bad(at cell, format string, args ...any) {
	f.mistakes = append(f.mistakes, Mistake{at.line, at.column, fmt.Sprintf(format, args...)})
}

func (f *file) finish() (hardware.Expected, error) {
	for _, w := range f.wanted {
		_, here := f.out.SKUs[w.text]
		if _, there := f.known[w.text]; !here && !there {
			f.bad(w, "SKU %.80q has no bill of materials: put one into the file, or import it first", w.text)
		}
	}
	if len(f.mistakes) == 0 && len(f.out.Machines)+len(f.out.SKUs) == 0 {
		f.bad(cell{line: 1, column: 1}, "there is no machine and no SKU in it")
	}
	if len(f.mistakes) == 0 {
		f.out.Schema = hardware.ExpectedSchema
		return f.out, nil
	}
	slices.SortStableFunc(f.mistakes, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	n := min(len(f.mistakes), mostErrors)
	return hardware.Expected{}, &Error{f.mistakes[:n], len(f.mistakes) - n}
}

// first refuses what stands in the file twice.
func first[K comparable](f *file, all map[K]cell, key K, at cell, what string) {
	if before, twice := all[key]; twice {
		f.bad(at, "%s %.80q stands at line %d, column %d already", what, at.text, before.line, before.column)
		return
	}
	all[key] = at
}

// addMachine takes a machine whose cells were set; at is where it begins.
func (f *file) addMachine(m hardware.ExpectedMachine, at cell) {
	switch {
	case len(f.out.Machines) >= hardware.MaxExpectedMachines:
		f.bad(at, "this is machine %d, at most %d are read", len(f.out.Machines)+1, hardware.MaxExpectedMachines)
	case m.Serial == "" && len(m.MACs) == 0:
		f.bad(at, "this machine has no serial and no MAC: by what is it known?")
	default:
		f.out.Machines = append(f.out.Machines, m)
	}
}

func (f *file) addSKU(name cell, s hardware.SKU) {
	if !f.text(name, &name.text) {
		return
	}
	if len(f.out.SKUs) >= hardware.MaxExpectedSKUs {
		f.bad(name, "this is SKU %d, at most %d are read", len(f.out.SKUs)+1, hardware.MaxExpectedSKUs)
		return
	}
	first(f, f.skus, name.text, name, "SKU")
	if f.out.SKUs == nil {
		f.out.SKUs = map[string]hardware.SKU{}
	}
	f.out.SKUs[name.text] = s
}
