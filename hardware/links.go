package hardware

import (
	"fmt"
	"strings"
)

// SlowLinks are findings for links that run below what the part can do: those
// of drives, and of storage and network cards that sit in a slot. What is
// soldered to a board is wired as narrow as its maker wanted, and the links of
// graphics processors slow down by themselves to save power.
func (inv Inventory) SlowLinks(source string) []Finding {
	var out []Finding
	add := func(sev Severity, part, evidence, hint string) {
		out = append(out, Finding{Code: CodeLinkSlow, Severity: sev, Part: Clean(part), Evidence: evidence, Hint: hint, Source: source})
	}
	for _, d := range inv.Drives {
		if d.LinkMbps > 0 && d.LinkMbps < d.MaxLinkMbps {
			add(Info, "drive "+firstOf(d.Slot, d.Name, d.Serial), fmt.Sprintf("rated for %s runs at %s", gbps(d.MaxLinkMbps), gbps(d.LinkMbps)),
				"look at backplane, cable and controller: the slowest of them decides")
		}
	}
	done := map[string]bool{}
	for _, p := range inv.PCI {
		device, _, _ := strings.Cut(string(p.BDF), ".")
		carries := strings.HasPrefix(p.Class, "0108") || inSlot(p.Slot) && (strings.HasPrefix(p.Class, "01") || strings.HasPrefix(p.Class, "02"))
		if l := p.Link; carries && !done[device] && l.SpeedGTs > 0 && l.Width > 0 {
			done[device] = device != ""
			part := strings.TrimSpace("pci " + firstOf(string(p.BDF), p.Slot) + " " + p.Device)
			if l.SpeedGTs < l.MaxSpeedGTs {
				add(Info, part, fmt.Sprintf("rated for %g GT/s runs at %g", l.MaxSpeedGTs, l.SpeedGTs), "look at the slot, the riser and the BIOS's settings for it")
			}
			if l.Width < l.MaxWidth {
				add(Info, part, fmt.Sprintf("has %d lanes and runs with %d", l.MaxWidth, l.Width), "look whether the slot has as many; reseat the card when it has")
			}
		}
	}
	return out
}

func inSlot(slot string) bool {
	s := strings.ToLower(slot)
	return s != "" && !strings.Contains(s, "onboard") && !strings.Contains(s, "embedded") && !strings.Contains(s, "lom")
}

func gbps(mbps int) string { return fmt.Sprintf("%g Gb/s", float64(mbps)/1000) }

func firstOf(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}
