// Package redfish asks a BMC by Redfish (DSP0266) over HTTPS, from the side of
// the operator: never from the agent. Sessions, transport and limits are
// gofish's; resources are read from their JSON, because BMCs send "N/A" for
// numbers and objects for arrays, and a typed decoder then drops the whole
// resource. What a BMC sends is hostile: bodies are bounded, links stay on the
// host that was named, and the first 401 ends the work, before the account
// locks.
package redfish

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"
)

// Source is how parts name this reader.
const Source = "redfish"

// Options say how to reach a BMC.
type Options struct {
	URL      string // https://host, or https://host:port
	User     string
	Password hardware.Secret
	CA       []byte        // PEM; the system's roots by default
	Insecure bool          // take any certificate: the lab, and a BMC that is not enrolled yet
	System   string        // Id of the system, where the BMC has several; the first by default
	Timeout  time.Duration // of everything together; 2 minutes by default
	// Concurrency bounds the requests in flight; 2 by default. BMCs freeze
	// under bursts.
	Concurrency int
}

// The bounds of one session.
const (
	defaultTimeout     = 2 * time.Minute
	defaultConcurrency = 2
	requestTimeout     = 30 * time.Second
	logoutTimeout      = 5 * time.Second
	maxBody            = 4 << 20
	maxRequests        = 2000
	rootPath           = "/redfish/v1/"
	sessionsPath       = "/redfish/v1/SessionService/Sessions"
)

// ErrDenied says that the BMC refused the account. Nothing more was asked.
var ErrDenied = errors.New("the BMC refused the account")

// Stats say what a session cost the BMC.
type Stats struct {
	Requests int
	Bytes    int64
	Took     time.Duration
}

// session is one login. close logs out, whatever happened before.
type session struct {
	api     *gofish.APIClient
	guard   *guard
	root    node
	options Options
	ctx     context.Context
	close   func()
}

// open logs in: root, session, and the client that carries its token.
func open(ctx context.Context, o Options) (*session, error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Concurrency <= 0 {
		o.Concurrency = defaultConcurrency
	}
	base, err := baseURL(o.URL)
	if err != nil {
		return nil, err
	}
	roots, err := pool(o.CA)
	if err != nil {
		return nil, err
	}
	work, cancel := context.WithTimeout(ctx, o.Timeout)
	g := &guard{base: base, next: &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.Insecure, RootCAs: roots},
		TLSHandshakeTimeout: requestTimeout,
		MaxConnsPerHost:     o.Concurrency,
	}}
	s := &session{guard: g, options: o, ctx: work}
	if err := s.login(base.String()); err != nil {
		g.next.CloseIdleConnections()
		cancel()
		if g.denied.Load() {
			err = ErrDenied
		}
		return nil, fmt.Errorf("log in to %s as %q: %w", base, o.User, err)
	}
	s.close = func() {
		g.farewell.Store(true)
		bye, done := context.WithTimeout(context.WithoutCancel(ctx), logoutTimeout)
		s.api.WithContext(bye).Logout()
		done()
		cancel()
		g.next.CloseIdleConnections()
	}
	return s, nil
}

func baseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("BMC address %.100q: %w", s, err)
	}
	if u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("BMC address %.100q: want https://host", s)
	}
	return &url.URL{Scheme: "https", Host: u.Host}, nil
}

func pool(pem []byte) (*x509.CertPool, error) {
	if len(pem) == 0 {
		return nil, nil
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, errors.New("the CA holds no PEM certificate")
	}
	return p, nil
}

// login makes a session where the service has sessions, which is nearly
// everywhere, and uses basic authentication where it has none.
func (s *session) login(endpoint string) error {
	config := gofish.ClientConfig{
		Endpoint: endpoint, ReuseConnections: true, MaxConcurrentRequests: int64(s.options.Concurrency), NoModifyTransport: true,
		HTTPClient: &http.Client{Transport: s.guard, Timeout: requestTimeout},
	}
	anonymous, err := gofish.ConnectContext(s.ctx, config)
	if err != nil {
		return err
	}
	s.api = anonymous
	if s.root, err = s.get(rootPath); err != nil {
		return err
	}
	auth, err := schemas.CreateSession(anonymous, s.sessionsLink(), s.options.User, s.options.Password.Reveal())
	switch status := statusOf(err); {
	case err == nil && auth.Token != "":
		config.Session = &gofish.Session{ID: s.own(auth.Session), Token: auth.Token}
	case err == nil, status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented:
		config.BasicAuth, config.Username, config.Password = true, s.options.User, s.options.Password.Reveal()
	default:
		return err
	}
	s.api, err = gofish.ConnectContext(s.ctx, config)
	if err != nil && config.Session != nil {
		s.guard.farewell.Store(true)
		if e := schemas.DeleteSession(anonymous, config.Session.ID); e != nil {
			return fmt.Errorf("%w; and its session stays: %v", err, e)
		}
	}
	return err
}

// own is the session's path where it is one of this service. Without one
// there is nothing to log out of by name, and the session ends by its time-out.
func (s *session) own(location string) string {
	return node{"@odata.id": location}.id()
}

// sessionsLink is where sessions are made; old services name only the session
// service.
func (s *session) sessionsLink() string {
	if l := s.root.link("Links", "Sessions"); l != "" {
		return l
	}
	return sessionsPath
}

func statusOf(err error) int {
	var e *schemas.Error
	if errors.As(err, &e) {
		return e.HTTPReturnedStatusCode
	}
	return 0
}

func (s *session) stats(begin time.Time) Stats {
	return Stats{Requests: int(s.guard.requests.Load()), Bytes: s.guard.bytes.Load(), Took: time.Since(begin)}
}

// get reads one resource.
func (s *session) get(path string) (node, error) {
	res, err := s.api.Get(path)
	if err != nil {
		if s.guard.denied.Load() {
			err = ErrDenied
		}
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer res.Body.Close()
	n, err := decode(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if tag := res.Header.Get("ETag"); tag != "" && n["@odata.etag"] == nil {
		n["@odata.etag"] = tag
	}
	return n, nil
}
