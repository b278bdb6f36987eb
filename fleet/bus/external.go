package bus

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// External is a bus that runs apart: a nats-server, or a cluster of them, set
// up as ingot bus config writes it.
type External struct {
	URLs        []string
	Credentials Credentials
	Operators   []string // further operators, as in [Config]
	Reconcilers []string
	// EventsMaxBytes and EventsMaxAge are as in [Config].
	EventsMaxBytes int64
	EventsMaxAge   time.Duration
	// Wait is how long a bus that is being started may take until a server
	// answers, and then until its cluster has a leader; 30 seconds when zero.
	Wait time.Duration
	Log  *slog.Logger
}

const (
	// oldestServer is the first nats-server with all that the bus needs.
	oldestServer = "2.11.0"
	// maxSkew is how far a server's clock may be off: sessions and replay
	// protection look at it.
	maxSkew = 30 * time.Second
	// gather is how long the servers of a cluster have to answer.
	gather = 2 * time.Second
	// starting is how long a bus that has just been started may take until a
	// server answers, and then until its cluster has a leader.
	starting = 30 * time.Second
)

// Attach uses a bus that runs apart until [Server.Close]. It looks at every
// setting that the laws and the streams stand on first, and its error names
// all that is missing and what mends each.
//
// Violations of connections to such a bus stand in the log of its servers
// alone: [Server.OnViolation] hears of none.
func Attach(ctx context.Context, e External) (*Server, error) {
	e.Wait = cmp.Or(e.Wait, starting)
	s := &Server{external: &e, log: e.Log, replicas: 1,
		cfg: Config{Operators: e.Operators, Reconcilers: e.Reconcilers, EventsMaxBytes: e.EventsMaxBytes, EventsMaxAge: e.EventsMaxAge}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.attach(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) attach(ctx context.Context) error {
	c := s.external.Credentials
	if c.Schema != CredentialsSchema {
		return fmt.Errorf("bus credentials: schema %.80q, want %q: name the %s that ingot bus config wrote", c.Schema, CredentialsSchema, CredentialsFile)
	}
	for _, u := range s.external.URLs {
		if !strings.HasPrefix(u, "tls://") {
			return fmt.Errorf("bus URL %.200q: want tls://HOST:PORT", u)
		}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.CAPEM)) {
		return errors.New("bus credentials: ca_pem holds no certificate")
	}
	s.caPEM = []byte(c.CAPEM)
	if err := s.externalKeys(); err != nil {
		return err
	}
	secure := nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13})
	for _, u := range []struct {
		name, seed, account string
		conn                **nats.Conn
	}{
		{userControl, c.Control, accountIngot, &s.control}, {userCallout, c.Callout, accountAuth, &s.callout}, {userSystem, c.System, accountSYS, &s.system},
	} {
		key, err := seedKey(u.seed, nkeys.PrefixByteUser)
		if err != nil {
			return fmt.Errorf("bus credentials: %s_seed: %v", u.name, err)
		}
		if *u.conn, err = s.connectApart(ctx, u.name, key, secure); err != nil {
			return explainConnect(err, u.account, key.public)
		}
	}
	if err := s.answerCallout(); err != nil {
		return err
	}
	return s.settle(ctx)
}

