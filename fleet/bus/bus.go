package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Config is what a bus is started with.
type Config struct {
	// Dir holds streams, keys and certificates; it is made where it is missing.
	Dir string
	// Listen is host:port of the TLS listener; port 0 takes a free one.
	Listen string
	// Names are further host names and addresses for the certificate.
	Names []string
	// URLs are what nodes are told; empty means the listener's own.
	URLs []string
	// Operators are further public nkeys with an operator's rights, beside the
	// one that is kept in Dir.
	Operators []string
	// Reconcilers are public nkeys of grant reconcilers that run apart.
	Reconcilers []string
	// EventsMaxBytes bounds the timeline on disk; 256 MiB when zero.
	EventsMaxBytes int64
	// EventsMaxAge bounds the timeline in time; 30 days when zero.
	EventsMaxAge time.Duration
	// MaxConnections bounds all connections; 20,000 when zero.
	MaxConnections int
	// Log is where the server and the callout write; discarded when nil.
	Log *slog.Logger
}

// Server is a running bus.
type Server struct {
	cfg      Config
	log      *slog.Logger
	lock     *os.File
	ns       *server.Server
	caPEM    []byte
	issuer   nkeys.KeyPair
	operator nkeys.KeyPair
	// operators are the public keys with an operator's rights.
	operators map[string]bool
	authz     atomic.Pointer[authorizer]

	onViolation atomic.Pointer[func(Violation)]
	complaints  chan complaint
	stopTelling func()

	control *nats.Conn
	callout *nats.Conn
	// external is what a bus that runs apart is reached by; then there is no
	// ns, and system speaks to its servers.
	external *External
	system   *nats.Conn
	replicas int
}

const (
	accountIngot = "INGOT"
	accountNodes = "NODES"
	accountAuth  = "AUTH"
	accountSYS   = "SYS"

	userControl = "control"
	userCallout = "callout"
	userSystem  = "system"

	readyTimeout = 20 * time.Second
)

// Start runs a bus until [Server.Close]. It is ready when Start returns: the
// listener answers, the streams and buckets are there, the callout decides.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, log: cfg.Log, complaints: make(chan complaint, violationQueue)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	host, port, err := splitListen(s.cfg.Listen)
	if err != nil {
		return err
	}
	if s.lock, err = openDir(s.cfg.Dir); err != nil {
		return err
	}
	if err := s.loadKeys(); err != nil {
		return err
	}
	tlsConfig, ca, err := certificates(s.cfg.Dir, s.certNames(host), time.Now())
	if err != nil {
		return err
	}
	s.caPEM = ca
	// The server exits the process's hope of a clear message when its port is
	// taken: it only logs. So the port is tried first.
	if err := tryListen(ctx, s.cfg.Listen); err != nil {
		return err
	}
	control, callout, err := insideKeys()
	if err != nil {
		return err
	}
	if err := s.run(s.options(host, port, tlsConfig, control.public, callout.public)); err != nil {
		return err
	}
	if s.callout, err = s.connect(userCallout, callout, nats.InProcessServer(s.ns)); err != nil {
		return err
	}
	if err := s.answerCallout(); err != nil {
		return err
	}
	if s.control, err = s.connect(userControl, control, nats.InProcessServer(s.ns)); err != nil {
		return err
	}
	s.replicas = 1
	return s.reconcile(ctx)
}

// heldKey is a key pair with its public half.
type heldKey struct {
	nkeys.KeyPair
	public string
}

func holdKey(kp nkeys.KeyPair) (heldKey, error) {
	public, err := kp.PublicKey()
	return heldKey{kp, public}, err
}

// insideKeys are those of the two users that no socket can become, made anew
// on every start.
func insideKeys() (control, callout heldKey, err error) {
	for _, k := range []*heldKey{&control, &callout} {
		kp, err := nkeys.CreateUser()
		if err == nil {
			*k, err = holdKey(kp)
		}
		if err != nil {
			return control, callout, fmt.Errorf("bus: make a key: %v", err)
		}
	}
	return control, callout, nil
}

func splitListen(listen string) (string, int, error) {
	host, p, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("bus listener %q: %v", listen, err)
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("bus listener %q: port: %v", listen, err)
	}
	if port == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(port), nil
}

