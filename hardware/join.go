package hardware

import (
	"fmt"
	"reflect"
	"strings"
)

// Join is one record out of the server's own view and its BMC's. The facts of
// inband stand; those of the BMC's view fill what is absent. Where both speak
// and disagree on what identifies the server, a finding says so.
func Join(inband, bmc Inventory) Inventory {
	out := Fill(inband, bmc)
	out.Findings = append(out.Findings, bmc.Findings...)
	out.Findings = append(out.Findings, disagreements(inband, bmc)...)
	more := cloned(bmc)
	joinParts(&out.NICs, more.NICs, func(a, b NIC) bool { return b.MAC != "" && a.MAC == b.MAC })
	joinParts(&out.Drives, more.Drives, func(a, b Drive) bool { return b.Serial != "" && a.Serial == b.Serial })
	out.Normalize()
	return out
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

// joinParts adds to each part what another view knows of the same one, and
// the parts that only that view has.
func joinParts[T any](out *[]T, from []T, same func(a, b T) bool) {
	for _, p := range from {
		if i := indexBy(*out, func(o T) bool { return same(o, p) }); i >= 0 {
			fillPart(&(*out)[i], p)
		} else {
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
