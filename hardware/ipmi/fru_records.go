package ipmi

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/ingot-metal/ingot/hardware"
)

// The multirecord area (chapter 16).
const (
	recordHeader    = 5
	recordPSU       = 0x00
	recordDCOutput  = 0x01
	recordDCLoad    = 0x02
	recordOEM       = 0xc0
	lastRecord      = 0x80
	mostRecords     = 64
	oemBytes        = 24 // of one OEM record that are shown
	unspecifiedWatt = 0xfff
)

// powerSupply is the record of type 0 (18.1).
type powerSupply struct {
	watts int
	kind  string // ac, dc
}

// multirecords walks the records. Each says how long it is, and is believed
// only within the data.
func multirecords(b []byte, c *fruContent) error {
	var problem error
	for n := 0; n < mostRecords; n++ {
		if len(b) < recordHeader {
			return fmt.Errorf("record %d: %d bytes are left for its header", n, len(b))
		}
		if checksum(b[:recordHeader]) != 0 {
			return fmt.Errorf("record %d: its header's checksum is wrong", n)
		}
		end := recordHeader + int(b[2])
		if end > len(b) {
			return fmt.Errorf("record %d: ends at %d of %d bytes", n, end, len(b))
		}
		body := b[recordHeader:end]
		if checksum(body)+b[3] != 0 {
			problem = fmt.Errorf("record %d: its checksum is wrong", n)
		}
		c.record(b[0], body)
		if b[1]&lastRecord != 0 {
			return problem
		}
		b = b[end:]
	}
	return errors.New("it does not end")
}

func (c *fruContent) record(kind byte, b []byte) {
	switch {
	case kind == recordPSU && len(b) >= 18:
		c.psu(b)
	case kind == recordDCOutput && len(b) >= 13:
		c.dcOutput(b)
	case kind == recordDCLoad && len(b) >= 13:
		c.dcLoad(b)
	case kind >= recordOEM && len(b) >= 3:
		c.other(fmt.Sprintf("oem %#02x", kind), fmt.Sprintf("IANA %d: %s", le24(b), hex.EncodeToString(b[3:min(len(b), 3+oemBytes)])))
	}
}

func (c *fruContent) psu(b []byte) {
	p := &powerSupply{}
	if w := le16(b) & unspecifiedWatt; w != unspecifiedWatt {
		p.watts = w
	}
	volts := func(at int) string { return trimmedVolts(le16(b[at:])) }
	switch {
	case b[14] > 0 || b[15] > 0:
		p.kind = "ac"
		c.other("psu input hertz", fmt.Sprintf("%d-%d", b[14], b[15]))
	case le16(b[6:]) > 0:
		p.kind = "dc"
	}
	c.power = p
	if le16(b[8:]) > 0 {
		c.other("psu input volts", volts(6)+"-"+volts(8))
	}
	if le16(b[12:]) > 0 {
		c.other("psu input volts 2", volts(10)+"-"+volts(12))
	}
	c.number("psu watts", p.watts)
	if va := le16(b[2:]); va != 0xffff {
		c.number("psu peak va", va)
	}
	if b[4] != 0xff {
		c.number("psu inrush amps", int(b[4]))
		c.number("psu inrush ms", int(b[5]))
	}
	c.number("psu dropout ms", int(b[16]))
	c.flags(b[17])
	if len(b) >= 20 {
		peak := le16(b[18:])
		c.number("psu peak watts", peak&unspecifiedWatt)
		c.number("psu peak hold-up s", peak>>12)
	}
	if len(b) >= 23 && le16(b[21:]) > 0 {
		names := [...]string{"12 V", "-12 V", "5 V", "3.3 V"}
		c.other("psu combined", fmt.Sprintf("%s and %s: %d W", names[b[20]>>4&3], names[b[20]&3], le16(b[21:])))
	}
	if len(b) >= 24 {
		c.number("psu lowest fan rpm", int(b[23])*60)
	}
}

func (c *fruContent) flags(b byte) {
	for _, f := range []struct {
		bit  byte
		name string
	}{{1, "predictive fail"}, {2, "power factor correction"}, {4, "autoswitch"}, {8, "hot swap"}} {
		c.other("psu "+f.name, map[bool]string{true: "yes", false: "no"}[b&f.bit != 0])
	}
}

func (c *fruContent) number(name string, n int) {
	if n != 0 {
		c.other(name, fmt.Sprint(n))
	}
}

// trimmedVolts has units of 10 mV.
func trimmedVolts(n int) string {
	return fmt.Sprintf("%g", float64(int16(n))/100)
}

func (c *fruContent) dcOutput(b []byte) {
	standby := ""
	if b[0]&0x80 != 0 {
		standby = " standby"
	}
	c.other(fmt.Sprintf("dc output %d", b[0]&0xf), fmt.Sprintf("%s V (%s to %s), ripple %d mV, %d-%d mA%s",
		trimmedVolts(le16(b[1:])), trimmedVolts(le16(b[3:])), trimmedVolts(le16(b[5:])), le16(b[7:]), le16(b[9:]), le16(b[11:]), standby))
}

func (c *fruContent) dcLoad(b []byte) {
	c.other(fmt.Sprintf("dc load %d", b[0]&0xf), fmt.Sprintf("%s V (%s to %s), ripple %d mV, %d-%d mA",
		trimmedVolts(le16(b[1:])), trimmedVolts(le16(b[3:])), trimmedVolts(le16(b[5:])), le16(b[7:]), le16(b[9:]), le16(b[11:])))
}

// Entities that FRU and sensor records name (table 43-13).
const (
	entityProcessor    = 0x03
	entityMemoryModule = 0x08
	entityPowerSupply  = 0x0a
	entityMemoryDevice = 0x20
)

// partOf turns a FRU into the part that it stands on, by its entity.
func (c *fruContent) partOf(l locator, inv *hardware.Inventory) {
	f := c.fru
	sources := hardware.Sources{Source}
	maker, model, serial, part := or(f.ProductManufacturer, f.BoardManufacturer), or(f.ProductName, f.BoardProduct),
		or(f.ProductSerial, f.BoardSerial), or(f.ProductPart, f.BoardPart)
	if maker == "" && model == "" && serial == "" && part == "" && c.power == nil {
		return
	}
	switch {
	case c.power != nil || l.entity == entityPowerSupply:
		p := hardware.PSU{Name: f.Name, Manufacturer: maker, Model: model, Serial: serial, Part: part, Sources: sources}
		p.Firmware = f.ProductVersion
		if c.power != nil {
			p.CapacityWatt, p.Kind = c.power.watts, c.power.kind
		}
		inv.PSUs = append(inv.PSUs, p)
	case l.entity == entityMemoryDevice || l.entity == entityMemoryModule:
		inv.DIMMs = append(inv.DIMMs, hardware.DIMM{Slot: f.Name, Manufacturer: maker, Part: or(part, model), Serial: serial, Sources: sources})
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
