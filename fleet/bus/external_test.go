package bus_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// apart is a bus of nats-servers that run from the configuration that ingot
// bus config prints.
type apart struct {
	t       *testing.T
	layout  bus.Layout
	servers map[string]*server.Server
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// runApart is a bus of so many servers on loopback. change edits each
// configuration before it is used.
func runApart(t *testing.T, servers int, change func(string) string) *apart {
	t.Helper()
	a := layApart(t, servers, change)
	for _, h := range a.layout.Servers {
		a.start(h.Name)
	}
	return a
}

// layApart is runApart without starting a server.
func layApart(t *testing.T, servers int, change func(string) string) *apart {
	t.Helper()
	dir := t.TempDir()
	a := &apart{t: t, layout: bus.Layout{Dir: dir}, servers: map[string]*server.Server{}}
	for i := range servers {
		name := fmt.Sprintf("n%d", i+1)
		a.layout.Servers = append(a.layout.Servers, bus.Host{Name: name, Address: "127.0.0.1", Listen: "127.0.0.1",
			Port: freePort(t), Cluster: freePort(t), Store: filepath.Join(dir, "store-"+name)})
	}
	configs, err := a.layout.Write()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range configs {
		if change != nil {
			if now := change(text); now == text {
				t.Fatal("the configuration has nothing to change")
			} else if err := os.WriteFile(filepath.Join(dir, name, "nats.conf"), []byte(now), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() {
		for name := range a.servers {
			a.stop(name)
		}
	})
	return a
}

func (a *apart) start(name string) {
	a.t.Helper()
	o, err := server.ProcessConfigFile(filepath.Join(a.layout.Dir, name, "nats.conf"))
	if err != nil {
		a.t.Fatal(err)
	}
	o.NoSigs, o.NoLog = true, true
	ns, err := server.NewServer(o)
	if err != nil {
		a.t.Fatal(err)
	}
	ns.Start()
	if !ns.ReadyForConnections(20 * time.Second) {
		a.t.Fatalf("server %s is not ready", name)
	}
	a.servers[name] = ns
}

func (a *apart) stop(name string) {
	a.servers[name].Shutdown()
	a.servers[name].WaitForShutdown()
	delete(a.servers, name)
}

func (a *apart) credentials() bus.Credentials {
	a.t.Helper()
	b, err := os.ReadFile(filepath.Join(a.layout.Dir, bus.CredentialsFile))
	if err != nil {
		a.t.Fatal(err)
	}
	var c bus.Credentials
	if err := json.Unmarshal(b, &c); err != nil {
		a.t.Fatal(err)
	}
	return c
}

func (a *apart) attach() (*bus.Server, *sessions) {
	a.t.Helper()
	s, err := bus.Attach(a.t.Context(), bus.External{URLs: a.layout.URLs(), Credentials: a.credentials()})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			a.t.Error(err)
		}
	})
	ss := &sessions{m: map[string]bus.Session{}}
	s.SetAuthorizer(ss)
	return s, ss
}

// long leaves a test of three servers out of the short run; make test has it.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("three servers take half a minute")
	}
	t.Parallel()
}

// TestLawsApart attacks a cluster as TestLaws attacks the bus in this process.
func TestLawsApart(t *testing.T) {
	long(t)
	cluster := runApart(t, 3, nil)
	s, a := cluster.attach()
	t.Run("laws", func(t *testing.T) { laws(t, s, a) })
	t.Run("reply", func(t *testing.T) { replyIsNoDoor(t, s, a) })
	t.Run("rollup", func(t *testing.T) { rollupPurgeDelete(t, s, a) })
	t.Run("kick", func(t *testing.T) {
		c := node(t, s, a, "n-kicked", fleet.RoleAgent)
		s.Kick(c.pub)
		select {
		case <-c.closed:
		case <-time.After(10 * time.Second):
			t.Error("a kicked node is still connected")
		}
	})
	if st, err := jetstreamOf(t, s).Stream(t.Context(), "KV_"+fleet.BucketGrant); err != nil || st.CachedInfo().Config.Replicas != 3 {
		t.Errorf("a bucket of a cluster of three: %+v, %v; want three replicas", st, err)
	}
}

