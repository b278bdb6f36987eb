package scsi

import (
	"fmt"
	"math"
)

// The log pages that are read (SPC-5 7.3, SBC-4 6.4).
const (
	LogPages         = 0x00
	LogWriteErrors   = 0x02
	LogReadErrors    = 0x03
	LogVerifyErrors  = 0x05
	LogTemperature   = 0x0d
	LogStartStop     = 0x0e
	LogSelfTests     = 0x10
	LogSolid         = 0x11
	LogBackground    = 0x15
	LogInformational = 0x2f
)

// MaxLog bounds one log page; drives give some hundred bytes.
const MaxLog = 16 << 10

// parameters calls f with each parameter of a log page (SPC-5 7.3.2).
func parameters(b []byte, page byte, f func(code uint16, value []byte)) error {
	if len(b) < 4 || b[0]&0x3f != page {
		return fmt.Errorf("read SCSI log page 0x%02x: % x is none", page, b[:min(len(b), 4)])
	}
	b = b[4:min(len(b), 4+int(be.Uint16(b[2:])))]
	for len(b) >= 4 {
		n := int(b[3])
		if 4+n > len(b) {
			return fmt.Errorf("read SCSI log page 0x%02x: parameter 0x%04x is cut", page, be.Uint16(b))
		}
		f(be.Uint16(b), b[4:4+n])
		b = b[4+n:]
	}
	return nil
}

// ParseLogPages is the list of supported pages.
func ParseLogPages(b []byte) ([]byte, error) {
	if len(b) < 4 || b[0]&0x3f != LogPages {
		return nil, fmt.Errorf("read SCSI list of log pages: % x is none", b[:min(len(b), 4)])
	}
	return b[4:min(len(b), 4+int(be.Uint16(b[2:])))], nil
}

// Health is what the log pages of one drive say; absent facts are nil.
type Health struct {
	Celsius       *int
	LimitCelsius  *int // the reference temperature
	UsedPercent   *int // of a solid state drive's endurance
	Starts        *uint64
	PowerOnHours  *uint64
	ReadBytes     *uint64
	WrittenBytes  *uint64
	Uncorrected   *uint64 // errors, over reads, writes and verifies
	SelfTest      string  // the newest: passed, failed, aborted
	SelfTestHours *uint64
	ASC, ASCQ     byte // what the drive warns of; 0 where it is sound
}

// Add reads one page into it. Pages that it does not know add nothing.
func (h *Health) Add(page byte, b []byte) error {
	return parameters(b, page, func(code uint16, v []byte) { h.add(page, code, v) })
}

func (h *Health) add(page byte, code uint16, v []byte) {
	switch page {
	case LogReadErrors, LogWriteErrors, LogVerifyErrors:
		h.errors(page, code, v)
	case LogTemperature:
		if len(v) >= 2 && code == 0 {
			h.Celsius = celsius(v[1])
		} else if len(v) >= 2 && code == 1 {
			h.LimitCelsius = celsius(v[1])
		}
	case LogStartStop:
		if code == 4 && len(v) >= 4 && be.Uint32(v) != math.MaxUint32 {
			h.Starts = pointer(uint64(be.Uint32(v)))
		}
	case LogSelfTests:
		h.selfTest(code, v)
	case LogSolid:
		if code == 1 && len(v) >= 4 {
			h.UsedPercent = pointer(int(v[3]))
		}
	case LogBackground:
		if code == 0 && len(v) >= 4 {
			h.PowerOnHours = pointer(uint64(be.Uint32(v) / 60))
		}
	case LogInformational:
		if code == 0 && len(v) >= 2 {
			h.ASC, h.ASCQ = v[0], v[1]
			if len(v) >= 3 && h.Celsius == nil {
				h.Celsius = celsius(v[2])
			}
		}
	}
}

// errors reads parameters 5 (bytes processed) and 6 (uncorrected errors).
func (h *Health) errors(page byte, code uint16, v []byte) {
	n, ok := counter(v)
	switch {
	case !ok:
	case code == 6:
		if h.Uncorrected != nil {
			n = plus(n, *h.Uncorrected)
		}
		h.Uncorrected = &n
	case code == 5 && page == LogReadErrors:
		h.ReadBytes = &n
	case code == 5 && page == LogWriteErrors:
		h.WrittenBytes = &n
	}
}

// selfTest reads parameter 1, the newest (SPC-5 7.3.20).
func (h *Health) selfTest(code uint16, v []byte) {
	if code != 1 || len(v) < 4 {
		return
	}
	hours := uint64(be.Uint16(v[2:]))
	switch result := v[0] & 0xf; {
	case v[0]>>5 == 0 && hours == 0:
		return // never used
	case result == 0:
		h.SelfTest = "passed"
	case result == 1 || result == 2:
		h.SelfTest = "aborted"
	case result <= 7:
		h.SelfTest = "failed"
	default:
		return // running, or reserved
	}
	h.SelfTestHours = &hours
}

// Failing says that the drive expects to fail, warning that it has another
// complaint: the additional sense of the informational exceptions.
func (h Health) Failing() bool { return h.ASC == 0x5d }

// Warning is a complaint of ASC 0x0b in words; empty where there is none.
func (h Health) Warning() string {
	switch {
	case h.ASC != 0x0b:
		return ""
	case h.ASCQ == 0x01:
		return "the temperature is above its limit"
	case h.ASCQ == 0x02:
		return "the enclosure is degraded"
	}
	return fmt.Sprintf("the drive warns: ASC 0x0b, ASCQ 0x%02x", h.ASCQ)
}

// celsius is a temperature; 0xff says that there is none.
func celsius(b byte) *int {
	if b == 0xff {
		return nil
	}
	return pointer(int(b))
}

// counter is a number of any length; one that does not fit is the largest.
func counter(b []byte) (n uint64, ok bool) {
	for _, x := range b {
		if n > math.MaxUint64>>8 {
			return math.MaxUint64, true
		}
		n = n<<8 | uint64(x)
	}
	return n, len(b) > 0
}

func plus(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

func pointer[T any](v T) *T { return &v }

// Asleep reads the answer to REQUEST SENSE: whether the medium stands still,
// so that a command for it would start it (SPC-5 4.4.6, SBC-4 4.18).
func Asleep(sense []byte) bool {
	var key, asc, ascq byte
	switch {
	case len(sense) >= 14 && sense[0]&0x7f == 0x70:
		key, asc, ascq = sense[2]&0xf, sense[12], sense[13]
	case len(sense) >= 4 && sense[0]&0x7f == 0x72:
		key, asc, ascq = sense[1]&0xf, sense[2], sense[3]
	}
	switch {
	case asc == 0x5e: // low power condition on
		return ascq == 0x02 || ascq == 0x04 || ascq >= 0x09 && ascq <= 0x0a || ascq == 0x43
	case key == 0x02 && asc == 0x04:
		return ascq == 0x02 || ascq == 0x11 || ascq == 0x1c // wants START UNIT, NOTIFY, or a power grant
	}
	return false
}
