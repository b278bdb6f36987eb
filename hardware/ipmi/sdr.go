package ipmi

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// The commands of the SDR repository (33), of a BMC that keeps its records as
// a device (35), and of sensors (35).
var (
	cmdSDRReserve = command{netFn: netFnStorage, id: 0x22, name: "Reserve SDR Repository"}
	cmdSDRGet     = command{netFn: netFnStorage, id: 0x23, name: "Get SDR"}
	cmdDevReserve = command{netFn: netFnSensor, id: 0x22, name: "Reserve Device SDR Repository"}
	cmdDevGet     = command{netFn: netFnSensor, id: 0x21, name: "Get Device SDR"}
	cmdFactors    = command{netFn: netFnSensor, id: 0x23, name: "Get Sensor Reading Factors"}
	cmdThresholds = command{netFn: netFnSensor, id: 0x27, name: "Get Sensor Thresholds"}
	cmdSensorRead = command{netFn: netFnSensor, id: 0x2d, name: "Get Sensor Reading"}
)

const (
	lastSDR      = 0xffff
	wholeRecord  = 0xff
	mostSDRs     = 2048
	mostSensors  = 512
	mostReserves = 8
)

// sdrReader walks the repository, each record in one read where the BMC gives
// it whole. A reservation is made only for a record that comes in pieces.
type sdrReader struct {
	s            *session
	get, reserve command
	reservation  int
	reserves     int
	piece        byte // bytes of one read
}

// sdrs reads all records into the session.
func sdrs(ctx context.Context, s *session) error {
	r := &sdrReader{s: s, get: cmdSDRGet, reserve: cmdSDRReserve, piece: wholeRecord}
	if !s.device.repository && s.device.deviceSDRs {
		r.get, r.reserve = cmdDevGet, cmdDevReserve
	}
	seen := map[int]bool{}
	for id := 0; id != lastSDR && len(seen) < mostSDRs; {
		b, next, err := r.record(ctx, id)
		var code CompletionCode
		if errors.As(err, &code) && code == codeNotPresent && len(seen) == 0 {
			return nil // an empty repository
		}
		if err != nil {
			return fmt.Errorf("record %#04x: %w", id, err)
		}
		if rec, err := decodeSDR(b); err != nil {
			s.malformed("sdr", err)
		} else {
			s.records = append(s.records, rec)
		}
		seen[id], seen[le16(b)] = true, true
		if next != lastSDR && (seen[next] || next == 0) {
			s.malformed("sdr", fmt.Errorf("the repository runs in a circle: record %#04x is followed by %#04x", id, next))
			return nil
		}
		id = next
	}
	if len(seen) == mostSDRs {
		s.malformed("sdr", fmt.Errorf("more than %d records; the rest was not read", mostSDRs))
	}
	return nil
}

// record reads one record. Where a reservation is lost on the way it begins
// anew, a few times.
func (r *sdrReader) record(ctx context.Context, id int) ([]byte, int, error) {
	for {
		b, next, err := r.pieces(ctx, id)
		if !errors.Is(err, codeReservation) {
			return b, next, err
		}
		if r.reserves >= mostReserves {
			return nil, 0, fmt.Errorf("its reservation was lost %d times: %w", r.reserves, err)
		}
		r.reservation = 0
	}
}

func (r *sdrReader) pieces(ctx context.Context, id int) ([]byte, int, error) {
	var data []byte
	next, end := 0, sdrHeader
	for len(data) < end {
		n := r.piece
		if left := end - len(data); len(data) >= sdrHeader && left < int(n) {
			n = byte(left)
		}
		if len(data) > 0 || n != wholeRecord {
			if err := r.reserved(ctx); err != nil {
				return nil, 0, err
			}
		}
		b, err := r.s.ask(ctx, r.get, byte(r.reservation), byte(r.reservation>>8), byte(id), byte(id>>8), byte(len(data)), n)
		if b, err = want(b, err, 3); err != nil {
			if (tooMuch(err) || r.s.lost(err) && r.piece == wholeRecord) && r.shrink() {
				continue
			}
			return nil, 0, err
		}
		if len(data) == 0 {
			next = le16(b)
		}
		if data = append(data, b[2:]...); len(data) >= sdrHeader {
			end = sdrHeader + int(data[4])
		}
	}
	return data[:end], next, nil
}

// shrink says whether a smaller piece is worth a try; it is kept.
func (r *sdrReader) shrink() bool {
	switch {
	case r.piece == wholeRecord:
		r.piece = byte(min(r.s.big, 64))
	case r.piece > smallRead:
		r.piece = max(r.piece/2, smallRead)
	default:
		return false
	}
	return true
}