func tryListen(ctx context.Context, listen string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	return l.Close()
}

func (s *Server) certNames(host string) []string {
	names := []string{"127.0.0.1", "::1", "localhost"}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		names = append(names, host)
	}
	if h, err := os.Hostname(); err == nil && h != "" {
		names = append(names, h)
	}
	return append(names, s.cfg.Names...)
}

func (s *Server) loadKeys() (err error) {
	if s.issuer, err = keptKey(s.cfg.Dir, "issuer.nk", nkeys.PrefixByteAccount); err != nil {
		return err
	}
	if s.operator, err = keptKey(s.cfg.Dir, "operator.nk", nkeys.PrefixByteUser); err != nil {
		return err
	}
	pub, err := s.operator.PublicKey()
	if err != nil {
		return fmt.Errorf("operator key: %v", err)
	}
	return s.allowOperators(pub)
}

// allowOperators gives the first operator and those that the configuration
// names their rights.
func (s *Server) allowOperators(first string) error {
	s.operators = map[string]bool{}
	for _, k := range append([]string{first}, s.cfg.Operators...) {
		if !nkeys.IsValidPublicUserKey(k) {
			return fmt.Errorf("operator key %.80q: is no public user nkey", k)
		}
		s.operators[k] = true
	}
	return nil
}

func (s *Server) options(host string, port int, t *tls.Config, control, callout string) *server.Options {
	issuer, _ := s.issuer.PublicKey() // a key that made it through keptKey has one
	ingot, nodes := server.NewAccount(accountIngot), server.NewAccount(accountNodes)
	auth, sys := server.NewAccount(accountAuth), server.NewAccount(accountSYS)
	inside := map[string]struct{}{"IN_PROCESS": {}}
	orDefault := func(n, d int) int {
		if n == 0 {
			return d
		}
		return n
	}
	return &server.Options{
		ServerName: "ingot", Host: host, Port: port,
		NoSigs: true, NoLog: true,
		TLSConfig: t, TLSTimeout: 20, AuthTimeout: 8,
		AlwaysEnableNonce: true,
		Accounts:          []*server.Account{ingot, nodes, auth, sys},
		SystemAccount:     accountSYS,
		Nkeys: []*server.NkeyUser{
			{Nkey: control, Account: ingot, AllowedConnectionTypes: inside},
			{Nkey: callout, Account: auth, AllowedConnectionTypes: inside},
		},
		AuthCallout:  &server.AuthCallout{Issuer: issuer, Account: accountAuth, AuthUsers: []string{control, callout}},
		MaxPayload:   fleet.MaxMessageBytes,
		MaxConn:      orDefault(s.cfg.MaxConnections, 20000),
		MaxSubs:      512,
		MaxPending:   32 << 20,
		PingInterval: 20 * time.Second, MaxPingsOut: 3, WriteDeadline: 10 * time.Second,
		JetStream: true, StoreDir: filepath.Join(s.cfg.Dir, "jetstream"), SyncAlways: true,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: s.eventsMaxBytes() + (4 << 30),
	}
}

func (s *Server) eventsMaxBytes() int64 {
	if s.cfg.EventsMaxBytes > 0 {
		return s.cfg.EventsMaxBytes
	}
	return 256 << 20
}

func (s *Server) run(o *server.Options) error {
	ns, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("bus: %v", err)
	}
	log := &serverLog{log: s.log, heard: s.complained}
	ns.SetLoggerV2(log, false, false, false)
	s.ns = ns
	s.startTelling()
	if err := s.bridge(); err != nil {
		return err
	}
	ns.Start()
	if !ns.ReadyForConnections(readyTimeout) {
		return fmt.Errorf("bus: not ready after %v: %s", readyTimeout, log.last())
	}
	ingot, err := ns.LookupAccount(accountIngot)
	if err != nil {
		return fmt.Errorf("bus account %s: %v", accountIngot, err)
	}
	if !ns.JetStreamEnabled() {
		return fmt.Errorf("bus: JetStream did not start: %s", log.last())
	}
	if err := ingot.EnableJetStream(nil, nil); err != nil {
		return fmt.Errorf("bus: JetStream in %s: %v", o.StoreDir, err)
	}
	return nil
}

