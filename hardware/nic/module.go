package nic

import (
	"math"

	"github.com/ingot-metal/ingot/hardware"
)

// moduleKinds are the identifiers of SFF-8024 table 4-1 that a server's port
// takes, with the layout of their memory.
var moduleKinds = map[byte]struct {
	name   string
	layout func([]byte) hardware.Transceiver
}{
	0x03: {"SFP", sff8472},
	0x0b: {"DWDM-SFP", sff8472},
	0x0c: {"QSFP", sff8636},
	0x0d: {"QSFP+", sff8636},
	0x11: {"QSFP28", sff8636},
	0x18: {"QSFP-DD", cmis},
	0x19: {"OSFP", cmis},
	0x1a: {"SFP-DD", cmis},
	0x1b: {"DSFP", cmis},
	0x1e: {"QSFP", cmis},
	0x1f: {"SFP-DD", cmis},
	0x20: {"SFP+", cmis},
}

// Module reads the identity of a transceiver out of the first 256 bytes of its
// memory: SFF-8472 for SFP, SFF-8636 for QSFP, CMIS for what is newer. It is
// empty for an empty cage and for what is of another kind.
func Module(b []byte) hardware.Transceiver {
	const least = 224
	if len(b) < least {
		return hardware.Transceiver{}
	}
	kind, known := moduleKinds[b[0]]
	if !known {
		return hardware.Transceiver{}
	}
	t := kind.layout(b)
	if t.Type == "" {
		t.Type = kind.name
	}
	return t
}

func field(b []byte, from, to int) string { return hardware.Clean(string(b[from:to])) }

// sff8472 is page A0h (SFF-8472 table 4-1). SFP tells its generations apart
// by the rate alone.
func sff8472(b []byte) hardware.Transceiver {
	t := hardware.Transceiver{Manufacturer: field(b, 20, 36), Part: field(b, 40, 56), Revision: field(b, 56, 60), Serial: field(b, 68, 84)}
	mbaud := 100 * int(b[12])
	if b[12] == 0xff {
		mbaud = 250 * int(b[66])
	}
	switch {
	case mbaud > 40000:
		t.Type = "SFP56"
	case mbaud > 20000:
		t.Type = "SFP28"
	case mbaud > 5000:
		t.Type = "SFP+"
	}
	const passive, active = 1 << 2, 1 << 3
	if b[8]&(passive|active) != 0 {
		t.LengthMeters = known(b[18])
	} else {
		t.LengthMeters = max(1000*known(b[14]), 100*known(b[15]), 10*known(b[16]), 10*known(b[17]), 10*known(b[18]), 10*known(b[19]))
	}
	return t
}

// sff8636 is the upper page 00h (SFF-8636 table 6-14).
func sff8636(b []byte) hardware.Transceiver {
	t := hardware.Transceiver{Manufacturer: field(b, 148, 164), Part: field(b, 168, 184), Revision: field(b, 184, 186), Serial: field(b, 196, 212)}
	const copper = 0x0a // the least technology of a cable of copper
	if b[147]>>4 >= copper || b[130] == noSeparableConnector {
		t.LengthMeters = known(b[146])
	} else {
		t.LengthMeters = max(1000*known(b[142]), 2*known(b[143]), known(b[144]), known(b[145]), 2*known(b[146]))
	}
	return t
}

// noSeparableConnector is a cable with both its ends (SFF-8024 table 4-3).
const noSeparableConnector = 0x23

// cmis is the upper page 00h (CMIS 5 table 8-25). Its cable length has a
// multiplier of 0.1 to 100 in the two top bits.
func cmis(b []byte) hardware.Transceiver {
	t := hardware.Transceiver{Manufacturer: field(b, 129, 145), Part: field(b, 148, 164), Revision: field(b, 164, 166), Serial: field(b, 166, 182)}
	meters := float64(b[202]&0x3f) * math.Pow10(int(b[202]>>6)-1)
	t.LengthMeters = int(math.Ceil(meters))
	return t
}

// known is a length; 0xff is one that is longer than the field holds.
func known(b byte) int {
	if b == 0xff {
		return 0
	}
	return int(b)
}
