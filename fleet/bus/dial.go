package bus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// DialOperator connects a console to the bus of a context.
func DialOperator(c fleet.OperatorContext, extra ...nats.Option) (*nats.Conn, error) {
	return dialAs(fleet.UserOperator, c, extra...)
}

// DialReconciler connects a grant reconciler that runs apart: the context's
// seed is its own.
func DialReconciler(c fleet.OperatorContext, extra ...nats.Option) (*nats.Conn, error) {
	return dialAs(UserReconciler, c, extra...)
}

func dialAs(user string, c fleet.OperatorContext, extra ...nats.Option) (*nats.Conn, error) {
	kp, err := nkeys.FromSeed([]byte(c.Seed))
	if err != nil {
		return nil, fmt.Errorf("%s key: %v", user, err)
	}
	pub, err := kp.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("%s key: %v", user, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.Bus.CAPEM)) {
		return nil, errors.New("bus CA: no certificate in the context")
	}
	opts := nats.GetDefaultOptions()
	opts.Servers = c.Bus.URLs
	opts.Name = "ingot " + user
	opts.User, opts.Nkey, opts.SignatureCB = user, pub, kp.Sign
	opts.TLSConfig, opts.Secure = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, true
	opts.InboxPrefix = fleet.InboxPrefix(pub)
	opts.Timeout = 10 * time.Second
	opts.IgnoreAuthErrorAbort = true
	opts.MaxReconnect, opts.ReconnectWait = -1, 250*time.Millisecond
	opts.IgnoreDiscoveredServers = true // the context names them all
	for _, o := range extra {
		if err := o(&opts); err != nil {
			return nil, fmt.Errorf("connect to %v: %w", c.Bus.URLs, err)
		}
	}
	nc, err := opts.Connect()
	if err != nil {
		return nil, fmt.Errorf("connect to %v as %s: %w", c.Bus.URLs, user, err)
	}
	return nc, nil
}
