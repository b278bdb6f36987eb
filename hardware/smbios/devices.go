package smbios

import (
	"encoding/binary"
	"fmt"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
	"github.com/u-root/u-root/pkg/smbios"
)

// The types that u-root does not know, or only in part.
const (
	typeSlot        = smbios.TableType(9)
	typePowerSupply = smbios.TableType(39)
	typeOnboard     = smbios.TableType(41)
	typeFirmware    = smbios.TableType(45)
)

// text is the string that the byte at an offset names; empty where the
// structure is shorter, or names none.
func text(t *smbios.Table, offset int) string {
	s, err := t.GetStringAt(offset)
	if err != nil {
		return ""
	}
	return s
}

// powerSupply is type 39 (7.40). One that is not present is left out.
func (d *decoder) powerSupply(t *smbios.Table) error {
	b, err := t.GetBytesAt(0, 0x10)
	if err != nil {
		return err
	}
	const present, unknownCapacity = 1 << 1, 0x8000
	if binary.LittleEndian.Uint16(b[0x0e:])&present == 0 {
		return nil
	}
	p := hardware.PSU{
		Name: hardware.Clean(text(t, 0x06)), Slot: hardware.Clean(text(t, 0x05)), Manufacturer: hardware.Clean(text(t, 0x07)),
		Serial: hardware.CleanSerial(text(t, 0x08)), Part: hardware.CleanSerial(text(t, 0x0a)), Sources: from,
	}
	if w := binary.LittleEndian.Uint16(b[0x0c:]); w < unknownCapacity {
		p.CapacityWatt = int(w)
	}
	d.inv.PSUs = append(d.inv.PSUs, p)
	return nil
}

// firmware is type 45 (7.46). What is absent or disabled is left out.
func (d *decoder) firmware(t *smbios.Table) error {
	b, err := t.GetBytesAt(0, 0x17)
	if err != nil {
		return err
	}
	const disabled, absent = 3, 5
	if s := b[0x16]; s == disabled || s == absent {
		return nil
	}
	d.inv.Firmware = append(d.inv.Firmware, hardware.Firmware{
		Name: hardware.Clean(text(t, 0x04)), Version: hardware.Clean(text(t, 0x05)), ID: hardware.Clean(text(t, 0x07)),
		Date: date(text(t, 0x09)), Manufacturer: hardware.Clean(text(t, 0x0a)), Updateable: hardware.SwitchOf(b[0x14]&1 != 0), Sources: from,
	})
	return nil
}

// Places are the names that the board's maker printed beside slots (type 9,
// 7.10) and gave to devices of the board (type 41, 7.42), by the PCI address
// that the firmware saw there. Of a slot that is its bridge, or what sits in
// it. There are none where the tables are not readable: [Read] says why.
func Places(root sysfs.Root) (slots, onboard map[hardware.BDF]string) {
	slots, onboard = map[hardware.BDF]string{}, map[hardware.BDF]string{}
	table, err := root.Bytes(maxTable, dmi)
	if err != nil {
		return slots, onboard
	}
	defer func() { _ = recover() }() // a decoder that panics; what it had read stands
	_, _ = each(table, func(t *smbios.Table) {
		switch t.Type {
		case typeSlot:
			place(slots, t, 0x0d)
		case typeOnboard:
			place(onboard, t, 0x07)
		}
	})
	return slots, onboard
}

// place adds the name of one structure whose PCI address stands at an offset.
func place(to map[hardware.BDF]string, t *smbios.Table, offset int) {
	b, err := t.GetBytesAt(offset, 4)
	name := hardware.Clean(text(t, 0x04))
	if err != nil || name == "" {
		return // before SMBIOS 2.6
	}
	segment, bus, devfn := binary.LittleEndian.Uint16(b), b[2], b[3]
	if segment == 0xffff || bus == 0xff || bus == 0 && devfn == 0 {
		return // not on PCI, or an empty slot
	}
	to[hardware.BDF(fmt.Sprintf("%04x:%02x:%02x.%d", segment, bus, devfn>>3, devfn&7))] = name
}
