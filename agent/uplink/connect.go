package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nats.go"
)

const (
	dialTimeout   = 15 * time.Second // a TLS handshake in an emulated guest takes seconds
	askTimeout    = 10 * time.Second
	retryFirst    = 250 * time.Millisecond
	retryMost     = 15 * time.Second
	sessionRenew  = 6 * time.Hour // half of a session's life
	rejectedAgain = time.Minute
	askAgainMost  = 5 * time.Minute // however long control says
)

// RejectedError is control's refusal to enrol this boot, for good.
type RejectedError struct{ Reply fleet.EnrollReply }

func (e *RejectedError) Error() string {
	return fmt.Sprintf("enrol: rejected: %s: %s", e.Reply.Reason, e.Reply.Hint)
}

// Connect enrols and connects as the node. It tries until ctx ends or control
// rejects this boot for good; Target.Waits hears why it takes long: where an
// operator has to accept this server, or turned it away, it goes on asking.
// Afterwards the uplink keeps itself connected until it is closed.
func (u *Uplink) Connect(ctx context.Context, t Target) (fleet.EnrollReply, error) {
	t.Enroll.Schema, t.Enroll.Role = fleet.EnrollSchema, u.cfg.Role
	t.Enroll.Key, t.Enroll.BootID, t.Enroll.Nonce = u.pub, u.cfg.BootID, u.cfg.Nonce
	if len(t.Bus.URLs) == 0 {
		return fleet.EnrollReply{}, errors.New("connect: no bus URL is given")
	}
	if _, err := rootsOf(t.Bus); err != nil {
		return fleet.EnrollReply{}, err
	}
	u.mu.Lock()
	if u.nc != nil {
		u.mu.Unlock()
		return fleet.EnrollReply{}, errors.New("connect: the uplink is connected")
	}
	u.target = t
	u.mu.Unlock()
	for n := 0; ; n++ {
		nc, err := u.tryConnect(ctx)
		if err == nil {
			u.waits("")
			u.wg.Go(u.keep)
			u.adopt(nc)
			return u.enrolled(), nil
		}
		var rejected *RejectedError
		if errors.As(err, &rejected) {
			return rejected.Reply, err
		}
		u.waits(err.Error())
		pause := backoff(n)
		var held *heldError
		if errors.As(err, &held) {
			n, pause = 0, jitter(retryFirst)
		}
		if !sleep(ctx, pause) {
			return fleet.EnrollReply{}, fmt.Errorf("connect: %w: %w", err, context.Cause(ctx))
		}
	}
}

func (u *Uplink) tryConnect(ctx context.Context) (*nats.Conn, error) {
	if err := u.enroll(ctx); err != nil {
		return nil, err
	}
	node := u.Node()
	nc, err := u.dial(fleet.UserNode, fleet.InboxPrefix(string(node)), u.lasting)
	if err != nil {
		return nil, err
	}
	if _, err := nc.Subscribe(string(fleet.GrantedSubject(node)), func(*nats.Msg) { u.hint() }); err != nil {
		nc.Close()
		return nil, fmt.Errorf("listen for grants: %w", err)
	}
	if err := u.listenForCommands(nc, node); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

// adopt makes nc the connection that the sender uses.
func (u *Uplink) adopt(nc *nats.Conn) {
	u.mu.Lock()
	u.nc = nc
	u.mu.Unlock()
	u.hint()
	u.spool.nudge()
}

// heldError is control's answer that this server is not let in, or not yet; it
// may ask again.
type heldError struct{ reply fleet.EnrollReply }

func (e *heldError) Error() string {
	what := "an operator has to accept this server"
	if e.reply.State == fleet.EnrollRejected {
		what = "rejected"
	}
	return what + ": " + string(e.reply.Reason) + ": " + e.reply.Hint
}

func (e *heldError) after() time.Duration {
	return min(time.Duration(max(e.reply.RetrySeconds, 2))*time.Second, askAgainMost)
}

// enroll asks control, on a connection of its own, until it is answered with
// yes or with a no for good. While it is held it keeps the connection, and
// control's wake makes it ask at once.
func (u *Uplink) enroll(ctx context.Context) error {
	u.mu.Lock()
	req := u.target.Enroll
	u.mu.Unlock()
	b, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("enrol: write JSON: %v", err)
	}
	gone, woken := make(chan struct{}), make(chan struct{}, 1)
	nc, err := u.dial(fleet.UserEnroll, fleet.InboxPrefix(u.pub), func(o *nats.Options) {
		brief(o)
		o.ClosedCB = func(*nats.Conn) { close(gone) }
	})
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Subscribe(string(fleet.WakeSubject(u.pub)), func(*nats.Msg) {
		select {
		case woken <- struct{}{}:
		default: // it is about to ask
		}
	}); err != nil {
		return fmt.Errorf("enrol: listen for control: %w", err)
	}
	for {
		err := u.ask(ctx, nc, b)
		var held *heldError
		if !errors.As(err, &held) {
			return err
		}
		u.waits(held.Error())
		t := time.NewTimer(jitter(held.after()))
		select {
		case <-t.C:
		case <-woken:
		case <-gone:
			t.Stop()
			return err
		case <-ctx.Done():
			t.Stop()
			return err
		}
		t.Stop()
	}
}

