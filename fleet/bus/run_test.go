package bus_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestRestart: what was acknowledged stands, and the certificate that nodes
// were told to trust is the same.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s, err := bus.Start(t.Context(), bus.Config{Dir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyValue(t, s, fleet.BucketNodes).Put(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	trust := s.Trust()
	seed, err := s.OperatorSeed()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = bus.Start(t.Context(), bus.Config{Dir: dir, Listen: "127.0.0.1:0", EventsMaxBytes: 64 << 20, Names: []string{"10.77.0.1", "bus.example"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // the test is over
	if e, err := keyValue(t, s, fleet.BucketNodes).Get(t.Context(), "k"); err != nil || string(e.Value()) != "v" {
		t.Errorf("after a restart: %v, %v", e, err)
	}
	if s.Trust().CAPEM != trust.CAPEM {
		t.Error("the CA changed: every booted node would refuse this bus")
	}
	if again, err := s.OperatorSeed(); err != nil || again != seed {
		t.Errorf("the operator's key changed (%v)", err)
	}
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.Stream(t.Context(), fleet.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	if got := st.CachedInfo().Config.MaxBytes; got != 64<<20 {
		t.Errorf("the stream kept its old limit %d", got)
	}
	for _, name := range []string{"ca.key", "server.key", "issuer.nk", "operator.nk"} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, fi, err)
		}
	}
}

// TestStartRefuses: what is wrong is said, once, as one error.
func TestStartRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // the test is over
	held := t.TempDir()
	s, _ := start(t, bus.Config{Dir: held})
	_ = s
	newer := t.TempDir()
	if err := os.WriteFile(filepath.Join(newer, "version"), []byte("ingot-bus/9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "issuer.nk"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cfg  bus.Config
		want string
	}{
		"port taken":               {bus.Config{Dir: t.TempDir(), Listen: taken.Addr().String()}, "address already in use"},
		"another server's":         {bus.Config{Dir: held, Listen: "127.0.0.1:0"}, "another server holds it"},
		"another version":          {bus.Config{Dir: newer, Listen: "127.0.0.1:0"}, "ingot-bus/9"},
		"a file where a dir is":    {bus.Config{Dir: file, Listen: "127.0.0.1:0"}, "not a directory"},
		"no directory":             {bus.Config{Listen: "127.0.0.1:0"}, "none is named"},
		"no port":                  {bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1"}, "missing port"},
		"a broken key":             {bus.Config{Dir: broken, Listen: "127.0.0.1:0"}, "issuer.nk"},
		"an operator that is none": {bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Operators: []string{"U123"}}, "U123"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := bus.Start(t.Context(), tt.cfg)
			if err == nil {
				s.Close() //nolint:errcheck // it should not be there
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Start = %q; want one line with %q", err, tt.want)
			}
		})
	}
}

// stuck is an authorizer that stops answering.
type stuck struct {
	*sessions
	hang atomic.Bool
}

func (s *stuck) Authorize(ctx context.Context, c bus.Claim) (bus.Session, error) {
	if s.hang.Load() {
		<-ctx.Done()
		return bus.Session{}, errors.New("no answer")
	}
	return s.sessions.Authorize(ctx, c)
}

// TestCalloutStuck: nobody who is in falls out when control hangs.
func TestCalloutStuck(t *testing.T) {
	s, a := start(t, bus.Config{})
	st := &stuck{sessions: a}
	s.SetAuthorizer(st)
	in := node(t, s, a, "n-in", fleet.RoleAgent)
	st.hang.Store(true)
	k, pub := newKey(t)
	a.add(pub, "n-late", fleet.RoleAgent)
	late := make(chan error, 1)
	go func() {
		_, err := dial(t, s, k, fleet.UserNode, fleet.InboxPrefix("n-late"), nats.Timeout(time.Second))
		late <- err
	}()
	for range 10 {
		if ack := ask(t, in, "ingot.ev.n-in.agent.step", "x"); !strings.Contains(ack, `"seq"`) {
			t.Errorf("answer %q", ack)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err := <-late; err == nil {
		t.Error("a node was let in without an answer")
	}
}

func TestKick(t *testing.T) {
	s, a := start(t, bus.Config{})
	one := node(t, s, a, "n-one", fleet.RoleAgent)
	other := node(t, s, a, "n-other", fleet.RoleAgent)
	s.Kick(one.pub)
	select {
	case <-one.closed:
	case <-time.After(3 * time.Second):
		t.Error("the kicked one is still in")
	}
	if ack := ask(t, other, "ingot.ev.n-other.agent.step", "x"); !strings.Contains(ack, `"seq"`) {
		t.Errorf("the other one answers %q", ack)
	}
}

// TestOperator: a console reads, writes the config bucket, and is no node and
// no control.
func TestOperator(t *testing.T) {
	s, _ := start(t, bus.Config{})
	seed, err := s.OperatorSeed()
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 16)
	nc, err := bus.DialOperator(fleet.OperatorContext{Bus: s.Trust(), Seed: seed},
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), fleet.BucketConfig)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Create(t.Context(), "rule.x", []byte("{}")); err != nil {
		t.Error(err)
	}
	w, err := kv.WatchAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if e := <-w.Updates(); e == nil || e.Key() != "rule.x" {
		t.Errorf("watch gave %v", e)
	}
	select {
	case err := <-errs:
		t.Errorf("the bus complains: %v", err)
	default:
	}
	for _, subject := range []string{"$KV.ingot-status.n-a", "$KV.ingot-grant.n-a", "$KV.ingot-nodes.node.n-a", "$KV.ingot-attempts.n-a", "ingot.ev.n-a.agent.init", "ingot.hb.n-a",
		"$JS.API.STREAM.DELETE.ingot-events", "$JS.API.STREAM.PURGE.KV_ingot-config", "$JS.API.STREAM.UPDATE.ingot-events", "$SYS.REQ.USER.AUTH"} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-errs:
		case <-time.After(2 * time.Second):
			t.Errorf("an operator may publish %s", subject)
		}
	}
}

// BenchmarkStart is from nothing to a bus that lets nodes in.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		s, err := bus.Start(b.Context(), bus.Config{Dir: b.TempDir(), Listen: "127.0.0.1:0"})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapInuse)/(1<<20), "MiB-heap")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
