package hardware

import (
	"fmt"
	"strings"
)

// Join is one record out of the server's own view and its BMC's. The facts of
// inband stand; those of the BMC's view fill what is absent. Where both speak
// and disagree on what identifies the server, a finding says so.
func Join(inband, bmc Inventory) Inventory {
	out := Fill(inband, bmc)
	out.Findings = append(out.Findings, bmc.Findings...)
	out.Findings = append(out.Findings, disagreements(inband, bmc)...)
	joinNICs(&out, bmc.NICs)
	joinDrives(&out, bmc.Drives)
	out.Normalize()
	return out
}

// Fill adds to a record the facts that it lacks and another has. Lists of
// parts are taken only where the first has none; drives, NICs and findings
// are left to [Join]. A source is named where it added or agrees.
func Fill(first, second Inventory) Inventory {
	out, b := first.clone(), second.clone()
	s, t := &out.System, b.System
	fillParts(&s.Sources, t.Sources, fill(&s.Manufacturer, t.Manufacturer), fill(&s.Model, t.Model),
		fill(&s.Version, t.Version), fill(&s.Serial, t.Serial), fill(&s.UUID, t.UUID), fill(&s.SKU, t.SKU),
		fill(&s.Family, t.Family), fill(&s.AssetTag, t.AssetTag))
	bb, c := &out.Baseboard, b.Baseboard
	fillParts(&bb.Sources, c.Sources, fill(&bb.Manufacturer, c.Manufacturer), fill(&bb.Model, c.Model),
		fill(&bb.Version, c.Version), fill(&bb.Serial, c.Serial), fill(&bb.AssetTag, c.AssetTag))
	ch, d := &out.Chassis, b.Chassis
	fillParts(&ch.Sources, d.Sources, fill(&ch.Manufacturer, d.Manufacturer), fill(&ch.Model, d.Model),
		fill(&ch.Version, d.Version), fill(&ch.Serial, d.Serial), fill(&ch.AssetTag, d.AssetTag), fill(&ch.Type, d.Type))
	bi, e := &out.BIOS, b.BIOS
	fillParts(&bi.Sources, e.Sources, fill(&bi.Vendor, e.Vendor), fill(&bi.Version, e.Version), fill(&bi.Date, e.Date),
		fill(&bi.Mode, e.Mode), fill(&bi.SecureBoot, e.SecureBoot))
	fillParts(&out.Memory.Sources, b.Memory.Sources, fill(&out.Memory.SizeBytes, b.Memory.SizeBytes))
	m, f := &out.BMC, b.BMC
	fillParts(&m.Sources, f.Sources, fill(&m.Manufacturer, f.Manufacturer), fill(&m.Model, f.Model),
		fill(&m.Firmware, f.Firmware), fill(&m.IPMIVersion, f.IPMIVersion), fill(&m.GUID, f.GUID), fill(&m.MAC, f.MAC),
		fillList(&m.Addresses, f.Addresses))
	tp, g := &out.TPM, b.TPM
	fillParts(&tp.Sources, g.Sources, fill(&tp.Version, g.Version), fill(&tp.Manufacturer, g.Manufacturer), fill(&tp.Firmware, g.Firmware))

	fillList(&out.CPUs, b.CPUs)
	fillList(&out.DIMMs, b.DIMMs)
	fillList(&out.DIMMSlots, b.DIMMSlots)
	fillList(&out.PCI, b.PCI)
	fillList(&out.FRUs, b.FRUs)
	fillParts(&out.Kernel.Sources, b.Kernel.Sources, fill(&out.Kernel.Release, b.Kernel.Release), fill(&out.Kernel.Arch, b.Kernel.Arch))
	return out
}

// fill sets what is absent. It reports whether the two agree or it was filled:
// whether the other source stands behind the fact.
func fill[T comparable](to *T, from T) bool {
	var zero T
	if *to == zero {
		*to = from
	}
	return from != zero && *to == from
}

func fillList[T any](to *[]T, from []T) bool {
	if len(*to) > 0 || len(from) == 0 {
		return false
	}
	*to = from
	return true
}

func fillParts(to *Sources, from Sources, stands ...bool) {
	for _, ok := range stands {
		if ok {
			*to = append(*to, from...)
			return
		}
	}
}

// joinNICs adds to each port what the BMC knows of the same MAC, and the
// ports that only the BMC sees.
func joinNICs(out *Inventory, from []NIC) {
	for _, n := range from {
		i := indexBy(out.NICs, func(o NIC) bool { return n.MAC != "" && o.MAC == n.MAC })
		if i < 0 {
			out.NICs = append(out.NICs, n)
			continue
		}
		o := &out.NICs[i]
		o.Sources = append(o.Sources, n.Sources...)
		fill(&o.Adapter, n.Adapter)
		fill(&o.Slot, n.Slot)
		fill(&o.LinkMbps, n.LinkMbps)
		fill(&o.Carrier, n.Carrier)
	}
}

func joinDrives(out *Inventory, from []Drive) {
	for _, n := range from {
		i := indexBy(out.Drives, func(o Drive) bool { return n.Serial != "" && o.Serial == n.Serial })
		if i < 0 {
			out.Drives = append(out.Drives, n)
			continue
		}
		o := &out.Drives[i]
		o.Sources = append(o.Sources, n.Sources...)
		fill(&o.Model, n.Model)
		fill(&o.Vendor, n.Vendor)
		fill(&o.SizeBytes, n.SizeBytes)
		fill(&o.Transport, n.Transport)
		fill(&o.Firmware, n.Firmware)
		fill(&o.WWN, n.WWN)
		fill(&o.Slot, n.Slot)
	}
}

func indexBy[T any](s []T, f func(T) bool) int {
	for i := range s {
		if f(s[i]) {
			return i
		}
	}
	return -1
}

func disagreements(inband, bmc Inventory) []Finding {
	var out []Finding
	add := func(code Code, sev Severity, part, evidence, hint string) {
		out = append(out, Finding{Code: code, Severity: sev, Part: part, Evidence: evidence, Hint: hint, Source: "join"})
	}
	differ := func(a, b any) string { return fmt.Sprintf("in-band %v, BMC %v", a, b) }
	x, y := inband.System, bmc.System
	if x.Serial != "" && y.Serial != "" && !strings.EqualFold(x.Serial, y.Serial) {
		add(CodeSerialDisagrees, Warning, "system", differ(x.Serial, y.Serial), "was the board or the BMC swapped, or is this another server's BMC?")
	}
	if x.Model != "" && y.Model != "" && !strings.EqualFold(x.Model, y.Model) {
		add(CodeModelDisagrees, Info, "system", differ(x.Model, y.Model), "")
	}
	switch {
	case x.UUID == "" || y.UUID == "" || x.UUID == y.UUID:
	case x.UUID == y.UUID.Swapped():
		add(CodeUUIDByteOrder, Info, "system", differ(x.UUID, y.UUID), "the same UUID in the other byte order")
	default:
		add(CodeUUIDDisagrees, Warning, "system", differ(x.UUID, y.UUID), "is this another server's BMC?")
	}
	if a, b := inband.Memory.SizeBytes, bmc.Memory.SizeBytes; a > 0 && b > 0 && a != b {
		add(CodeMemoryDisagrees, Warning, "memory", differ(FormatBytes(a), FormatBytes(b)), "look for a DIMM that was mapped out")
	}
	if a, b := len(inband.DIMMs), len(bmc.DIMMs); a > 0 && b > 0 && a != b {
		add(CodeDIMMsDisagree, Warning, "dimms", differ(a, b), "look for a DIMM that was mapped out")
	}
	return out
}