// TestClusterLosesAnyServer: with each of the three away in turn, a node's
// events are acknowledged and a node is let in, and none of them is lost.
func TestClusterLosesAnyServer(t *testing.T) {
	long(t)
	cluster := runApart(t, 3, nil)
	s, a := cluster.attach()
	k, pub := newKey(t)
	a.add(pub, "n-me", fleet.RoleAgent)
	c, err := dial(t, s, k, fleet.UserNode, fleet.InboxPrefix("n-me"), func(o *nats.Options) error {
		o.AllowReconnect, o.MaxReconnect, o.ReconnectWait, o.IgnoreAuthErrorAbort = true, -1, 50*time.Millisecond, true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	acked := 0
	publish := func() {
		t.Helper()
		m := nats.NewMsg("ingot.ev.n-me.agent.step")
		m.Header.Set(nats.MsgIdHdr, fmt.Sprint("id-", acked))
		for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			r, err := c.RequestMsg(m, 2*time.Second)
			if err == nil && strings.Contains(string(r.Data), `"seq"`) {
				acked++
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("event %d is not acknowledged: %v", acked, err)
			}
		}
	}
	for range 20 {
		publish()
	}
	for _, h := range cluster.layout.Servers {
		cluster.stop(h.Name)
		for range 20 {
			publish()
		}
		letIn(t, s, a, fleet.NodeID("n-without-"+h.Name))
		cluster.start(h.Name)
		whole(t, s)
	}
	js := jetstreamOf(t, s)
	st, err := js.Stream(t.Context(), fleet.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	if got := st.CachedInfo().State.Msgs; got != uint64(acked) {
		t.Errorf("%d events are stored, %d were acknowledged", got, acked)
	}
}

// TestAttachWhileStarting: the servers of a cluster come up after us, one by
// one, and with one of them away we start again. The streams are kept three
// times all the same.
func TestAttachWhileStarting(t *testing.T) {
	long(t)
	cluster := layApart(t, 3, nil)
	type attached struct {
		s   *bus.Server
		err error
	}
	attach := func() <-chan attached {
		c := make(chan attached, 1)
		e := bus.External{URLs: cluster.layout.URLs(), Credentials: cluster.credentials()}
		go func() {
			s, err := bus.Attach(t.Context(), e)
			c <- attached{s, err}
		}()
		return c
	}
	check := func(when string, c <-chan attached) {
		t.Helper()
		a := <-c
		if a.err != nil {
			t.Fatalf("%s: Attach = %v", when, a.err)
		}
		defer a.s.Close() //nolint:errcheck // the connections end with it
		for _, stream := range []string{fleet.StreamEvents, "KV_" + fleet.BucketGrant} {
			st, err := jetstreamOf(t, a.s).Stream(t.Context(), stream)
			if err != nil || st.CachedInfo().Config.Replicas != 3 {
				t.Errorf("%s: stream %s: %v, %+v; want three replicas", when, stream, err, st)
			}
		}
	}
	first := attach()
	for _, h := range cluster.layout.Servers {
		time.Sleep(700 * time.Millisecond) // longer than a try
		cluster.start(h.Name)
	}
	check("servers start later", first)
	cluster.stop("n2")
	check("one is away", attach())
}

// letIn connects a new node; the callout may be on its way to another server.
func letIn(t *testing.T, s *bus.Server, a *sessions, n fleet.NodeID) {
	t.Helper()
	k, pub := newKey(t)
	a.add(pub, n, fleet.RoleAgent)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		_, err := dial(t, s, k, fleet.UserNode, fleet.InboxPrefix(string(n)))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not let in: %v", n, err)
		}
	}
}

// whole waits until every replica of the events has all of them.
func whole(t *testing.T, s *bus.Server) {
	t.Helper()
	js := jetstreamOf(t, s)
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		st, err := js.Stream(t.Context(), fleet.StreamEvents)
		if err == nil {
			if c := st.CachedInfo().Cluster; c != nil && c.Leader != "" && len(c.Replicas) == 2 && c.Replicas[0].Current && c.Replicas[1].Current {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the cluster is not whole again: %v", err)
		}
	}
}

