package hardware

import (
	"fmt"
	"strings"
)

// SlowLinks are findings for links that run below what the part can do: those
// of drives, and of storage and network cards that sit in a slot. What is
// soldered to a board is wired as narrow as its maker wanted, and the links of
// graphics processors slow down by themselves to save power. It is for a
// record that does not know what the port can: the kernel does.
func (inv Inventory) SlowLinks(source string) []Finding {
	out := inv.slowDrives(source)
	done := map[string]bool{}
	for _, p := range inv.PCI {
		device, _, _ := strings.Cut(string(p.BDF), ".")
		carries := strings.HasPrefix(p.Class, "0108") || inSlot(p.Slot) && (strings.HasPrefix(p.Class, "01") || strings.HasPrefix(p.Class, "02"))
		l := p.Link
		if !carries || done[device] || l.SpeedGTs == 0 || l.Width == 0 || l.SpeedGTs >= l.MaxSpeedGTs && l.Width >= l.MaxWidth {
			continue
		}
		done[device] = device != ""
		out = append(out, Finding{Code: CodePCIeLinkReduced, Severity: Info, Part: Clean("pci " + firstOf(string(p.BDF), p.Slot) + " " + p.Device), Source: source,
			Evidence: fmt.Sprintf("rated for %g GT/s x%d runs at %g GT/s x%d", l.MaxSpeedGTs, l.MaxWidth, l.SpeedGTs, l.Width),
			Hint:     "nothing, when the slot can no more; else look at the riser and the BIOS's settings for it, and reseat the card"})
	}
	return out
}

func (inv Inventory) slowDrives(source string) []Finding {
	var out []Finding
	for _, d := range inv.Drives {
		if d.LinkMbps > 0 && d.LinkMbps < d.MaxLinkMbps {
			out = append(out, Finding{Code: CodeLinkSlow, Severity: Info, Part: Clean("drive " + firstOf(d.Slot, d.Name, d.Serial)), Source: source,
				Evidence: fmt.Sprintf("rated for %s runs at %s", gbps(d.MaxLinkMbps), gbps(d.LinkMbps)),
				Hint:     "look at backplane, cable and controller: the slowest of them decides"})
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
