package uplink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/images"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// registrar lets every key in as the node n-test, over a real bus.
type registrar struct {
	mu       sync.Mutex
	sessions map[string]bus.Session
	answer   func(fleet.EnrollRequest) fleet.EnrollReply
}

func (r *registrar) Authorize(_ context.Context, c bus.Claim) (bus.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sessions[c.Key]
	if !ok {
		return s, errors.New("no session")
	}
	return s, nil
}

func accept(fleet.EnrollRequest) fleet.EnrollReply {
	return fleet.EnrollReply{State: fleet.EnrollAccepted, Node: "n-test", Attempt: 7}
}

func (r *registrar) serve(t testing.TB, nc *nats.Conn) {
	t.Helper()
	_, err := nc.Subscribe(string(fleet.SubjectEnroll), func(m *nats.Msg) {
		var req fleet.EnrollRequest
		if err := json.Unmarshal(m.Data, &req); err != nil {
			t.Errorf("enrol: %v", err)
			return
		}
		r.mu.Lock()
		reply := r.answer(req)
		if reply.State == fleet.EnrollAccepted {
			r.sessions[req.Key] = bus.Session{Node: reply.Node, Role: req.Role}
		}
		r.mu.Unlock()
		b, err := json.Marshal(reply)
		if err == nil {
			err = m.Respond(b)
		}
		if err != nil {
			t.Errorf("enrol: answer: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func startBus(t *testing.T, cfg bus.Config) (*bus.Server, *registrar) {
	t.Helper()
	s, err := bus.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // tests that restart it have closed it
	r := &registrar{sessions: map[string]bus.Session{}, answer: accept}
	s.SetAuthorizer(r)
	r.serve(t, s.Conn())
	return s, r
}

func newUplink(t *testing.T, role fleet.Role) *uplink.Uplink {
	t.Helper()
	u, err := uplink.New(uplink.Config{Role: role, BootID: "boot-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

func events(t *testing.T, nc *nats.Conn) []fleet.Event {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.OrderedConsumer(t.Context(), fleet.StreamEvents, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := c.FetchNoWait(10000)
	if err != nil {
		t.Fatal(err)
	}
	var out []fleet.Event
	for m := range batch.Messages() {
		e, err := fleet.ParseEvent(m.Data())
		if err != nil {
			t.Error(err)
		}
		if want := string(fleet.EventSubject(e.Node, e.Source, e.Kind)); m.Subject() != want {
			t.Errorf("event of %s is on %s", want, m.Subject())
		}
		out = append(out, e)
	}
	return out
}

func TestConnectAndSpeak(t *testing.T) {
	s, _ := startBus(t, bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	u := newUplink(t, fleet.RoleAgent)
	for i := range 3 {
		if err := u.Publish(fleet.SourceAgent, fleet.KindStep, fleet.StepData{Step: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	reply, err := u.Connect(t.Context(), uplink.Target{Bus: s.Trust()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("two connections and an enrolment: %v", time.Since(start))
	if reply.Node != "n-test" || u.Node() != "n-test" || u.Attempt() != 7 {
		t.Errorf("enrolled as %+v", reply)
	}
	if err := u.PublishAcked(t.Context(), fleet.SourceAgent, fleet.KindHandoff, fleet.HandoffData{Stack: "s"}); err != nil {
		t.Fatal(err)
	}
	got := events(t, s.Conn())
	if len(got) != 4 {
		t.Fatalf("%d events are stored, want 4", len(got))
	}
	for i, e := range got {
		if e.Seq != uint64(i+1) || e.Node != "n-test" || e.Attempt != 7 || e.BootID != "boot-1" || e.MonoNS == 0 || e.ID == "" {
			t.Errorf("event %d: %+v", i, e)
		}
		if i > 0 && e.Time.Before(got[i-1].Time) {
			t.Errorf("event %d is earlier than the one before", i)
		}
	}
	if err := u.PutInventory(t.Context(), []byte(`{"schema":"ingot.inventory/v1"}`)); err != nil {
		t.Error(err)
	}
	hb, err := s.Conn().SubscribeSync("ingot.hb.n-test")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	if err := u.Heartbeat(fleet.Heartbeat{Source: fleet.SourceAgent, Step: "waiting"}); err != nil {
		t.Fatal(err)
	}
	m, err := hb.NextMsg(3 * time.Second)
	if err != nil || !strings.Contains(string(m.Data), `"attempt":7`) {
		t.Errorf("heartbeat %v, %v", m, err)
	}
}

func TestGrant(t *testing.T) {
	s, _ := startBus(t, bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	u := newUplink(t, fleet.RoleAgent)
	if _, err := u.Connect(t.Context(), uplink.Target{Bus: s.Trust()}); err != nil {
		t.Fatal(err)
	}
	<-u.Granted() // the first hint says: look once
	if b, err := u.Grant(t.Context()); b != nil || err != nil {
		t.Errorf("Grant before one is given = %v, %v", b, err)
	}
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), fleet.BucketGrant)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(images.GrantBundle{Schema: images.BundleSchema})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(t.Context(), "n-test", raw); err != nil {
		t.Fatal(err)
	}
	select {
	case <-u.Granted():
	case <-time.After(5 * time.Second):
		t.Fatal("no hint")
	}
	if b, err := u.Grant(t.Context()); err != nil || b == nil || b.Schema != images.BundleSchema {
		t.Errorf("Grant = %v, %v", b, err)
	}
	if err := kv.Delete(t.Context(), "n-test"); err != nil {
		t.Fatal(err)
	}
	if b, err := u.Grant(t.Context()); b != nil || err != nil {
		t.Errorf("Grant after it was taken back = %v, %v", b, err)
	}
}

// TestRestart: events that are published while the bus is away are stored once
// and in order when it is back.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s, r := startBus(t, bus.Config{Dir: dir, Listen: "127.0.0.1:0"})
	u := newUplink(t, fleet.RoleResident)
	if _, err := u.Connect(t.Context(), uplink.Target{Bus: s.Trust()}); err != nil {
		t.Fatal(err)
	}
	const total = 60
	for i := range total / 3 {
		if err := u.Publish(fleet.SourceResident, fleet.KindLayer, fleet.Layer{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	addr := s.Addr().String()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range total / 3 {
		if err := u.Publish(fleet.SourceResident, fleet.KindLayer, fleet.Layer{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := bus.Start(t.Context(), bus.Config{Dir: dir, Listen: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.SetAuthorizer(r)
	r.serve(t, s.Conn())
	for i := range total / 3 {
		if err := u.Publish(fleet.SourceVM, fleet.KindLayer, fleet.Layer{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := u.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	next := map[fleet.Source]uint64{}
	got := events(t, s.Conn())
	for _, e := range got {
		next[e.Source]++
		if e.Seq != next[e.Source] {
			t.Fatalf("%s: event %d came where %d was due", e.Source, e.Seq, next[e.Source])
		}
	}
	if len(got) != total {
		t.Errorf("%d events are stored, want %d", len(got), total)
	}
}

func TestPendingThenAccepted(t *testing.T) {
	s, r := startBus(t, bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	asked := 0
	r.answer = func(q fleet.EnrollRequest) fleet.EnrollReply {
		if asked++; asked == 1 {
			return fleet.EnrollReply{State: fleet.EnrollPending, Hint: "serial X", RetrySeconds: 1}
		}
		return accept(q)
	}
	u := newUplink(t, fleet.RoleAgent)
	var mu sync.Mutex
	var waits []string
	if _, err := u.Connect(t.Context(), uplink.Target{Bus: s.Trust(), Waits: func(w string) {
		mu.Lock()
		defer mu.Unlock()
		waits = append(waits, w)
	}}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(waits) != 2 || !strings.Contains(waits[0], "serial X") || waits[1] != "" {
		t.Errorf("it was told to wait for %q", waits)
	}
}

func TestRejected(t *testing.T) {
	s, r := startBus(t, bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	r.answer = func(fleet.EnrollRequest) fleet.EnrollReply {
		return fleet.EnrollReply{State: fleet.EnrollRejected, Reason: "token-used"}
	}
	u := newUplink(t, fleet.RoleResident)
	_, err := u.Connect(t.Context(), uplink.Target{Bus: s.Trust()})
	var rejected *uplink.RejectedError
	if !errors.As(err, &rejected) || rejected.Reply.Reason != "token-used" {
		t.Errorf("Connect: %v", err)
	}
}

// TestWrongCA: a bus that another CA vouches for is not spoken to.
func TestWrongCA(t *testing.T) {
	s, _ := startBus(t, bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	other, _ := startBus(t, bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	trust := s.Trust()
	trust.CAPEM = other.Trust().CAPEM
	u := newUplink(t, fleet.RoleAgent)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := u.Connect(ctx, uplink.Target{Bus: trust})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Connect: %v, want a certificate that is refused", err)
	}
}

func TestRefusedBeforeTheSpool(t *testing.T) {
	u := newUplink(t, fleet.RoleAgent)
	if err := u.Publish(fleet.SourceResident, fleet.KindLayer, nil); err == nil {
		t.Error("an agent speaks for the resident")
	}
	for _, kind := range []string{"two words", "a..b", "a.", ">", ""} {
		if err := u.Publish(fleet.SourceAgent, kind, nil); err == nil {
			t.Errorf("the kind %q is let in: it would block all behind it", kind)
		}
	}
	if err := u.Publish(fleet.SourceAgent, fleet.KindStep, strings.Repeat("x", fleet.MaxMessageBytes)); err == nil {
		t.Error("an event too large for the bus is let in")
	}
	n := 0
	for ; n < 10000; n++ {
		if err := u.Publish(fleet.SourceAgent, fleet.KindStep, strings.Repeat("x", 10000)); err != nil {
			break
		}
	}
	if n == 0 || n == 10000 {
		t.Errorf("the spool took %d events of 10 kB", n)
	}
}
