package ipmi

import (
	"fmt"

	"github.com/ingot-metal/ingot/hardware"
)

// The record types of the SDR repository (43).
const (
	sdrFull       = 0x01
	sdrCompact    = 0x02
	sdrEventOnly  = 0x03
	sdrGeneric    = 0x10
	sdrFRULocator = 0x11
	sdrMCLocator  = 0x12
	sdrOEM        = 0xc0

	sdrHeader     = 5
	bmcAddress    = 0x20
	entityUnknown = 0xff
	mostShared    = 16 // sensors of one compact record
)

// sdrRecord is a decoded record: sensors, or a locator, or neither.
type sdrRecord struct {
	id      int
	kind    byte
	name    string
	sensors []sensor
	locator *locator
}

// locator says where something is that has no sensor (43.7 to 43.9).
type locator struct {
	bmc      bool // behind the BMC itself, where we can ask
	fru, lun byte
	device   byte // 10h is a FRU that the BMC keeps, 08h to 0Fh an EEPROM (table 43-12)
	modifier byte
	entity   byte
	instance byte
	name     string
}

// spd says that the FRU is a DIMM's own EEPROM.
func (l locator) spd() bool { return l.device >= 0x08 && l.device <= 0x10 && l.modifier == 1 }

// decodeSDR reads one record with its header. Records of a type that holds no
// fact for us are read by their header only.
func decodeSDR(b []byte) (sdrRecord, error) {
	if len(b) < sdrHeader {
		return sdrRecord{}, fmt.Errorf("SDR of %d bytes", len(b))
	}
	r := sdrRecord{id: le16(b), kind: b[3]}
	end := sdrHeader + int(b[4])
	if end > len(b) {
		return r, fmt.Errorf("SDR %#04x ends at %d of %d bytes", r.id, end, len(b))
	}
	b = b[:end]
	least := map[byte]int{sdrFull: 48, sdrCompact: 32, sdrEventOnly: 17, sdrGeneric: 16, sdrFRULocator: 16, sdrMCLocator: 16}[r.kind]
	if len(b) < least {
		return r, fmt.Errorf("SDR %#04x of type %#02x has %d bytes, want %d", r.id, r.kind, len(b), least)
	}
	switch r.kind {
	case sdrFull:
		r.name = idString(b[47:])
		r.sensors = []sensor{fullSensor(b, r.name)}
	case sdrCompact:
		r.name = idString(b[31:])
		r.sensors = sharedSensors(b, r.name)
	case sdrEventOnly:
		r.name = idString(b[16:])
		r.sensors = []sensor{eventOnly(b, r.name)}
	case sdrFRULocator:
		r.name = idString(b[15:])
		r.locator = fruLocator(b, r.name)
	case sdrGeneric, sdrMCLocator:
		r.name = idString(b[15:])
	}
	return r, nil
}

// idString is a name after its type and length (43.15). One that goes beyond
// the record is cut.
func idString(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	kind, n := b[0]>>6, min(int(b[0]&0x1f), len(b)-1)
	raw := b[1 : 1+n]
	if kind == 0 { // Unicode by the specification, text in practice
		return hardware.Clean(eightBit(raw))
	}
	return hardware.Clean(fruText(kind, raw, false))
}

func fruLocator(b []byte, name string) *locator {
	logical := b[7]&0x80 != 0
	l := &locator{fru: b[6], lun: b[7] >> 3 & 3, device: b[10], modifier: b[11], entity: b[12], instance: b[13], name: name}
	l.bmc = b[5] == bmcAddress && logical
	return l
}

// sensorHead is what the three kinds of sensor record share.
func sensorHead(b []byte, name string) sensor {
	return sensor{name: name, owner: b[5], lun: b[6] & 3, channel: b[6] >> 4, number: b[7], entity: b[8], instance: b[9]}
}

func fullSensor(b []byte, name string) sensor {
	s := sensorHead(b, name)
	s.kind, s.event = b[12], b[13]
	s.units(b[20], b[21], b[22])
	s.linear = b[23] & 0x7f
	s.factors(b[24:30])
	s.analog = b[20]>>6 != 3
	s.readable = 0
	if access := b[11] >> 2 & 3; access == 1 || access == 2 {
		s.readable = b[18]
	}
	copy(s.limits[:], []byte{b[41], b[40], b[39], b[38], b[37], b[36]})
	return s
}

// sharedSensors are the sensors that one compact record describes (43.2): they
// count from the record's number, and their names from an offset.
func sharedSensors(b []byte, name string) []sensor {
	first := sensorHead(b, name)
	first.kind, first.event = b[12], b[13]
	first.units(b[20], b[21], b[22])
	n := max(1, min(int(b[23]&0xf), mostShared))
	var out []sensor
	for i := range n {
		s := first
		s.number += byte(i)
		if b[24]&0x80 != 0 {
			s.instance += byte(i)
		}
		if n > 1 {
			s.name = name + instanceMark(b[23]>>4&3, int(b[24]&0x7f)+i)
		}
		out = append(out, s)
	}
	return out
}

// instanceMark is a number, or letters as spreadsheets count.
func instanceMark(how byte, n int) string {
	if how != 1 {
		return fmt.Sprint(n)
	}
	if n >= 26 {
		return string(rune('A'+n/26-1)) + string(rune('A'+n%26))
	}
	return string(rune('A' + n))
}

func eventOnly(b []byte, name string) sensor {
	s := sensorHead(b, name)
	s.kind, s.event, s.silent = b[10], b[11], true
	return s
}
