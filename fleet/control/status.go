package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	tickEvery = time.Second
	// lastSeenEvery is how old a status's last_seen may grow while nothing else
	// changes: a heartbeat is no write.
	lastSeenEvery = time.Minute
)

// statuses runs [Reduce] over everything that is said and is the one writer of
// the status bucket.
type statuses struct {
	table table[fleet.Status]
	js    jetstream.JetStream
	reg   *registry
	log   *slog.Logger
	since time.Time
	// changed is called after a write, without locks.
	changed func(fleet.Status)
	// reported is told that a node stored an inventory.
	reported func(fleet.NodeID)
	// malformed is told what a node sent that is no message.
	malformed func(ctx context.Context, n fleet.NodeID, what string, err error)

	writing sync.Mutex // held over a write to the bucket
	mu      sync.Mutex
	now     map[fleet.NodeID]*held
	applied uint64 // the last stream sequence that is in a status; follow's alone once it runs
}

// held is a status in memory: as it is, and as it was last written.
type held struct {
	status  fleet.Status
	written fleet.Status
	rev     uint64
}

func newStatuses(ctx context.Context, js jetstream.JetStream, reg *registry, log *slog.Logger) (*statuses, error) {
	t, err := openTable[fleet.Status](ctx, js, fleet.BucketStatus)
	return &statuses{table: t, js: js, reg: reg, log: log, since: time.Now(), now: map[fleet.NodeID]*held{},
		changed: func(fleet.Status) {}, reported: func(fleet.NodeID) {}, malformed: func(context.Context, fleet.NodeID, string, error) {}}, err
}

// load takes the stored statuses into memory.
func (s *statuses) load(ctx context.Context) error {
	keys, err := s.table.kv.ListKeys(ctx)
	if err != nil {
		return fmt.Errorf("read statuses: %w", err)
	}
	for k := range keys.Keys() {
		v, rev, err := s.table.get(ctx, k)
		if err != nil {
			return err
		}
		if rev > 0 {
			s.now[fleet.NodeID(k)] = &held{v, v, rev}
			s.applied = max(s.applied, v.Applied[appliedStream])
		}
	}
	return nil
}

// heard is when a node that is up was last heard; zero when it is not up.
func (s *statuses) heard(n fleet.NodeID) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.now[n]
	if !ok || h.status.Applied[appliedHeartbeat] == 0 {
		return time.Time{}
	}
	return h.status.LastSeen
}

func (s *statuses) of(n fleet.NodeID) (fleet.Status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.now[n]
	if !ok {
		return fleet.Status{}, false
	}
	return clone(h.status), true
}

func (s *statuses) keys() []fleet.NodeID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []fleet.NodeID
	for k := range s.now {
		out = append(out, k)
	}
	return out
}

// apply reduces one input into a node's status and writes it where it changed.
func (s *statuses) apply(ctx context.Context, n fleet.NodeID, in Input) error {
	if m, ok := s.reg.machineOf(n); ok {
		in.Machine = &m
	}
	s.mu.Lock()
	h, ok := s.now[n]
	if !ok {
		if in.Tick || in.Heartbeat != nil { // a status begins with a fact that is kept
			s.mu.Unlock()
			return nil
		}
		h = &held{status: fleet.Status{Node: n}}
		s.now[n] = h
	}
	h.status = Reduce(h.status, in)
	s.mu.Unlock()
	return s.write(ctx, n)
}

// write stores a status that differs from what is stored.
func (s *statuses) write(ctx context.Context, n fleet.NodeID) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	for range casTries {
		s.mu.Lock()
		h, ok := s.now[n]
		if !ok || !worthWriting(h.written, h.status) {
			s.mu.Unlock()
			return nil
		}
		st, rev := clone(h.status), h.rev
		s.mu.Unlock()
		got, err := s.table.put(ctx, string(n), st, rev)
		if errors.Is(err, errConflict) {
			if err := s.reload(ctx, n); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		h.written, h.rev = st, got
		s.mu.Unlock()
		s.changed(st)
		return nil
	}
	return fmt.Errorf("write status of %s: %d times: %w", n, casTries, errConflict)
}

// reload takes what somebody else wrote, where it is further in the stream than
// what is held here.
func (s *statuses) reload(ctx context.Context, n fleet.NodeID) error {
	v, rev, err := s.table.get(ctx, string(n))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.now[n]; ok {
		if v.Applied[appliedStream] > h.status.Applied[appliedStream] {
			h.status = v
		}
		h.written, h.rev = v, rev
	}
	return nil
}

