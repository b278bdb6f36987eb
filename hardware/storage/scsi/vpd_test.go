package scsi

import (
	"encoding/binary"
	"strings"
	"testing"
)

func page(number byte, payload string) []byte {
	b := []byte{0, number, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(len(payload)))
	return append(b, payload...)
}

func TestUnitSerial(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"plain", page(0x80, "  ZJV0000100\x00"), "ZJV0000100"},
		{"blank", page(0x80, "          "), ""},
		{"another page", page(0x83, "ZJV0000100"), ""},
		{"short", page(0x80, "ZJV0000100")[:8], ""},
		{"nothing", nil, ""},
	} {
		if got := UnitSerial(c.in); got != c.want {
			t.Errorf("UnitSerial(%s) = %q; want %q", c.name, got, c.want)
		}
	}
}

func TestWorldWideName(t *testing.T) {
	t10 := "\x02\x01\x00\x08ATA     "
	eui := "\x01\x02\x00\x08\x00\x25\x38\xbc\x21\xb1\x56\x01"
	naa := "\x01\x03\x00\x08\x50\x00\xc5\x00\x95\x01\x02\x03"
	port := "\x61\x93\x00\x08\x50\x00\xc5\x00\x95\x01\x02\x01" // association: target port
	zero := "\x01\x03\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00"
	for _, c := range []struct{ name, in, want string }{
		{"NAA", t10 + naa, "naa.5000c50095010203"},
		{"NAA before EUI", eui + naa, "naa.5000c50095010203"},
		{"EUI", t10 + eui, "eui.002538bc21b15601"},
		{"the port's name is not the drive's", port + t10, ""},
		{"zeros", zero, ""},
		{"cut", t10 + naa[:6], ""},
		{"nothing", "", ""},
	} {
		if got := WorldWideName(page(0x83, c.in)); got != c.want {
			t.Errorf("%s: WorldWideName = %q; want %q", c.name, got, c.want)
		}
	}
}

func TestATAIdentify(t *testing.T) {
	w := strings.Repeat("w", 512)
	if got := ATAIdentify(page(0x89, strings.Repeat("\x00", 56)+w)); string(got) != w {
		t.Errorf("ATAIdentify = %d bytes %.8q; want what stands at offset 60", len(got), got)
	}
	if got := ATAIdentify(page(0x89, strings.Repeat("\x00", 100))); got != nil {
		t.Error("a short page 0x89 is taken")
	}
}

func FuzzVPD(f *testing.F) {
	f.Add(page(0x80, "ZJV0000100"))
	f.Add(page(0x83, "\x01\x03\x00\x08\x50\x00\xc5\x00\x95\x01\x02\x03"))
	f.Add(page(0x89, strings.Repeat("\x00", 568)))
	f.Add(page(0xb1, "\x1c\x20\x00\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := UnitSerial(b); len(s) > len(b) {
			t.Errorf("a serial of %d bytes out of %d", len(s), len(b))
		}
		if w := WorldWideName(b); w != "" && !strings.HasPrefix(w, "naa.") && !strings.HasPrefix(w, "eui.") {
			t.Errorf("WorldWideName = %q", w)
		}
		if w := ATAIdentify(b); w != nil && len(w) != 512 {
			t.Errorf("identify data of %d bytes", len(w))
		}
		if c := BlockCharacteristics(b); c.RPM != 0 && (c.Solid || c.RPM <= 0x400) {
			t.Errorf("characteristics %+v", c)
		}
	})
}
