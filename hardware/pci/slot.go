package pci

import (
	"path/filepath"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/smbios"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// slots are the names of slots and of the board's own devices.
type slots struct {
	printed, onboard map[hardware.BDF]string // by the firmware, see smbios.Places
	kernel           map[string]string       // by address without function, where the firmware has none
}

func slotsOf(root sysfs.Root) slots {
	const dir = "sys/bus/pci/slots"
	s := slots{kernel: map[string]string{}}
	s.printed, s.onboard = smbios.Places(root)
	for _, name := range root.Names(dir) {
		if name == "0" || strings.HasPrefix(name, "0-") {
			continue // slots without a number
		}
		if address := root.Text(dir, name, "address"); address != "" {
			s.kernel[address] = name
		}
	}
	return s
}

// of is the name of the slot that a function is in: its own, or that of a
// bridge above it.
func (s slots) of(root sysfs.Root, address string) string {
	if name := s.onboard[hardware.BDF(address)]; name != "" {
		return name
	}
	path := root.Real(devices, address)
	for path != "" {
		bdf, bus := sysfs.BusOf(path)
		if bus != "pci" || bdf == "" {
			break
		}
		card, _, _ := strings.Cut(string(bdf), ".")
		if name := s.printed[bdf]; name != "" {
			return name
		}
		if name := s.printed[hardware.BDF(card+".0")]; name != "" {
			return name
		}
		if name := s.kernel[card]; name != "" && len(s.printed) == 0 {
			return name
		}
		path = above(path, bdf)
	}
	return ""
}

// above is the path of what stands above a function in its device path.
func above(path string, bdf hardware.BDF) string {
	i := strings.LastIndex(path, "/"+string(bdf))
	if i < 0 {
		return ""
	}
	return filepath.Clean(path[:i])
}
