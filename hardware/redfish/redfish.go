// Package redfish asks a BMC by Redfish (DSP0266) over HTTPS, from the side of
// the operator: never from the agent. Sessions and transport are gofish's;
// resources are read from their JSON, because BMCs send "N/A" for numbers and
// objects for arrays, and a typed decoder then drops the whole resource.
//
// A crawl has two halves. The first gathers: it follows links by a table, each
// resource once, as many at a time as the BMC bears (window). The second
// assembles: pure functions make parts out of what was gathered, in the order
// of the BMC's own lists, so that the same tree gives the same record.
//
// What a BMC sends is hostile: bodies, depth and number are bounded, links
// stay on the host that was named, and the first 401 ends the work, before the
// account locks. Whatever happens, the one session is closed.
package redfish

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// Options say how to reach a BMC, and what to read.
type Options struct {
	URL      string // https://host, or https://host:port; http only with Insecure
	User     string
	Password hardware.Secret
	CA       []byte        // PEM; the system's roots by default
	Insecure bool          // take any certificate, and http: the lab, a tunnel, a BMC that is not enrolled yet
	System   string        // Id of the system, where the BMC has several; the first by default
	Timeout  time.Duration // of everything together; 2 minutes by default
	// Concurrency bounds the requests in flight from above. By default the
	// bound is the one of the BMC's quirks; below it the window finds by
	// itself what the BMC bears.
	Concurrency int
	// Readings asks also for what only moves: every sensor, and the entries
	// of logs.
	Readings bool
	// Cache remembers answers with their ETags from one crawl to the next;
	// none by default.
	Cache Cache

	// patience is how long one request may take; requestTimeout by default.
	patience time.Duration
}

// The bounds of one session.
const (
	defaultTimeout = 2 * time.Minute
	requestTimeout = 20 * time.Second
	logoutTimeout  = 5 * time.Second
	maxBody        = 4 << 20
	maxBytes       = 64 << 20
	maxRequests    = 4000
	rootPath       = "/redfish/v1/"
	sessionsPath   = "/redfish/v1/SessionService/Sessions"
)

// ErrDenied says that the BMC refused the account. Nothing more was asked.
var ErrDenied = errors.New("the BMC refused the account")

// Stats say what a session cost the BMC.
type Stats struct {
	Requests int           `json:"requests"`       // all of them: logging in and out too
	Refused  int           `json:"refused"`        // answered 429 or 503
	InFlight int           `json:"most_in_flight"` // at once, at most
	Bytes    int64         `json:"bytes"`          // of bodies
	Cached   int           `json:"unchanged"`      // answered 304
	Took     time.Duration `json:"took"`
}

// session is one login. close logs out, whatever happened before.
type session struct {
	api     *gofish.APIClient
	guard   *guard
	window  *window
	quirks  quirks
	root    node
	options Options
	ctx     context.Context
	close   func()
	// cacheErr says why the answers were not kept for the next crawl.
	cacheErr error
}

// open logs in: root, session, and the client that carries its token.
func open(ctx context.Context, o Options) (*session, error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.patience <= 0 {
		o.patience = requestTimeout
	}
	base, err := baseURL(o.URL, o.Insecure)
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
		MaxIdleConnsPerHost: mostWindow,
		ReadBufferSize:      2 << 10,
		WriteBufferSize:     2 << 10,
	}}
	s := &session{guard: g, options: o, ctx: work}
	s.close = func() {
		g.farewell.Store(true)
		bye, done := context.WithTimeout(context.WithoutCancel(ctx), logoutTimeout)
		if s.api != nil {
			s.api.WithContext(bye).Logout()
		}
		done()
		cancel()
		g.next.CloseIdleConnections()
	}
	if err := s.login(base.String()); err != nil {
		s.close()
		if g.denied.Load() {
			err = ErrDenied
		}
		return nil, fmt.Errorf("log in to %s as %q: %w", base, o.User, err)
	}
	return s, nil
}

