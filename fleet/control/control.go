package control

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/boot/netboot"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
)

// Config is what control needs.
type Config struct {
	// Bus is where control lives; its connection and its kicks are used.
	Bus *bus.Server
	// Roots check operators' signatures.
	Roots sign.Roots
	// Reconciler signs grants; Delegations are the root's word for it and for
	// the operators.
	Reconciler  ed25519.PrivateKey
	Delegations []images.Envelope
	// Policy is PolicyApprove when empty.
	Policy Policy
	// BMCUser and BMCPassword are the one account that control uses.
	BMCUser     string
	BMCPassword hardware.Secret
	// BMCEvery is how often the power of known BMCs is read; 10 s when zero,
	// never when negative.
	BMCEvery time.Duration
	// ObeyLimit is how long a server may take until its BMC reads as it was
	// asked to be; 30 s when zero.
	ObeyLimit time.Duration
	// BMCTimeout is how long one reading of a BMC's power may take; 15 s when
	// zero.
	BMCTimeout time.Duration
	Log        *slog.Logger
}

// Control is the running reconcilers.
type Control struct {
	cfg    Config
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	nc     *nats.Conn

	reg    *registry
	att    *attempts
	status *statuses
	pub    *publisher
	grants *granter
	bmcs   *bmcs
	views  *views
	seen   chan netboot.Event
	powers chan struct{} // one for each power command under way

	commands nonces
	askers   askers
	// audits and strangers bound what is written for whoever is no node.
	audits    limiter
	strangers limiter

	mu   sync.Mutex
	said map[string]bool
}

