package bmc

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// firstDIMM is the FRU number of the first DIMM; power supplies stand before.
const firstDIMM = 16

// packFRUs are all FRUs by their number.
func packFRUs(m *Machine) (map[uint8][]byte, error) {
	main, err := packFRU(m)
	if err != nil {
		return nil, err
	}
	all := map[uint8][]byte{0: main}
	for i, p := range m.PSUs {
		if all[uint8(1+i)], err = packPSU(p); err != nil {
			return nil, fmt.Errorf("pack FRU of %s: %w", p.Slot, err)
		}
	}
	for i, d := range m.DIMMs {
		all[uint8(firstDIMM+i)] = packSPD(d)
	}
	return all, nil
}

func packFRU(m *Machine) ([]byte, error) {
	fru, err := types.PackFRU(types.FRUPackConfig{
		Chassis: &types.FRUPackChassis{Type: 0x17, PartNumber: m.Enclosure.PartNumber, Serial: m.Enclosure.Serial}, // rack mount
		Board: &types.FRUPackBoard{
			MfgDate: time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC),
			Mfg:     m.Board.Manufacturer, Product: m.Board.Product, Serial: m.Board.Serial, PartNumber: m.Board.PartNumber,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("pack FRU of %s: %w", m.Name, err)
	}
	// go-ipmi's product area has no asset tag and no custom fields.
	product := infoArea([]byte{25}, m.Manufacturer, m.Product, m.SKU, m.Version, m.Serial, m.AssetTag, "", "Rack kit RK-2")
	return addArea(fru, 4, product), nil
}

// infoArea is an area after its version and length: what is given, and fields
// of 8-bit text (FRU Information Storage Definition 1.0, 13).
func infoArea(head []byte, texts ...string) []byte {
	b := append([]byte{1, 0}, head...)
	for _, t := range texts {
		t = t[:min(len(t), 63)]
		b = append(append(b, 0xc0|uint8(len(t))), t...)
	}
	b = append(b, 0xc1)
	for len(b)%8 != 7 {
		b = append(b, 0)
	}
	b[1] = uint8((len(b) + 1) / 8)
	return append(b, -sum(b))
}

// addArea appends an area and names it in the common header.
func addArea(fru []byte, at int, area []byte) []byte {
	fru[at] = uint8(len(fru) / 8)
	fru[7] = 0
	fru[7] = -sum(fru[:8])
	fru = append(fru, area...)
	for len(fru)%8 != 0 {
		fru = append(fru, 0)
	}
	return fru
}

func sum(b []byte) (s uint8) {
	for _, x := range b {
		s += x
	}
	return s
}

// packPSU has a product area and the records of a power supply and its 12 V
// output (FRU Information Storage Definition 1.0, 18.1 and 18.2).
func packPSU(p PSU) ([]byte, error) {
	fru, err := types.PackFRU(types.FRUPackConfig{Product: &types.FRUPackProduct{
		Manufacturer: p.Manufacturer, Name: p.Model, PartModel: p.PartNumber, Version: p.Firmware, Serial: p.Serial}})
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	info := le.AppendUint16(nil, uint16(p.Watts))
	info = append(le.AppendUint16(info, uint16(p.Watts+200)), 35, 10)
	for _, volts := range []uint16{9000, 14000, 18000, 26400} { // in 10 mV
		info = le.AppendUint16(info, volts)
	}
	const correction, autoswitch, hotSwap = 2, 4, 8
	info = append(info, 47, 63, 12, correction|autoswitch|hotSwap)
	info = append(le.AppendUint16(info, uint16(p.Watts)|2<<12), 0, 0, 0, 0)
	output := []byte{1}
	for _, v := range []uint16{1220, 1140, 1260, 120, 500} {
		output = le.AppendUint16(output, v)
	}
	output = le.AppendUint16(output, 60000)
	return addArea(fru, 5, append(multirecord(0, false, info), multirecord(1, true, output)...)), nil
}

func multirecord(kind uint8, last bool, body []byte) []byte {
	version := uint8(2)
	if last {
		version |= 0x80
	}
	head := []byte{kind, version, uint8(len(body)), -sum(body)}
	return append(append(head, -sum(head)), body...)
}

// packSPD is the serial presence detect of a DDR4 RDIMM with ECC (JEDEC 21-C,
// annex L).
func packSPD(d DIMM) []byte {
	b := make([]byte, 512)
	b[0], b[1], b[2], b[3] = 0x23, 0x12, 0x0c, 1 // 384 bytes used, DDR4, RDIMM
	b[12], b[13] = 0x01, 0x0b                    // one rank of chips of 8 bits, 64 bits and 8 of ECC
	for code, size := 0, int64(256<<17)*8; code < 10 && size <= d.SizeBytes; code, size = code+1, size*2 {
		b[4] = uint8(code)
	}
	if d.SpeedMTs > 0 {
		ps := 2_000_000 / d.SpeedMTs
		b[18] = uint8((ps + 124) / 125)
		b[125] = uint8(ps - 125*int(b[18]))
	}
	crc := crc16(b[:126])
	binary.LittleEndian.PutUint16(b[126:], crc)
	b[320], b[321] = 0x80, 0x2c // Micron, by JEP106
	b[323], b[324] = 0x26, 0x02 // year and week
	copy(b[325:329], serialBytes(d.Serial))
	copy(b[329:349], fmt.Sprintf("%-20s", d.PartNumber))
	return b
}

// serialBytes are four bytes that stand for a serial of any text.
func serialBytes(s string) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(crc16([]byte(s)))<<8|0x51000001)
}

// crc16 is CRC-16/XMODEM, as SPDs have it.
func crc16(b []byte) (crc uint16) {
	for _, x := range b {
		crc ^= uint16(x) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}
