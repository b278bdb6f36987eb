package hardware

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Join is one record out of the server's own view and its BMC's. The facts of
// inband stand; those of the BMC's view fill what is absent. Parts are joined
// by what goes with them (serial, WWN, MAC) or by where they are (BDF, slot).
// Where both speak and disagree, a finding says so.
func Join(inband, bmc Inventory) Inventory {
	out := Fill(inband, bmc)
	for _, f := range bmc.Findings {
		known := f.Code == CodeLinkSlow || f.Code == CodePCIeLinkReduced && len(inband.PCI) > 0 // said below, and by the kernel
		if !known {
			out.Findings = append(out.Findings, f)
		}
	}
	out.Findings = append(out.Findings, disagreements(inband, bmc)...)
	more := cloned(bmc)
	joinParts(&out.NICs, more.NICs, func(a, b NIC) bool { return b.MAC != "" && a.MAC == b.MAC }, true)
	joinParts(&out.Drives, more.Drives, sameDrive, true)
	joinParts(&out.DIMMs, more.DIMMs, sameDIMM, false)
	joinParts(&out.PCI, more.PCI, func(a, b PCIDevice) bool { return b.BDF != "" && a.BDF == b.BDF }, false)
	joinParts(&out.GPUs, more.GPUs, func(a, b GPU) bool {
		return sameSerial(a.Serial, b.Serial) || b.UUID != "" && a.UUID == b.UUID || b.BDF != "" && a.BDF == b.BDF
	}, false)
	joinParts(&out.PSUs, more.PSUs, func(a, b PSU) bool {
		return sameSerial(a.Serial, b.Serial) || (a.Serial == "" || b.Serial == "") && (sameName(a.Slot, b.Slot) || sameName(a.Name, b.Name))
	}, false)
	joinParts(&out.StorageControllers, more.StorageControllers, func(a, b StorageController) bool {
		return sameSerial(a.Serial, b.Serial) || b.BDF != "" && a.BDF == b.BDF || b.WWN != "" && a.WWN == b.WWN
	}, false)
	joinParts(&out.Adapters, more.Adapters, func(a, b Adapter) bool {
		return sameSerial(a.Serial, b.Serial) || b.BDF != "" && a.BDF == b.BDF
	}, false)
	if len(inband.CPUs) == len(bmc.CPUs) { // sockets are named otherwise on either side, and counted in the same order
		for i := range out.CPUs {
			fillPart(&out.CPUs[i], more.CPUs[i])
		}
	}
	out.Findings = append(out.Findings, out.slowDrives("join")...)
	out.Normalize()
	return out
}

func sameDrive(a, b Drive) bool {
	return sameSerial(a.Serial, b.Serial) || b.WWN != "" && strings.EqualFold(a.WWN, b.WWN)
}

// sameDIMM goes by the slot only where a serial is not known: names of slots
// differ, and two of them may differ in nothing but what stands around.
func sameDIMM(a, b DIMM) bool {
	return sameSerial(a.Serial, b.Serial) || (a.Serial == "" || b.Serial == "") && sameName(a.Slot, b.Slot)
}

// sameSerial bears that one side writes a serial as a number: 0x8633DADC.
func sameSerial(a, b string) bool {
	bare := func(s string) string { return strings.TrimPrefix(strings.ToLower(s), "0x") }
	return a != "" && bare(a) == bare(b)
}

func sameName(a, b string) bool {
	bare := strings.NewReplacer(" ", "", "_", "", "-", "")
	return a != "" && strings.EqualFold(bare.Replace(a), bare.Replace(b))
}

// Fill adds to a record the facts that it lacks and another has. Lists of
// parts are taken only where the first has none; drives, NICs and findings
// are left to [Join]. A source is named where it added or agrees.
func Fill(first, second Inventory) Inventory {
	out, more := cloned(first), cloned(second)
	to, from := reflect.ValueOf(&out).Elem(), reflect.ValueOf(&more).Elem()
	for i := range to.NumField() {
		switch to.Field(i).Interface().(type) {
		case []Drive, []NIC, []Finding:
			continue
		}
		switch to.Field(i).Kind() {
		case reflect.Struct:
			fillStruct(to.Field(i), from.Field(i))
		case reflect.Slice:
			if to.Field(i).Len() == 0 {
				to.Field(i).Set(from.Field(i))
			}
		}
	}
	return out
}

// Append puts partial records of one view together: single parts by the rule
// of [Fill], lists one after the other.
func Append(first, second Inventory) Inventory {
	out := Fill(first, second)
	to, a, b := reflect.ValueOf(&out).Elem(), reflect.ValueOf(first), reflect.ValueOf(second)
	for i := range to.NumField() {
		if to.Field(i).Kind() == reflect.Slice {
			to.Field(i).Set(reflect.AppendSlice(reflect.AppendSlice(reflect.MakeSlice(a.Field(i).Type(), 0, 0), a.Field(i)), b.Field(i)))
		}
	}
	return out
}

