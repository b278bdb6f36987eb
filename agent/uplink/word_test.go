package uplink_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"github.com/nats-io/nats.go/jetstream"
)

// deaf makes the bus take no event of any source, while it takes everything
// else: as if whoever writes a record and then its event were ended between the
// two, each time. It returns what makes the bus hear again.
func (h *house) deaf() (hear func()) {
	h.t.Helper()
	js, err := jetstream.New(h.bus.Conn())
	if err != nil {
		h.t.Fatal(err)
	}
	s, err := js.Stream(h.t.Context(), fleet.StreamEvents)
	if err != nil {
		h.t.Fatal(err)
	}
	was := s.CachedInfo().Config
	now := was
	now.MaxMsgSize = 1
	set := func(c jetstream.StreamConfig) {
		if _, err := js.UpdateStream(h.t.Context(), c); err != nil {
			h.t.Fatal(err)
		}
	}
	set(now)
	return func() { set(was) }
}

// TestWordAfterTheRecord: control ends after it has written that a boot, or its
// resident, is in, or what it is granted, and before it has said so. The next
// one says it, once, and the server goes on: without the word its status knew
// no boot, and nothing was ever granted to it.
func TestWordAfterTheRecord(t *testing.T) {
	s := newServe(t)
	hear := s.deaf()
	u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-one"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	in := make(chan fleet.EnrollReply, 1)
	go func() {
		reply, err := u.Connect(t.Context(), uplink.Target{Bus: s.bus.Trust(), Enroll: one.request()})
		if err != nil {
			t.Error(err)
		}
		in <- reply
	}()
	n := s.recorded(fleet.RoleAgent)
	s.ctl.Close()
	hear()
	s.start()
	reply := <-in
	if got := s.phase(n, fleet.PhaseInspecting); got.BootID != "boot-one" || reply.Node != n {
		t.Errorf("after the agent is in: %+v, answered %+v", got, reply)
	}
	if err := u.PublishAcked(t.Context(), fleet.SourceAgent, fleet.KindWaiting, fleet.StepData{Step: "waiting"}); err != nil {
		t.Fatal(err)
	}
	s.phase(n, fleet.PhaseWaiting)

	hear = s.deaf()
	d := s.stack()
	s.rule("r1", time.Now(), 1, d, n)
	s.granted(u)
	s.ctl.Close()
	hear()
	s.start()
	s.phase(n, fleet.PhaseFetching)

	if err := u.PublishAcked(t.Context(), fleet.SourceAgent, fleet.KindHandoff, fleet.HandoffData{Stack: "hello:1", StackDigest: string(d)}); err != nil {
		t.Fatal(err)
	}
	hear = s.deaf()
	r := s.resident(u, d)
	s.recorded(fleet.RoleResident)
	s.ctl.Close()
	hear()
	s.start()
	s.phase(n, fleet.PhaseStarting)
	flush(t, r)
	// Nobody says it again: neither who asks once more, nor who starts.
	s.ctl.Close()
	s.start()
	time.Sleep(500 * time.Millisecond)
	if e, g := len(s.said(n, fleet.KindEnrolled)), len(s.said(n, fleet.KindGranted)); e != 2 || g != 1 {
		t.Errorf("enrolled was said %d times, granted %d; want 2 (agent, resident) and 1", e, g)
	}
}

// recorded waits until a session of a role stands in the one node's record.
func (s *serve) recorded(role fleet.Role) fleet.NodeID {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var n fleet.Node
		if id, ok := s.onlyNode(&n); ok && len(n.Sessions) == 1 && n.Sessions[0].Role == role {
			return id
		}
	}
	s.t.Fatalf("no session of a %s is recorded", role)
	return ""
}

// onlyNode reads the record of the one node that there is.
func (s *serve) onlyNode(n *fleet.Node) (fleet.NodeID, bool) {
	s.t.Helper()
	kv := s.kv(fleet.BucketNodes)
	keys, err := kv.ListKeysFiltered(s.t.Context(), "node.*")
	if err != nil {
		s.t.Fatal(err)
	}
	k, ok := <-keys.Keys()
	if !ok {
		return "", false
	}
	e, err := kv.Get(s.t.Context(), k)
	if err == nil {
		err = json.Unmarshal(e.Value(), n)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return n.ID, true
}

// resident starts the resident of u's boot, whose agent goes.
func (s *serve) resident(u *uplink.Uplink, d images.Digest) *uplink.Uplink {
	s.t.Helper()
	seed, pub, err := uplink.NewSeed()
	if err != nil {
		s.t.Fatal(err)
	}
	token := s.token(u, d, pub)
	u.Close()
	r, err := uplink.New(uplink.Config{Role: fleet.RoleResident, BootID: "boot-one-stack", Seed: seed})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(r.Close)
	go func() {
		_, err := r.Connect(s.t.Context(), uplink.Target{Bus: s.bus.Trust(), Enroll: fleet.EnrollRequest{Token: &token}})
		if err != nil && s.t.Context().Err() == nil {
			s.t.Error(err)
		}
	}()
	return r
}
