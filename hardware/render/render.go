// Package render shows an inventory and readings to a person: pages to read on
// a terminal, and to print and pin to the rack.
package render

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// Page is how a record is drawn. Nothing of it is cut: what is too long for its
// column goes on in the next line. Text of the machine is made safe first.
type Page struct {
	// Width bounds lines, from 60 on; zero bounds none.
	Width int
}

// Table writes the inventory as a page of any width.
func Table(w io.Writer, inv hardware.Inventory) error {
	return Page{}.Inventory(w, inv, hardware.Readings{})
}

// Inventory writes the whole record: what the server is, its parts with what
// readings know of their health, and what looked wrong. Facts that are not
// known are a dash, and columns that no part has are left out.
func (p Page) Inventory(w io.Writer, inv hardware.Inventory, r hardware.Readings) error {
	inv = inv.Normalized()
	r.Normalize()
	s := &sheet{width: p.bound()}
	s.line(inv.Summary())
	s.system(inv)
	s.firmware(inv)
	s.bmc(inv.BMC)
	s.cpus(inv)
	s.memory(inv, r)
	s.drives(inv, r)
	s.nics(inv.NICs)
	s.devices(inv)
	s.power(inv, r)
	s.boot(inv)
	s.findings(inv.Findings)
	s.line("")
	s.line("digest " + string(inv.Digest()))
	return s.write(w, "inventory")
}

func (p Page) bound() int {
	if p.Width <= 0 {
		return 0
	}
	return max(p.Width, 60)
}

// sheet is a page as it is drawn.
type sheet struct {
	width int
	lines []string
}

func (s *sheet) write(w io.Writer, what string) error {
	if _, err := io.WriteString(w, strings.Join(s.lines, "\n")+"\n"); err != nil {
		return fmt.Errorf("write %s: %w", what, err)
	}
	return nil
}

func (s *sheet) line(text string) {
	s.lines = append(s.lines, wrap(text, s.width)...)
}

// section begins a part of the page.
func (s *sheet) section(format string, args ...any) {
	s.line("")
	s.line(fmt.Sprintf(format, args...))
}

const factName = 10

// fact is a named line, left out where nothing is known.
func (s *sheet) fact(name string, words ...string) {
	text := strings.Join(known(words), " ")
	if text == "" {
		return
	}
	room := 0
	if s.width > 0 {
		room = s.width - factName - 4
	}
	for _, l := range wrap(text, room) {
		s.lines = append(s.lines, strings.TrimRight(fmt.Sprintf("  %-*s  %s", factName, name, l), " "))
		name = ""
	}
}

func known(words []string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "" })
}

// table draws rows under a head; a column that no row has is left out. Where
// not all fit beside each other, the last ones stand below their row, by name.
func (s *sheet) table(head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	var keep []int
	for c := range head {
		if slices.ContainsFunc(rows, func(r []string) bool { return r[c] != "" }) {
			keep = append(keep, c)
		}
	}
	all := append([][]string{head}, rows...)
	beside, widths := fit(all, keep, s.width-2)
	for i, r := range all {
		s.row(r, keep[:beside], widths)
		if i > 0 && beside < len(keep) {
			s.below(head, r, keep[beside:])
		}
	}
}

