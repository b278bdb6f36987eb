package storage

import (
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// maxVPD bounds a vital product data page: its length field has 16 bits.
const maxVPD = 4 + 0xffff

// vpd is the payload of page number want, nil where it is another page or
// shorter than it says (SPC-5 7.7.1).
func vpd(b []byte, want byte) []byte {
	if len(b) < 4 || len(b) > maxVPD || b[1] != want {
		return nil
	}
	n := int(binary.BigEndian.Uint16(b[2:4]))
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
			if name := worldWide("naa." + hex.EncodeToString(id)); name != "" {
				return name
			}
		case kind == 2 && (n == 8 || n == 12 || n == 16) && eui == "":
			eui = worldWide("eui." + hex.EncodeToString(id))
		}
	}
	return eui
}

// Identity is what an ATA drive says of itself.
type Identity struct {
	Model, Serial, Firmware string
}

// ATAIdentity reads the IDENTIFY DEVICE data in page 0x89 (SAT-4 12.4.2). The
// model there has 40 characters where SCSI's own inquiry has 16.
func ATAIdentity(page []byte) (Identity, bool) {
	const identify = 60 - 4 // the page's payload starts after its header
	b := vpd(page, 0x89)
	if len(b) < identify+512 {
		return Identity{}, false
	}
	w := b[identify:]
	id := Identity{Serial: swapped(w[20:40]), Firmware: swapped(w[46:54]), Model: swapped(w[54:94])}
	return id, id.Model != ""
}

// swapped is an ATA string: two characters a word, the first in the high byte
// (ACS-4 3.4.9).
func swapped(b []byte) string {
	out := make([]byte, len(b))
	for i := 0; i+1 < len(b); i += 2 {
		out[i], out[i+1] = b[i+1], b[i]
	}
	return hardware.CleanSerial(strings.TrimSpace(string(out)))
}