// reserved makes a reservation where there is none. A BMC that has none to
// give is read without.
func (r *sdrReader) reserved(ctx context.Context) error {
	if r.reservation != 0 {
		return nil
	}
	r.reserves++
	b, err := r.s.ask(ctx, r.reserve)
	var code CompletionCode
	if errors.As(err, &code) && code != codeReservation && r.reserves == 1 {
		return nil
	}
	if b, err = want(b, err, 2); err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	r.reservation = le16(b)
	return nil
}

// sensors reads the sensors that the records describe.
func sensors(ctx context.Context, s *session) error {
	n := 0
	for _, rec := range s.records {
		for _, sen := range rec.sensors {
			if n++; n > mostSensors {
				s.malformed("sensors", fmt.Errorf("more than %d; the rest was not read", mostSensors))
				return nil
			}
			d, err := s.sensor(ctx, sen)
			if err != nil {
				return fmt.Errorf("%q: %w", sen.name, err)
			}
			s.place(sen, d)
		}
	}
	return nil
}

// sensor reads one. A refusal is a sensor without a value.
func (s *session) sensor(ctx context.Context, sen sensor) (hardware.Sensor, error) {
	d := sen.describe()
	if sen.silent || sen.owner != bmcAddress || sen.channel != 0 {
		return d, nil // it sends events only, or is behind another controller
	}
	b, err := s.sensorAsk(ctx, cmdSensorRead, sen, sen.number)
	if err != nil || b == nil {
		return d, err
	}
	if sen.analog && sen.linear >= nonLinear && len(b) > 0 {
		f, err := s.sensorAsk(ctx, cmdFactors, sen, sen.number, b[0])
		if err != nil {
			return d, err
		}
		if sen.analog = len(f) >= 7; sen.analog {
			sen.factors(f[1:7])
		}
	}
	sen.read(&d, b)
	if sen.event == byThreshold && sen.readable&0x3f != 0 && sen.limits == ([6]byte{}) || sen.linear >= nonLinear {
		t, err := s.sensorAsk(ctx, cmdThresholds, sen, sen.number)
		if err != nil {
			return d, err
		}
		if len(t) >= 7 {
			d.Thresholds = sen.thresholds(t[0], [6]byte(t[1:7]))
		}
	}
	return d, nil
}

func (s *session) sensorAsk(ctx context.Context, cmd command, sen sensor, data ...byte) ([]byte, error) {
	cmd.lun = sen.lun
	b, err := s.ask(ctx, cmd, data...)
	var code CompletionCode
	if errors.As(err, &code) {
		return nil, nil
	}
	return b, err
}

// place puts a sensor among the readings, and those of the kinds that have a
// list of their own into it too.
func (s *session) place(sen sensor, d hardware.Sensor) {
	r := &s.view.Readings
	r.Sensors = append(r.Sensors, d)
	switch {
	case sen.event == byThreshold && d.Unit == "degrees C":
		t := hardware.Temperature{Name: d.Name, Celsius: d.Value}
		if d.Thresholds != nil {
			t.UpperCelsius = d.Thresholds.UpperCritical
		}
		r.Temperatures = append(r.Temperatures, t)
	case sen.event == byThreshold && sen.kind == 0x04 && d.Unit == "RPM":
		r.Fans = append(r.Fans, hardware.Fan{Name: d.Name, RPM: d.Value})
	case sen.event == byThreshold && sen.kind == 0x04 && strings.HasPrefix(d.Unit, "%"):
		r.Fans = append(r.Fans, hardware.Fan{Name: d.Name, Percent: d.Value})
	case sen.kind == 0x08 && d.States != nil:
		r.PSUs = append(r.PSUs, hardware.PSUReading{Name: d.Name, Health: map[string]string{"ok": "ok", "non-critical": "warning", "critical": "critical"}[d.Status]})
	}
	if sen.kind == 0x08 && d.Status == "critical" {
		s.find(hardware.CodeSensorCritical, hardware.Warning, "psu "+d.Name, strings.Join(d.States, ", "), "look at the power supply and its cable")
	} else if d.Status == "critical" && sen.event == byThreshold || d.Status == "non-recoverable" {
		s.find(hardware.CodeSensorCritical, hardware.Warning, "sensor "+d.Name, fmt.Sprintf("%s: %s %s", d.Status, number(d.Value), d.Unit), "")
	}
}

func number(v *float64) string {
	if v == nil {
		return "no value"
	}
	return fmt.Sprintf("%g", *v)
}
