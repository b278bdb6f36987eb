package ipmi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/ingot-metal/ingot/hardware"
)

// Options say how to reach a BMC over the LAN.
type Options struct {
	Address  string // host, or host:port; the port is 623 by default
	User     string
	Password hardware.Secret
	Timeout  time.Duration // of one session, with all that is done in it; 20 s by default, 2 minutes for a crawl
	Cipher   int           // 3 or 17; by default the better one that the BMC offers
}

const (
	defaultPort    = 623
	defaultTimeout = 20 * time.Second
	crawlTimeout   = 2 * time.Minute
	closeLimit     = 3 * time.Second

	loginRest = time.Second // before the next try, for a BMC without a free session
	lanTry    = time.Second // a datagram is lost after that
	lanTries  = 3
	// actTry is how long a BMC may take over what it is told to do: many answer
	// once it is done. Such a command is not sent twice.
	actTry  = 10 * time.Second
	lanRead = 224
)

// ErrRefused says that the BMC did not take the user or the password. It is
// not asked again: some lock an account after few of these.
var ErrRefused = errors.New("the BMC refuses the account")

// Crawl reads all that the BMC knows, in one session, which is closed
// whatever happens. What a BMC refuses, or answers wrong, is a finding.
func Crawl(ctx context.Context, o Options) (hardware.View, Stats, error) {
	begin := time.Now()
	if o.Timeout <= 0 {
		o.Timeout = crawlTimeout
	}
	var v hardware.View
	var stats Stats
	err := o.session(ctx, "crawl", func(ctx context.Context, l *lan) error {
		s := l.session()
		err := s.run(ctx, allSteps())
		s.stats.Cipher, s.stats.Dropped = l.guard.cipher, int(l.guard.dropped.Load())
		if s.stats.Dropped > 0 {
			s.malformed("bmc", fmt.Errorf("%d datagrams were not well formed, or not signed by the BMC", s.stats.Dropped))
		}
		v, stats = s.view, s.stats
		return err
	})
	stats.Took = time.Since(begin)
	v.Inventory.Normalize()
	v.Readings.Normalize()
	return v, stats, err
}

// lan is an open session.
type lan struct {
	own   *owner
	guard *guard
	close func()
}

func (l *lan) session() *session {
	return &session{own: l.own, send: clientTransport(l.own.client), limit: 2 * lanTry, tries: lanTries, big: lanRead}
}

func (o Options) timeout() time.Duration {
	if o.Timeout <= 0 {
		return defaultTimeout
	}
	return o.Timeout
}

// open connects and logs in. Where that fails, the half-open session is closed
// too. The suites are tried from the better to the worse, as long as it is the
// suite that is refused and not the account.
func (o Options) open(ctx context.Context) (*lan, error) {
	host, port, err := o.hostPort()
	if err != nil {
		return nil, err
	}
	offers, err := o.offers(ctx, host, port)
	if err != nil {
		return nil, err
	}
	for _, cipher := range offers {
		for try := range lanTries { // a datagram of the handshake may be lost
			if try > 0 {
				rest(ctx, loginRest)
			}
			var l *lan
			if l, err = o.login(ctx, host, port, cipher); err == nil {
				return l, nil
			}
			if errors.Is(err, ErrRefused) || suiteRefused(err) || ctx.Err() != nil {
				break
			}
		}
		if !suiteRefused(err) {
			break
		}
	}
	return nil, fmt.Errorf("log in as %q: %w", o.User, err)
}

func (o Options) hostPort() (string, int, error) {
	host, port := o.Address, defaultPort
	if h, p, err := net.SplitHostPort(o.Address); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return "", 0, fmt.Errorf("port %.10q: %w", p, err)
		}
		host, port = h, int(n)
	}
	host = strings.Trim(host, "[]")
	if host == "" {
		return "", 0, errors.New("no address")
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]" // go-ipmi joins host and port without a look
	}
	return host, port, nil
}

// offers asks, before any session, which suites the BMC has, and chooses those
// that sign and encrypt, the better one first. A BMC that does not say has 3.
func (o Options) offers(ctx context.Context, host string, port int) ([]int, error) {
	if o.Cipher != 0 {
		if _, ok := suites[o.Cipher]; !ok {
			return nil, fmt.Errorf("cipher suite %d: want 3 or 17", o.Cipher)
		}
		return []int{o.Cipher}, nil
	}
	own, _, err := o.client(host, port, 3)
	if err != nil {
		return nil, err
	}
	defer own.close(ctx, 0)
	s := &session{own: own, send: clientTransport(own.client), limit: 2 * lanTry, tries: 2}
	has, err := s.suites(ctx, thisChannel)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var out []int
	for _, id := range []int{17, 3} {
		for _, h := range has {
			if h == id {
				out = append(out, id)
			}
		}
	}
	if err != nil || len(has) == 0 {
		return []int{17, 3}, nil
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the BMC offers cipher suites %v, and neither 3 nor 17, which sign and encrypt", has)
	}
	return out, nil
}

