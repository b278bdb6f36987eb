package lab

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/qemu-tests/bmc"
)

// QEMU makes the other tables by options; a list of DIMMs it takes only as
// binary structures, one file each.
const memoryArrayHandle = 0x1000

// structure lays out one SMBIOS structure (DSP0134 6.1.2): header, formatted
// area, strings, and the double zero at the end.
func structure(kind uint8, handle uint16, area []byte, strings ...string) []byte {
	out := []byte{kind, byte(4 + len(area)), 0, 0}
	binary.LittleEndian.PutUint16(out[2:], handle)
	out = append(out, area...)
	for _, s := range strings {
		out = append(append(out, s...), 0)
	}
	if len(strings) == 0 {
		out = append(out, 0)
	}
	return append(out, 0)
}

// memoryArray is type 16, the physical memory array (DSP0134 7.17).
func memoryArray(m *bmc.Machine, totalBytes int64) []byte {
	area := make([]byte, 0x17-4)
	area[0] = 0x03                                                   // system board
	area[1] = 0x03                                                   // system memory
	area[2] = 0x06                                                   // multi-bit ECC
	binary.LittleEndian.PutUint32(area[3:], uint32(totalBytes/1024)) // KiB
	binary.LittleEndian.PutUint16(area[7:], 0xfffe)                  // no error information
	binary.LittleEndian.PutUint16(area[9:], uint16(len(m.DIMMs)))    // slots
	return structure(16, memoryArrayHandle, area)
}

// memoryDevice is type 17 (DSP0134 7.18), as of SMBIOS 2.8.
func memoryDevice(i int, d *bmc.DIMM) []byte {
	area := make([]byte, 0x28-4)
	put := func(at int, v uint16) { binary.LittleEndian.PutUint16(area[at-4:], v) }
	put(0x04, memoryArrayHandle)
	put(0x06, 0xfffe)                  // no error information
	put(0x08, 72)                      // total width, bits
	put(0x0a, 64)                      // data width
	put(0x0c, uint16(d.SizeBytes/mib)) // size, MiB
	area[0x0e-4] = 0x09                // DIMM
	area[0x10-4], area[0x11-4] = 1, 2  // device locator, bank locator
	area[0x12-4] = 0x1a                // DDR4
	put(0x13, 0x2080)                  // synchronous, registered
	put(0x15, uint16(d.SpeedMTs))      // speed
	area[0x17-4], area[0x18-4] = 3, 4  // manufacturer, serial number
	area[0x1a-4] = 5                   // part number
	area[0x1b-4] = 2                   // rank
	put(0x20, uint16(d.SpeedMTs))      // configured speed
	put(0x22, 1200)                    // minimum voltage, mV
	put(0x24, 1200)                    // maximum
	put(0x26, 1200)                    // configured
	return structure(17, uint16(0x1100+i), area, d.Slot, d.Bank, d.Manufacturer, d.Serial, d.PartNumber)
}

// writeSMBIOS writes the structures that QEMU takes as files and returns the
// options for all tables.
func writeSMBIOS(dir string, m *bmc.Machine) ([]string, error) {
	var options []string
	add := func(name string, content []byte) error {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("write SMBIOS structure: %w", err)
		}
		options = append(options, "-smbios", "file="+path)
		return nil
	}
	var total int64
	for _, d := range m.DIMMs {
		total += d.SizeBytes
	}
	if err := add("smbios16", memoryArray(m, total)); err != nil {
		return nil, err
	}
	for i := range m.DIMMs {
		if err := add(fmt.Sprintf("smbios17-%d", i), memoryDevice(i, &m.DIMMs[i])); err != nil {
			return nil, err
		}
	}
	uefi := "off"
	if m.UEFI {
		uefi = "on"
	}
	for _, table := range []string{
		fmt.Sprintf("type=0,vendor=%s,version=%s,date=%s,release=1.2,uefi=%s", m.BIOS.Vendor, m.BIOS.Version, m.BIOS.Date, uefi),
		fmt.Sprintf("type=1,manufacturer=%s,product=%s,version=%s,serial=%s,uuid=%s,sku=%s,family=Lab", m.Manufacturer, m.Product, m.Version, m.Serial, formatUUID(m.UUID), m.SKU),
		fmt.Sprintf("type=2,manufacturer=%s,product=%s,version=%s,serial=%s,asset=%s,location=Slot 1", m.Board.Manufacturer, m.Board.Product, m.Version, m.Board.Serial, m.AssetTag),
		fmt.Sprintf("type=3,manufacturer=%s,version=%s,serial=%s,asset=%s,sku=%s", m.Enclosure.Manufacturer, m.Version, m.Enclosure.Serial, m.AssetTag, m.Enclosure.PartNumber),
		fmt.Sprintf("type=4,sock_pfx=CPU,manufacturer=%s,version=%s,max-speed=2000,current-speed=2000", m.CPUs[0].Manufacturer, m.CPUs[0].Model),
	} {
		options = append(options, "-smbios", table)
	}
	return options, nil
}
