package bmc

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/fleet/control"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/hardware/redfish"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/nats-io/nats.go/jetstream"
)

// controlled is a BMC that a control on a real bus knows, and an operator.
type controlled struct {
	*bench
	bus  *bus.Server
	ring sign.Keyring
	op   *operator.Client
}

func newControlled(t *testing.T, change func(*Config), other ...fleet.BMC) *controlled {
	t.Helper()
	c := &controlled{bench: newBench(t, change)}
	at := fleet.BMC{Redfish: c.redfish, IPMI: c.ipmi.String(), CAPEM: c.CertificatePEM()}
	for _, at = range other { // the one that is asked, instead
	}
	var err error
	if c.ring, err = sign.OpenOrCreate(t.TempDir(), true, time.Now()); err != nil {
		t.Fatal(err)
	}
	if c.bus, err = bus.Start(t.Context(), bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.bus.Close(); err != nil {
			t.Error(err)
		}
	})
	js, err := jetstream.New(c.bus.Conn())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), fleet.BucketConfig)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(fleet.Machine{Schema: fleet.MachineSchema, Name: "t1", Rack: "r", Unit: 1, Serial: "SER-0001",
		MACs: []string{"52:54:00:01:01:01"}, BMC: &at})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), fleet.ConfigMachine+"t1", raw); err != nil {
		t.Fatal(err)
	}
	ctl, err := control.Start(context.Background(), control.Config{
		Bus: c.bus, Roots: c.ring.Roots(), Reconciler: c.ring.Reconciler, Delegations: c.ring.Delegations, Policy: control.PolicyOpen,
		BMCUser: "admin", BMCPassword: testPassword, BMCEvery: 200 * time.Millisecond, ObeyLimit: 2 * time.Second, BMCTimeout: 3 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ctl.Close)
	seed, err := c.bus.OperatorSeed()
	if err != nil {
		t.Fatal(err)
	}
	if c.op, err = operator.Connect(fleet.OperatorContext{Bus: c.bus.Trust(), Seed: seed, SigningKey: c.ring.Operator.Seed(),
		Delegations: c.ring.Delegations, Roots: [][]byte{c.ring.Root}}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.op.Close)
	return c
}

// until waits until the status of t1 is as wanted.
func (c *controlled) until(t *testing.T, what string, is func(fleet.Status) bool) fleet.Status {
	t.Helper()
	var s fleet.Status
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		target, err := c.op.Find(t.Context(), "t1")
		if err == nil && target.Status != nil {
			if s = *target.Status; is(s) {
				return s
			}
		}
	}
	t.Fatalf("t1 is not %s: %+v", what, s)
	return s
}

// TestControlPower: what an operator signs reaches the power button by both
// ways, and the status says what the BMC says.
func TestControlPower(t *testing.T) {
	c := newControlled(t, nil)
	s := c.until(t, "off", func(s fleet.Status) bool { return s.Phase == fleet.PhaseOff && s.Power == "off" })
	if s.Name != "t1" || s.Rack != "r" || s.Unit != 1 {
		t.Errorf("status does not say which box this is: %+v", s)
	}
	for i, step := range []struct {
		action, via, power string
		attempt            int64
	}{
		{"on", "redfish", "on", 1}, {"on", "ipmi", "on", 1}, {"cycle", "ipmi", "on", 2}, {"reset", "redfish", "on", 3},
		{"off", "ipmi", "off", 3}, {"cycle", "redfish", "on", 4}, {"off", "redfish", "off", 4}, {"on", "ipmi", "on", 5},
	} {
		target, err := c.op.Find(t.Context(), "t1")
		if err != nil {
			t.Fatal(err)
		}
		reply, err := c.op.Power(t.Context(), target, step.action, step.via)
		if err != nil {
			t.Fatalf("step %d, %s by %s: %v", i, step.action, step.via, err)
		}
		if !strings.Contains(reply.Text, step.power) {
			t.Errorf("step %d: answer %q", i, reply.Text)
		}
		if c.server.On() != (step.power == "on") {
			t.Errorf("step %d: the server is on: %t", i, c.server.On())
		}
		c.until(t, step.power+" in attempt", func(s fleet.Status) bool { return s.Power == step.power && s.Attempt == step.attempt })
	}
}

