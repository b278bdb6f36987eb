// Package scsi reads what SCSI drives and enclosures say of themselves: vital
// product data and log pages, as SPC-5, SBC-4 and SAT-4 define them. It knows
// bytes only; who asks for them is package storage.
package scsi

import (
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

var be = binary.BigEndian

// MaxVPD bounds a vital product data page: its length field has 16 bits.
const MaxVPD = 4 + 0xffff

// vpd is the payload of page number want, nil where it is another page or
// shorter than it says (SPC-5 7.7.1).
func vpd(b []byte, want byte) []byte {
	if len(b) < 4 || len(b) > MaxVPD || b[1] != want {
		return nil
	}
	n := int(be.Uint16(b[2:4]))
	if n > len(b)-4 {
		return nil
	}
	return b[4 : 4+n]
}

// UnitSerial is the serial number of page 0x80 (SPC-5 7.7.18); empty where the
// page is missing or broken.
func UnitSerial(page []byte) string {
	return hardware.CleanSerial(string(vpd(page, 0x80)))
}

// WorldWideName is the logical unit's name in page 0x83 (SPC-5 7.7.6): naa.
// before eui.; empty where there is neither.
func WorldWideName(page []byte) string {
	var eui string
	for b := vpd(page, 0x83); len(b) >= 4; {
		n := int(b[3])
		if 4+n > len(b) {
			break
		}
		binaryCode, ofUnit, kind, id := b[0]&0xf == 1, b[1]>>4&3 == 0, b[1]&0xf, b[4:4+n]
		b = b[4+n:]
		if !binaryCode || !ofUnit || n == 0 {
			continue
		}
		switch {
		case kind == 3 && (n == 8 || n == 16):
			if name := Unique("naa." + hex.EncodeToString(id)); name != "" {
				return name
			}
		case kind == 2 && (n == 8 || n == 12 || n == 16) && eui == "":
			eui = Unique("eui." + hex.EncodeToString(id))
		}
	}
	return eui
}

// Unique is a name where it is unique in the world, else empty: t10 names
// repeat vendor, model and serial.
func Unique(name string) string {
	for _, p := range []string{"naa.", "eui.", "nvme.", "uuid."} {
		if strings.HasPrefix(name, p) && strings.Trim(name[len(p):], "0-") != "" {
			return hardware.Clean(name)
		}
	}
	return ""
}

// identifyAt is where page 0x89 has its IDENTIFY DEVICE data (SAT-4 12.4.2).
const identifyAt = 60

// ATAIdentify is the IDENTIFY DEVICE data in page 0x89, nil where there is
// none.
func ATAIdentify(page []byte) []byte {
	if b := vpd(page, 0x89); len(b) >= identifyAt-4+512 {
		return b[identifyAt-4:][:512]
	}
	return nil
}

// Characteristics are those of page 0xb1 (SBC-4 6.6.2).
type Characteristics struct {
	RPM        int  // 0 where it does not turn, or does not say
	Solid      bool // it says that it does not turn
	FormFactor string
}

// formFactors are the nominal form factors of page 0xb1.
var formFactors = []string{"", "5.25 inch", "3.5 inch", "2.5 inch", "1.8 inch", "under 1.8 inch"}

// BlockCharacteristics reads page 0xb1; nothing is known where it is missing
// or broken.
func BlockCharacteristics(page []byte) Characteristics {
	var c Characteristics
	b := vpd(page, 0xb1)
	if len(b) < 4 {
		return c
	}
	if r := be.Uint16(b); r == 1 {
		c.Solid = true
	} else if r > 0x400 && r < 0xffff {
		c.RPM = int(r)
	}
	if f := int(b[3] & 0xf); f < len(formFactors) {
		c.FormFactor = formFactors[f]
	}
	return c
}
