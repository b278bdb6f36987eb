package bmc

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
)

// Sensor types, entities and units (IPMI 2.0, tables 42-3, 43-13, 43-15).
const (
	typeTemperature = 0x01
	typeVoltage     = 0x02
	typeFan         = 0x04
	typeIntrusion   = 0x05
	typeProcessor   = 0x07
	typePSU         = 0x08
	typeOther       = 0x0b
	typeDrive       = 0x0d
	typeSystemEvent = 0x12
	typeWatchdog    = 0x23

	entityProcessor = 0x03
	entityBoard     = 0x07
	entityPSU       = 0x0a
	entityDrive     = 0x1a
	entityFan       = 0x1d
	entityMemory    = 0x20
	entityInlet     = 0x40

	unitCelsius = 1
	unitVolts   = 4
	unitWatts   = 6
	unitRPM     = 18

	byThreshold    = 0x01
	sensorSpecific = 0x6f
)

// sensor is one sensor of a lab server. Its reading is y = L[(m x) 10^exp].
type sensor struct {
	number           uint8
	name             string
	kind, event      uint8
	entity, instance uint8
	unit             uint8
	m                uint16
	exp              int8
	curve            uint8 // 0 linear, 7 1/x
	signed           bool
	raw              uint8
	state            uint16 // of a discrete sensor
	absent           bool   // it is there and reads nothing
	mask             uint8  // thresholds that there are, from lower non-critical in bit 0
	limits           [6]uint8
	share            uint8 // sensors that this record describes, with their numbers and names
	eventsOnly       bool
}

// sensors are those of every lab server, and those of its parts.
func sensors(m *Machine) []sensor {
	temperature := sensor{kind: typeTemperature, event: byThreshold, unit: unitCelsius, m: 1}
	fan := sensor{kind: typeFan, event: byThreshold, unit: unitRPM, m: 100, entity: entityFan, mask: 0x07, limits: [6]uint8{7, 5, 3}}
	volts := sensor{kind: typeVoltage, event: byThreshold, unit: unitVolts, entity: entityBoard, instance: 1, mask: 0x12}
	with := func(s sensor, change func(*sensor)) sensor { change(&s); return s }
	var all []sensor
	for i, c := range m.CPUs {
		all = append(all, with(temperature, func(s *sensor) {
			s.name, s.entity, s.instance, s.raw = c.Socket+" Temp", entityProcessor, uint8(i+1), 41
			s.mask, s.limits = 0x38, [6]uint8{3: 85, 4: 95, 5: 100}
		}), sensor{name: c.Socket + " Status", kind: typeProcessor, event: sensorSpecific, entity: entityProcessor, instance: uint8(i + 1), state: 1 << 7})
	}
	all = append(all, with(temperature, func(s *sensor) {
		s.name, s.entity, s.instance, s.signed, s.raw = "Inlet Temp", entityInlet, 1, true, 23
		s.mask, s.limits = 0x1b, [6]uint8{0xfd, 0xfb, 0, 42, 47, 0} // -3 and -5 below
	}))
	for i, d := range m.DIMMs {
		all = append(all, with(temperature, func(s *sensor) {
			s.name, s.entity, s.instance, s.raw, s.mask, s.limits = d.Slot+" Temp", entityMemory, uint8(i+1), 34, 0x10, [6]uint8{4: 85}
		}))
	}
	for i, raw := range []uint8{83, 82, 84, 0} {
		all = append(all, with(fan, func(s *sensor) {
			s.name, s.instance, s.raw, s.absent = fmt.Sprintf("FAN%d", i+1), uint8(i+1), raw, raw == 0
		}))
	}
	all = append(all,
		with(fan, func(s *sensor) { // it counts the time of one turn
			s.name, s.instance, s.curve, s.m, s.exp, s.raw, s.mask = "PUMP1", 9, 7, 1, -5, 25, 0
		}),
		with(volts, func(s *sensor) { s.name, s.m, s.exp, s.raw, s.limits = "12V", 6, -2, 201, [6]uint8{1: 180, 4: 220} }),
		with(volts, func(s *sensor) { s.name, s.m, s.exp, s.raw, s.limits = "3.3V", 16, -3, 207, [6]uint8{1: 186, 4: 226} }),
		with(volts, func(s *sensor) { s.name, s.m, s.exp, s.raw, s.limits = "VBAT", 16, -3, 189, [6]uint8{1: 156, 4: 226} }))
	for i := range m.PSUs {
		all = append(all, sensor{name: fmt.Sprintf("PS%d Input", i+1), kind: typeOther, event: byThreshold, unit: unitWatts, m: 4,
			entity: entityPSU, instance: uint8(i + 1), raw: 45},
			sensor{name: fmt.Sprintf("PS%d Status", i+1), kind: typePSU, event: sensorSpecific, entity: entityPSU, instance: uint8(i + 1), state: 1})
	}
	all = append(all,
		sensor{name: "Intrusion", kind: typeIntrusion, event: sensorSpecific, entity: 0x17, instance: 1},
		sensor{name: "Watchdog", kind: typeWatchdog, event: sensorSpecific, entity: entityBoard, instance: 1},
		sensor{name: "Drive ", kind: typeDrive, event: sensorSpecific, entity: entityDrive, instance: 1, state: 1, share: 4},
		sensor{name: "System Event", kind: typeSystemEvent, event: sensorSpecific, entity: entityBoard, instance: 1, eventsOnly: true})
	next := uint8(1)
	for i := range all {
		all[i].number = next
		next += max(1, all[i].share)
	}
	return all
}

