package ipmi

import (
	"context"
	"fmt"

	"github.com/ingot-metal/ingot/hardware"
)

// The memory types of an SPD's byte 2 (JEDEC annexes K, L, and JESD400-5).
const (
	spdDDR3  = 0x0b
	spdDDR4  = 0x0c
	spdDDR4E = 0x0e
	spdDDR5  = 0x12
	spdBytes = 256
)

// looksLikeSPD says that these first bytes are an SPD and no FRU header, whose
// first byte is 1.
func looksLikeSPD(b []byte) bool {
	return len(b) >= 4 && b[0]&0xf != fruVersion && (b[2] == spdDDR3 || b[2] == spdDDR4 || b[2] == spdDDR4E || b[2] == spdDDR5)
}

// spd reads a DIMM's own EEPROM, which some BMCs show as a FRU.
func (s *session) spd(ctx context.Context, l locator, r *fruReader) error {
	end := min(r.size, spdBytes)
	if len(r.data) > 2 && r.data[2] != spdDDR3 {
		end = min(r.size, 4*spdBytes)
	}
	if err := r.read(ctx, end); err != nil {
		return err
	}
	d, err := DecodeSPD(r.data)
	if err != nil {
		return err
	}
	d.Slot, d.Sources = l.name, hardware.Sources{Source}
	s.view.Inventory.DIMMs = append(s.view.Inventory.DIMMs, d)
	return nil
}

// DecodeSPD reads the serial presence detect bytes of a DDR3, DDR4 or DDR5
// module.
func DecodeSPD(b []byte) (hardware.DIMM, error) {
	if len(b) < 128 {
		return hardware.DIMM{}, fmt.Errorf("SPD of %d bytes, want 128 or more", len(b))
	}
	switch b[2] {
	case spdDDR3:
		return ddr3(b), nil
	case spdDDR4, spdDDR4E:
		return ddr4(b), nil
	case spdDDR5:
		return ddr5(b), nil
	}
	return hardware.DIMM{}, fmt.Errorf("SPD of memory type %#02x, want DDR3, DDR4 or DDR5", b[2])
}

func ddr3(b []byte) hardware.DIMM {
	d := hardware.DIMM{Type: "DDR3", Module: map[byte]string{1: "RDIMM", 2: "UDIMM", 3: "SODIMM", 11: "LRDIMM"}[b[3]&0xf]}
	d.Ranks = int(b[7]>>3&7) + 1
	d.ECC = hardware.SwitchOf(b[8]>>3&3 == 1)
	// Megabits of one chip, times the chips that make the bus's width.
	d.SizeBytes = moduleBytes(256<<(b[4]&0xf), 8<<(b[8]&7), 4<<(b[7]&7), d.Ranks)
	if b[10] != 0 && b[12] != 0 { // medium timebase in ns, cycle time in it
		d.SpeedMTs = roundSpeed(2000 * float64(b[11]) / float64(b[10]) / float64(b[12]))
	}
	d.Manufacturer, d.Manufactured = jedec(b[117], b[118]), spdWeek(b[120], b[121])
	d.Serial, d.Part = spdSerial(b[122:126]), spdText(b, 128, 146)
	return d
}

func ddr4(b []byte) hardware.DIMM {
	d := hardware.DIMM{Type: "DDR4", Module: map[byte]string{1: "RDIMM", 2: "UDIMM", 3: "SODIMM", 4: "LRDIMM"}[b[3]&0xf]}
	d.Ranks = int(b[12]>>3&7) + 1
	d.ECC = hardware.SwitchOf(b[13]>>3&3 == 1)
	ranks := d.Ranks
	if b[6]&3 == 2 { // stacked: each rank is as many dies
		ranks *= int(b[6]>>4&7) + 1
	}
	d.SizeBytes = moduleBytes(256<<(b[4]&0xf), 8<<(b[13]&7), 4<<(b[12]&7), ranks)
	if b[18] != 0 { // in units of 125 ps, with a correction in ps
		fine := 0
		if len(b) > 125 {
			fine = int(int8(b[125]))
		}
		d.SpeedMTs = roundSpeed(2e6 / float64(125*int(b[18])+fine))
	}
	if len(b) >= 349 {
		d.Manufacturer, d.Manufactured = jedec(b[320], b[321]), spdWeek(b[323], b[324])
		d.Serial, d.Part = spdSerial(b[325:329]), spdText(b, 329, 349)
	}
	return d
}