// Start runs the reconcilers until [Control.Close] or the end of ctx. When it
// returns, nodes are let in.
func Start(ctx context.Context, cfg Config) (*Control, error) {
	if cfg.Policy == "" {
		cfg.Policy = PolicyApprove
	}
	if cfg.Policy != PolicyOpen && cfg.Policy != PolicyApprove {
		return nil, fmt.Errorf("control: policy %.40q is not known", cfg.Policy)
	}
	cfg.ObeyLimit = cmp.Or(cfg.ObeyLimit, 30*time.Second)
	cfg.BMCTimeout = cmp.Or(cfg.BMCTimeout, defaultBMCTimeout)
	if len(cfg.Reconciler) != ed25519.PrivateKeySize {
		return nil, errors.New("control: no reconciler key is given")
	}
	c := &Control{cfg: cfg, log: cfg.Log, nc: cfg.Bus.Conn(), seen: make(chan netboot.Event, observeQueue), said: map[string]bool{}, powers: make(chan struct{}, powersAtOnce)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.ctx, c.cancel = context.WithCancel(ctx)
	if err := c.start(); err != nil {
		c.Close()
		return nil, fmt.Errorf("control: %w", err)
	}
	return c, nil
}

func (c *Control) start() error {
	js, err := jetstream.New(c.nc)
	if err != nil {
		return err
	}
	if c.reg, err = newRegistry(c.ctx, js); err != nil {
		return err
	}
	if c.att, err = newAttempts(c.ctx, js); err != nil {
		return err
	}
	c.commands = nonces{table[nonce]{c.att.table.kv}}
	if c.status, err = newStatuses(c.ctx, js, c.reg, c.log); err != nil {
		return err
	}
	if c.grants, err = newGranter(c.ctx, js, c); err != nil {
		return err
	}
	c.pub = newPublisher(js, c.cfg.Reconciler.Seed())
	if c.views, err = newViews(c.ctx, js, c); err != nil {
		return err
	}
	c.bmcs = newBMCs(c)
	c.status.changed = c.statusChanged
	c.status.reported = func(n fleet.NodeID) { c.views.nudge(n) }
	c.status.malformed = c.malformed
	if err := c.status.load(c.ctx); err != nil {
		return err
	}
	if err := c.watchBuckets(js); err != nil {
		return err
	}
	c.keep("events", c.status.follow)
	hb, err := c.nc.Subscribe("ingot.hb.*", func(m *nats.Msg) { c.status.beat(c.ctx, m) })
	if err != nil {
		return err
	}
	inv, err := c.nc.Subscribe(string(fleet.KVSubject(fleet.BucketInventory, "*")), c.inventoryWritten)
	if err != nil {
		return err
	}
	// The connection outlives control; if it is gone, so are these.
	context.AfterFunc(c.ctx, func() { _ = errors.Join(hb.Unsubscribe(), inv.Unsubscribe()) })
	c.wg.Go(func() { c.status.tick(c.ctx) })
	c.wg.Go(func() { c.grants.run(c.ctx) })
	c.wg.Go(func() { c.observe(c.ctx) })
	c.wg.Go(func() { c.expire(c.ctx) })
	c.wg.Go(func() { c.bmcs.run(c.ctx) })
	c.wg.Go(func() { c.views.run(c.ctx) })
	c.cfg.Bus.SetAuthorizer(c)
	c.cfg.Bus.OnViolation(c.violated)
	return c.serve()
}

// watchBuckets follows nodes and config, and returns when what stands in them
// is known.
func (c *Control) watchBuckets(js jetstream.JetStream) error {
	config, err := openTable[json.RawMessage](c.ctx, js, fleet.BucketConfig)
	if err != nil {
		return err
	}
	nodesReady, configReady := make(chan struct{}), make(chan struct{})
	var once1, once2 sync.Once
	c.keep("nodes", func(ctx context.Context) error {
		return c.reg.nodes.watch(ctx, js, nodePrefix, func(_ string, n *fleet.Node, rev uint64) {
			if n != nil && c.reg.learn(*n, rev) {
				// Another control, or this one before it ended, may have denied
				// a key that is in.
				for _, d := range n.Denied {
					c.kick(d.Key)
				}
			}
		}, func() { once1.Do(func() { close(nodesReady) }) })
	})
	c.keep("config", func(ctx context.Context) error {
		return config.watch(ctx, js, "", c.configChanged, func() { once2.Do(func() { close(configReady) }) })
	})
	for _, ready := range []chan struct{}{nodesReady, configReady} {
		select {
		case <-ready:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		case <-time.After(20 * time.Second):
			return errors.New("the buckets were not read within 20 s")
		}
	}
	return nil
}

func (c *Control) configChanged(key string, raw *json.RawMessage, _ uint64) {
	switch {
	case strings.HasPrefix(key, fleet.ConfigRule):
		c.grants.setRule(key, raw)
	case strings.HasPrefix(key, fleet.ConfigStack):
		c.grants.setStack(key, raw)
	case strings.HasPrefix(key, fleet.ConfigMachine):
		name := strings.TrimPrefix(key, fleet.ConfigMachine)
		var m *fleet.Machine
		if raw != nil {
			m = new(fleet.Machine)
			if err := json.Unmarshal(*raw, m); err != nil || m.Name == "" {
				c.log.Warn("expected machine is not accepted", "key", key, "err", err)
				m = nil
			}
		}
		c.reg.setMachine(name, m)
		c.bmcs.nudge()
	case key == fleet.ConfigExpected:
		c.expectedChanged(raw)
	default:
		if n, ok := baselineOf(key); ok {
			c.views.nudge(n)
		}
	}
}

func (c *Control) statusChanged(s fleet.Status) {
	if wants(s) {
		c.grants.nudge()
	}
	c.bmcs.statusChanged(s)
}

// keep runs f again, with a pause, whenever it ends before control does.
func (c *Control) keep(what string, f func(context.Context) error) {
	c.wg.Go(func() {
		for {
			err := f(c.ctx)
			if c.ctx.Err() != nil {
				return
			}
			c.log.Error("control: started again", "what", what, "err", err)
			select {
			case <-c.ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
	})
}

// serve answers what is asked of control.
func (c *Control) serve() error {
	s, err := micro.AddService(c.nc, micro.Config{Name: "ingot-control", Version: "1.0.0", Description: "enrolment and power"})
	if err != nil {
		return fmt.Errorf("micro service: %w", err)
	}
	context.AfterFunc(c.ctx, func() { _ = s.Stop() }) // as above
	err = errors.Join(
		s.AddEndpoint("enroll", micro.HandlerFunc(c.answerEnroll), micro.WithEndpointSubject(string(fleet.SubjectEnroll))),
		s.AddEndpoint("power", micro.HandlerFunc(c.answerPower), micro.WithEndpointSubject(string(fleet.SubjectPower))),
	)
	for verb, st := range standings {
		err = errors.Join(err, s.AddEndpoint(verb, c.answerStanding(verb), micro.WithEndpointSubject(string(st.subject))))
	}
	if err != nil {
		return fmt.Errorf("micro service: %w", err)
	}
	return c.nc.Flush()
}

// Authorize says who a proven key may speak as. It answers from memory.
func (c *Control) Authorize(_ context.Context, claim bus.Claim) (bus.Session, error) {
	if id, revoked := c.reg.deniedKey(claim.Key); revoked {
		return bus.Session{}, fmt.Errorf("the key is revoked; it was one of %s", id)
	}
	id, s, ok := c.reg.session(claim.Key, time.Now())
	if !ok {
		return bus.Session{}, errors.New("the key has no session")
	}
	return bus.Session{Node: id, Role: s.Role}, nil
}

// expire ends sessions that were not renewed.
func (c *Control) expire(ctx context.Context) {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for _, key := range c.reg.expired(now) {
				c.log.Info("session expired", "key", key)
				c.kick(key)
			}
			if err := c.commands.sweep(ctx, now); err != nil && ctx.Err() == nil {
				c.log.Warn("sweep nonces", "err", err)
			}
		}
	}
}

func (r *registry) expired(now time.Time) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []string
	for _, k := range r.byID {
		for _, s := range k.node.Sessions {
			if now.After(s.Expires) {
				out = append(out, s.Key)
			}
		}
	}
	return out
}

func (c *Control) kick(key string) { c.cfg.Bus.Kick(key) }

// delegations are ours with those of an entry, each once.
func (c *Control) delegations(more []images.Envelope) []images.Envelope {
	out := slices.Clone(c.cfg.Delegations)
	for _, d := range more {
		if !slices.ContainsFunc(out, func(o images.Envelope) bool { return string(o.Payload) == string(d.Payload) }) {
			out = append(out, d)
		}
	}
	return out[:min(len(out), 16)]
}

// once says something unless it was said before. What the bus did not take is
// said again the next time.
func (c *Control) once(what string, say func() error) {
	c.mu.Lock()
	before := c.said[what]
	if len(c.said) > 10000 {
		clear(c.said)
	}
	c.said[what] = true
	c.mu.Unlock()
	if before {
		return
	}
	if err := say(); err != nil && c.ctx.Err() == nil {
		c.log.Error("event", "what", what, "err", err)
		c.mu.Lock()
		delete(c.said, what)
		c.mu.Unlock()
	}
}

// Close ends the reconcilers and waits for them.
func (c *Control) Close() {
	c.cancel()
	c.wg.Wait()
}