// record is the sensor's SDR (43.1 to 43.3).
func (s *sensor) record(id uint16) []byte {
	head := []byte{0x20, 0, s.number, s.entity, s.instance}
	switch {
	case s.eventsOnly:
		return sdr(id, 0x03, append(head, s.kind, s.event, 1, 0, 0, 0), s.name)
	case s.event != byThreshold:
		body := append(head, 0x63, 0x40, s.kind, s.event, 0xff, 0x7f, 0xff, 0x7f, 0xff, 0x7f, 0xc0, 0, 0)
		return sdr(id, 0x02, append(body, max(1, s.share), 0, 0, 0, 0, 0, 0, 0), s.name)
	}
	access := uint8(0)
	if s.mask != 0 {
		access = 1 << 2 // thresholds are readable
	}
	format := uint8(0)
	if s.signed {
		format = 0x80
	}
	body := append(head, 0x7f, 0x40|access, s.kind, s.event, 0, 0, 0, 0, s.mask, 0, format, s.unit, 0, s.curve)
	body = append(body, uint8(s.m), uint8(s.m>>8)<<6, 0, 0, 0, uint8(s.exp)<<4, 0, 0, 0, 0, 0xff, 0)
	for i := range s.limits {
		body = append(body, s.limits[len(s.limits)-1-i])
	}
	return sdr(id, 0x01, append(body, 1, 1, 0, 0, 0), s.name)
}

// sdr is a record with its header and its name.
func sdr(id uint16, kind uint8, body []byte, name string) []byte {
	name = name[:min(len(name), 16)]
	out := append(binary.LittleEndian.AppendUint16(nil, id), 0x51, kind, uint8(len(body)+1+len(name)))
	return append(append(append(out, body...), 0xc0|uint8(len(name))), name...)
}

// fruRecord locates one FRU that the BMC keeps (43.8). Modifier 1 is a DIMM's
// SPD (table 43-12).
func fruRecord(id uint16, fru, modifier, entity, instance uint8, name string) []byte {
	return sdr(id, 0x11, []byte{0x20, fru, 0x80, 0, 0, 0x10, modifier, entity, instance, 0}, name)
}

// records are the SDR repository.
func (h *board) records() [][]byte {
	out := [][]byte{types.PackMCLocator(types.MCLocatorPackOpts{RecordID: 1, DeviceSupport: 0x8f, Name: "BMC"})}
	id := func() uint16 { return uint16(len(out) + 1) }
	for i := range h.sensors {
		out = append(out, h.sensors[i].record(id()))
	}
	m := &h.b.cfg.Machine
	for i, p := range m.PSUs {
		out = append(out, fruRecord(id(), uint8(1+i), 0, entityPSU, uint8(i+1), p.Slot))
	}
	for i, d := range m.DIMMs {
		out = append(out, fruRecord(id(), uint8(firstDIMM+i), 1, entityMemory, uint8(i+1), d.Slot))
	}
	return out
}

