package pci

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// link reads the four files of a PCI Express function. What is not Express
// has none; a link that is down has a width of 0.
func link(text func(file string) string) hardware.PCIeLink {
	return hardware.PCIeLink{
		SpeedGTs: speed(text("current_link_speed")), Width: width(text("current_link_width")),
		MaxSpeedGTs: speed(text("max_link_speed")), MaxWidth: width(text("max_link_width")),
	}
}

// speed reads "16.0 GT/s PCIe"; 0 for "Unknown".
func speed(s string) float64 {
	first, _, _ := strings.Cut(s, " ")
	f, err := strconv.ParseFloat(first, 64)
	if err != nil || !(f > 0) || f > 1024 {
		return 0
	}
	return f
}

// width is 1 to 32; drivers write 63 and 255 for what they do not know.
func width(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 32 {
		return 0
	}
	return n
}

// reducedLinks names the devices whose link runs below what both ends can.
// Only storage, network and graphics matter; each card counts once.
func reducedLinks(root sysfs.Root, all []hardware.PCIDevice) []hardware.Finding {
	byBDF := map[hardware.BDF]hardware.PCIDevice{}
	for _, p := range all {
		byBDF[p.BDF] = p
	}
	var out []hardware.Finding
	cards := map[string]bool{}
	for _, p := range all {
		card, _, _ := strings.Cut(string(p.BDF), ".")
		if !linkMatters(p) || cards[card] || root.Exists(devices, string(p.BDF), "physfn") {
			continue
		}
		parent, _ := sysfs.BusOf(above(root.Real(devices, string(p.BDF)), p.BDF))
		port, ok := byBDF[parent]
		if !ok {
			continue
		}
		if f, reduced := reduced(p, port); reduced {
			cards[card] = true
			out = append(out, f)
		}
	}
	return out
}

func linkMatters(p hardware.PCIDevice) bool {
	if p.Class == "" || p.Link.SpeedGTs == 0 || p.Link.Width == 0 {
		return false
	}
	return strings.HasPrefix(p.Class, "01") || strings.HasPrefix(p.Class, "02") || graphics(p)
}

func graphics(p hardware.PCIDevice) bool {
	return strings.HasPrefix(p.Class, "03") || strings.HasPrefix(p.Class, "12")
}

// reduced compares a link with the lesser of what device and port can. A GPU
// that idles slows its link down, so its speed alone is for information.
func reduced(p, port hardware.PCIDevice) (hardware.Finding, bool) {
	bestSpeed := leastKnown(p.Link.MaxSpeedGTs, port.Link.MaxSpeedGTs)
	bestWidth := int(leastKnown(float64(p.Link.MaxWidth), float64(port.Link.MaxWidth)))
	slow, narrow := p.Link.SpeedGTs < bestSpeed, p.Link.Width < bestWidth
	if !slow && !narrow {
		return hardware.Finding{}, false
	}
	f := hardware.Finding{
		Code: hardware.CodePCIeLinkReduced, Severity: hardware.Warning, Part: "pci " + string(p.BDF), Source: Source,
		Evidence: fmt.Sprintf("%s runs at %g GT/s x%d; it and its port %s can do %g GT/s x%d",
			strings.TrimSpace(p.Vendor+" "+p.Device), p.Link.SpeedGTs, p.Link.Width, port.BDF, bestSpeed, bestWidth),
		Hint: "seat the card anew, look at its riser and cable, and at the slot's speed in the firmware's setup",
	}
	if graphics(p) && !narrow {
		f.Severity, f.Hint = hardware.Info, "a GPU that idles saves power this way; look again under load"
	}
	return f, true
}

// leastKnown is the lesser of two where both are known; 0 where neither is.
func leastKnown(a, b float64) float64 {
	if a == 0 || b == 0 {
		return math.Max(a, b)
	}
	return math.Min(a, b)
}
