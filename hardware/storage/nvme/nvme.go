// Package nvme reads what NVMe controllers say of themselves: identify data
// and log pages, as NVM Express Base Specification 2.0 defines them. It knows
// bytes only; who asks for them is package storage.
package nvme

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// The sizes of the answers, in bytes.
const (
	IdentifyBytes  = 4096
	SmartBytes     = 512
	SlotsBytes     = 512
	SelfTestBytes  = 564
	NamespaceBytes = 4096
	ListBytes      = 4096
)

var le = binary.LittleEndian

// Controller is the identify controller data (figure 275).
type Controller struct {
	Vendor          uint16
	Serial          string
	Model           string
	Firmware        string
	Version         string // 1.4.0; empty where the controller is older than 1.2
	CapacityBytes   uint64 // of the NVM subsystem
	SelfTests       bool   // it has the Device Self-test command
	CryptoErase     bool   // its data is encrypted, with a key that it can forget
	WarningCelsius  int    // 0 where it says none
	CriticalCelsius int
	NQN             string // of the subsystem
}

// ParseController reads identify controller data.
func ParseController(b []byte) (Controller, error) {
	if len(b) != IdentifyBytes {
		return Controller{}, fmt.Errorf("read NVMe identify controller: %d bytes, want %d", len(b), IdentifyBytes)
	}
	c := Controller{
		Vendor: le.Uint16(b[0:]), Serial: hardware.CleanSerial(string(b[4:24])), Model: hardware.Clean(string(b[24:64])),
		Firmware: hardware.Clean(string(b[64:72])), Version: version(le.Uint32(b[80:])), CapacityBytes: count(b[280:296]),
		SelfTests: le.Uint16(b[256:])&(1<<4) != 0, CryptoErase: b[524]&(1<<2) != 0,
		WarningCelsius: celsius(le.Uint16(b[266:])), CriticalCelsius: celsius(le.Uint16(b[268:])),
	}
	nqn, _, _ := strings.Cut(string(b[768:1024]), "\x00")
	c.NQN = hardware.Clean(nqn)
	return c, nil
}

func version(v uint32) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff)
}

// count is a number of up to 16 bytes; one that 8 bytes do not hold is the
// largest that they do.
func count(b []byte) uint64 {
	for _, x := range b[8:] {
		if x != 0 {
			return math.MaxUint64
		}
	}
	return le.Uint64(b)
}

// celsius is a temperature in kelvins; 0 where there is none.
func celsius(kelvin uint16) int {
	if kelvin == 0 {
		return 0
	}
	return int(kelvin) - 273
}

// Namespace is the identify namespace data of the NVM command set (NVM Command
// Set Specification 1.0, figure 97).
type Namespace struct {
	SizeBytes  uint64
	BlockBytes int
	WWN        string // eui. with 16 or 8 bytes
}

// ParseNamespace reads identify namespace data.
func ParseNamespace(b []byte) (Namespace, error) {
	if len(b) != NamespaceBytes {
		return Namespace{}, fmt.Errorf("read NVMe identify namespace: %d bytes, want %d", len(b), NamespaceBytes)
	}
	format := int(b[26] & 0xf)
	if b[25] > 15 { // more than 16 formats: two more bits
		format |= int(b[26]>>5&3) << 4
	}
	n := Namespace{}
	if shift := b[128+4*format+2]; shift >= 9 && shift <= 16 {
		n.BlockBytes = 1 << shift
		if blocks := le.Uint64(b); blocks <= math.MaxUint64>>shift {
			n.SizeBytes = blocks << shift
		}
	}
	for _, id := range [][]byte{b[104:120], b[120:128]} { // NGUID, EUI64
		if s := hex.EncodeToString(id); strings.Trim(s, "0") != "" && n.WWN == "" {
			n.WWN = "eui." + s
		}
	}
	return n, nil
}

// ParseList reads a list of active namespaces (figure 286): increasing
// numbers, ended by a zero.
func ParseList(b []byte) ([]int, error) {
	if len(b) != ListBytes {
		return nil, fmt.Errorf("read NVMe namespace list: %d bytes, want %d", len(b), ListBytes)
	}
	var out []int
	for last := uint32(0); len(b) >= 4; b = b[4:] {
		n := le.Uint32(b)
		if n == 0 {
			break
		}
		if n <= last || n > math.MaxInt32 {
			return out, fmt.Errorf("read NVMe namespace list: %d after %d", n, last)
		}
		last, out = n, append(out, int(n))
	}
	return out, nil
}
