package render

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

func (s *sheet) system(inv hardware.Inventory) {
	y, b, c, t := inv.System, inv.Baseboard, inv.Chassis, inv.TPM
	s.section("System")
	s.fact("system", y.Manufacturer, y.Model, y.Version, with("serial", y.Serial), with("SKU", y.SKU), with("asset", y.AssetTag))
	for _, k := range slices.Sorted(keys(y.OEMSerials)) {
		s.fact("", k, y.OEMSerials[k])
	}
	s.fact("UUID", string(y.UUID))
	s.fact("board", b.Manufacturer, b.Model, b.Version, with("serial", b.Serial), with("asset", b.AssetTag))
	s.fact("chassis", c.Manufacturer, c.Model, c.Type, with("serial", c.Serial), with("asset", c.AssetTag))
	s.fact("TPM", t.Version, t.Manufacturer, with("firmware", t.Firmware), with("banks", strings.Join(t.PCRBanks, " ")), with("EK", short(t.EKPublic)), with("EK certificate", short(t.EKCertificate)))
	s.fact("kernel", inv.Kernel.Release, inv.Kernel.Arch)
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// short is a digest that a person can compare with another.
func short(d hardware.Digest) string {
	digits := strings.TrimPrefix(string(d), "sha256:")
	return digits[:min(16, len(digits))]
}

func (s *sheet) firmware(inv hardware.Inventory) {
	f := inv.BIOS
	if f.Vendor+f.Version+string(f.Mode) == "" && len(inv.Firmware) == 0 {
		return
	}
	s.section("Firmware")
	s.fact("BIOS", f.Vendor, f.Version, f.Date, with("mode", f.Mode), with("secure boot", f.SecureBoot), with("setup mode", f.SetupMode))
	s.fact("override", f.Boot.Target, f.Boot.Enabled, string(f.Boot.Mode))
	if n := len(f.Attributes); n > 0 {
		s.fact("settings", fmt.Sprint(n))
	}
	var rows [][]string
	for _, x := range inv.Firmware {
		rows = append(rows, []string{cmp.Or(x.Name, x.ID), x.Version, x.Date, x.Manufacturer})
	}
	s.table([]string{"FIRMWARE", "VERSION", "DATE", "BY"}, rows)
}

func (s *sheet) bmc(m hardware.BMC) {
	if len(m.Sources) == 0 && m.Model == "" && len(m.Addresses) == 0 {
		return
	}
	s.section("BMC")
	s.fact("BMC", m.Manufacturer, m.Model, with("firmware", m.Firmware), with("serial", m.Serial), with("IPMI", m.IPMIVersion), with("Redfish", m.Protocol))
	s.fact("address", m.HostName, with("MAC", m.MAC), strings.Join(m.Addresses, " "))
	s.fact("mains", with("when power returns:", m.PowerRestore))
	var suites []string
	for _, c := range m.CipherSuites {
		suites = append(suites, fmt.Sprint(c))
	}
	s.fact("suites", strings.Join(suites, " "))
	var rows [][]string
	for _, i := range m.Interfaces {
		name := cmp.Or(i.Name, with("channel", number(i.Channel)))
		if i.Host {
			name += " (to the server)"
		}
		rows = append(rows, []string{name, string(i.MAC), strings.Join(i.Addresses, " "), i.Gateway, i.Origin, number(i.VLAN), string(i.Enabled)})
	}
	s.table([]string{"INTERFACE", "MAC", "ADDRESSES", "GATEWAY", "BY", "VLAN", "STATE"}, rows)
	rows = nil
	for _, a := range m.Accounts {
		state := string(a.Enabled)
		if a.Locked {
			state = "locked"
		}
		rows = append(rows, []string{a.ID, cmp.Or(a.Name, "(no name)"), a.Privilege, state})
	}
	s.table([]string{"ACCOUNT", "NAME", "PRIVILEGE", "STATE"}, rows)
}

func (s *sheet) cpus(inv hardware.Inventory) {
	if len(inv.CPUs) == 0 {
		return
	}
	s.section("CPUs: %d", len(inv.CPUs))
	var rows [][]string
	for _, c := range inv.CPUs {
		var caches, nodes []string
		for _, x := range c.Caches {
			caches = append(caches, fmt.Sprintf("L%d%s %s", x.Level, map[string]string{"data": "d", "instruction": "i"}[x.Kind], hardware.FormatBytes(x.SizeBytes)))
		}
		for _, n := range c.NUMANodes {
			nodes = append(nodes, fmt.Sprint(n))
		}
		rows = append(rows, []string{c.Socket, c.Model, number(c.Cores), number(c.Threads), number(c.MaxMHz), c.Microcode, strings.Join(caches, ", "), strings.Join(nodes, " "), c.Serial})
	}
	s.table([]string{"SOCKET", "CPU", "CORES", "THREADS", "MAX MHZ", "MICROCODE", "CACHES", "NUMA", "SERIAL"}, rows)
	if len(inv.NUMANodes) < 2 {
		return
	}
	rows = nil
	for _, n := range inv.NUMANodes {
		rows = append(rows, []string{fmt.Sprint(n.ID), n.CPUs, size(n.SizeBytes)})
	}
	s.table([]string{"NUMA NODE", "CPUS", "MEMORY"}, rows)
}

// memory lists slots in their order, each with what sits in it.
func (s *sheet) memory(inv hardware.Inventory, r hardware.Readings) {
	if len(inv.DIMMs)+len(inv.DIMMSlots) == 0 {
		return
	}
	s.section("Memory: %s in %d of %d slots%s", cmp.Or(size(inv.Memory.SizeBytes), "unknown size"), len(inv.DIMMs), max(len(inv.DIMMSlots), len(inv.DIMMs)), with(", ECC", inv.Memory.ECC))
	errors := map[string]string{}
	for _, e := range r.ECC {
		if e.Corrected+e.Uncorrected > 0 {
			errors[e.Name] = fmt.Sprintf("%d corrected, %d not", e.Corrected, e.Uncorrected)
		}
	}
	shown := map[string]bool{}
	var rows [][]string
	for _, d := range inv.DIMMs {
		shown[d.Slot] = true
		rows = append(rows, []string{d.Slot, size(d.SizeBytes), strings.TrimSpace(d.Type + " " + d.Module), nowAndMost(number(d.ConfiguredMTs), number(d.SpeedMTs)),
			number(d.Ranks), d.Manufacturer, d.Part, d.Serial, node(d.NUMANode), errors[d.Slot]})
	}
	for _, x := range inv.DIMMSlots {
		if !shown[x.Name] && !x.Populated {
			rows = append(rows, []string{x.Name, "empty", "", "", "", "", "", "", "", ""})
		}
	}
	s.table([]string{"SLOT", "SIZE", "TYPE", "MT/S", "RANKS", "MANUFACTURER", "PART", "SERIAL", "NUMA", "ERRORS"}, rows)
	for _, k := range slices.Sorted(keys(errors)) {
		if !shown[k] {
			s.fact("errors", k, errors[k])
		}
	}
}

func node(n *int) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

func (s *sheet) drives(inv hardware.Inventory, r hardware.Readings) {
	if len(inv.Drives) > 0 {
		s.section("Drives: %d", len(inv.Drives))
	}
	var rows [][]string
	for _, d := range inv.Drives {
		kind := string(d.Transport)
		if d.Rotational {
			kind = strings.TrimSpace(kind + " rotational")
		}
		h := readingOf(d, r.Drives)
		rows = append(rows, []string{cmp.Or(d.Slot, d.Name), size(d.SizeBytes), kind, strings.TrimSpace(d.Vendor + " " + d.Model), d.Serial, d.Firmware, d.WWN, h.Health, value(h.WearPercent, "%"), hours(h.PowerOnHours)})
	}
	s.table([]string{"DRIVE", "SIZE", "KIND", "MODEL", "SERIAL", "FIRMWARE", "WWN", "HEALTH", "WORN", "HOURS"}, rows)
	rows = nil
	for _, c := range inv.StorageControllers {
		rows = append(rows, []string{cmp.Or(c.Slot, string(c.BDF), c.Name), strings.TrimSpace(c.Manufacturer + " " + c.Model), c.Firmware, c.Serial, size(c.CacheBytes)})
	}
	s.table([]string{"CONTROLLER", "MODEL", "FIRMWARE", "SERIAL", "CACHE"}, rows)
	rows = nil
	for _, v := range inv.Volumes {
		rows = append(rows, []string{cmp.Or(v.Name, v.ID), v.RAID, size(v.SizeBytes), strings.Join(v.Drives, " ")})
	}
	s.table([]string{"VOLUME", "RAID", "SIZE", "DRIVES"}, rows)
}

// readingOf is what readings know of a drive.
func readingOf(d hardware.Drive, all []hardware.DriveReading) hardware.DriveReading {
	for _, r := range all {
		if r.Serial != "" && strings.EqualFold(r.Serial, d.Serial) || r.Serial == "" && r.Name != "" && (r.Name == d.Name || r.Name == d.Slot) {
			return r
		}
	}
	return hardware.DriveReading{}
}

func hours(n *uint64) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

func (s *sheet) nics(nics []hardware.NIC) {
	if len(nics) == 0 {
		return
	}
	s.section("NICs: %d", len(nics))
	var rows [][]string
	for _, n := range nics {
		link := map[hardware.Switch]string{hardware.Enabled: "up", hardware.Disabled: "down"}[n.Carrier]
		link = strings.TrimSpace(link + " " + nowAndMost(speed(n.LinkMbps), speed(n.MaxMbps)))
		rows = append(rows, []string{cmp.Or(n.Name, n.Slot), string(n.MAC), link, string(n.BDF), n.Adapter, n.Driver, n.Firmware,
			strings.Join(known([]string{n.Transceiver.Type, n.Transceiver.Part, n.Transceiver.Serial}), " "), neighbor(n.Neighbor)})
	}
	s.table([]string{"NIC", "MAC", "LINK", "BDF", "ADAPTER", "DRIVER", "FIRMWARE", "TRANSCEIVER", "NEIGHBOR"}, rows)
}

// neighbor is where the other end of the cable is plugged in.
func neighbor(n hardware.Neighbor) string {
	return strings.Join(known([]string{cmp.Or(n.SystemName, n.ChassisID), cmp.Or(n.PortID, n.PortDescription), with("VLAN", number(n.VLAN))}), " ")
}

// devices are the PCI functions that have a link, GPUs, and the number of all.
func (s *sheet) devices(inv hardware.Inventory) {
	var rows [][]string
	for _, p := range inv.PCI {
		l := p.Link
		if l.Width == 0 && l.MaxWidth == 0 {
			continue
		}
		rows = append(rows, []string{string(p.BDF), p.Slot, nowAndMost(lanes(l.Width), lanes(l.MaxWidth)), nowAndMost(gts(l.SpeedGTs), gts(l.MaxSpeedGTs)),
			strings.TrimSpace(p.Vendor + " " + p.Device), p.VPD.Serial, node(p.NUMANode)})
	}
	if len(inv.PCI) > 0 {
		s.section("PCI devices: %d, with a link of their own: %d", len(inv.PCI), len(rows))
	}
	s.table([]string{"BDF", "SLOT", "WIDTH", "GT/S", "DEVICE", "SERIAL", "NUMA"}, rows)
	rows = nil
	for _, g := range inv.GPUs {
		rows = append(rows, []string{cmp.Or(g.Slot, string(g.BDF), g.Name), g.Kind, strings.TrimSpace(g.Manufacturer + " " + g.Model), size(g.MemoryBytes), g.Serial, g.Firmware})
	}
	s.table([]string{"GPU", "KIND", "MODEL", "MEMORY", "SERIAL", "FIRMWARE"}, rows)
}

func lanes(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("x%d", n)
}

func gts(f float64) string {
	if f == 0 {
		return ""
	}
	return fmt.Sprintf("%g", f)
}

func (s *sheet) power(inv hardware.Inventory, r hardware.Readings) {
	if len(inv.PSUs)+len(inv.Fans) > 0 {
		s.section("Power supplies: %d, fans: %d", len(inv.PSUs), len(inv.Fans))
	}
	var rows [][]string
	for _, p := range inv.PSUs {
		health := ""
		for _, x := range r.PSUs {
			if x.Name == p.Name || x.Name == p.Slot {
				health = x.Health
			}
		}
		watts := ""
		if p.CapacityWatt > 0 {
			watts = fmt.Sprintf("%d W", p.CapacityWatt)
		}
		rows = append(rows, []string{cmp.Or(p.Slot, p.Name), strings.TrimSpace(p.Manufacturer + " " + p.Model), p.Serial, p.Part, watts, p.Firmware, health})
	}
	s.table([]string{"PSU", "MODEL", "SERIAL", "PART", "WATTS", "FIRMWARE", "HEALTH"}, rows)
	var fans []string
	for _, f := range inv.Fans {
		fans = append(fans, cmp.Or(f.Name, f.Slot)+with(" serial", f.Serial))
	}
	s.fact("fans", strings.Join(fans, ", "))
}

func (s *sheet) boot(inv hardware.Inventory) {
	if len(inv.BootEntries) == 0 {
		return
	}
	s.section("Boot entries: %d", len(inv.BootEntries))
	entries := slices.Clone(inv.BootEntries)
	slices.SortStableFunc(entries, func(a, b hardware.BootEntry) int {
		last := func(n int) int { return cmp.Or(n, 1<<20) }
		return cmp.Compare(last(a.Order), last(b.Order))
	})
	var rows [][]string
	for _, e := range entries {
		state := map[hardware.Switch]string{hardware.Disabled: "off"}[e.Active]
		if e.Current {
			state = strings.TrimSpace(state + " this boot")
		}
		rows = append(rows, []string{number(e.Order), e.ID, e.Name, state, e.Path})
	}
	s.table([]string{"ORDER", "ID", "NAME", "STATE", "PATH"}, rows)
}
