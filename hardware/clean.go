package hardware

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds one text of an inventory, in bytes: SMBIOS and FRU strings
// are shorter.
const maxText = 256

// What firmware says when nobody filled it in, in lower case.
var placeholders = []string{
	"none", "n/a", "na", "null", "nil", "empty", "unknown", "undefined", "unspecified", "invalid",
	"to be filled by o.e.m.", "to be filled by o.e.m", "to be filled by oem", "o.e.m.", "oem",
	"not specified", "not available", "not applicable", "not provided", "not present", "not installed", "not settable",
	"no module installed", "no dimm", "nodimm", "no asset tag", "no asset information", "no serial number",
	"default string", "default", "default_string", "system manufacturer", "system product name", "system name",
	"system version", "system serial number", "sku", "base board manufacturer", "base board product name",
	"base board serial number", "base board version", "chassis manufacture", "chassis manufacturer",
	"chassis serial number", "chassis version", "asset tag", "asset-1234567890", "serial number", "part number",
	"bios", "all series", "type2 - board serial number", "type1family", "type1sku0", "fill by oem", "filled by o.e.m.",
	"undefined serial", "partnum", "sernum", "manufacturer", "array", "-", "--", "?", "module_manufacturer",
}

// What firmware gives for a serial when it has none, in lower case.
var placeholderSerials = []string{
	"0123456789", "1234567890", "123456789", "12345678", "01234567", "0123456789abcdef", "1234567890abcdef",
	"123456", "1234", "12345", "01234567890123456789ab", "123456789012345", "sn", "serial", "system serial", "123456789abc",
	"mb-1234567890", "n0serialnumber", "eval", "unknow", "00000000-0000-0000-0000-000000000000",
}

// Clean is a text as it may stand in an inventory: printable, its runs of
// space folded into one, at most 256 bytes; empty when it is only what a
// vendor leaves where nothing was filled in.
func Clean(s string) string {
	if len(s) > 4*maxText {
		s = s[:4*maxText]
	}
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == 0 {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	for len(s) > maxText {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	if slices.Contains(placeholders, strings.ToLower(s)) {
		return ""
	}
	if strings.Trim(s, "xX .*-_?") == "" { // XXXXXXX, ......
		return ""
	}
	return s
}

// CleanSerial is [Clean] for serial numbers, asset tags and part numbers: it
// drops also those of one repeated digit 0 or F and those that only count.
func CleanSerial(s string) string {
	s = Clean(s)
	low := strings.ToLower(s)
	if slices.Contains(placeholderSerials, low) {
		return ""
	}
	bare := strings.TrimPrefix(low, "0x")
	if strings.Trim(bare, "0 .-:") == "" || strings.Trim(bare, "f .-:") == "" {
		return ""
	}
	return s
}

// printable is a longer text made safe for a console and a bus: no control
// characters, at most so many bytes.
func printable(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