// find is the sensor of a number, also one that shares another's record.
func (h *board) find(number uint8) *sensor {
	for i := range h.sensors {
		if s := &h.sensors[i]; number >= s.number && number < s.number+max(1, s.share) {
			return s
		}
	}
	return nil
}

// sensorReading answers Get Sensor Reading (35.14).
func (h *board) sensorReading(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	s := h.find(req[0])
	if s == nil || s.eventsOnly {
		return nil, types.CodeRequestedDataNotPresent
	}
	const events, scanned, unavailable = 0x80, 0x40, 0x20
	if s.absent {
		return []byte{0, events | scanned | unavailable, 0}, types.CodeOK
	}
	if s.event == byThreshold {
		return []byte{s.raw, events | scanned, 0xc0 | s.compare()}, types.CodeOK
	}
	state := s.state
	if req[0] > s.number { // only the first of those that share is populated
		state = 0
	}
	return []byte{0, events | scanned, uint8(state), 0x80 | uint8(state>>8)}, types.CodeOK
}

// powerReading is the sum of what the power supplies draw (DCMI 1.5, 6.6.1).
func (h *board) powerReading(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	const dcmi, measuring = 0xdc, 0x40
	if req[0] != dcmi || req[1] != 1 {
		return nil, types.CodeRequestDataFieldInvalid
	}
	var watts uint16
	for i := range h.sensors {
		if s := &h.sensors[i]; s.unit == unitWatts {
			watts += uint16(s.raw) * s.m
		}
	}
	out := []byte{dcmi}
	for range 4 { // now, at least, at most, on average
		out = binary.LittleEndian.AppendUint16(out, watts)
	}
	out = binary.LittleEndian.AppendUint32(out, uint32(time.Now().Unix()))
	return append(binary.LittleEndian.AppendUint32(out, 1000), measuring), types.CodeOK
}

// compare says which thresholds the reading has passed.
func (s *sensor) compare() (state uint8) {
	value := func(raw uint8) int {
		if s.signed {
			return int(int8(raw))
		}
		return int(raw)
	}
	for i, limit := range s.limits {
		passed := value(s.raw) <= value(limit)
		if i >= 3 {
			passed = value(s.raw) >= value(limit)
		}
		if s.mask&(1<<i) != 0 && passed {
			state |= 1 << i
		}
	}
	return state
}

func (h *board) sensorThresholds(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	s := h.find(req[0])
	if s == nil || s.event != byThreshold {
		return nil, types.CodeRequestedDataNotPresent
	}
	return append([]byte{s.mask}, s.limits[:]...), types.CodeOK
}

func (h *board) sensorHysteresis(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	if s := h.find(req[0]); s == nil || s.event != byThreshold {
		return nil, types.CodeRequestedDataNotPresent
	}
	return []byte{1, 1}, types.CodeOK
}

// sdrEntry answers Get SDR (33.12), whole records too, as most BMCs do and
// go-ipmi does not. MaxSDRRead makes it one that does not.
func (h *board) sdrEntry(_ context.Context, hc *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	reservation, id, offset, n := binary.LittleEndian.Uint16(req), binary.LittleEndian.Uint16(req[2:]), int(req[4]), int(req[5])
	if offset != 0 && !hc.BMC.SDRRepo.Validate(reservation) {
		return nil, types.CodeReservationCanceled
	}
	i := slices.IndexFunc(h.sdr, func(r []byte) bool { return binary.LittleEndian.Uint16(r) == id })
	switch id {
	case 0:
		i = 0
	case 0xffff:
		i = len(h.sdr) - 1
	}
	if i < 0 || i >= len(h.sdr) || offset >= len(h.sdr[i]) {
		return nil, types.CodeRequestedDataNotPresent
	}
	rec, next := h.sdr[i][offset:], uint16(0xffff)
	if i+1 < len(h.sdr) {
		next = binary.LittleEndian.Uint16(h.sdr[i+1])
	}
	if n == 0xff {
		n = len(rec)
	}
	if most := h.b.cfg.MaxSDRRead; most > 0 && n > most {
		return nil, types.CodeCannotReturnRequestedDataBytes
	}
	return append(binary.LittleEndian.AppendUint16(nil, next), rec[:min(n, len(rec))]...), types.CodeOK
}