// fit says how many of the columns stand beside each other in so many places,
// and how wide each of them is. The widest is narrowed first, and none so far
// that a word of it is broken.
func fit(rows [][]string, keep []int, room int) (beside int, widths []int) {
	var least []int
	for _, c := range keep {
		wide, word := 0, 0
		for _, r := range rows {
			text := cmp.Or(r[c], "-")
			wide = max(wide, len([]rune(text)))
			for _, w := range strings.Fields(text) {
				word = max(word, len([]rune(w)))
			}
		}
		widths, least = append(widths, wide), append(least, word)
	}
	for beside = len(keep); room > 0 && beside > 1 && columns(least[:beside]) > room; beside-- {
	}
	widths = widths[:beside]
	for room > 0 && columns(widths) > room {
		widest := -1
		for i, w := range widths {
			if w > least[i] && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 { // one column of one long word
			widths[0] = room
			break
		}
		widths[widest]--
	}
	return beside, widths
}

// columns is what columns take with the gaps between them.
func columns(widths []int) int {
	sum := 0
	for _, w := range widths {
		sum += w + 2
	}
	return sum - 2
}

func (s *sheet) row(cells []string, keep, widths []int) {
	columns := make([][]string, len(keep))
	deep := 0
	for i, c := range keep {
		columns[i] = wrap(cmp.Or(cells[c], "-"), widths[i])
		deep = max(deep, len(columns[i]))
	}
	for l := range deep {
		out := " "
		for i, column := range columns {
			text := ""
			if l < len(column) {
				text = column[l]
			}
			out += " " + text + strings.Repeat(" ", widths[i]-len([]rune(text))+1)
		}
		s.lines = append(s.lines, strings.TrimRight(out, " "))
	}
}

// below are cells that had no place in their row.
func (s *sheet) below(head, cells []string, which []int) {
	var words []string
	for _, c := range which {
		if cells[c] != "" {
			words = append(words, strings.TrimSpace(strings.ToLower(head[c])+" "+cells[c]))
		}
	}
	if len(words) == 0 {
		return
	}
	for _, l := range wrap(strings.Join(words, ", "), s.width-6) {
		s.lines = append(s.lines, "      "+l)
	}
}

// wrap breaks text at spaces into lines of at most n columns, of any where n is
// zero; a word that is longer is broken where the line ends.
func wrap(text string, n int) []string {
	if n <= 0 || len([]rune(text)) <= n {
		return []string{text}
	}
	var out []string
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(w)) <= n {
			line += " " + w
			continue
		}
		if line != "" {
			out = append(out, line)
		}
		r := []rune(w)
		for ; len(r) > n; r = r[n:] {
			out = append(out, string(r[:n]))
		}
		line = string(r)
	}
	return append(out, line)
}

// with is "before value", empty without a value.
func with[T ~string](before string, value T) string {
	if value == "" {
		return ""
	}
	return before + " " + string(value)
}

func number[T ~int | ~uint64](n T) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func size(n uint64) string {
	if n == 0 {
		return ""
	}
	return hardware.FormatBytes(n)
}

func speed(mbps int) string {
	switch {
	case mbps == 0:
		return ""
	case mbps >= 1000 && mbps%500 == 0:
		return fmt.Sprintf("%g Gbit/s", float64(mbps)/1000)
	}
	return fmt.Sprintf("%d Mbit/s", mbps)
}

// nowAndMost is "16 of 32" where they differ, else the one that is known.
func nowAndMost(now, most string) string {
	if now != "" && most != "" && now != most {
		return now + " of " + most
	}
	return cmp.Or(now, most)
}

// Findings writes what looked wrong, the gravest first.
func (p Page) Findings(w io.Writer, all []hardware.Finding) error {
	s := &sheet{width: p.bound()}
	if len(all) == 0 {
		s.line("nothing was found")
	}
	s.findings(all)
	return s.write(w, "findings")
}

func (s *sheet) findings(all []hardware.Finding) {
	if len(all) == 0 {
		return
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b hardware.Finding) int { return b.Severity.Rank() - a.Severity.Rank() })
	s.section("Findings: %d", len(all))
	var rows [][]string
	for _, f := range all {
		rows = append(rows, []string{string(f.Severity), string(f.Code), f.Part, f.Evidence, f.Hint, f.Source})
	}
	s.table([]string{"SEVERITY", "CODE", "PART", "EVIDENCE", "WHAT TO DO", "BY"}, rows)
}

// Changes writes how two records differ.
func (p Page) Changes(w io.Writer, changes []hardware.Change) error {
	s := &sheet{width: p.bound()}
	if len(changes) == 0 {
		s.line("nothing differs")
		return s.write(w, "differences")
	}
	var rows [][]string
	for _, c := range changes {
		rows = append(rows, []string{string(c.Kind), c.Part, c.Field, c.Was, c.Now})
	}
	s.table([]string{"WHAT", "PART", "FACT", "WAS", "IS"}, rows)
	return s.write(w, "differences")
}
