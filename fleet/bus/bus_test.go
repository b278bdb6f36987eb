package bus_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// sessions is the authorizer of these tests: a table.
type sessions struct {
	mu sync.Mutex
	m  map[string]bus.Session
}

func (s *sessions) Authorize(_ context.Context, c bus.Claim) (bus.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ss, ok := s.m[c.Key]
	if !ok {
		return ss, errors.New("the key has no session")
	}
	return ss, nil
}

func (s *sessions) add(key string, n fleet.NodeID, r fleet.Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[key] = bus.Session{Node: n, Role: r}
}

func start(t *testing.T, cfg bus.Config) (*bus.Server, *sessions) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s, err := bus.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	a := &sessions{m: map[string]bus.Session{}}
	s.SetAuthorizer(a)
	return s, a
}

// client is one connection over TLS, with the violations that the server told.
type client struct {
	*nats.Conn
	key    nkeys.KeyPair
	pub    string
	errs   chan error
	closed chan struct{}
}

func dial(t *testing.T, s *bus.Server, key nkeys.KeyPair, user, inbox string, more ...nats.Option) (*client, error) {
	t.Helper()
	pub, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(s.Trust().CAPEM)) {
		t.Fatal("no CA")
	}
	c := &client{key: key, pub: pub, errs: make(chan error, 64), closed: make(chan struct{})}
	o := nats.GetDefaultOptions()
	o.Servers, o.User, o.Nkey, o.SignatureCB = s.Trust().URLs, user, pub, key.Sign
	o.TLSConfig, o.Secure = &tls.Config{RootCAs: pool}, true
	o.InboxPrefix, o.AllowReconnect = inbox, false
	o.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) { c.errs <- err }
	o.ClosedCB = func(*nats.Conn) { close(c.closed) }
	for _, m := range more {
		if err := m(&o); err != nil {
			t.Fatal(err)
		}
	}
	c.Conn, err = o.Connect()
	if err == nil {
		t.Cleanup(c.Close)
	}
	return c, err
}

func newKey(t *testing.T) (nkeys.KeyPair, string) {
	t.Helper()
	k, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return k, pub
}

