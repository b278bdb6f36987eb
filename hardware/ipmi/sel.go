package ipmi

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/hardware"
)

// The commands of the system event log (31).
var (
	cmdSELInfo = command{netFn: netFnStorage, id: 0x40, name: "Get SEL Info"}
	cmdSELGet  = command{netFn: netFnStorage, id: 0x43, name: "Get SEL Entry"}
	cmdSELTime = command{netFn: netFnStorage, id: 0x48, name: "Get SEL Time"}
)

const (
	selRecord   = 16
	selFirst    = 0
	selLast     = 0xffff
	newestSEL   = 64 // entries that are read and kept
	mostMissing = 16 // record numbers in a row that the log lacks
	selStandard = 0x02
	selOEMTimed = 0xc0
	selOEMBare  = 0xe0
	// Times below that count from the BMC's start (37.1); all F is no time.
	preInit = 0x20000000
	noTime  = 0xffffffff
)

// sel reads the log's state and its newest entries, the newest first, without
// walking those before.
func sel(ctx context.Context, s *session) error {
	b, err := s.ask(ctx, cmdSELInfo)
	if b, err = want(b, err, 14); err != nil {
		return err
	}
	l := hardware.Log{Name: "SEL", Entries: le16(b[1:]), FreeBytes: le16(b[3:]), Overflowed: b[13]&0x80 != 0, LastErased: stamp(le32(b[9:]))}
	if l.Entries > 0 {
		l.Newest, err = s.newest(ctx, l.Entries)
	}
	s.view.Readings.Logs = append(s.view.Readings.Logs, l)
	if l.Overflowed || l.Entries > 0 && l.FreeBytes == 0 {
		s.find(hardware.CodeLogFull, hardware.Warning, "sel", fmt.Sprintf("%d entries, %d bytes free, overflowed %t", l.Entries, l.FreeBytes, l.Overflowed),
			"new events are lost: save the log, then clear it")
	}
	return err
}

// selTime is the BMC's clock.
func selTime(ctx context.Context, s *session) error {
	b, err := s.ask(ctx, cmdSELTime)
	if b, err = want(b, err, 4); err != nil {
		return err
	}
	s.view.Readings.BMCTime = stamp(le32(b))
	return nil
}

// newest walks a short log from its first entry, and a long one back from its
// last.
func (s *session) newest(ctx context.Context, entries int) ([]hardware.LogEntry, error) {
	if entries <= newestSEL {
		return s.forward(ctx, selFirst)
	}
	last, _, err := s.entry(ctx, selLast)
	if err != nil {
		return nil, err
	}
	first, second, err := s.entry(ctx, selFirst)
	if err != nil {
		return nil, err
	}
	// Some BMCs number their entries by where they stand in memory.
	stride := second - le16(first)
	if stride < 1 || second == selLast {
		stride = 1
	}
	return s.backward(ctx, last, stride)
}

func (s *session) backward(ctx context.Context, last []byte, stride int) ([]hardware.LogEntry, error) {
	out := []hardware.LogEntry{s.decodeSEL(last)}
	missing := 0
	for id := le16(last) - stride; id > 0 && len(out) < newestSEL; id -= stride {
		b, _, err := s.entry(ctx, id)
		var code CompletionCode
		switch {
		case err == nil:
			missing = 0
			out = append(out, s.decodeSEL(b))
		case errors.As(err, &code) && missing < mostMissing:
			missing++
		default:
			return out, fmt.Errorf("entry %#04x: %w", id, err)
		}
	}
	return out, nil
}

// forward reads to the end, and keeps the newest. A log that does not end is
// cut where it comes to an entry for the second time.
func (s *session) forward(ctx context.Context, id int) ([]hardware.LogEntry, error) {
	var out []hardware.LogEntry
	seen := map[int]bool{}
	var problem error
	for id != selLast && len(out) < 2*newestSEL {
		b, next, err := s.entry(ctx, id)
		if err != nil {
			problem = fmt.Errorf("entry %#04x: %w", id, err)
			break
		}
		if mine := le16(b); seen[mine] {
			s.malformed("sel", fmt.Errorf("the log runs in a circle: entry %#04x comes again", mine))
			break
		}
		seen[le16(b)] = true
		out = append([]hardware.LogEntry{s.decodeSEL(b)}, out...)
		id = next
	}
	return out[:min(len(out), newestSEL)], problem
}