// joinParts adds to each part what another view knows of the same one, and,
// where it may, the parts that only that view has.
func joinParts[T any](out *[]T, from []T, same func(a, b T) bool, add bool) {
	for _, p := range from {
		if i := indexBy(*out, func(o T) bool { return same(o, p) }); i >= 0 {
			fillPart(&(*out)[i], p)
		} else if add {
			*out = append(*out, p)
		}
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

// disagreement collects what two views do not agree on.
type disagreement struct{ out []Finding }

func (d *disagreement) add(code Code, sev Severity, part, hint, format string, args ...any) {
	d.out = append(d.out, Finding{Code: code, Severity: sev, Part: part, Evidence: fmt.Sprintf(format, args...), Hint: hint, Source: "join"})
}

func disagreements(inband, bmc Inventory) []Finding {
	var d disagreement
	d.identity(inband.System, bmc.System, bmc.Chassis)
	d.memory(inband, bmc)
	if a, b := len(inband.CPUs), len(bmc.CPUs); a > 0 && b > 0 && a != b {
		d.add(CodeCPUsDisagree, Warning, "cpus", "look for a CPU that was switched off, or is not seated", sides, a, b)
	}
	d.drives(inband, bmc)
	if a, b := inband.BIOS.Version, bmc.BIOS.Version; a != "" && b != "" && !within(a, b) {
		d.add(CodeFirmwareDisagrees, Info, "bios", "was it updated without a reboot since?", sides, a, b)
	}
	return d.out
}

const sides = "in-band %v, BMC %v"

// identity bears that some BMCs call the main board's serial the system's and
// have the one on the label elsewhere.
func (d *disagreement) identity(x, y System, chassis Chassis) {
	known := []string{y.Serial, y.SKU, chassis.Serial}
	for _, s := range y.OEMSerials {
		known = append(known, s)
	}
	if x.Serial != "" && y.Serial != "" && !slices.ContainsFunc(known, func(s string) bool { return strings.EqualFold(s, x.Serial) }) {
		d.add(CodeSerialDisagrees, Warning, "system", "was the board or the BMC swapped, or is this another server's BMC?", sides, x.Serial, y.Serial)
	}
	if x.Model != "" && y.Model != "" && !within(x.Model, y.Model) {
		d.add(CodeModelDisagrees, Info, "system", "", sides, x.Model, y.Model)
	}
	switch {
	case x.UUID == "" || y.UUID == "" || x.UUID == y.UUID:
	case x.UUID == y.UUID.Swapped():
		d.add(CodeUUIDByteOrder, Info, "system", "the same UUID in the other byte order", sides, x.UUID, y.UUID)
	default:
		d.add(CodeUUIDDisagrees, Warning, "system", "is this another server's BMC?", sides, x.UUID, y.UUID)
	}
}

// within reports whether one text says what the other does, perhaps with more
// around it.
func within(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	return strings.Contains(a, b) || strings.Contains(b, a)
}

func (d *disagreement) memory(inband, bmc Inventory) {
	const hint = "look for a DIMM that was mapped out"
	if a, b := inband.Memory.SizeBytes, bmc.Memory.SizeBytes; a > 0 && b > 0 && a != b {
		d.add(CodeMemoryDisagrees, Warning, "memory", hint, sides, FormatBytes(a), FormatBytes(b))
	}
	if a, b := len(inband.DIMMs), len(bmc.DIMMs); a > 0 && b > 0 && a != b {
		d.add(CodeDIMMsDisagree, Warning, "dimms", hint, sides+"%s", a, b, onlyOne(inband.DIMMs, bmc.DIMMs))
	}
}

// onlyOne names the first DIMM that one side alone has, where serials tell.
func onlyOne(inband, bmc []DIMM) string {
	for _, v := range []struct {
		who  string
		a, b []DIMM
	}{{who: "the BMC", a: bmc, b: inband}, {who: "the server", a: inband, b: bmc}} {
		for _, d := range v.a {
			if d.Serial != "" && indexBy(v.b, func(o DIMM) bool { return o.Serial == "" || sameDIMM(o, d) }) < 0 {
				return fmt.Sprintf("; only %s sees %s serial %s", v.who, d.Slot, d.Serial)
			}
		}
	}
	return ""
}

// drives looks for those that the BMC sees and the kernel does not: dead,
// loose, or without a driver. That a BMC misses some is common and says
// nothing; behind a RAID controller the kernel sees none. One drive that both
// name by the same serial shows that serials can be compared.
func (d *disagreement) drives(inband, bmc Inventory) {
	var missing []Drive
	common := false
	for _, b := range bmc.Drives {
		i := indexBy(inband.Drives, func(a Drive) bool { return sameDrive(a, b) })
		switch {
		case i < 0 && b.Serial != "":
			missing = append(missing, b)
		case i >= 0:
			common = true
			if a := inband.Drives[i]; a.Firmware != "" && b.Firmware != "" && !within(a.Firmware, b.Firmware) {
				d.add(CodeFirmwareDisagrees, Info, "drive "+firstOf(b.Slot, b.Serial), "was it updated since the BMC looked?", sides, a.Firmware, b.Firmware)
			}
		}
	}
	if !common || len(bmc.Volumes) > 0 {
		return
	}
	for _, m := range missing {
		d.add(CodeDrivesDisagree, Warning, "drive "+firstOf(m.Slot, m.Serial), "is it seated, and has the kernel a driver for its controller?",
			"the BMC sees %s serial %s, the kernel does not", firstOf(m.Model, "a drive"), m.Serial)
	}
}
