package bmc

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

const (
	selRecordBytes = 16
	selCapacity    = 512
	selFirstID     = 1
)

// event is what of a system event record differs from one to the next: sensor
// type and offset (IPMI 2.0, table 42-3).
type event struct{ sensorType, offset uint8 }

var (
	eventSELCleared    = event{0x10, 2}
	eventBootInitiated = event{0x1d, 0}
	eventPoweredOff    = event{0x22, 6}
	// Table 42-3, watchdog 2: the offset is the action that was taken.
	eventWatchdog = event{0x23, 0}
)

// eventLog is the SEL. The zero value is an empty log.
type eventLog struct {
	mu          sync.Mutex
	records     [][selRecordBytes]byte
	nextID      uint16
	overflow    bool
	reservation uint16
	added       uint32
	erased      uint32
	offset      time.Duration // of the SEL's clock against ours
}

func (l *eventLog) nowLocked() uint32 { return uint32(time.Now().Add(l.offset).Unix()) }

// add appends a system event record (IPMI 2.0, table 32-1).
func (l *eventLog) add(e event) {
	rec := [selRecordBytes]byte{2: 0x02, 7: 0x20, 9: 0x04, 10: e.sensorType, 11: 1, 12: 0x6f, 13: e.offset, 14: 0xff, 15: 0xff}
	l.append(rec)
}

func (l *eventLog) append(rec [selRecordBytes]byte) (id uint16, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) >= selCapacity {
		l.overflow = true
		return 0, false
	}
	if l.nextID == 0 || l.nextID == 0xffff {
		l.nextID = selFirstID
	}
	id = l.nextID
	l.nextID++
	binary.LittleEndian.PutUint16(rec[0:], id)
	if rec[2] < 0xe0 { // above stand the types without a time stamp
		l.added = l.nowLocked()
		binary.LittleEndian.PutUint32(rec[3:], l.added)
	}
	l.records = append(l.records, rec)
	return id, true
}

// info is the answer to Get SEL Info (IPMI 2.0, table 31-2).
func (l *eventLog) info() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]byte, 14)
	out[0] = 0x51
	binary.LittleEndian.PutUint16(out[1:], uint16(len(l.records)))
	binary.LittleEndian.PutUint16(out[3:], uint16((selCapacity-len(l.records))*selRecordBytes))
	binary.LittleEndian.PutUint32(out[5:], l.added)
	binary.LittleEndian.PutUint32(out[9:], l.erased)
	out[13] = 0x02 // Reserve SEL is there
	if l.overflow {
		out[13] |= 0x80
	}
	return out
}

func (l *eventLog) reserve() uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reservation++; l.reservation == 0 {
		l.reservation = 1
	}
	return l.reservation
}

func (l *eventLog) reserved(id uint16) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return id != 0 && id == l.reservation
}

// get finds a record; 0 is the first and FFFFh the last.
func (l *eventLog) get(id uint16) (rec [selRecordBytes]byte, next uint16, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.records, func(r [selRecordBytes]byte) bool { return binary.LittleEndian.Uint16(r[:]) == id })
	switch {
	case len(l.records) == 0:
		return rec, 0, false
	case id == 0:
		i = 0
	case id == 0xffff:
		i = len(l.records) - 1
	case i < 0:
		return rec, 0, false
	}
	next = 0xffff
	if i+1 < len(l.records) {
		next = binary.LittleEndian.Uint16(l.records[i+1][:])
	}
	return l.records[i], next, true
}

func (l *eventLog) clear() {
	l.mu.Lock()
	l.records, l.overflow, l.reservation = nil, false, l.reservation+1
	l.erased = l.nowLocked()
	l.mu.Unlock()
	l.add(eventSELCleared)
}

func (l *eventLog) time() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nowLocked()
}

func (l *eventLog) setTime(t uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offset = time.Until(time.Unix(int64(t), 0))
}
