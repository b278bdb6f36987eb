package smbios

import (
	"fmt"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/u-root/u-root/pkg/smbios"
)

// memoryDevice is type 17 (7.18). Size 0 is an empty slot, 0xffff an unknown
// size in a populated one.
func (d *decoder) memoryDevice(t *smbios.Table) error {
	m, err := smbios.NewMemoryDevice(t)
	if err != nil {
		return err
	}
	switch m.Type {
	case smbios.MemoryDeviceTypeFlash, smbios.MemoryDeviceTypeROM, smbios.MemoryDeviceTypeEEPROM:
		return nil // the firmware's own chip
	}
	slot := d.slotName(m)
	d.inv.DIMMSlots = append(d.inv.DIMMSlots, hardware.DIMMSlot{Name: slot, Populated: m.Size != 0, Sources: from})
	if m.Size == 0 {
		return nil
	}
	dimm := hardware.DIMM{
		Slot: slot, SizeBytes: m.GetSizeBytes(), Serial: hardware.CleanSerial(m.SerialNumber),
		Manufacturer: hardware.Clean(m.Manufacturer), Part: hardware.CleanSerial(m.PartNumber),
		SpeedMTs: speed(m, m.Speed, extendedSpeed), ConfiguredMTs: speed(m, m.ConfiguredSpeed, extendedConfigured),
		Type: memoryType(m.Type), Module: module(m), FormFactor: formFactor(m.FormFactor),
		Ranks: int(m.Attributes & 0xf), ECC: eccOf(m), Bank: hardware.Clean(m.BankLocator), Sources: from,
	}
	if m.Size == 0xffff {
		dimm.SizeBytes = 0
	}
	d.inv.DIMMs = append(d.inv.DIMMs, dimm)
	return nil
}

// slotName is the device locator, with the bank's before it where the locator
// alone is taken already: some boards call every slot "DIMM 0".
func (d *decoder) slotName(m *smbios.MemoryDevice) string {
	name, bank := hardware.Clean(m.DeviceLocator), hardware.Clean(m.BankLocator)
	taken := func(s string) bool {
		for _, o := range d.inv.DIMMSlots {
			if o.Name == s {
				return true
			}
		}
		return false
	}
	if (name == "" || taken(name)) && bank != "" {
		name = strings.TrimSpace(bank + " " + name)
	}
	if name == "" || taken(name) {
		name = fmt.Sprintf("slot %d", len(d.inv.DIMMSlots)+1)
	}
	return name
}

func memoryType(t smbios.MemoryDeviceType) string {
	switch t {
	case smbios.MemoryDeviceTypeOther, smbios.MemoryDeviceTypeUnknown:
		return ""
	case 0x20:
		return "HBM"
	case 0x21:
		return "HBM2"
	case 0x23:
		return "LPDDR5"
	case 0x24:
		return "HBM3"
	}
	return hardware.Clean(t.String())
}

// Where SMBIOS 3.3 puts speeds above 65,534 MT/s (7.18.4).
const (
	extendedSpeed      = 0x54
	extendedConfigured = 0x58
)

// speed is in MT/s; 0 where it is not known.
func speed(m *smbios.MemoryDevice, v uint16, extended int) int {
	if v != 0xffff {
		return int(v)
	}
	n, err := m.GetDWordAt(extended)
	if err != nil || n > 1<<24 {
		return 0
	}
	return int(n)
}

// module is the kind of DIMM, by its type detail (7.18.3).
func module(m *smbios.MemoryDevice) string {
	t := m.TypeDetail
	switch {
	case t&smbios.MemoryDeviceTypeDetailLRDIMM != 0:
		return "LRDIMM"
	case t&smbios.MemoryDeviceTypeDetailRegisteredBuffered != 0:
		return "RDIMM"
	case t&smbios.MemoryDeviceTypeDetailUnbufferedUnregistered != 0:
		return "UDIMM"
	}
	return ""
}

func formFactor(f smbios.MemoryDeviceFormFactor) string {
	switch f {
	case smbios.MemoryDeviceFormFactorOther, smbios.MemoryDeviceFormFactorUnknown:
		return ""
	case 0x10:
		return "Die"
	case 0x11:
		return "CAMM"
	}
	s := f.String()
	if strings.HasPrefix(s, "0x") {
		return ""
	}
	return s
}

// eccOf says whether a module is wider than its data.
func eccOf(m *smbios.MemoryDevice) hardware.Switch {
	total, data := m.TotalWidth, m.DataWidth
	if total == 0 || data == 0 || total == 0xffff || data == 0xffff || total < data {
		return ""
	}
	return hardware.SwitchOf(total > data)
}

// typeMemoryArray is what memory devices are a part of (7.17).
const typeMemoryArray = smbios.TableType(16)

func (d *decoder) memoryArray(t *smbios.Table) error {
	b, err := t.GetBytesAt(0, 7)
	if err != nil {
		return err
	}
	const systemMemory = 3
	if b[5] == systemMemory && d.inv.Memory.ECC == "" {
		d.inv.Memory.ECC = map[byte]string{3: "none", 4: "parity", 5: "single-bit", 6: "multi-bit", 7: "crc"}[b[6]]
	}
	return nil
}
