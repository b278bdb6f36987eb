package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
)

// judgeHardware takes what somebody has to look at: it is wrong also where all
// that runs on it is well.
func (w *Why) judgeHardware(inv *hardware.Inventory, st fleet.Status) {
	if inv == nil {
		return
	}
	for _, f := range inv.Findings {
		differs := f.Code == hardware.CodeBaselineDiffers || f.Code == hardware.CodeSKUDiffers
		if f.Severity == hardware.Critical || differs && f.Severity == hardware.Warning {
			w.Hardware = append(w.Hardware, f)
		}
	}
	slices.SortStableFunc(w.Hardware, func(a, b hardware.Finding) int { return b.Severity.Rank() - a.Severity.Rank() })
	if len(w.Hardware) == 0 || w.Verdict == Wrong {
		return
	}
	more := ""
	if n := len(w.Hardware) - 1; n > 0 {
		more = fmt.Sprintf(", and %d more", n)
	}
	rest := strings.TrimPrefix(w.Answer, "Nothing is wrong: ")
	f := w.Hardware[0]
	w.Answer = fmt.Sprintf("Its hardware is not as it should be: %s%s. Beside that nothing is wrong: %s", f.Seen(), more, rest)
	w.Verdict, w.byHardware = Wrong, true
	w.Do = append(w.Do, w.fill(f.Hint, st), "all that was found: ingot node findings "+w.Name)
	if slices.ContainsFunc(w.Hardware, func(f hardware.Finding) bool { return f.Code == hardware.CodeBaselineDiffers }) {
		w.Do = append(w.Do, "what changed since it was accepted: ingot node diff "+w.Name)
	}
	w.Do = slices.DeleteFunc(w.Do, func(s string) bool { return s == "" })
}
