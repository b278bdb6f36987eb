package bmc

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"strings"
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

func newControlled(t *testing.T, change func(*Config)) *controlled {
	t.Helper()
	c := &controlled{bench: newBench(t, change)}
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
		MACs: []string{"52:54:00:01:01:01"}, BMC: &fleet.BMC{Redfish: c.redfish, IPMI: c.ipmi.String(), CAPEM: c.CertificatePEM()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), fleet.ConfigMachine+"t1", raw); err != nil {
		t.Fatal(err)
	}
	ctl, err := control.Start(context.Background(), control.Config{
		Bus: c.bus, Roots: c.ring.Roots(), Reconciler: c.ring.Reconciler, Delegations: c.ring.Delegations, Policy: control.PolicyOpen,
		BMCUser: "admin", BMCPassword: testPassword, BMCEvery: 200 * time.Millisecond, ObeyLimit: 2 * time.Second,
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

// TestControlSilentBMC: a BMC that does not answer is said once, and does not
// hold up another.
func TestControlWrongPassword(t *testing.T) {
	c := newControlled(t, func(cfg *Config) { cfg.Credentials.Password = "another-password" })
	target, err := c.op.Find(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.op.Power(t.Context(), target, "on", "redfish"); err == nil {
		t.Error("power without the password")
	}
	events, err := c.op.Events(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range events {
		if e.Kind == fleet.KindBMCFailed {
			n++
		}
	}
	if n == 0 || n > 3 {
		t.Errorf("%d events say that the BMC refuses, want few and not none", n)
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
