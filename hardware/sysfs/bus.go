package sysfs

import (
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// BusOf reads from a device's real path which bus it hangs on (pci, usb,
// platform) and the PCI function nearest to it.
func BusOf(path string) (bdf hardware.BDF, bus string) {
	bus = "platform"
	for _, e := range strings.Split(path, "/") {
		switch {
		case isBDF(e):
			bdf, bus = hardware.BDF(e), "pci"
		case strings.HasPrefix(e, "usb") && len(e) > 3 && e[3] >= '0' && e[3] <= '9':
			return bdf, "usb"
		}
	}
	return bdf, bus
}

// isBDF reports whether s is like 0000:3b:00.0; the domain may have five
// digits (behind Intel VMD).
func isBDF(s string) bool {
	dom, rest, ok := strings.Cut(s, ":")
	if !ok || len(dom) < 4 || len(dom) > 8 || !isHex(dom) || len(rest) != 7 {
		return false
	}
	return rest[2] == ':' && rest[5] == '.' && isHex(rest[:2]) && isHex(rest[3:5]) && isHex(rest[6:])
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}