// TestControlRefuses: a command that no operator signed for now, once, does
// nothing.
func TestControlRefuses(t *testing.T) {
	c := newControlled(t, nil)
	c.until(t, "off", func(s fleet.Status) bool { return s.Phase == fleet.PhaseOff })
	forged, err := sign.OpenOrCreate(t.TempDir(), true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good := fleet.Command{Schema: fleet.CommandSchema, Verb: "off", Node: "t1", Nonce: "once-and-only", NotAfter: time.Now().Add(time.Minute)}
	send := func(ring sign.Keyring, cmd fleet.Command, typ string) fleet.CommandReply {
		t.Helper()
		env, _, err := sign.SignJSON(ring.Operator, typ, cmd)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.bus.Conn().Request(string(fleet.SubjectPower), b, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var r fleet.CommandReply
		if err := json.Unmarshal(m.Data, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := send(c.ring, good, images.CommandType); !r.OK {
		t.Fatalf("the good command: %+v", r)
	}
	on := good
	on.Verb, on.Nonce = "on", "another-nonce"
	late, far, short, nobody, verb := on, on, on, on, on
	late.NotAfter = time.Now().Add(-time.Second)
	far.NotAfter = time.Now().Add(time.Hour)
	short.Nonce = "x"
	nobody.Node = "nobody"
	nobody.Nonce = "nobody-nonce"
	verb.Verb, verb.Nonce = "explode", "verb-nonce"
	for name, tt := range map[string]struct {
		r    fleet.CommandReply
		want fleet.ReasonCode
	}{
		"twice":            {send(c.ring, good, images.CommandType), "command-repeated"},
		"forged":           {send(forged, on, images.CommandType), "signature-invalid"},
		"another type":     {send(c.ring, on, images.RuleType), "signature-invalid"},
		"expired":          {send(c.ring, late, images.CommandType), "command-expired"},
		"for too long":     {send(c.ring, far, images.CommandType), "command-malformed"},
		"without a nonce":  {send(c.ring, short, images.CommandType), "command-malformed"},
		"nobody's":         {send(c.ring, nobody, images.CommandType), "no-bmc"},
		"of no known verb": {send(c.ring, verb, images.CommandType), "action-unknown"},
	} {
		if tt.r.OK || tt.r.Reason != tt.want {
			t.Errorf("%s: %+v, want %s", name, tt.r, tt.want)
		}
	}
	if c.server.On() {
		t.Error("a refused command switched the server on")
	}
}

// liar says yes and does nothing.
type liar struct{ plainServer }

func (*liar) Power(context.Context, PowerAction) error { return nil }

func TestControlReadsBack(t *testing.T) {
	c := newControlled(t, func(cfg *Config) { cfg.Server = &liar{} })
	c.until(t, "off", func(s fleet.Status) bool { return s.Phase == fleet.PhaseOff })
	target, err := c.op.Find(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	for _, via := range []string{"redfish", "ipmi"} {
		if reply, err := c.op.Power(t.Context(), target, "on", via); err == nil || !strings.Contains(err.Error(), "still off") {
			t.Errorf("by %s: a BMC that lied was believed: %+v, %v", via, reply, err)
		}
	}
}

// A BMC that does not do as it is asked is told in one sentence, by a reason of
// the table, once, and is not asked for ever.
func TestControlBadBMC(t *testing.T) {
	refuses := func(t *testing.T) fleet.BMC {
		b := newBench(t, func(cfg *Config) { cfg.Credentials.Password = "another-password" })
		return fleet.BMC{Redfish: b.redfish, IPMI: b.ipmi.String(), CAPEM: b.CertificatePEM()}
	}
	for _, tt := range []struct {
		name string
		bmc  func(*testing.T) fleet.BMC
		want map[string]fleet.ReasonCode // by way
		says string
		told fleet.ReasonCode
		slow bool
	}{
		{"refuses the password", refuses,
			map[string]fleet.ReasonCode{"redfish": fleet.ReasonBMCDenied, "ipmi": fleet.ReasonBMCDenied}, "the BMC refused the account", fleet.ReasonBMCDenied, false},
		{"refuses the password over IPMI, which is all it has", func(t *testing.T) fleet.BMC { return fleet.BMC{IPMI: refuses(t).IPMI} },
			map[string]fleet.ReasonCode{"ipmi": fleet.ReasonBMCDenied}, "the BMC refused the account", fleet.ReasonBMCDenied, false},
		{"answers nonsense", func(t *testing.T) fleet.BMC {
			return talks(t, func(c net.Conn) { _, _ = io.Copy(c, io.LimitReader(rand.Reader, 1<<20)) }, func(b []byte) []byte { return append([]byte("nonsense"), b...) })
		}, map[string]fleet.ReasonCode{"redfish": fleet.ReasonBMCFailed, "ipmi": fleet.ReasonBMCFailed}, "read power state", fleet.ReasonBMCSilent, true},
		{"is not there", func(*testing.T) fleet.BMC { return fleet.BMC{IPMI: "127.0.0.1:1"} },
			map[string]fleet.ReasonCode{"ipmi": fleet.ReasonBMCFailed}, "read power state", fleet.ReasonBMCSilent, false},
		{"hangs", func(t *testing.T) fleet.BMC {
			return talks(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, func([]byte) []byte { return nil })
		}, map[string]fleet.ReasonCode{"redfish": fleet.ReasonBMCFailed}, "read power state", fleet.ReasonBMCSilent, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if testing.Short() && tt.slow {
				t.Skip("it is waited for until the time is up; -short is given")
			}
			t.Parallel()
			c := newControlled(t, nil, tt.bmc(t))
			target, err := c.op.Find(t.Context(), "t1")
			if err != nil {
				t.Fatal(err)
			}
			for via, want := range tt.want {
				_, err := c.op.Power(t.Context(), target, "on", via)
				var refused *operator.RefusedError
				if !errors.As(err, &refused) || refused.Reason != want || refused.Hint == "" || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 800 {
					t.Errorf("power on by %s = %v; want %s in a sentence that says %q", via, err, want, tt.says)
				}
			}
			var told []fleet.Problem
			for end := time.Now().Add(40 * time.Second); len(told) == 0 && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				told = c.failures(t, target)
			}
			time.Sleep(time.Second) // several polls
			if again := c.failures(t, target); len(again) == 0 || len(again) > 2 || again[0].Reason != tt.told {
				t.Errorf("its timeline says %+v; want %s, once or twice", again, tt.told)
			}
		})
	}
}

// talks is something at a BMC's ports that speaks neither TLS nor IPMI.
func talks(t *testing.T, tcp func(net.Conn), udp func([]byte) []byte) fleet.BMC {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(l.Close(), u.Close()) })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { tcp(conn); _ = conn.Close() }()
		}
	}()
	go func() {
		for b := make([]byte, 2048); ; {
			n, from, err := u.ReadFromUDP(b)
			if err != nil {
				return
			}
			if answer := udp(b[:n]); answer != nil {
				_, _ = u.WriteToUDP(answer, from)
			}
		}
	}()
	return fleet.BMC{Redfish: "https://" + l.Addr().String(), IPMI: u.LocalAddr().String()}
}

