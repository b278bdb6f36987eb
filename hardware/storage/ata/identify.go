// Package ata reads what ATA drives say of themselves: IDENTIFY DEVICE, SMART,
// and the logs, as ACS-4 and its forerunners define them. It knows bytes only;
// who asks for them is package storage.
package ata

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// PageBytes is the size of every answer, or of each of its pages.
const PageBytes = 512

var le = binary.LittleEndian

// Identity is the IDENTIFY DEVICE data (ACS-4 7.13.6).
type Identity struct {
	Model, Serial, Firmware string
	WWN                     string // naa. with 16 digits
	RPM                     int    // 0 where it does not turn, or does not say
	Solid                   bool   // it says that it does not turn
	FormFactor              string
	LogicalBytes            int
	PhysicalBytes           int
	MaxLinkMbps             int
	Encrypts                bool // all user data
	SMART                   bool // enabled
	Logs                    bool // the general purpose logging commands
}

// ParseIdentity reads IDENTIFY DEVICE data. What names no model, or has a
// wrong checksum, is none.
func ParseIdentity(b []byte) (Identity, error) {
	if len(b) != PageBytes {
		return Identity{}, fmt.Errorf("read ATA identify: %d bytes, want %d", len(b), PageBytes)
	}
	if b[510] == 0xa5 && sum(b) != 0 {
		return Identity{}, fmt.Errorf("read ATA identify: checksum 0x%02x is wrong", b[511])
	}
	w := func(n int) uint16 { return le.Uint16(b[2*n:]) }
	id := Identity{Model: text(b[54:94]), Serial: hardware.CleanSerial(text(b[20:40])), Firmware: text(b[46:54]),
		WWN: wwn(b), LogicalBytes: 512, Encrypts: known(w(69)) && w(69)&(1<<4) != 0}
	if id.Model == "" {
		return Identity{}, fmt.Errorf("read ATA identify: no model")
	}
	if r := w(217); r == 1 {
		id.Solid = true
	} else if r > 0x400 && r < 0xffff {
		id.RPM = int(r)
	}
	if f := int(w(168) & 0xf); known(w(168)) && f < len(formFactors) {
		id.FormFactor = formFactors[f]
	}
	id.sectors(w)
	if s := w(76); known(s) {
		for bit, mbps := range map[int]int{1: 1500, 2: 3000, 3: 6000} {
			if s&(1<<bit) != 0 {
				id.MaxLinkMbps = max(id.MaxLinkMbps, mbps)
			}
		}
	}
	id.SMART = w(82)&1 != 0 && known(w(82)) && w(85)&1 != 0
	id.Logs = w(84)>>14 == 1 && w(84)&(1<<5) != 0
	return id, nil
}

// formFactors are the nominal form factors of word 168.
var formFactors = []string{"", "5.25 inch", "3.5 inch", "2.5 inch", "1.8 inch", "under 1.8 inch", "mSATA", "M.2", "MicroSSD", "CFast"}

// known reports whether a word is filled in: neither all zero nor all one.
func known(w uint16) bool { return w != 0 && w != 0xffff }

// sectors reads words 106, 117 and 118.
func (id *Identity) sectors(w func(int) uint16) {
	id.PhysicalBytes = id.LogicalBytes
	s := w(106)
	if s>>14 != 1 {
		return
	}
	if words := uint32(w(118))<<16 | uint32(w(117)); s&(1<<12) != 0 && words >= 256 && words <= 1<<15 {
		id.LogicalBytes = int(words) * 2
	}
	id.PhysicalBytes = id.LogicalBytes
	if s&(1<<13) != 0 && s&0xf <= 8 {
		id.PhysicalBytes = id.LogicalBytes << (s & 0xf)
	}
}

// wwn is the name in words 108 to 111, where word 87 says that there is one.
func wwn(b []byte) string {
	if w := le.Uint16(b[2*87:]); w>>14 != 1 || w&(1<<8) == 0 {
		return ""
	}
	var n uint64
	for i := range 4 {
		n = n<<16 | uint64(le.Uint16(b[2*(108+i):]))
	}
	if n>>60 != 5 || n == math.MaxUint64 { // NAA 5 is what the standard asks for
		return ""
	}
	return fmt.Sprintf("naa.%016x", n)
}

// text is an ATA string: two characters a word, the first in the high byte
// (ACS-4 3.3.10).
func text(b []byte) string {
	out := make([]byte, len(b))
	for i := 0; i+1 < len(b); i += 2 {
		out[i], out[i+1] = b[i+1], b[i]
	}
	return hardware.Clean(strings.TrimSpace(string(out)))
}

func sum(b []byte) (s byte) {
	for _, x := range b {
		s += x
	}
	return s
}