// connectApart waits for a bus that is started at the same time: servers come
// up in no order.
func (s *Server) connectApart(ctx context.Context, user string, key heldKey, secure nats.Option) (*nats.Conn, error) {
	wait := s.external.Wait
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for told := false; ; told = true {
		nc, err := s.connect(user, key, secure, nats.Timeout(5*time.Second), nats.ReconnectJitter(100*time.Millisecond, time.Second))
		if err == nil || !errors.Is(err, nats.ErrNoServers) {
			return nc, err
		}
		if !told {
			s.log.Info("wait for the bus", "urls", s.external.URLs, "at_most", wait)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w (waited %v)", err, wait)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func seedKey(seed string, prefix nkeys.PrefixByte) (heldKey, error) {
	kp, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return heldKey{}, fmt.Errorf("no seed of an nkey: %v", err)
	}
	k, err := holdKey(kp)
	if err == nil && nkeys.Prefix(k.public) != prefix {
		err = errors.New("the seed of another kind of key")
	}
	return k, err
}

func (s *Server) externalKeys() error {
	issuer, err := seedKey(s.external.Credentials.Issuer, nkeys.PrefixByteAccount)
	if err != nil {
		return fmt.Errorf("bus credentials: issuer_seed: %v", err)
	}
	operator, err := seedKey(s.external.Credentials.Operator, nkeys.PrefixByteUser)
	if err != nil {
		return fmt.Errorf("bus credentials: operator_seed: %v", err)
	}
	s.issuer, s.operator = issuer.KeyPair, operator.KeyPair
	return s.allowOperators(operator.public)
}

// explainConnect says what is missing at the server when one of our three
// users is not let in.
func explainConnect(err error, account, public string) error {
	switch text := err.Error(); {
	case strings.Contains(text, "x509"):
		return fmt.Errorf("%w: the server's certificate is not by the CA of the credentials, or is for another name", err)
	case strings.Contains(text, "secure connection not available"):
		return fmt.Errorf("%w: the server speaks no TLS: give it a tls block", err)
	case errors.Is(err, nats.ErrNoServers):
		return fmt.Errorf("%w: nothing answers there, or not as a nats-server: is it running, and is --bus right?", err)
	}
	// A key that it does not know is asked about at a callout that nobody
	// answers yet.
	return fmt.Errorf("%w: the server does not know this key: give account %s the user {nkey: %s} and name it in auth_users", err, account, public)
}

// settle looks at the servers and makes the streams. A cluster that is being
// started has no leader, or not all of its servers: it gets time for that.
func (s *Server) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.external.Wait)
	defer cancel()
	for {
		whole, problems := s.inspect(ctx)
		var err error
		if len(problems) > 0 {
			err = fmt.Errorf("the bus at %s is not set up as Ingot needs it (ingot bus config prints how it should be):\n  - %s",
				strings.Join(s.external.URLs, " "), strings.Join(problems, "\n  - "))
		} else {
			err = s.reconcile(ctx)
		}
		if err == nil || ctx.Err() != nil || whole && (len(problems) > 0 || final(err)) {
			return err
		}
		s.log.Info("the bus is not ready yet", "err", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// noPeers is JetStream's code for a leader that has not yet heard of as many
// servers as a stream is to have replicas.
const noPeers = 10005

// final says that an error is a leader's refusal, which time does not change.
func final(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code < 500 && api.ErrorCode != noPeers
}

// ask gathers the answers of all servers to a request of the system account.
// It waits for as many as the first answer's cluster has, or for its time.
func (s *Server) ask(ctx context.Context, what string, options any) ([]json.RawMessage, error) {
	b, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	sub, err := s.system.SubscribeSync(s.system.NewRespInbox())
	if err != nil {
		return nil, err
	}
	defer sub.Unsubscribe() //nolint:errcheck // of an inbox that is not used again
	if err := s.system.PublishRequest("$SYS.REQ.SERVER.PING."+what, sub.Subject, b); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, gather)
	defer cancel()
	want := len(s.system.Servers())
	var out []json.RawMessage
	for len(out) < max(want, 1) {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			break
		}
		out = append(out, m.Data)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no server answers a %s request of account %s within %v", what, accountSYS, gather)
	}
	return out, nil
}

// kickApart closes every connection of a key, wherever it is connected.
func (s *Server) kickApart(key string) {
	answers, err := s.ask(context.Background(), "CONNZ", server.ConnzOptions{Username: true, User: key, Limit: 64})
	if err != nil {
		s.log.Warn("kick", "key", key, "err", err)
		return
	}
	for _, a := range answers {
		var z struct {
			Server server.ServerInfo `json:"server"`
			Data   server.Connz      `json:"data"`
		}
		if err := json.Unmarshal(a, &z); err != nil {
			s.log.Warn("kick", "key", key, "err", err)
			continue
		}
		for _, c := range z.Data.Conns {
			req, err := json.Marshal(server.KickClientReq{CID: c.Cid})
			if err == nil {
				_, err = s.system.Request("$SYS.REQ.SERVER."+z.Server.ID+".KICK", req, gather)
			}
			if err != nil {
				s.log.Warn("kick", "key", key, "server", z.Server.Name, "err", err)
				continue
			}
			s.log.Info("kicked", "key", key, "server", z.Server.Name, "connection", c.Cid)
		}
	}
}

// inspect is all that is missing at the servers, one sentence each, with what
// mends it, and whether all servers of the cluster answered. It sets how many
// replicas the cluster can give: those of a server that is away count.
func (s *Server) inspect(ctx context.Context) (whole bool, out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	answers, err := s.ask(ctx, "VARZ", struct{}{})
	if err != nil {
		say("%v: make SYS the system_account", err)
		return true, out
	}
	size := len(answers)
	for _, a := range answers {
		var v varz
		if err := json.Unmarshal(a, &v); err != nil {
			say("a server's answer cannot be read: %v", err)
			continue
		}
		if m := v.Data.JetStream.Meta; m != nil {
			size = max(size, m.Size)
		}
		for _, p := range v.problems(time.Now()) {
			say("server %s: %s", v.Server.Name, p)
		}
	}
	switch {
	case size >= 3:
		s.replicas = 3
	case size == 2:
		say("a cluster of two servers survives the loss of none: add a third, or take one away")
	}
	for _, p := range s.inspectAccounts(ctx) {
		say("%s", p)
	}
	if p := s.inspectCallout(); p != "" {
		say("%s", p)
	}
	return len(answers) == size, out
}