// failures are what the timeline says of the BMC.
func (c *controlled) failures(t *testing.T, target operator.Target) []fleet.Problem {
	t.Helper()
	events, err := c.op.Events(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	var out []fleet.Problem
	for _, e := range events {
		var p fleet.Problem
		if e.Kind == fleet.KindBMCFailed && json.Unmarshal(e.Data, &p) == nil {
			out = append(out, p)
		}
	}
	return out
}

// A wrong password is tried once over each way, however often it is polled:
// asking again is what locks accounts.
func TestControlAsksARefusingBMCOnce(t *testing.T) {
	var logins atomic.Int64
	refusing := newBench(t, func(cfg *Config) { cfg.Credentials.Password = "another-password" })
	relay, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relay.Close() })
	go relayUDP(relay, refusing.ipmi, func(b []byte) {
		if len(b) > 5 && b[4] == 6 && b[5] == 0x12 { // RMCP+, RAKP message 1: who asks
			logins.Add(1)
		}
	})
	c := newControlled(t, nil, fleet.BMC{IPMI: relay.LocalAddr().String()})
	target, err := c.op.Find(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // beside the polls, which come every 200 ms
		if _, err := c.op.Power(t.Context(), target, "on", "ipmi"); err == nil {
			t.Error("power without the password")
		}
		time.Sleep(500 * time.Millisecond)
	}
	if n := logins.Load(); n == 0 || n > 2 { // one for each cipher suite
		t.Errorf("%d logins with a wrong password; want one for each of two cipher suites", n)
	}
}

// relayUDP leads datagrams of one client to a server and back, and lets see
// look at what the client sends.
func relayUDP(l *net.UDPConn, to *net.UDPAddr, see func([]byte)) {
	server, err := net.DialUDP("udp", nil, to)
	if err != nil {
		return
	}
	defer server.Close()
	var client atomic.Pointer[net.UDPAddr]
	go func() {
		for b := make([]byte, 2048); ; {
			n, err := server.Read(b)
			if err != nil {
				return
			}
			if at := client.Load(); at != nil {
				_, _ = l.WriteToUDP(b[:n], at)
			}
		}
	}()
	for b := make([]byte, 2048); ; {
		n, from, err := l.ReadFromUDP(b)
		if err != nil {
			return
		}
		client.Store(from)
		see(b[:n])
		_, _ = server.Write(b[:n])
	}
}

// TestPinnedCertificate asks a BMC with its own certificate pinned, and with
// another's.
func TestPinnedCertificate(t *testing.T) {
	other, err := selfSigned(netip.MustParseAddr("127.0.0.1"), "other")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(*Config) {})
	ask := func(pin string) error {
		_, err := redfish.Power(t.Context(), redfish.Options{URL: b.redfish, User: "admin", Password: testPassword, CA: []byte(pin)})
		return err
	}
	if err := ask(b.CertificatePEM()); err != nil {
		t.Errorf("Power with the BMC's own certificate pinned = %v", err)
	}
	if err := ask(certificatePEM(other)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Power with another pin = %v; want the certificate refused", err)
	}
}