// entry is one record, and the number of the next.
func (s *session) entry(ctx context.Context, id int) ([]byte, int, error) {
	b, err := s.ask(ctx, cmdSELGet, 0, 0, byte(id), byte(id>>8), 0, wholeRecord)
	if b, err = want(b, err, 2+selRecord); err != nil {
		return nil, 0, err
	}
	return b[2 : 2+selRecord], le16(b), nil
}

// stamp is a time of the BMC's clock; absent where it counts from the BMC's
// start, or is not set.
func stamp(t uint32) *time.Time {
	if t <= preInit || t == noTime {
		return nil
	}
	at := time.Unix(int64(t), 0).UTC()
	return &at
}

func (s *session) decodeSEL(b []byte) hardware.LogEntry {
	e, err := decodeEvent(b, s.sensorOf)
	if err != nil {
		s.malformed("sel", err)
	}
	return e
}

// sensorOf finds what an event names. The firmware of the server numbers the
// sensors of its own events as it likes, so the type has to be right too.
func (s *session) sensorOf(owner, lun, number, kind byte) *sensor {
	for _, r := range s.records {
		for i := range r.sensors {
			if x := &r.sensors[i]; x.owner == owner && x.lun == lun && x.number == number && x.kind == kind {
				return x
			}
		}
	}
	return nil
}

// sensorFinder looks up the sensor of an event.
type sensorFinder func(owner, lun, number, kind byte) *sensor

// decodeEvent reads one record (table 32-1).
func decodeEvent(b []byte, find sensorFinder) (hardware.LogEntry, error) {
	if len(b) < selRecord {
		return hardware.LogEntry{}, fmt.Errorf("SEL record of %d bytes, want %d", len(b), selRecord)
	}
	b = b[:selRecord]
	e := hardware.LogEntry{ID: fmt.Sprintf("%#04x", le16(b)), Severity: string(hardware.Info)}
	kind := b[2]
	if kind >= selOEMBare {
		e.Text = fmt.Sprintf("oem record %#02x: %s", kind, hex.EncodeToString(b[3:]))
		return e, nil
	}
	t := le32(b[3:])
	e.Time = stamp(t)
	switch {
	case kind >= selOEMTimed:
		e.Text = fmt.Sprintf("oem record %#02x, IANA %d: %s", kind, le24(b[7:]), hex.EncodeToString(b[10:]))
	case kind == selStandard:
		standardEvent(b, &e, find)
	default:
		e.Text = fmt.Sprintf("record of type %#02x: %s", kind, hex.EncodeToString(b[7:]))
	}
	if e.Time == nil && t != noTime && t != 0 {
		e.Text += fmt.Sprintf(" (%d s after the BMC's start)", t)
	}
	return e, nil
}

// standardEvent reads a system event record: who, what, and the three bytes
// of data (29.7).
func standardEvent(b []byte, e *hardware.LogEntry, find sensorFinder) {
	kind, number, eventType, offset := b[10], b[11], b[12]&0x7f, b[13]&0xf
	deasserted := b[12]&0x80 != 0
	e.Asserted = hardware.SwitchOf(!deasserted)
	e.Severity = string(eventSeverity(eventType, kind, offset, deasserted))
	e.Text = eventName(eventType, kind, offset)
	if k := kindName(kind); k != "" {
		e.Text = k + ": " + e.Text
	}
	var by *sensor
	if b[7]&1 == 0 { // else by software, whose numbers are not the BMC's
		by = find(b[7], b[8]&3, number, kind)
	}
	if e.Sensor = fmt.Sprintf("%#02x", number); by != nil && by.name != "" {
		e.Sensor = by.name
	}
	e.Text += eventData(b[13], b[14], b[15], eventType, by)
}

// eventData is what the second and third byte add, as the first says.
func eventData(flags, two, three, eventType byte, by *sensor) string {
	if eventType == byThreshold && flags>>6 == 1 {
		if by == nil || by.value(two) == nil {
			return fmt.Sprintf(", raw reading %#02x", two)
		}
		s := fmt.Sprintf(", reading %s", number(by.value(two)))
		if flags>>4&3 == 1 {
			s += fmt.Sprintf(", threshold %s", number(by.value(three)))
		}
		return s + " " + by.unit
	}
	if flags>>6 == 0 && flags>>4&3 == 0 || two == 0xff && three == 0xff {
		return ""
	}
	return fmt.Sprintf(", data %#02x %#02x", two, three)
}
