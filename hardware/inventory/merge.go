package inventory

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// nameAdapters gives each port the name of its PCI function.
func nameAdapters(inv *hardware.Inventory) {
	for i := range inv.NICs {
		n := &inv.NICs[i]
		if n.Adapter != "" || n.BDF == "" || n.Bus != "pci" {
			continue
		}
		for _, p := range inv.PCI {
			if p.BDF == n.BDF {
				n.Adapter = strings.TrimSpace(p.Vendor + " " + p.Device)
			}
		}
	}
}

// moving is what moves of the parts themselves: whoever reads is on.
func moving(inv hardware.Inventory) hardware.Readings {
	r := hardware.Readings{PowerState: hardware.PowerOn}
	for _, n := range inv.NICs {
		if n.MAC != "" && n.Carrier != "" {
			r.Links = append(r.Links, hardware.Link{MAC: n.MAC, Carrier: n.Carrier, LinkMbps: n.LinkMbps})
		}
	}
	return r
}

// merge adds a partial inventory: single parts by the rule of
// [hardware.Join], lists one after the other, except that the second source
// on CPUs completes the first.
func merge(inv *hardware.Inventory, part hardware.Inventory) {
	cpus := mergeCPUs(inv.CPUs, part.CPUs)
	*inv = hardware.Append(*inv, part)
	inv.CPUs = cpus
}

// mergeCPUs joins sockets by order. The model that the CPU itself tells the
// kernel stands before the firmware's, which virtual machines fill with the
// machine type; counts stay the firmware's.
func mergeCPUs(a, b []hardware.CPU) []hardware.CPU {
	if len(a) == 0 {
		return b
	}
	a = slices.Clone(a)
	for i := range min(len(a), len(b)) {
		x, y := &a[i], b[i]
		x.Model = cmp.Or(y.Model, x.Model)
		x.Manufacturer = cmp.Or(y.Manufacturer, x.Manufacturer)
		x.Cores, x.Threads = cmp.Or(x.Cores, y.Cores), cmp.Or(x.Threads, y.Threads)
		x.MaxMHz = cmp.Or(y.MaxMHz, x.MaxMHz)
		x.Sources = slices.Concat(x.Sources, y.Sources)
	}
	return a
}
