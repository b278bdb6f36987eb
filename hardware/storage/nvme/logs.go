package nvme

import (
	"fmt"
	"math"

	"github.com/ingot-metal/ingot/hardware"
)

// Smart is the SMART / health information log (figure 207).
type Smart struct {
	Warning         byte // critical warning bits
	Celsius         int  // composite; 0 where there is none
	SparePercent    int
	SpareThreshold  int
	UsedPercent     int // of the rated life; beyond 100 it goes on to 255
	ReadBytes       uint64
	WrittenBytes    uint64
	PowerCycles     uint64
	PowerOnHours    uint64
	UnsafeShutdowns uint64
	MediaErrors     uint64
	ErrorLogEntries uint64
	WarningMinutes  uint32 // spent above the warning temperature
	CriticalMinutes uint32
}

// ParseSmart reads the SMART log.
func ParseSmart(b []byte) (Smart, error) {
	if len(b) != SmartBytes {
		return Smart{}, fmt.Errorf("read NVMe SMART log: %d bytes, want %d", len(b), SmartBytes)
	}
	u := func(at int) uint64 { return count(b[at : at+16]) }
	return Smart{
		Warning: b[0], Celsius: celsius(le.Uint16(b[1:])), SparePercent: int(b[3]), SpareThreshold: int(b[4]), UsedPercent: int(b[5]),
		ReadBytes: units(u(32)), WrittenBytes: units(u(48)), PowerCycles: u(112), PowerOnHours: u(128), UnsafeShutdowns: u(144),
		MediaErrors: u(160), ErrorLogEntries: u(176), WarningMinutes: le.Uint32(b[192:]), CriticalMinutes: le.Uint32(b[196:]),
	}, nil
}

// units are data units of 1,000 blocks of 512 bytes.
func units(n uint64) uint64 {
	const unit = 512_000
	if n > math.MaxUint64/unit {
		return math.MaxUint64
	}
	return n * unit
}

// warnings are the bits of the critical warning, from bit 0, and whether what
// each says is that the drive fails.
var warnings = []struct {
	text  string
	fails bool
}{
	{"spare blocks are below the threshold", true},
	{"the temperature is outside its limits", false},
	{"reliability is degraded by media or internal errors", true},
	{"the media are read-only", true},
	{"the backup of volatile memory has failed", true},
	{"the persistent memory region is read-only or unreliable", true},
}

// Warnings are the critical warnings in words; fails says that one of them
// means a failing drive.
func (s Smart) Warnings() (texts []string, fails bool) {
	for i, w := range warnings {
		if s.Warning&(1<<i) != 0 {
			texts, fails = append(texts, w.text), fails || w.fails
		}
	}
	return texts, fails
}

// SelfTest is the newest result of a self-test log (figure 216).
type SelfTest struct {
	Running bool
	Result  string // passed, failed, aborted; empty where there was none
	Hours   uint64 // power-on hours at its end
}

// ParseSelfTest reads the self-test log.
func ParseSelfTest(b []byte) (SelfTest, error) {
	if len(b) != SelfTestBytes {
		return SelfTest{}, fmt.Errorf("read NVMe self-test log: %d bytes, want %d", len(b), SelfTestBytes)
	}
	t := SelfTest{Running: b[0]&0xf != 0}
	newest := b[4:32]
	switch result := newest[0] & 0xf; {
	case result == 0xf:
		return t, nil // never used
	case newest[0]>>4 == 0:
		return t, nil // no test has the code 0: an empty log
	case result == 0:
		t.Result = "passed"
	case result >= 5 && result <= 7:
		t.Result = "failed"
	default:
		t.Result = "aborted"
	}
	t.Hours = le.Uint64(newest[4:])
	return t, nil
}

// Slots is the firmware slot log (figure 210): which slot runs and which one
// will after the next reset, from 1; 0 where none is chosen.
type Slots struct {
	Active, Next int
	Revisions    [7]string // of slots 1 to 7
}

// ParseSlots reads the firmware slot log.
func ParseSlots(b []byte) (Slots, error) {
	if len(b) != SlotsBytes {
		return Slots{}, fmt.Errorf("read NVMe firmware slot log: %d bytes, want %d", len(b), SlotsBytes)
	}
	s := Slots{Active: int(b[0] & 7), Next: int(b[0] >> 4 & 7)}
	for i := range s.Revisions {
		s.Revisions[i] = hardware.Clean(string(b[8+8*i : 16+8*i]))
	}
	return s, nil
}

// Pending is the revision that runs after the next reset, where it is another
// than runs now.
func (s Slots) Pending() string {
	if s.Active == 0 || s.Next == 0 || s.Active == s.Next || s.Revisions[s.Active-1] == s.Revisions[s.Next-1] {
		return ""
	}
	return s.Revisions[s.Next-1]
}
