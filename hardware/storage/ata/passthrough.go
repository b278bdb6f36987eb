package ata

import "fmt"

// Registers are what an ATA command leaves behind, as the SCSI sense data
// brings it (SAT-4 12.2.2.6 and 12.2.2.7).
type Registers struct {
	Error, Status byte
	Count         byte
	LBAMid        byte // bits 15:8
	LBAHigh       byte // bits 23:16
}

// ParseRegisters reads sense data: the ATA status return descriptor, or the
// fixed format.
func ParseRegisters(sense []byte) (Registers, error) {
	if len(sense) >= 8 && sense[0]&0x7f == 0x72 {
		end := min(len(sense), 8+int(sense[7]))
		for d := sense[8:end]; len(d) >= 2 && len(d) >= 2+int(d[1]); d = d[2+int(d[1]):] {
			if d[0] == 0x09 && d[1] >= 12 {
				return Registers{Error: d[3], Count: d[5], LBAMid: d[9], LBAHigh: d[11], Status: d[13]}, nil
			}
		}
	}
	if len(sense) >= 18 && sense[0]&0x7f == 0x70 && sense[12] == 0x00 && sense[13] == 0x1d {
		return Registers{Error: sense[3], Status: sense[4], Count: sense[6], LBAMid: sense[10], LBAHigh: sense[11]}, nil
	}
	return Registers{}, fmt.Errorf("read ATA registers: sense data % x has none", sense[:min(len(sense), 16)])
}

// Command is an ATA command of one sector at most.
type Command struct {
	Command byte
	Feature byte
	LBALow  byte
	LBAMid  byte
	LBAHigh byte
	Data    bool // it gives a sector
}

// CDB is the command in an ATA PASS-THROUGH of 16 bytes (SAT-4 12.2.2.3). A
// command without data asks for its registers.
func (c Command) CDB() []byte {
	const nonData, pioIn, checkCondition, oneSectorIn = 3 << 1, 4 << 1, 0x20, 0x0e
	cdb := make([]byte, 16)
	cdb[0], cdb[1], cdb[2] = 0x85, nonData, checkCondition
	if c.Data {
		cdb[1], cdb[2], cdb[6] = pioIn, oneSectorIn, 1
	}
	if c.Command == 0x2f { // READ LOG EXT has 48 bits
		cdb[1] |= 1
	}
	cdb[4], cdb[8], cdb[10], cdb[12], cdb[14] = c.Feature, c.LBALow, c.LBAMid, c.LBAHigh, c.Command
	return cdb
}