func baseURL(s string, insecure bool) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("BMC address %.100q: %w", s, err)
	}
	if u.Scheme == "http" && !insecure {
		return nil, fmt.Errorf("BMC address %.100q: http would show the password to the network; want https://host, or say that it may be insecure", s)
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("BMC address %.100q: want https://host", s)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
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

// login reads the root, makes a session where the service has sessions, which
// is nearly everywhere, and uses basic authentication where it has none.
func (s *session) login(endpoint string) error {
	client := &http.Client{Transport: s.guard, Timeout: s.options.patience}
	if err := s.readRoot(client, endpoint); err != nil {
		return err
	}
	s.quirks = quirksOf(s.root, nil)
	s.window = newWindow(s.most())
	config := gofish.ClientConfig{
		Endpoint: endpoint, ReuseConnections: true, MaxConcurrentRequests: mostWindow, NoModifyTransport: true, HTTPClient: client,
	}
	anonymous, err := gofish.ConnectContext(s.ctx, config)
	if err != nil {
		return err
	}
	config.Session, err = s.newSession(anonymous)
	if err != nil {
		return err
	}
	if config.Session == nil {
		config.BasicAuth, config.Username, config.Password = true, s.options.User, s.options.Password.Reveal()
	}
	// This asks nothing (see guard.root), and is not to fail where the caller
	// has gone: close needs the client.
	api, err := gofish.ConnectContext(context.WithoutCancel(s.ctx), config)
	if err != nil {
		return err
	}
	s.api = api.WithContext(s.ctx)
	return s.ctx.Err()
}

// most is how many requests may be in flight at once.
func (s *session) most() int {
	if s.options.Concurrency > 0 {
		return min(s.options.Concurrency, s.quirks.window)
	}
	return s.quirks.window
}

// readRoot reads the service's root, which needs no account. Some services
// know it only without the slash at its end.
func (s *session) readRoot(client *http.Client, endpoint string) error {
	for _, path := range []string{rootPath, strings.TrimSuffix(rootPath, "/")} {
		req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, endpoint+path, nil)
		if err != nil {
			return err
		}
		req.Header.Set("Accept", "application/json")
		res, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode == http.StatusNotFound && path == rootPath {
			continue
		}
		switch {
		case err == nil && res.StatusCode == http.StatusNotFound:
			err = errors.New("no Redfish service is there")
		case err == nil && res.StatusCode != http.StatusOK:
			err = errors.New(res.Status)
		}
		if err == nil {
			s.root, err = decode(body)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		s.guard.answered.Store(true)
		return nil
	}
	return nil
}

// newSession logs in. It is nil where the service has no sessions. A login
// that is under way is not abandoned with the caller, or nobody would know
// which session to close; it gets as long as a logout.
func (s *session) newSession(anonymous *gofish.APIClient) (*gofish.Session, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), requestTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, func() { time.AfterFunc(logoutTimeout, cancel) })()
	body := map[string]string{"UserName": s.options.User, "Password": s.options.Password.Reveal()}
	res, err := anonymous.WithContext(ctx).Post(s.sessionsLink(), body)
	switch status := statusOf(err); {
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented:
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer res.Body.Close()
	made := &gofish.Session{Token: res.Header.Get("X-Auth-Token"), ID: own(res.Header.Get("Location"))}
	if made.ID == "" { // some name it only in the body
		var n node
		if json.NewDecoder(res.Body).Decode(&n) == nil {
			made.ID = n.id()
		}
	}
	if made.Token == "" {
		return nil, nil
	}
	return made, nil
}

// own is the session's path where it is one of this service. Without one
// there is nothing to log out of by name, and the session ends by its time-out.
func own(location string) string {
	if u, err := url.Parse(location); err == nil {
		location = u.Path
	}
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
	g := s.guard
	return Stats{Requests: int(g.requests.Load()), Refused: int(g.refused.Load()), InFlight: int(g.peak.Load()),
		Bytes: g.bytes.Load(), Cached: int(g.unchanged.Load()), Took: time.Since(begin)}
}

// get reads one resource, for what is done to a server. A crawl has its own.
func (s *session) get(path string) (node, error) {
	res, err := s.api.Get(path)
	if err != nil {
		if s.guard.denied.Load() {
			err = ErrDenied
		}
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	n, err := decode(body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if tag := res.Header.Get("ETag"); tag != "" && n["@odata.etag"] == nil {
		n["@odata.etag"] = tag
	}
	return n, nil
}