// TestAttachNamesWhatIsMissing: one sentence for each setting that is wrong,
// all of them at once.
func TestAttachNamesWhatIsMissing(t *testing.T) {
	swap := func(pairs ...string) func(string) string { return strings.NewReplacer(pairs...).Replace }
	for _, c := range []struct {
		name   string
		change func(string) string
		want   []string
	}{
		{"sync", swap("sync_interval: always", "sync_interval: 2m"), []string{"server n1: acknowledged writes may be lost with the power: set sync_interval: always"}},
		{"payload and a crossing", swap("max_payload: 262144", "max_payload: 65536", `{service: {account: INGOT, subject: "ingot.ev.>"}}`, ""),
			[]string{"max_payload is 65536: set it to 262144", "account NODES does not import ingot.ev.> from INGOT"}},
		{"a crossing too many", swap(`{service: "ingot.ev.>", accounts: [NODES]}`, `{service: "ingot.ev.>", accounts: [NODES]}
      {service: "$JS.API.STREAM.PURGE.*", accounts: [NODES]}`, `{service: {account: INGOT, subject: "ingot.ev.>"}}`, `{service: {account: INGOT, subject: "ingot.ev.>"}}
      {service: {account: INGOT, subject: "$JS.API.STREAM.PURGE.*"}}`), []string{"account NODES imports $JS.API.STREAM.PURGE.* from INGOT, which no law allows"}},
		{"another issuer", func(s string) string {
			k, _ := nkeys.CreateAccount()
			pub, _ := k.PublicKey()
			i := strings.Index(s, "issuer: ")
			return s[:i] + "issuer: " + pub + s[i+len("issuer: ")+len(pub):]
		}, []string{"a machine that wants to enrol is not let in", "set auth_callout with issuer A"}},
		{"JetStream off", func(s string) string {
			i, j := strings.Index(s, "jetstream {"), strings.Index(s, "# Streams, buckets")
			return strings.Replace(s[:i]+s[j:], "jetstream: enabled", "", 1)
		}, []string{"server n1: JetStream is off: give it a jetstream block"}},
		{"no control user", func(s string) string {
			i := strings.Index(s, "users: [ {nkey: U")
			j := i + strings.Index(s[i:], "\n")
			k, _ := nkeys.CreateUser()
			pub, _ := k.PublicKey()
			old := s[i+len("users: [ {nkey: ") : i+len("users: [ {nkey: ")+len(pub)]
			return strings.ReplaceAll(s[:i]+s[i:j]+s[j:], old, pub)
		}, []string{"the server does not know this key: give account INGOT the user {nkey: U"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := runApart(t, 1, c.change)
			s, err := bus.Attach(t.Context(), bus.External{URLs: a.layout.URLs(), Credentials: a.credentials()})
			if err == nil {
				s.Close() //nolint:errcheck // the test has failed
				t.Fatal("Attach is content")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Attach = %v; want %q", err, want)
				}
			}
			if seed := a.credentials().Issuer; strings.Contains(err.Error(), seed) {
				t.Error("the error holds a secret")
			}
		})
	}
}

func TestAttachElsewhere(t *testing.T) {
	one := runApart(t, 1, nil)
	good := one.credentials()
	other := runApart(t, 1, nil).credentials()
	nowhere := fmt.Sprintf("tls://127.0.0.1:%d", freePort(t))
	for _, c := range []struct {
		name string
		e    bus.External
		want string
	}{
		{"nothing there", bus.External{URLs: []string{nowhere}, Credentials: good, Wait: time.Second}, "(waited 1s): nothing answers there"},
		{"no TLS in the URL", bus.External{URLs: []string{"nats://127.0.0.1:4222"}, Credentials: good}, "want tls://HOST:PORT"},
		{"another CA", bus.External{URLs: one.layout.URLs(), Credentials: other}, "not by the CA of the credentials"},
		{"no credentials", bus.External{URLs: one.layout.URLs()}, "bus credentials: schema"},
		{"a bad seed", bus.External{URLs: one.layout.URLs(), Credentials: func() bus.Credentials { c := good; c.Issuer = c.Control; return c }()},
			"bus credentials: issuer_seed: the seed of another kind of key"},
	} {
		if s, err := bus.Attach(t.Context(), c.e); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Attach = %v, %v; want %q", c.name, s, err, c.want)
		}
	}
}

func TestLayoutRefuses(t *testing.T) {
	host := func(name, address string) bus.Host { return bus.Host{Name: name, Address: address} }
	for _, c := range []struct {
		servers []bus.Host
		want    string
	}{
		{nil, "no server is named"},
		{[]bus.Host{host("a", "x"), host("b", "y")}, "two servers survive the loss of none"},
		{[]bus.Host{host("a b", "x")}, "server name"},
		{[]bus.Host{host("a", "x\"; include /etc/passwd")}, "cannot be written into a configuration"},
		{[]bus.Host{host("a", "x"), host("a", "y"), host("c", "z")}, "two servers are named a"},
	} {
		dir := filepath.Join(t.TempDir(), "bus")
		if _, err := (bus.Layout{Dir: dir, Servers: c.servers}).Write(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Write(%v) = %v; want %q", c.servers, err, c.want)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("Write(%v) left something behind", c.servers)
		}
	}
}