func ddr5(b []byte) hardware.DIMM {
	d := hardware.DIMM{Type: "DDR5", Module: map[byte]string{1: "RDIMM", 2: "UDIMM", 3: "SODIMM", 4: "LRDIMM"}[b[3]&0xf]}
	if ps := le16(b[20:]); ps > 0 {
		d.SpeedMTs = roundSpeed(2e6 / float64(ps))
	}
	if len(b) < 551 {
		return d
	}
	d.Ranks = int(b[234]>>3&7) + 1
	d.ECC = hardware.SwitchOf(b[235]>>3&3 != 0)
	gigabits := []int{0, 4, 8, 12, 16, 24, 32, 48, 64}
	dies := []int{1, 0, 2, 4, 8, 16, 0, 0}[b[4]>>5]
	if n := int(b[4] & 0x1f); n < len(gigabits) {
		channels := 1 << (b[235] >> 5 & 3)
		d.SizeBytes = uint64(channels) * moduleBytes(gigabits[n]<<10, 8<<(b[235]&7), 4<<(b[6]>>5), d.Ranks*dies)
	}
	d.Manufacturer, d.Manufactured = jedec(b[512], b[513]), spdWeek(b[515], b[516])
	d.Serial, d.Part = spdSerial(b[517:521]), spdText(b, 521, 551)
	return d
}

// moduleBytes is a module's size: megabits of a chip, bits of the bus and of a
// chip, and ranks.
func moduleBytes(megabits, bus, chip, ranks int) uint64 {
	if chip == 0 || megabits > 1<<20 || bus > 1<<10 {
		return 0
	}
	return uint64(megabits) << 17 * uint64(bus/chip) * uint64(ranks)
}

// roundSpeed turns a rate that was computed from a cycle time into the one
// that modules are sold by.
func roundSpeed(mts float64) int {
	for _, s := range []int{800, 1066, 1333, 1600, 1866, 2133, 2400, 2666, 2933, 3200, 3600, 4000, 4400, 4800, 5200, 5600, 6000, 6400, 7200, 8000, 8800} {
		if d := mts - float64(s); d > -20 && d < 20 {
			return s
		}
	}
	if mts < 100 || mts > 20000 {
		return 0
	}
	return int(mts + 0.5)
}

func spdSerial(b []byte) string {
	return hardware.CleanSerial(fmt.Sprintf("%02X%02X%02X%02X", b[0], b[1], b[2], b[3]))
}

// spdWeek is a year since 2000 and a week, both BCD.
func spdWeek(year, week byte) string {
	if week == 0 || week > 0x53 || week&0xf > 9 || year>>4 > 9 || year&0xf > 9 {
		return ""
	}
	return fmt.Sprintf("20%02x-W%02x", year, week)
}

func spdText(b []byte, from, to int) string {
	if len(b) < to {
		return ""
	}
	return hardware.CleanSerial(string(b[from:to]))
}

// jedec names the makers of memory modules (JEP106), by bank and code.
func jedec(bank, id byte) string {
	names := map[[2]byte]string{
		{0, 0x2c}: "Micron", {0, 0xce}: "Samsung", {0, 0xad}: "SK hynix", {1, 0x98}: "Kingston", {4, 0xcb}: "A-DATA", {2, 0x9e}: "Corsair",
		{3, 0x0b}: "Nanya", {1, 0x94}: "SMART", {5, 0x51}: "Intel", {0, 0x89}: "Intel", {1, 0x4f}: "Transcend",
		{5, 0x9b}: "Crucial", {4, 0x43}: "Ramaxel", {0, 0xc1}: "Infineon", {4, 0xef}: "Team", {4, 0xcd}: "G.Skill",
	}
	if n, ok := names[[2]byte{bank & 0x7f, id}]; ok {
		return n
	}
	if bank&0x7f == 0 && (id == 0 || id == 0xff) || id == 0xff {
		return ""
	}
	return fmt.Sprintf("JEP106 %d/%02X", bank&0x7f+1, id)
}
