package render

import (
	"fmt"
	"strings"

	"github.com/ingot-metal/ingot/fleet"
)

func classColor(c fleet.ReasonClass) color {
	switch c {
	case fleet.ClassFault, fleet.ClassRefused:
		return red
	case fleet.ClassWaits:
		return yellow
	}
	return plain
}

// Reasons is a table of reasons, one a line.
func Reasons(s Style, all []fleet.Reason) string {
	var rows [][]cell
	for _, r := range all {
		rows = append(rows, []cell{{text: string(r.Code)}, {string(r.Class), classColor(r.Class)}, {text: r.Where}, {text: r.Meaning}})
	}
	var b strings.Builder
	s.table(&b, "", []string{"CODE", "CLASS", "WHERE", "WHAT IT MEANS"}, rows)
	return b.String()
}

// Reason is all that is known of one reason.
func Reason(s Style, r fleet.Reason) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s, %s\n", s.paint(bold, string(r.Code)), s.paint(classColor(r.Class), string(r.Class)), r.Where)
	fs := []field{{"means", r.Meaning, plain}}
	for i, c := range r.Causes {
		fs = append(fs, field{first(i, "causes"), c, plain})
	}
	fs = append(fs, field{"what to do", r.Hint, yellow}, field{"look at", r.Evidence, plain})
	s.fields(&b, fs)
	return b.String()
}

// first is the name of a field in its first line, and nothing in the others.
func first(i int, name string) string {
	if i > 0 {
		return ""
	}
	return name
}