// varz is what we read of a server's VARZ.
type varz struct {
	Server server.ServerInfo `json:"server"`
	Data   struct {
		Version    string    `json:"version"`
		Now        time.Time `json:"now"`
		MaxPayload int       `json:"max_payload"`
		TLS        bool      `json:"tls_required"`
		JetStream  struct {
			Config *server.JetStreamConfig `json:"config"`
			Meta   *server.MetaClusterInfo `json:"meta"`
		} `json:"jetstream"`
	} `json:"data"`
}

func (v varz) problems(now time.Time) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	d := v.Data
	if older(d.Version, oldestServer) {
		say("nats-server %s is too old: install %s or later", d.Version, oldestServer)
	}
	switch {
	case d.JetStream.Config == nil:
		say("JetStream is off: give it a jetstream block")
	case !d.JetStream.Config.SyncAlways:
		say("acknowledged writes may be lost with the power: set sync_interval: always in its jetstream block")
	}
	if !d.TLS {
		say("it takes connections without TLS: give it a tls block")
	}
	if d.MaxPayload < fleet.MaxMessageBytes {
		say("max_payload is %d: set it to %d", d.MaxPayload, fleet.MaxMessageBytes)
	}
	if skew := d.Now.Sub(now).Abs(); skew > maxSkew {
		say("its clock is off by %v: set both clocks by NTP", skew.Round(time.Second))
	}
	return out
}

// older compares two versions by their numbers.
func older(a, b string) bool {
	var x, y [3]int
	if n, err := fmt.Sscanf(a, "%d.%d.%d", &x[0], &x[1], &x[2]); err != nil || n != 3 {
		return true
	}
	if n, err := fmt.Sscanf(b, "%d.%d.%d", &y[0], &y[1], &y[2]); err != nil || n != 3 {
		return true
	}
	return slices.Compare(x[:], y[:]) < 0
}

// inspectAccounts looks at what leads from the nodes' account into ours: all
// the subjects of the laws, and no other.
func (s *Server) inspectAccounts(ctx context.Context) []string {
	answers, err := s.ask(ctx, "ACCOUNTZ", server.AccountzOptions{Account: accountNodes})
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, a := range answers {
		var z struct {
			Server server.ServerInfo `json:"server"`
			Data   server.Accountz   `json:"data"`
			Error  *server.ApiError  `json:"error"`
		}
		if err := json.Unmarshal(a, &z); err != nil {
			return append(out, fmt.Sprintf("a server's answer cannot be read: %v", err))
		}
		if z.Error != nil || z.Data.Account == nil {
			out = append(out, fmt.Sprintf("server %s: account %s is not there: nodes live in it", z.Server.Name, accountNodes))
			continue
		}
		have := map[string]bool{}
		for _, i := range z.Data.Account.Imports {
			if i.Account == accountIngot {
				have[string(i.Subject)] = true
			}
		}
		for _, subject := range slices.Concat(crossings, hints) {
			if !have[subject] {
				out = append(out, fmt.Sprintf("server %s: account %s does not import %s from %s", z.Server.Name, accountNodes, subject, accountIngot))
			}
			delete(have, subject)
		}
		for subject := range have {
			out = append(out, fmt.Sprintf("server %s: account %s imports %s from %s, which no law allows: nodes could write there; take it away",
				z.Server.Name, accountNodes, subject, accountIngot))
		}
	}
	slices.Sort(out)
	return out
}

// inspectCallout connects as a stranger does, and sees whether we are asked.
func (s *Server) inspectCallout() string {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return err.Error()
	}
	key, err := holdKey(kp)
	if err != nil {
		return err.Error()
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.caPEM)
	nc, err := nats.Connect(strings.Join(s.external.URLs, ","), nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}),
		nats.Nkey(key.public, key.Sign), nats.UserInfo(fleet.UserEnroll, ""), nats.NoReconnect(), nats.Timeout(10*time.Second))
	if err == nil {
		nc.Close()
		return ""
	}
	issuer, _ := s.issuer.PublicKey() // a key that seedKey took has one
	return fmt.Sprintf("a machine that wants to enrol is not let in (%v): set auth_callout with issuer %s and account %s", err, issuer, accountAuth)
}

// Run runs a nats-server with a configuration file until ctx ends.
func Run(ctx context.Context, path string, log *slog.Logger, say func(string)) error {
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		return fmt.Errorf("read bus configuration: %w", err)
	}
	o.NoSigs, o.NoLog = true, true
	ns, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("bus: %v", err)
	}
	l := &serverLog{log: log, heard: func(string) {}}
	ns.SetLoggerV2(l, false, false, false)
	ns.Start()
	defer func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	}()
	if !ns.ReadyForConnections(readyTimeout) {
		return fmt.Errorf("bus: server %s is not ready after %v: %s", o.ServerName, readyTimeout, l.last())
	}
	say(fmt.Sprintf("bus       %s at tls://%s", o.ServerName, ns.Addr()))
	<-ctx.Done()
	return nil
}
