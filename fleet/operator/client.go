package operator

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
)

// ErrUnreachable says that no bus answered where the context points.
var ErrUnreachable = errors.New("the fleet bus does not answer")

// ErrNotFound says that the fleet knows no such node, stack or machine.
var ErrNotFound = errors.New("not found")

// RefusedError is a request that was understood and not carried out.
type RefusedError struct {
	What string
	fleet.Problem
}

func (e *RefusedError) Error() string {
	s := e.What + ": refused"
	if e.Reason != "" {
		s += ": " + string(e.Reason)
	}
	if e.Evidence != "" {
		s += ": " + e.Evidence
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Client is a connection to one fleet. It is safe for concurrent use.
type Client struct {
	oc  fleet.OperatorContext
	nc  *nats.Conn
	js  jetstream.JetStream
	key ed25519.PrivateKey

	mu    sync.Mutex
	async error // the last violation that the bus reported
}

// Connect opens the bus that oc names. lost, which may be nil, is told when the
// bus goes away; the client comes back by itself.
func Connect(oc fleet.OperatorContext, lost func(error)) (*Client, error) {
	c := &Client{oc: oc}
	if len(oc.SigningKey) == ed25519.SeedSize {
		c.key = ed25519.NewKeyFromSeed(oc.SigningKey)
	}
	var err error
	c.nc, err = dial(oc, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.async = err
	}), nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
		if err != nil && lost != nil {
			lost(err)
		}
	}))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrUnreachable, err)
	}
	if c.js, err = jetstream.New(c.nc); err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("open JetStream: %v", err)
	}
	return c, nil
}

// dial tries again where a server took the connection and dropped it: it was
// on its way down, and another of the bus is there.
func dial(oc fleet.OperatorContext, options ...nats.Option) (*nats.Conn, error) {
	for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		nc, err := bus.DialOperator(oc, options...)
		dropped := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
		if !dropped || time.Since(begin) > oneTry {
			return nc, err
		}
	}
}

// Close ends the connection.
func (c *Client) Close() { c.nc.Close() }

// Context is what the client was opened with.
func (c *Client) Context() fleet.OperatorContext { return c.oc }

// Roots are the trust roots that the context names. They accept lab keys where
// the context's own key is one.
func (c *Client) Roots() sign.Roots {
	r := sign.Roots{}
	for _, e := range c.oc.Delegations {
		if d, err := images.ParseDelegation(e.Payload); err == nil && d.Lab {
			r.Lab = true
		}
	}
	for _, k := range c.oc.Roots {
		r.Keys = append(r.Keys, ed25519.PublicKey(k))
	}
	return r
}

// explain adds what the bus said out of band: a forbidden JetStream request
// only times out at the caller.
func (c *Client) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil || c.async == nil {
		return err
	}
	return fmt.Errorf("%w (the bus said: %v)", err, c.async)
}
