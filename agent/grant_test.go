package agent

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/images"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// doorman lets every key in as the node n-test.
type doorman struct{}

func (doorman) Authorize(context.Context, bus.Claim) (bus.Session, error) {
	return bus.Session{Node: "n-test", Role: fleet.RoleAgent}, nil
}

// wire is a TCP connection to the bus on which what the agent says can be held
// up; what the bus says arrives.
type wire struct {
	net.Listener
	held sync.Mutex
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l}
	t.Cleanup(func() { _ = l.Close() }) // its end is no matter
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				t.Error(err)
				return
			}
			go w.carry(far, near)
			go func() { _, _ = io.Copy(near, far) }() // ends with either
		}
	}()
	return w
}

func (w *wire) carry(to io.WriteCloser, from io.Reader) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		w.held.Lock()
		if err == nil {
			_, err = to.Write(b[:n])
		}
		w.held.Unlock()
		if err != nil {
			return
		}
	}
}

// TestGrantAfterALostAnswer: the agent hears that it has a grant, and its
// question for it is held up on the way until it has given up on it. It asks
// again soon, and not when it would have asked without the hint.
func TestGrantAfterALostAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("a question is held up for 6 s; -short is given")
	}
	s, err := bus.Start(t.Context(), bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test is over
	s.SetAuthorizer(doorman{})
	if _, err := s.Conn().Subscribe(string(fleet.SubjectEnroll), func(m *nats.Msg) {
		b, err := json.Marshal(fleet.EnrollReply{State: fleet.EnrollAccepted, Node: "n-test", Attempt: 1})
		if err == nil {
			err = m.Respond(b)
		}
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	w := newWire(t, s.Addr().String())
	to := s.Trust()
	to.URLs = []string{"tls://" + w.Addr().String()}
	u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-one"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	if _, err := u.Connect(t.Context(), uplink.Target{Bus: to}); err != nil {
		t.Fatal(err)
	}
	srv := &server{host: &host.Host{Console: &host.Console{}}, up: u}
	granted := make(chan error, 1)
	go func() { granted <- srv.awaitGrant(t.Context()) }()
	flushed, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	time.Sleep(300 * time.Millisecond) // it has asked, there is none, and it has said so
	if err := u.Flush(flushed); err != nil {
		t.Fatal(err)
	}
	w.held.Lock()
	give(t, s.Conn(), images.Grant{Schema: images.GrantSchema, Node: "n-test", BootID: "boot-one", Nonce: u.Nonce()})
	time.Sleep(6 * time.Second) // longer than one question waits
	w.held.Unlock()
	select {
	case err := <-granted:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * grantRetry):
		t.Errorf("no grant %v after the wire was whole again", 2*grantRetry)
	}
}

// give puts a grant where the agent asks for it.
func give(t *testing.T, nc *nats.Conn, g images.Grant) {
	t.Helper()
	payload, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(images.GrantBundle{Schema: images.BundleSchema, Grant: images.Envelope{Payload: payload}})
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), fleet.BucketGrant)
	if err == nil {
		_, err = kv.Put(t.Context(), g.Node, b)
	}
	if err != nil {
		t.Fatal(err)
	}
}
