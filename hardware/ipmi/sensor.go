package ipmi

import (
	"fmt"
	"math"
	"strings"

	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/ingot-metal/ingot/hardware"
)

// sensor is what a record says of one sensor, before it is read.
type sensor struct {
	name             string
	owner, lun       byte
	channel          byte
	number           byte
	entity, instance byte
	kind             byte // table 42-3
	event            byte // event/reading type: 01h is by thresholds
	unit             string
	signed           byte // 0 unsigned, 1 one's, 2 two's complement
	analog           bool
	silent           bool // sends events only
	linear           byte
	m, b             float64
	bExp, rExp       int
	readable         byte    // which thresholds stand in the record
	limits           [6]byte // raw, from lower non-critical to upper non-recoverable
}

const (
	byThreshold    = 0x01
	sensorSpecific = 0x6f
	nonLinear      = 0x70
)

// units sets the unit out of its three bytes (43.1, bytes 21 to 23).
func (s *sensor) units(flags, base, modifier byte) {
	s.signed = flags >> 6
	s.unit = unitName(base)
	switch flags >> 1 & 3 {
	case 1:
		s.unit += "/" + unitName(modifier)
	case 2:
		s.unit += "*" + unitName(modifier)
	}
	if rate := [...]string{"", "us", "ms", "s", "min", "h", "day", ""}[flags>>3&7]; rate != "" {
		s.unit += "/" + rate
	}
	if flags&1 != 0 {
		s.unit = strings.TrimSpace("% " + s.unit)
	}
}

// unitName is table 43-15.
func unitName(b byte) string {
	names := [...]string{"", "degrees C", "degrees F", "degrees K", "volts", "amps", "watts", "joules", "coulombs", "VA", "nits", "lumen", "lux",
		"candela", "kPa", "PSI", "newton", "CFM", "RPM", "Hz", "us", "ms", "s", "min", "h", "day", "week", "mil", "inches", "feet", "cu in",
		"cu feet", "mm", "cm", "m", "cu cm", "cu m", "liters", "fluid ounce", "radians", "steradians", "revolutions", "cycles",
		"gravities", "ounce", "pound", "ft-lb", "oz-in", "gauss", "gilberts", "henry", "millihenry", "farad", "microfarad", "ohms",
		"siemens", "mole", "becquerel", "PPM", "", "dB", "dBA", "dBC", "gray", "sievert", "color temperature K", "bit", "kilobit", "megabit",
		"gigabit", "byte", "kilobyte", "megabyte", "gigabyte", "word", "dword", "qword", "line", "hit", "miss", "retry", "reset",
		"overrun", "underrun", "collision", "packets", "messages", "characters", "error", "correctable error", "uncorrectable error",
		"fatal error", "grams"}
	if int(b) < len(names) {
		return names[b]
	}
	return ""
}

// factors sets the conversion out of six bytes of a record, or of an answer
// to Get Sensor Reading Factors (35.5): M, tolerance, B, accuracy and the
// exponents.
func (s *sensor) factors(b []byte) {
	s.m = float64(signExtend(int(b[0])|int(b[1]&0xc0)<<2, 10))
	s.b = float64(signExtend(int(b[2])|int(b[3]&0xc0)<<2, 10))
	s.rExp, s.bExp = signExtend(int(b[5]>>4), 4), signExtend(int(b[5]&0xf), 4)
}

func signExtend(v, bits int) int {
	if v >= 1<<(bits-1) {
		v -= 1 << bits
	}
	return v
}

// value converts a raw byte: y = L[(M x + B 10^K1) 10^K2] (36.3). What has no
// value, as the logarithm of zero, is absent.
func (s *sensor) value(raw byte) *float64 {
	if !s.analog {
		return nil
	}
	x := float64(raw)
	switch s.signed {
	case 1:
		if raw&0x80 != 0 {
			x = -float64(^raw)
		}
	case 2:
		x = float64(int8(raw))
	}
	y := s.curve((s.m*x + s.b*math.Pow10(s.bExp)) * math.Pow10(s.rExp))
	if math.IsNaN(y) || math.IsInf(y, 0) {
		return nil
	}
	y = tidy(y)
	return &y
}

// curve is the linearization (table 43-1, byte 24).
func (s *sensor) curve(x float64) float64 {
	curves := [...]func(float64) float64{
		func(x float64) float64 { return x }, math.Log, math.Log10, math.Log2, math.Exp,
		func(x float64) float64 { return math.Pow(10, x) }, math.Exp2, func(x float64) float64 { return 1 / x },
		func(x float64) float64 { return x * x }, func(x float64) float64 { return x * x * x }, math.Sqrt, math.Cbrt,
	}
	if int(s.linear) < len(curves) {
		return curves[s.linear](x)
	}
	return x
}