func node(t *testing.T, s *bus.Server, a *sessions, n fleet.NodeID, r fleet.Role) *client {
	t.Helper()
	k, pub := newKey(t)
	a.add(pub, n, r)
	c, err := dial(t, s, k, fleet.UserNode, fleet.InboxPrefix(string(n)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// violation waits for the server's word that something was forbidden.
func (c *client) violation(t *testing.T, what string) {
	t.Helper()
	if err := c.Flush(); err != nil {
		t.Fatalf("%s: flush: %v", what, err)
	}
	select {
	case err := <-c.errs:
		if !strings.Contains(strings.ToLower(err.Error()), "permissions violation") {
			t.Errorf("%s: the server said %v, want a permissions violation", what, err)
		}
	case <-time.After(3 * time.Second):
		t.Errorf("%s: was let through", what)
	}
}

func TestWhoGetsIn(t *testing.T) {
	reconciler, reconcilerPub := newKey(t)
	s, a := start(t, bus.Config{Reconcilers: []string{reconcilerPub}})
	stranger, strangerPub := newKey(t)
	known, knownPub := newKey(t)
	a.add(knownPub, "n-one", fleet.RoleAgent)
	seed, err := s.OperatorSeed()
	if err != nil {
		t.Fatal(err)
	}
	operator, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	forged := nats.Option(func(o *nats.Options) error {
		o.Nkey = knownPub // named, not held
		return nil
	})
	tests := []struct {
		name, user string
		key        nkeys.KeyPair
		more       []nats.Option
		ok         bool
	}{
		{"any key may ask to be enrolled", fleet.UserEnroll, stranger, nil, true},
		{"a key with a session", fleet.UserNode, known, nil, true},
		{"the operator", fleet.UserOperator, operator, nil, true},
		{"a key without a session", fleet.UserNode, stranger, nil, false},
		{"a stranger as operator", fleet.UserOperator, stranger, nil, false},
		{"a node as operator", fleet.UserOperator, known, nil, false},
		{"a reconciler that runs apart", bus.UserReconciler, reconciler, nil, true},
		{"a stranger as reconciler", bus.UserReconciler, stranger, nil, false},
		{"a reconciler as operator", fleet.UserOperator, reconciler, nil, false},
		{"another's key by name", fleet.UserNode, stranger, []nats.Option{forged}, false},
		{"control by its name", "control", stranger, nil, false},
		{"callout by its name", "callout", stranger, []nats.Option{nats.UserInfo("callout", "")}, false},
		{"nobody", "", stranger, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := dial(t, s, tt.key, tt.user, fleet.InboxPrefix(strangerPub), tt.more...)
			if (err == nil) != tt.ok {
				t.Errorf("connect: %v; want let in: %t", err, tt.ok)
			}
		})
	}
	t.Run("without a key", func(t *testing.T) {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(s.Trust().CAPEM))
		nc, err := nats.Connect(s.Trust().URLs[0], nats.Secure(&tls.Config{RootCAs: pool}), nats.UserInfo(fleet.UserEnroll, "x"))
		if err == nil {
			nc.Close()
			t.Error("was let in")
		}
	})
	t.Run("without TLS", func(t *testing.T) {
		if nc, err := nats.Connect("nats://"+s.Addr().String(), nats.NoReconnect()); err == nil {
			nc.Close()
			t.Error("was let in")
		}
	})
}

// TestLaws is the laws of the bus as attacks: each is refused by the server.
func TestLaws(t *testing.T) {
	s, a := start(t, bus.Config{})
	laws(t, s, a)
}

func laws(t *testing.T, s *bus.Server, a *sessions) {
	me, other := fleet.NodeID("n-me"), fleet.NodeID("n-other")
	agent := node(t, s, a, me, fleet.RoleAgent)
	resident := node(t, s, a, me, fleet.RoleResident)
	k, pub := newKey(t)
	enrolling, err := dial(t, s, k, fleet.UserEnroll, fleet.InboxPrefix(pub))
	if err != nil {
		t.Fatal(err)
	}
	publishes := []struct {
		who     *client
		name    string
		subject string
	}{
		{agent, "event of another node", "ingot.ev.n-other.agent.init"},
		{agent, "event as the resident", "ingot.ev.n-me.resident.layer"},
		{agent, "event as the VM", "ingot.ev.n-me.vm.layer"},
		{agent, "event as the boot server", "ingot.ev.n-me.netboot.dhcp"},
		{agent, "event as the BMC", "ingot.ev.n-me.bmc.power"},
		{agent, "event as control", "ingot.ev.n-me.control.granted"},
		{agent, "heartbeat of another", "ingot.hb.n-other"},
		{agent, "inventory of another", "$KV.ingot-inventory.n-other"},
		{agent, "the BMC's view of its own", "$KV.ingot-inventory.n-me.bmc"},
		{agent, "readings of another", "$KV.ingot-readings.n-other"},
		{agent, "the BMC's readings of its own", "$KV.ingot-readings.n-me.bmc"},
		{agent, "its own baseline", "$KV.ingot-config.baseline.n-me"},
		{agent, "its own status", "$KV.ingot-status.n-me"},
		{agent, "its own grant", "$KV.ingot-grant.n-me"},
		{agent, "a rule", "$KV.ingot-config.rule.x"},
		{agent, "its own node record", "$KV.ingot-nodes.node.n-me"},
		{agent, "a grant's hint", "ingot.granted.n-other"},
		{agent, "a command", "ingot.cmd.n-other.reboot"},
		{agent, "enrolment", "ingot.ctl.enroll"},
		{agent, "power", "ingot.bmc.power"},
		{agent, "another's grant", "$JS.API.DIRECT.GET.KV_ingot-grant.$KV.ingot-grant.n-other"},
		{agent, "any message of the grants", "$JS.API.DIRECT.GET.KV_ingot-grant"},
		{agent, "stream info", "$JS.API.STREAM.INFO.KV_ingot-grant"},
		{agent, "stream message", "$JS.API.STREAM.MSG.GET.KV_ingot-grant"},
		{agent, "stream purge", "$JS.API.STREAM.PURGE.KV_ingot-inventory"},
		{agent, "stream delete", "$JS.API.STREAM.DELETE.ingot-events"},
		{agent, "consumer create on its own key", "$JS.API.CONSUMER.CREATE.KV_ingot-grant.x.$KV.ingot-grant.n-me"},
		{agent, "consumer create", "$JS.API.CONSUMER.CREATE.ingot-events"},
		{agent, "discovery", "$SRV.PING"},
		{agent, "the callout", "$SYS.REQ.USER.AUTH"},
		{agent, "another's inbox", "_INBOX_n-other.x"},
		{resident, "event as its agent", "ingot.ev.n-me.agent.init"},
		{resident, "inventory", "$KV.ingot-inventory.n-me"},
		{resident, "readings", "$KV.ingot-readings.n-me"},
		{enrolling, "readings", "$KV.ingot-readings.n-me"},
		{enrolling, "an event", "ingot.ev.n-me.agent.init"},
		{enrolling, "a heartbeat", "ingot.hb.n-me"},
		{enrolling, "stream info", "$JS.API.INFO"},
		{enrolling, "another's inbox", "_INBOX_n-other.x"},
	}
	for _, tt := range publishes {
		t.Run("publish "+tt.name, func(t *testing.T) {
			if err := tt.who.Publish(tt.subject, []byte("x")); err != nil {
				t.Fatal(err)
			}
			tt.who.violation(t, "publish "+tt.subject)
		})
	}
	subscribes := []struct {
		who     *client
		subject string
	}{
		{agent, ">"}, {agent, "ingot.>"}, {agent, "ingot.ev.n-me.>"}, {agent, "ingot.granted." + string(other)}, {agent, "ingot.granted.*"},
		{agent, "ingot.cmd.n-other.*"}, {agent, "_INBOX_n-other.>"}, {agent, "_INBOX.>"}, {agent, "ingot.ctl.enroll"},
		{agent, "$KV.ingot-grant.n-other"}, {agent, "$SYS.REQ.USER.AUTH"}, {agent, "ingot.hb.*"},
		{enrolling, "ingot.granted.n-me"}, {enrolling, "_INBOX_n-me.>"}, {enrolling, ">"},
	}
	for _, tt := range subscribes {
		t.Run("subscribe "+tt.subject, func(t *testing.T) {
			if _, err := tt.who.Subscribe(tt.subject, func(*nats.Msg) {}); err != nil {
				t.Fatal(err)
			}
			tt.who.violation(t, "subscribe "+tt.subject)
		})
	}
}

// TestLawsAllow is the other half: what a node needs is let through.
func TestLawsAllow(t *testing.T) {
	s, a := start(t, bus.Config{})
	agent := node(t, s, a, "n-me", fleet.RoleAgent)
	resident := node(t, s, a, "n-me", fleet.RoleResident)
	for _, tt := range []struct {
		who     *client
		subject string
	}{
		{agent, "ingot.ev.n-me.agent.init"},
		{agent, "$KV.ingot-inventory.n-me"},
		{agent, "$KV.ingot-readings.n-me"},
		{resident, "ingot.ev.n-me.resident.layer"},
		{resident, "ingot.ev.n-me.vm.layer"},
	} {
		if ack := ask(t, tt.who, tt.subject, "x"); !strings.Contains(ack, `"seq"`) {
			t.Errorf("publish %s: answer %q, want an acknowledgement", tt.subject, ack)
		}
	}
	hb, err := s.Conn().SubscribeSync("ingot.hb.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	if err := resident.Publish("ingot.hb.n-me", []byte("beat")); err != nil {
		t.Fatal(err)
	}
	if m, err := hb.NextMsg(3 * time.Second); err != nil || m.Subject != "ingot.hb.n-me" || string(m.Data) != "beat" {
		t.Errorf("heartbeat arrived as %v, %v", m, err)
	}
	hint, err := agent.SubscribeSync("ingot.granted.n-me")
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, agent, "$JS.API.DIRECT.GET.KV_ingot-grant.$KV.ingot-grant.n-me", ""); got != "" {
		t.Errorf("grant before there is one: %q", got)
	}
	kv := keyValue(t, s, fleet.BucketGrant)
	if _, err := kv.Create(t.Context(), "n-me", []byte("the grant")); err != nil {
		t.Fatal(err)
	}
	if m, err := hint.NextMsg(3 * time.Second); err != nil || len(m.Data) != 0 {
		t.Errorf("hint arrived as %v, %v; want one without the value", m, err)
	}
	if got := ask(t, agent, "$JS.API.DIRECT.GET.KV_ingot-grant.$KV.ingot-grant.n-me", ""); got != "the grant" {
		t.Errorf("grant = %q", got)
	}
	select {
	case err := <-agent.errs:
		t.Errorf("the server complains: %v", err)
	default:
	}
}