// client is one of go-ipmi with a guarded socket, in a goroutine of its own.
func (o Options) client(host string, port, cipher int) (*owner, *guard, error) {
	c, err := client.NewClient(host, port, o.User, o.Password.Reveal())
	if err != nil {
		return nil, nil, err
	}
	g := &guard{user: o.User, password: o.Password.Reveal(), cipher: cipher}
	c.WithUDPProxy(g).WithTimeout(lanTry).WithRetry(0).WithCipherSuiteID(types.CipherSuiteID(cipher)).
		WithMaxPrivilegeLevel(types.PrivilegeLevelAdministrator)
	return own(c), g, nil
}

// login makes a session with one suite. go-ipmi's own Connect tries others
// with the same password, and keeps the session alive beside our commands.
func (o Options) login(ctx context.Context, host string, port, cipher int) (*lan, error) {
	own, g, err := o.client(host, port, cipher)
	if err != nil {
		return nil, err
	}
	var active atomic.Bool
	err = own.do(ctx, o.timeout(), func(ctx context.Context, c *client.Client) error {
		if _, err := c.OpenSession(ctx); err != nil {
			return err
		}
		if _, err := c.RAKPMessage1(ctx); err != nil {
			return err
		}
		if _, err := c.RAKPMessage3(ctx); err != nil {
			return err
		}
		active.Store(true)
		_, err := c.SetSessionPrivilegeLevel(ctx, types.PrivilegeLevelAdministrator)
		return err
	})
	if err != nil {
		limit := closeLimit
		if !active.Load() {
			limit = 0 // there is nothing yet that the BMC would close
		}
		own.close(ctx, limit)
		return nil, loginError(err)
	}
	return &lan{own: own, guard: g, close: func() { own.close(ctx, closeLimit) }}, nil
}

// loginError is one line, and tells a refusal of the account from the rest.
func loginError(err error) error {
	var status *types.RmcpStatusError
	var socket net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, client.ErrRAKPAuthentication):
		return fmt.Errorf("%w: the password does not match", ErrRefused)
	case errors.As(err, &status) && accountStatus(status.StatusCode()):
		return fmt.Errorf("%w: %v", ErrRefused, status)
	case errors.As(err, &status):
		return status
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("nothing listens on its UDP port")
	case errors.As(err, &socket) && socket.Timeout():
		return errors.New("no answer: is IPMI over LAN enabled in the BMC?")
	}
	if code, ok := types.IsResponseError(err); ok && code.CompletionCode() != 0 {
		return fmt.Errorf("%w: administrator privilege: %w", ErrRefused, CompletionCode(code.CompletionCode()))
	}
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

// accountStatus says that it is the account that the BMC does not take (table
// 13-15). One that has no session left may have one a little later.
func accountStatus(c types.RmcpStatusCode) bool {
	switch c {
	case types.RmcpStatusCodeInvalidRole, types.RmcpStatusCodeUnauthorizedRoleOfPriLevel, types.RmcpStatusCodeInvalidNameLength,
		types.RmcpStatusCodeUnauthorizedName, types.RmcpStatusCodeInvalidIntegrityCheckValue:
		return true
	}
	return false
}

// suiteStatus says that the BMC has not looked at the account yet (table
// 13-15).
func suiteStatus(c types.RmcpStatusCode) bool {
	switch c {
	case types.RmcpStatusCodeInvalidAuthAlg, types.RmcpStatusCodeInvalidIntegrityAlg, types.RmcpStatusCodeNoMatchingAuthPayload,
		types.RmcpStatusCodeNoMatchingIntegrityPayload, types.RmcpStatusCodeInvalidConfidentAlg, types.RmcpStatusCodeNoCipherSuiteMatch:
		return true
	}
	return false
}

func suiteRefused(err error) bool {
	var status *types.RmcpStatusError
	return errors.As(err, &status) && suiteStatus(status.StatusCode())
}

// ReadLAN is what the BMC says of itself and of FRU 0, over the LAN.
func ReadLAN(ctx context.Context, o Options) (hardware.Inventory, error) {
	var inv hardware.Inventory
	err := o.session(ctx, "read", func(ctx context.Context, l *lan) error {
		s := l.session()
		err := s.run(ctx, firstSteps())
		inv = s.view.Inventory
		return err
	})
	inv.Normalize()
	return inv, err
}

// one does one thing with go-ipmi's client in a session of its own.
func (o Options) one(ctx context.Context, what string, f func(context.Context, *client.Client) error) error {
	return o.session(ctx, what, func(ctx context.Context, l *lan) error {
		return l.own.do(ctx, o.timeout(), func(ctx context.Context, c *client.Client) error {
			return f(ctx, c.WithTimeout(actTry))
		})
	})
}

// session does one thing in a session of its own, which is closed whatever
// happens.
func (o Options) session(ctx context.Context, what string, f func(context.Context, *lan) error) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout())
	defer cancel()
	l, err := o.open(ctx)
	if err != nil {
		return fmt.Errorf("%s: BMC %s: %w", what, o.Address, err)
	}
	defer l.close()
	if err := f(ctx, l); err != nil {
		return fmt.Errorf("%s: BMC %s: %w", what, o.Address, err)
	}
	return nil
}