func worthWriting(old, now fleet.Status) bool {
	if now.LastSeen.Sub(old.LastSeen) >= lastSeenEvery {
		return true
	}
	old.LastSeen = now.LastSeen
	return !reflect.DeepEqual(old, now)
}

// forget removes the status of a key that turned out to be a node's.
func (s *statuses) forget(ctx context.Context, n fleet.NodeID) error {
	s.mu.Lock()
	_, ok := s.now[n]
	delete(s.now, n)
	s.mu.Unlock()
	if !ok {
		return nil
	}
	return s.table.remove(ctx, string(n))
}

// follow applies the stream's events in order, from where the statuses stand,
// until ctx ends.
func (s *statuses) follow(ctx context.Context) error {
	t := bus.Tail{JS: s.js, Stream: fleet.StreamEvents, Next: s.applied + 1, Hints: "ingot.ev.>"}
	return t.Run(ctx, func(m bus.Stored) error {
		err := s.event(ctx, m)
		if err == nil {
			s.applied = m.Seq
		}
		return err
	}, nil)
}

// event applies one message of the stream. The bus lets a node write only under
// its own subject, so the subject, not the body, says who speaks.
func (s *statuses) event(ctx context.Context, m bus.Stored) error {
	e, err := fleet.ParseEvent(m.Data)
	if err == nil && m.Subject != string(fleet.EventSubject(e.Node, e.Source, e.Kind)) {
		err = fmt.Errorf("event says that it is %s", fleet.EventSubject(e.Node, e.Source, e.Kind))
	}
	if err != nil {
		s.log.Warn("event is passed over", "subject", m.Subject, "seq", m.Seq, "err", err)
		if n, ok := speaker(m.Subject); ok {
			s.malformed(ctx, n, "event", err)
		}
		return nil
	}
	if e.Node == fleet.ControlNode {
		return nil // of no server: there for those who read the stream
	}
	in := Input{Now: m.Time, Event: &e, StreamSeq: m.Seq}
	// A machine that is enrolled by now has its status under its node ID.
	if mac, ok := strings.CutPrefix(string(e.Node), "mac-"); ok {
		if _, known := s.reg.nodeByAliases(aliasesOf("", "", []string{mac}, nil)); known {
			return nil
		}
	}
	if err := s.apply(ctx, e.Node, in); err != nil {
		return err
	}
	switch e.Kind {
	case fleet.KindReport, fleet.KindInventory:
		s.reported(e.Node)
	case fleet.KindEnrolled, fleet.KindApproved, fleet.KindRejected, fleet.KindRevoked:
		for _, k := range read[fleet.EnrolledData](e).SeenAs {
			if err := s.forget(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// speaker is the node whose own session wrote an event under this subject.
func speaker(subject string) (fleet.NodeID, bool) {
	t := strings.Split(subject, ".")
	if len(t) < 5 {
		return "", false
	}
	switch fleet.Source(t[3]) {
	case fleet.SourceAgent, fleet.SourceResident, fleet.SourceVM:
		n, err := fleet.ParseNodeID(t[2])
		return n, err == nil
	}
	return "", false
}

// beat applies a heartbeat.
func (s *statuses) beat(ctx context.Context, m *nats.Msg) {
	var hb fleet.Heartbeat
	err := fleet.CheckMessage(m.Data)
	switch {
	case err != nil:
	case len(m.Data) > 64<<10:
		err = fmt.Errorf("it is %d bytes, at most %d are read", len(m.Data), 64<<10)
	default:
		err = json.Unmarshal(m.Data, &hb)
	}
	if err == nil && string(fleet.HeartbeatSubject(hb.Node)) != m.Subject {
		err = fmt.Errorf("it says that it is %.80q", hb.Node)
	}
	if err != nil {
		s.log.Warn("heartbeat is passed over", "subject", m.Subject, "err", err)
		if n, nerr := fleet.ParseNodeID(strings.TrimPrefix(m.Subject, "ingot.hb.")); nerr == nil {
			s.malformed(ctx, n, "heartbeat", err)
		}
		return
	}
	if !s.reg.inside(hb.Node) {
		return // it was under way when the session ended
	}
	if err := s.apply(ctx, hb.Node, Input{Now: time.Now(), Heartbeat: &hb}); err != nil && ctx.Err() == nil {
		s.log.Error("heartbeat", "node", hb.Node, "err", err)
	}
}

// tick lets deadlines pass.
func (s *statuses) tick(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for _, k := range s.keys() {
				if err := s.apply(ctx, k, Input{Now: now, Tick: true, SilenceFrom: s.since}); err != nil && ctx.Err() == nil {
					s.log.Error("status", "node", k, "err", err)
				}
			}
		}
	}
}