func ask(t *testing.T, c *client, subject, data string) string {
	t.Helper()
	m, err := c.Request(subject, []byte(data), 3*time.Second)
	if err != nil {
		t.Fatalf("ask %s: %v", subject, err)
	}
	return string(m.Data)
}

func jetstreamOf(t *testing.T, s *bus.Server) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func keyValue(t *testing.T, s *bus.Server, bucket string) jetstream.KeyValue {
	t.Helper()
	kv, err := jetstreamOf(t, s).KeyValue(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// TestReplyIsNoDoor: JetStream acknowledges to any reply subject. None of these
// may be written to by choosing it. (ingot.ctl.enroll may: everybody may ask
// there, and an acknowledgement is no request.)
func TestReplyIsNoDoor(t *testing.T) {
	s, a := start(t, bus.Config{})
	replyIsNoDoor(t, s, a)
}

func replyIsNoDoor(t *testing.T, s *bus.Server, a *sessions) {
	agent := node(t, s, a, "n-me", fleet.RoleAgent)
	buckets := []string{fleet.BucketInventory, fleet.BucketReadings, fleet.BucketStatus, fleet.BucketGrant, fleet.BucketNodes, fleet.BucketAttempts, fleet.BucketConfig}
	for _, b := range buckets {
		if _, err := keyValue(t, s, b).Put(t.Context(), "n-other", []byte("precious")); err != nil {
			t.Fatal(err)
		}
	}
	seen, err := s.Conn().SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	replies := []string{"ingot.ev.n-other.agent.init", "ingot.ev.n-other.control.granted", "ingot.hb.n-other",
		"ingot.bmc.power", "ingot.cmd.n-other.reboot", "ingot.granted.n-other", "$JS.API.STREAM.DELETE.ingot-events", "$JS.API.STREAM.PURGE.KV_ingot-inventory"}
	for _, b := range buckets {
		replies = append(replies, "$KV."+b+".n-other")
	}
	for _, reply := range replies {
		for _, via := range []string{"ingot.ev.n-me.agent.init", "$KV.ingot-inventory.n-me", "$KV.ingot-readings.n-me", "$JS.API.DIRECT.GET.KV_ingot-grant.$KV.ingot-grant.n-me"} {
			if err := agent.PublishRequest(via, reply, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ack := ask(t, agent, "ingot.ev.n-me.agent.done", "x"); !strings.Contains(ack, `"seq"`) {
		t.Fatalf("answer %q", ack)
	}
	time.Sleep(300 * time.Millisecond)
	for _, b := range buckets {
		e, err := keyValue(t, s, b).Get(t.Context(), "n-other")
		if err != nil || string(e.Value()) != "precious" || e.Revision() != 1 && b != fleet.BucketInventory {
			t.Errorf("%s: n-other is now %v, %v", b, e, err)
		}
	}
	forbidden := map[string]bool{}
	for _, r := range replies {
		forbidden[r] = true
	}
	for {
		m, err := seen.NextMsg(100 * time.Millisecond)
		if err != nil {
			break
		}
		if forbidden[m.Subject] {
			t.Errorf("a node wrote %s: %.60q", m.Subject, m.Data)
		}
	}
}

func TestRollupPurgeDelete(t *testing.T) {
	s, a := start(t, bus.Config{})
	rollupPurgeDelete(t, s, a)
}

func rollupPurgeDelete(t *testing.T, s *bus.Server, a *sessions) {
	agent := node(t, s, a, "n-me", fleet.RoleAgent)
	for _, b := range []string{fleet.BucketInventory, fleet.BucketReadings} {
		rollupPurgeDeleteOf(t, s, agent, b)
	}
}

func rollupPurgeDeleteOf(t *testing.T, s *bus.Server, agent *client, bucket string) {
	kv := keyValue(t, s, bucket)
	if _, err := kv.Put(t.Context(), "n-other", []byte("precious")); err != nil {
		t.Fatal(err)
	}
	for _, rollup := range []string{"all", "sub"} {
		m := nats.NewMsg("$KV." + bucket + ".n-me")
		m.Header.Set("Nats-Rollup", rollup)
		r, err := agent.RequestMsg(m, 3*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var ack struct{ Error *struct{ Description string } }
		if err := json.Unmarshal(r.Data, &ack); err != nil || ack.Error == nil {
			t.Errorf("rollup %s was let through: %s", rollup, r.Data)
		}
	}
	m := nats.NewMsg("$KV." + bucket + ".n-me")
	m.Header.Set("Nats-TTL", "1s")
	r, err := agent.RequestMsg(m, 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(r.Data), `"error"`) {
		t.Errorf("a message with its own life was stored: %s", r.Data)
	}
	if e, err := kv.Get(t.Context(), "n-other"); err != nil || string(e.Value()) != "precious" {
		t.Errorf("n-other is now %v, %v", e, err)
	}
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"KV_" + bucket, fleet.StreamEvents} {
		st, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Purge(t.Context()); err == nil {
			t.Errorf("%s: even control must not purge it", name)
		}
		if err := st.DeleteMsg(t.Context(), 1); err == nil {
			t.Errorf("%s: even control must not delete from it", name)
		}
	}
}