// bridge lets the subjects of the laws, and no other, pass between the account
// of the nodes and the one of the streams.
func (s *Server) bridge() error {
	ingot, err := s.ns.LookupAccount(accountIngot)
	if err != nil {
		return fmt.Errorf("bus account %s: %v", accountIngot, err)
	}
	nodes, err := s.ns.LookupAccount(accountNodes)
	if err != nil {
		return fmt.Errorf("bus account %s: %v", accountNodes, err)
	}
	for _, subject := range crossings {
		err := errors.Join(
			ingot.AddServiceExport(subject, []*server.Account{nodes}),
			nodes.AddServiceImport(ingot, subject, subject),
			// The importing side shares who asks: control reads it.
			nodes.SetServiceImportSharing(ingot, subject, subject == string(fleet.SubjectEnroll)),
		)
		if err != nil {
			return fmt.Errorf("bus: lead %s to %s: %v", subject, accountIngot, err)
		}
	}
	for _, subject := range hints {
		if err := errors.Join(ingot.AddStreamExport(subject, []*server.Account{nodes}), nodes.AddStreamImport(ingot, subject, "")); err != nil {
			return fmt.Errorf("bus: lead %s to %s: %v", subject, accountNodes, err)
		}
	}
	return errors.Join(
		nodes.AddServiceExport("ingot.cmd.>", []*server.Account{ingot}),
		ingot.AddServiceImport(nodes, "ingot.cmd.>", "ingot.cmd.>"),
	)
}

// connect opens one of our own connections; it outlives every loss of a
// server.
func (s *Server) connect(user string, key heldKey, more ...nats.Option) (*nats.Conn, error) {
	opts := append([]nats.Option{
		nats.Nkey(key.public, key.Sign), nats.Name("ingot " + user),
		nats.CustomInboxPrefix(fleet.InboxPrefix(user)), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond),
		nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			s.log.Warn("bus connection", "user", user, "subject", subject, "err", err)
		}),
	}, more...)
	url := ""
	if s.external != nil {
		url = strings.Join(s.external.URLs, ",")
	}
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, fmt.Errorf("bus: connect as %s: %w", user, err)
	}
	return nc, nil
}

// Conn is the connection of control, with full rights over the streams. It
// closes with the server.
func (s *Server) Conn() *nats.Conn { return s.control }

// Addr is where the listener of a bus in this process answers.
func (s *Server) Addr() net.Addr { return s.ns.Addr() }

// Trust says how nodes and consoles reach this bus.
func (s *Server) Trust() fleet.Bus {
	urls := s.cfg.URLs
	if s.external != nil {
		return fleet.Bus{URLs: s.external.URLs, CAPEM: string(s.caPEM)}
	}
	if len(urls) == 0 {
		urls = []string{"tls://" + s.Addr().String()}
	}
	return fleet.Bus{URLs: urls, CAPEM: string(s.caPEM)}
}

// OperatorSeed is the secret nkey of the operator that the data directory
// keeps.
func (s *Server) OperatorSeed() (string, error) {
	seed, err := s.operator.Seed()
	if err != nil {
		return "", fmt.Errorf("operator key: %v", err)
	}
	return string(seed), nil
}

// Kick closes every connection of a key. What it may do next is for the
// authorizer to say.
func (s *Server) Kick(key string) {
	if s.ns == nil {
		s.kickApart(key)
		return
	}
	z, err := s.ns.Connz(&server.ConnzOptions{Username: true, User: key, Limit: 64})
	if err != nil {
		s.log.Warn("kick", "key", key, "err", err)
		return
	}
	for _, c := range z.Conns {
		if err := s.ns.DisconnectClientByID(c.Cid); err == nil {
			s.log.Info("kicked", "key", key, "connection", c.Cid)
		}
	}
}

// Close ends the server and gives the data directory free.
func (s *Server) Close() error {
	if s.stopTelling != nil {
		s.stopTelling()
	}
	for _, nc := range []*nats.Conn{s.control, s.callout, s.system} {
		if nc != nil {
			nc.Close()
		}
	}
	if s.ns != nil {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
	}
	if s.lock != nil {
		return s.lock.Close()
	}
	return nil
}