// ask asks control once.
func (u *Uplink) ask(ctx context.Context, nc *nats.Conn, request []byte) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	msg, err := nc.RequestWithContext(ctx, string(fleet.SubjectEnroll), request)
	if errors.Is(err, nats.ErrNoResponders) {
		return errors.New("enrol: the bus is there, control is not")
	}
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	var r fleet.EnrollReply
	if err := json.Unmarshal(msg.Data, &r); err != nil {
		return fmt.Errorf("enrol: read answer: %v", err)
	}
	switch r.State {
	case fleet.EnrollAccepted:
		if _, err := fleet.ParseNodeID(string(r.Node)); err != nil {
			return fmt.Errorf("enrol: answer: %v", err)
		}
		u.mu.Lock()
		u.reply = r
		u.mu.Unlock()
		return nil
	case fleet.EnrollPending:
		return &heldError{r}
	case fleet.EnrollRejected:
		if r.RetrySeconds > 0 {
			return &heldError{r}
		}
		return &RejectedError{r}
	}
	return fmt.Errorf("enrol: answer: state %.40q is not known", r.State)
}

func rootsOf(b fleet.Bus) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(b.CAPEM)) {
		return nil, errors.New("connect: the trust holds no CA certificate for the bus")
	}
	return pool, nil
}

// brief is a connection that is given up at the first trouble.
func brief(o *nats.Options) { o.AllowReconnect = false }

// lasting is a connection that is kept.
func (u *Uplink) lasting(o *nats.Options) {
	o.AllowReconnect, o.MaxReconnect = true, -1
	// nats.go gives up after two equal refusals; a refusal may be control's
	// restart.
	o.IgnoreAuthErrorAbort = true
	o.ReconnectBufSize = -1 // what waits is in the spool, a heartbeat of then is of no use
	o.CustomReconnectDelayCB = backoff
	o.PingInterval, o.MaxPingsOut = 20*time.Second, 2
	o.DisconnectedErrCB = func(_ *nats.Conn, err error) {
		what := "the bus: connection lost"
		if err != nil {
			what += ": " + err.Error()
		}
		u.waits(what)
	}
	o.ReconnectErrCB = func(_ *nats.Conn, err error) {
		u.waits("the bus: " + err.Error())
		if authRefused(err) {
			u.enrolAgain()
		}
	}
	o.ReconnectedCB = func(*nats.Conn) {
		u.waits("")
		u.hint()
		u.spool.nudge()
	}
	o.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) {
		u.log.Warn("bus", "err", err)
		if authRefused(err) {
			u.enrolAgain()
		}
	}
}

func authRefused(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked) ||
		strings.Contains(strings.ToLower(err.Error()), "authorization violation")
}

func (u *Uplink) dial(user, inbox string, shape func(*nats.Options)) (*nats.Conn, error) {
	pool, err := rootsOf(u.target.Bus)
	if err != nil {
		return nil, err
	}
	o := nats.GetDefaultOptions()
	o.Servers, o.NoRandomize = u.target.Bus.URLs, false
	o.Name = "ingot " + string(u.cfg.Role)
	o.User, o.Nkey, o.SignatureCB = user, u.pub, u.key.Sign
	o.TLSConfig, o.Secure = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, true
	o.InboxPrefix = inbox
	o.Timeout = dialTimeout
	o.IgnoreDiscoveredServers = true
	shape(&o)
	nc, err := o.Connect()
	if err != nil {
		return nil, fmt.Errorf("connect to %s as %s: %w", strings.Join(o.Servers, ", "), user, err)
	}
	return nc, nil
}

func (u *Uplink) enrolAgain() {
	select {
	case u.again <- struct{}{}:
	default: // it is asked for already
	}
}

// keep renews the session at half of its life, and enrols again when the
// server refuses it. The connection that stands is not touched: when control is
// away, a node that is in stays in.
func (u *Uplink) keep() {
	t := time.NewTimer(jitter(sessionRenew))
	defer t.Stop()
	for n := 0; ; {
		select {
		case <-u.ctx.Done():
			return
		case <-t.C:
		case <-u.again:
			if !sleep(u.ctx, backoff(n)) {
				return
			}
		}
		err := u.enroll(u.ctx)
		var rejected *RejectedError
		switch {
		case err == nil:
			n = 0
			t.Reset(jitter(sessionRenew))
		case errors.As(err, &rejected):
			n++
			u.log.Warn("renew session", "err", err)
			t.Reset(jitter(rejectedAgain))
		default:
			n++
			u.log.Warn("renew session", "err", err)
			t.Reset(backoff(n))
		}
	}
}

// backoff doubles from retryFirst to retryMost, with jitter over the whole, so
// that a rack that lost its bus does not come back as one.
func backoff(n int) time.Duration {
	return jitter(min(retryMost, retryFirst<<min(n, 10)))
}

// jitter is between a half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
