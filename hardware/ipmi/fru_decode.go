package ipmi

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/ingot-metal/ingot/hardware"
)

// The FRU's layout: Platform Management FRU Information Storage Definition
// 1.0, revision 1.3.
const (
	fruVersion    = 1
	fruHeader     = 8
	languageUTF16 = 26 // and above; 0 and 25 are English
	endOfFields   = 0xc1
	mostFields    = 32 // of one area; the named ones and custom ones
)

// fruContent is a decoded FRU with what the record has no fields for.
type fruContent struct {
	fru   hardware.FRU
	power *powerSupply
}

// DecodeFRU reads a FRU's content. An area that is not all there is left out;
// one whose checksum is wrong is kept, as many vendors' are. Both are named
// among the problems, and so is a panic of a decoder.
func DecodeFRU(id int, data []byte) (hardware.FRU, []error) {
	c, problems := decodeFRU(id, data)
	return c.fru, problems
}

func decodeFRU(id int, data []byte) (fruContent, []error) {
	c := fruContent{fru: hardware.FRU{ID: id}}
	if len(data) < fruHeader || data[0]&0xf != fruVersion {
		return c, []error{fmt.Errorf("no FRU common header in %d bytes", len(data))}
	}
	var problems []error
	if checksum(data[:fruHeader]) != 0 {
		problems = append(problems, errors.New("common header: its checksum is wrong"))
	}
	for _, a := range fruAreas {
		start := int(data[a.at]) * 8
		if start == 0 {
			continue
		}
		if err := decodeArea(a, data, start, &c); err != nil {
			problems = append(problems, fmt.Errorf("%s area: %w", a.name, err))
		}
	}
	return c, problems
}

// An area's decoder, by its place in the common header (chapter 8).
type fruArea struct {
	name   string
	at     int
	decode func([]byte, *fruContent)
}

var fruAreas = []fruArea{{"chassis", 2, chassisArea}, {"board", 3, boardArea}, {"product", 4, productArea}, {"multirecord", 5, nil}}

func decodeArea(a fruArea, data []byte, start int, c *fruContent) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if start+2 > len(data) {
		return fmt.Errorf("starts at %d of %d bytes", start, len(data))
	}
	if a.decode == nil {
		return multirecords(data[start:], c)
	}
	end := start + int(data[start+1])*8
	if end > len(data) || end < start+8 {
		return fmt.Errorf("ends at %d of %d bytes", end, len(data))
	}
	a.decode(data[start:end:end], c)
	if checksum(data[start:end]) != 0 {
		return errors.New("its checksum is wrong")
	}
	return nil
}

// checksum is zero where the last byte makes the sum zero.
func checksum(b []byte) (sum byte) {
	for _, x := range b {
		sum += x
	}
	return sum
}

// fields reads type/length fields until their end mark, the area's end, or a
// field that goes beyond it (chapter 13).
type fields struct {
	b    []byte
	wide bool // text is UTF-16, as in languages other than English
	read int
}

func (f *fields) next() (string, bool) {
	if len(f.b) == 0 || f.b[0] == endOfFields || f.read >= mostFields {
		return "", false
	}
	kind, n := f.b[0]>>6, int(f.b[0]&0x3f)
	if 1+n > len(f.b) {
		f.b = nil
		return "", false
	}
	raw := f.b[1 : 1+n]
	f.b = f.b[1+n:]
	f.read++
	return fruText(kind, raw, f.wide), true
}

// text is the next field as a text, code as a serial or part number.
func (f *fields) text() string { s, _ := f.next(); return hardware.Clean(s) }
func (f *fields) code() string { s, _ := f.next(); return hardware.CleanSerial(s) }

// rest are the custom fields.
func (f *fields) rest(area string, c *fruContent) {
	for i := 1; ; i++ {
		s, ok := f.next()
		if !ok {
			return
		}
		c.other(fmt.Sprintf("%s %d", area, i), s)
	}
}

func (c *fruContent) other(name, value string) {
	if value = hardware.Clean(value); value == "" {
		return
	}
	if c.fru.Other == nil {
		c.fru.Other = map[string]string{}
	}
	c.fru.Other[name] = value
}

