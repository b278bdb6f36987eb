package inventory

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// merge adds a partial inventory: single parts by the rule of
// [hardware.Append], lists one after the other, except that the second source
// on CPUs completes the first, and one on neighbors the ports.
func merge(inv *hardware.Inventory, part hardware.Inventory) {
	cpus := mergeCPUs(inv.CPUs, part.CPUs)
	nics := slices.Clone(inv.NICs)
	part.NICs = slices.DeleteFunc(slices.Clone(part.NICs), func(n hardware.NIC) bool { return joinNeighbor(nics, n) })
	inv.NICs = nics
	psus := slices.Clone(inv.PSUs)
	part.PSUs = slices.DeleteFunc(slices.Clone(part.PSUs), func(p hardware.PSU) bool { return joinPSU(psus, p) })
	inv.PSUs = psus
	*inv = hardware.Append(*inv, part)
	inv.CPUs = cpus
}

// joinNeighbor gives a neighbor to the port of the same name. It reports
// whether there is one.
func joinNeighbor(nics []hardware.NIC, n hardware.NIC) bool {
	i := slices.IndexFunc(nics, func(o hardware.NIC) bool { return n.Name != "" && o.Name == n.Name })
	if i < 0 {
		return false
	}
	nics[i].Neighbor = n.Neighbor
	nics[i].Sources = slices.Concat(nics[i].Sources, n.Sources)
	return true
}

// joinPSU gives what the BMC knows of a power supply to the one of the same
// serial that SMBIOS names. It reports whether there is one.
func joinPSU(psus []hardware.PSU, p hardware.PSU) bool {
	i := slices.IndexFunc(psus, func(o hardware.PSU) bool { return p.Serial != "" && o.Serial == p.Serial })
	if i < 0 {
		return false
	}
	o := &psus[i]
	o.Model, o.Firmware, o.Kind = cmp.Or(o.Model, p.Model), cmp.Or(o.Firmware, p.Firmware), cmp.Or(o.Kind, p.Kind)
	o.CapacityWatt = cmp.Or(o.CapacityWatt, p.CapacityWatt)
	o.Sources = slices.Concat(o.Sources, p.Sources)
	return true
}

// mergeCPUs joins sockets by order. What the CPU itself tells the kernel
// stands before the firmware's word, which virtual machines fill with the
// machine type; names and counts stay the firmware's, and on ARM, where the
// kernel knows only the cores' design, the model too.
func mergeCPUs(a, b []hardware.CPU) []hardware.CPU {
	if len(a) == 0 {
		return b
	}
	a = slices.Clone(a)
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		z := y
		z.Socket, z.Serial, z.Part = cmp.Or(x.Socket, y.Socket), cmp.Or(x.Serial, y.Serial), cmp.Or(x.Part, y.Part)
		z.Cores, z.Threads = cmp.Or(x.Cores, y.Cores), cmp.Or(x.Threads, y.Threads)
		if y.Family == 0 && x.Model != "" {
			y.Model, y.Manufacturer = x.Model, x.Manufacturer
		}
		z.Model, z.Manufacturer = cmp.Or(y.Model, x.Model), cmp.Or(y.Manufacturer, x.Manufacturer)
		z.MaxMHz = cmp.Or(y.MaxMHz, x.MaxMHz)
		z.Sources = slices.Concat(x.Sources, y.Sources)
		a[i] = z
	}
	return a
}

// adapters makes the cards of the ports out of their PCI functions, and tells
// each port its card and its slot.
func adapters(inv *hardware.Inventory) {
	byBDF := map[hardware.BDF]hardware.PCIDevice{}
	for _, p := range inv.PCI {
		byBDF[p.BDF] = p
	}
	slices.SortStableFunc(inv.NICs, func(a, b hardware.NIC) int { return cmp.Compare(a.BDF, b.BDF) })
	cards := map[string]int{}
	for i := range inv.NICs {
		n := &inv.NICs[i]
		p, ok := byBDF[n.BDF]
		if !ok || n.Bus != "pci" {
			continue
		}
		n.Adapter = cmp.Or(n.Adapter, strings.TrimSpace(p.Vendor+" "+p.Device))
		n.Slot = cmp.Or(n.Slot, p.Slot)
		card, _, _ := strings.Cut(string(n.BDF), ".")
		at, known := cards[card]
		if !known {
			at, cards[card] = len(inv.Adapters), len(inv.Adapters)
			inv.Adapters = append(inv.Adapters, hardware.Adapter{
				Name: n.Adapter, Manufacturer: p.Vendor, Model: cmp.Or(p.VPD.Product, p.Device), Slot: p.Slot, BDF: p.BDF, Sources: p.Sources,
			})
		}
		a := &inv.Adapters[at]
		a.Ports++
		a.Serial, a.Part, a.Firmware = cmp.Or(a.Serial, p.VPD.Serial), cmp.Or(a.Part, p.VPD.Part), cmp.Or(a.Firmware, n.Firmware)
	}
}

// nameControllers gives a storage controller the names of its PCI function
// where its driver knows none.
func nameControllers(inv *hardware.Inventory) {
	inv.StorageControllers = slices.Clone(inv.StorageControllers)
	for i := range inv.StorageControllers {
		c := &inv.StorageControllers[i]
		for _, p := range inv.PCI {
			if c.BDF != "" && p.BDF == c.BDF {
				c.Manufacturer, c.Model, c.Slot = cmp.Or(c.Manufacturer, p.Vendor), cmp.Or(c.Model, p.Device), cmp.Or(c.Slot, p.Slot)
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
