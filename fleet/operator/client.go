package operator

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/ingot-metal/ingot/fleet"
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
		s += ": " + e.Reason
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

// Connect opens the bus that oc names.
func Connect(ctx context.Context, oc fleet.OperatorContext) (*Client, error) {
	c := &Client{oc: oc}
	if len(oc.SigningKey) == ed25519.SeedSize {
		c.key = ed25519.NewKeyFromSeed(oc.SigningKey)
	}
	opts, err := c.options(ctx)
	if err != nil {
		return nil, err
	}
	c.nc, err = nats.Connect(strings.Join(oc.Bus.URLs, ","), opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s as %s: %w: %v", strings.Join(oc.Bus.URLs, ", "), fleet.UserOperator, ErrUnreachable, err)
	}
	if c.js, err = jetstream.New(c.nc); err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("open JetStream: %v", err)
	}
	return c, nil
}

func (c *Client) options(ctx context.Context) ([]nats.Option, error) {
	pair, err := nkeys.FromSeed([]byte(c.oc.Seed))
	if err != nil {
		return nil, fmt.Errorf("read the context's nkey seed: %v", err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read the context's nkey seed: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.oc.Bus.CAPEM)) {
		return nil, errors.New("read the context's bus CA: no certificate in it")
	}
	timeout := 5 * time.Second
	if d, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(d))
	}
	return []nats.Option{
		nats.Name("ingot operator"),
		nats.UserInfo(fleet.UserOperator, ""),
		nats.Nkey(public, pair.Sign),
		nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}),
		nats.Timeout(timeout),
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.async = err
		}),
	}, nil
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