// fruText is one field by its type code: binary, BCD plus, packed 6-bit
// ASCII, or text.
func fruText(kind byte, b []byte, wide bool) string {
	switch {
	case kind == 0:
		return binaryText(b)
	case kind == 1:
		return bcdPlus(b)
	case kind == 2:
		return sixBit(b)
	case wide && len(b)%2 == 0:
		return utf16Text(b)
	}
	return eightBit(b)
}

// binaryText is hexadecimal; but firmware that means text writes it there too.
func binaryText(b []byte) string {
	trimmed := strings.TrimRight(string(b), "\x00 ")
	if trimmed == "" {
		return ""
	}
	for _, c := range []byte(trimmed) {
		if c < ' ' || c > '~' {
			return hex.EncodeToString(b)
		}
	}
	return trimmed
}

func bcdPlus(b []byte) string {
	const digits = "0123456789 -.:,_"
	var out strings.Builder
	for _, c := range b {
		out.WriteByte(digits[c>>4])
		out.WriteByte(digits[c&0xf])
	}
	return out.String()
}

// sixBit has four characters in three bytes, the first in the lowest bits.
func sixBit(b []byte) string {
	var out strings.Builder
	var bits, have uint
	for _, c := range b {
		bits |= uint(c) << have
		for have += 8; have >= 6; have -= 6 {
			out.WriteByte(' ' + byte(bits&0x3f))
			bits >>= 6
		}
	}
	return out.String()
}

func utf16Text(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = uint16(le16(b[2*i:]))
	}
	return string(utf16.Decode(u))
}

// eightBit is Latin-1 by the specification, UTF-8 by practice.
func eightBit(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}

func areaFields(b []byte, from int) *fields {
	lang := b[2]
	return &fields{b: b[from : len(b)-1], wide: lang >= languageUTF16} // the last byte is the checksum
}

func chassisArea(b []byte, c *fruContent) {
	f := &fields{b: b[3 : len(b)-1]}
	c.fru.ChassisType = chassisType(b[2])
	c.fru.ChassisPart, c.fru.ChassisSerial = f.code(), f.code()
	f.rest("chassis", c)
}

// chassisType names the types of DSP0134 7.4.1.
func chassisType(b byte) string {
	names := [...]string{"", "other", "", "desktop", "low profile desktop", "pizza box", "mini tower", "tower", "portable", "laptop", "notebook",
		"hand held", "docking station", "all in one", "sub notebook", "space-saving", "lunch box", "main server chassis", "expansion chassis",
		"sub chassis", "bus expansion chassis", "peripheral chassis", "RAID chassis", "rack mount chassis", "sealed-case PC",
		"multi-system chassis", "compact PCI", "advanced TCA", "blade", "blade enclosure", "tablet", "convertible", "detachable",
		"IoT gateway", "embedded PC", "mini PC", "stick PC"}
	if n := int(b & 0x7f); n < len(names) {
		return names[n]
	}
	return ""
}

// fruEpoch is where a board's minutes count from; all zero is unspecified, and
// so is all F.
var fruEpoch = time.Date(1996, 1, 1, 0, 0, 0, 0, time.UTC)

func boardArea(b []byte, c *fruContent) {
	if m := le24(b[3:]); m != 0 && m != 0xffffff {
		c.fru.BoardDate = fruEpoch.Add(time.Duration(m) * time.Minute).Format("2006-01-02")
	}
	f := areaFields(b, 6)
	c.fru.BoardManufacturer, c.fru.BoardProduct = f.text(), f.text()
	c.fru.BoardSerial, c.fru.BoardPart = f.code(), f.code()
	c.other("board file", f.text())
	f.rest("board", c)
}

func productArea(b []byte, c *fruContent) {
	f := areaFields(b, 3)
	c.fru.ProductManufacturer, c.fru.ProductName = f.text(), f.text()
	c.fru.ProductPart, c.fru.ProductVersion = f.code(), f.text()
	c.fru.ProductSerial, c.fru.AssetTag = f.code(), f.code()
	c.other("product file", f.text())
	f.rest("product", c)
}