// tidy cuts what binary arithmetic adds: 3.3000000000000003.
func tidy(y float64) float64 {
	if y == 0 || math.Abs(y) >= 1e15 {
		return y
	}
	scale := math.Pow10(9 - int(math.Floor(math.Log10(math.Abs(y)))))
	if t := math.Round(y*scale) / scale; !math.IsNaN(t) && !math.IsInf(t, 0) {
		return t
	}
	return y
}

// describe is the sensor without its reading.
func (s *sensor) describe() hardware.Sensor {
	return hardware.Sensor{Name: s.name, ID: fmt.Sprintf("%#02x", s.number), Entity: entityName(s.entity, s.instance), Kind: kindName(s.kind), Unit: s.unit, Thresholds: s.thresholds(s.readable, s.limits), Source: Source}
}

// entityName is table 43-13, with the instance's number.
func entityName(id, instance byte) string {
	names := [...]string{"", "other", "", "processor", "drive", "peripheral bay", "management module", "system board", "memory module",
		"processor module", "power supply", "add-in card", "front panel", "back panel", "power system board", "drive backplane",
		"internal expansion board", "system board", "processor board", "power unit", "power module", "power distribution", "chassis back panel",
		"chassis", "sub-chassis", "chassis board", "drive bay", "peripheral bay", "device bay", "fan", "cooling unit", "cable", "memory device",
		"management software", "BIOS", "operating system", "system bus", "group", "remote management", "external environment", "battery",
		"processing blade", "connectivity switch", "processor/memory module", "I/O module", "processor/IO module", "management firmware",
		"IPMI channel", "PCI bus", "PCIe bus", "SCSI bus", "SATA bus", "front-side bus", "clock"}
	name := ""
	switch {
	case int(id) < len(names):
		name = names[id]
	case id == 0x40 || id == 0x37:
		name = "air inlet"
	case id == 0x41 || id == 0x38:
		name = "processor"
	case id == 0x42 || id == 0x39:
		name = "system board"
	}
	if name == "" {
		name = fmt.Sprintf("entity %#02x", id)
	}
	return fmt.Sprintf("%s %d", name, instance&0x7f)
}

func kindName(kind byte) string {
	if kind == 0 || kind > 0x2c {
		return ""
	}
	return strings.ToLower(types.SensorType(kind).String())
}

// thresholds converts those that the mask names, from lower non-critical to
// upper non-recoverable; nil where there are none.
func (s *sensor) thresholds(mask byte, raw [6]byte) *hardware.Thresholds {
	if s.event != byThreshold || !s.analog || mask&0x3f == 0 {
		return nil
	}
	t := &hardware.Thresholds{}
	for i, to := range []**float64{&t.LowerNonCritical, &t.LowerCritical, &t.LowerNonRecoverable,
		&t.UpperNonCritical, &t.UpperCritical, &t.UpperNonRecoverable} {
		if mask&(1<<i) != 0 {
			*to = s.value(raw[i])
		}
	}
	return t
}

// Reading is an answer to Get Sensor Reading (35.14).
const (
	readingUnavailable = 0x20
	readingScanned     = 0x40
)

// read fills what an answer says into the description. A sensor that is not
// scanned, or whose reading is not valid, has neither value nor states.
func (s *sensor) read(d *hardware.Sensor, b []byte) {
	if len(b) < 2 || b[1]&readingUnavailable != 0 || b[1]&readingScanned == 0 {
		return
	}
	state := 0
	if len(b) > 2 {
		state = int(b[2])
	}
	if len(b) > 3 {
		state |= int(b[3]&0x7f) << 8
	}
	if s.event == byThreshold {
		d.Value, d.Status = s.value(b[0]), thresholdStatus(state)
		return
	}
	if s.unit != "" { // a record of states says that its byte is a number, and means nothing by it
		d.Value = s.value(b[0])
	}
	d.States = s.states(state)
	d.Status = s.health(state)
}

// thresholdStatus is the worst of the comparisons.
func thresholdStatus(state int) string {
	switch {
	case state&0x24 != 0:
		return "non-recoverable"
	case state&0x12 != 0:
		return "critical"
	case state&0x09 != 0:
		return "non-critical"
	}
	return "ok"
}

const mostStates = 15

func (s *sensor) states(state int) []string {
	var out []string
	for i := range mostStates {
		if state&(1<<i) == 0 {
			continue
		}
		out = append(out, eventName(s.event, s.kind, byte(i)))
	}
	return out
}

// health is the worst severity of the states that are asserted.
func (s *sensor) health(state int) string {
	worst := ""
	for i := range mostStates {
		if state&(1<<i) == 0 {
			continue
		}
		switch eventSeverity(s.event, s.kind, byte(i), false) {
		case hardware.Critical:
			return "critical"
		case hardware.Warning:
			worst = "non-critical"
		default:
			if worst == "" {
				worst = "ok"
			}
		}
	}
	return worst
}
