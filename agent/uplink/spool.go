package uplink

import (
	"fmt"
	"sync"

	"github.com/ingot-metal/ingot/fleet"
)

const (
	defaultSpoolBytes = 4 << 20
	// eventOverhead is what an entry costs beside its data.
	eventOverhead = 512
)

// spool is the events that are not acknowledged yet, oldest first, bounded in
// bytes. Numbers are given when an event enters it: one that finds it full gets
// none, so there is never a gap.
type spool struct {
	mu    sync.Mutex
	limit int
	bytes int
	next  map[fleet.Source]uint64
	first uint64
	queue []*entry
	wake  chan struct{}
	empty []chan struct{}
	// journal, if set, is told all that waits after each change, and before an
	// event that was added can be sent.
	journal func([]fleet.Event)
}

type entry struct {
	event fleet.Event
	done  chan struct{}
}

func newSpool(first uint64, limit int) *spool {
	if limit <= 0 {
		limit = defaultSpoolBytes
	}
	return &spool{limit: limit, first: first, next: map[fleet.Source]uint64{}, wake: make(chan struct{}, 1)}
}

func (s *spool) add(e fleet.Event) (<-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cost := len(e.Data) + eventOverhead
	if s.bytes+cost > s.limit {
		return nil, fmt.Errorf("publish %s: the spool is full: %d events wait for the bus", e.Kind, len(s.queue))
	}
	if s.next[e.Source] == 0 {
		s.next[e.Source] = s.first
	}
	e.Seq = s.next[e.Source]
	s.next[e.Source]++
	en := &entry{event: e, done: make(chan struct{})}
	s.queue = append(s.queue, en)
	s.bytes += cost
	s.write()
	select {
	case s.wake <- struct{}{}:
	default: // the sender is awake
	}
	return en.done, nil
}

// resume puts in what an earlier process had not seen acknowledged, under the
// numbers that it had.
func (s *spool) resume(events []fleet.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		s.queue = append(s.queue, &entry{event: e, done: make(chan struct{})})
		s.bytes += len(e.Data) + eventOverhead
	}
}

func (s *spool) write() {
	if s.journal == nil {
		return
	}
	all := make([]fleet.Event, len(s.queue))
	for i, en := range s.queue {
		all[i] = en.event
	}
	s.journal(all)
}

func (s *spool) head() *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil
	}
	return s.queue[0]
}

// acked removes the head.
func (s *spool) acked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	en := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.bytes -= len(en.event.Data) + eventOverhead
	close(en.done)
	s.write()
	if len(s.queue) == 0 {
		s.queue = nil
		for _, c := range s.empty {
			close(c)
		}
		s.empty = nil
	}
}

func (s *spool) length() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// drained is closed when nothing waits.
func (s *spool) drained() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{})
	if len(s.queue) == 0 {
		close(c)
		return c
	}
	s.empty = append(s.empty, c)
	return c
}

// nudge wakes the sender: the bus is back.
func (s *spool) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}
