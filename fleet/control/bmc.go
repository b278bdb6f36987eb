package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/ipmi"
	"github.com/ingot-metal/ingot/hardware/redfish"
)

const (
	defaultBMCEvery = 10 * time.Second
	// deniedPause is how long a BMC that refused the account is left alone:
	// asking again is what locks accounts.
	deniedPause       = 10 * time.Minute
	defaultBMCTimeout = 15 * time.Second
	crawlTimeout      = 5 * time.Minute
	pollsAtOnce       = 8
)

// The ways to a BMC.
const (
	viaRedfish = "redfish"
	viaIPMI    = "ipmi"
)

// bmcs speaks to the BMCs that are known. There is one owner per BMC: whoever
// speaks to it holds its turn.
type bmcs struct {
	c      *Control
	wake   chan struct{}
	crawls chan crawl

	mu     sync.Mutex
	owners map[string]*owner // by address
	// begun and ended are the last boots whose crawls did.
	begun, ended map[fleet.NodeID]int64
}

// owner is the turn to speak to one BMC.
type owner struct {
	turn     chan struct{}
	mu       sync.Mutex
	shunned  map[string]time.Time // by way: left alone until
	lastFail string
}

// target is a server whose BMC is known.
type target struct {
	key  fleet.NodeID
	name string
	bmc  fleet.BMC
}

func newBMCs(c *Control) *bmcs {
	return &bmcs{c: c, wake: make(chan struct{}, 1), crawls: make(chan crawl, 1024),
		owners: map[string]*owner{}, begun: map[fleet.NodeID]int64{}, ended: map[fleet.NodeID]int64{}}
}

func (b *bmcs) nudge() {
	select {
	case b.wake <- struct{}{}:
	default: // it is awake
	}
}

func (b *bmcs) owner(bmc fleet.BMC) *owner {
	key := firstOf(bmc.Address, bmc.Redfish, bmc.IPMI)
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.owners[key]
	if !ok {
		o = &owner{turn: make(chan struct{}, 1), shunned: map[string]time.Time{}}
		b.owners[key] = o
	}
	return o
}

// with runs f while nobody else speaks to the BMC.
func (o *owner) with(ctx context.Context, f func() error) error {
	select {
	case o.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for the BMC's turn: %w", ctx.Err())
	}
	defer func() { <-o.turn }()
	return f()
}

// ask runs f, which goes one way to the BMC, unless that way refused the
// account a while ago: whoever goes on asking has it locked.
func (o *owner) ask(via string, f func() error) error {
	o.mu.Lock()
	until := o.shunned[via]
	o.mu.Unlock()
	if time.Now().Before(until) {
		return fmt.Errorf("%w over %s: it is left alone until %s", errShunned, via, stamp(until))
	}
	err := f()
	if denied(err) {
		o.mu.Lock()
		o.shunned[via] = time.Now().Add(deniedPause)
		o.mu.Unlock()
	}
	return err
}

// errShunned is a refusal that is remembered.
var errShunned = errors.New("the BMC refused the account")

// denied says that the BMC refused the account, now or a while ago.
func denied(err error) bool {
	return errors.Is(err, redfish.ErrDenied) || errors.Is(err, ipmi.ErrRefused) || errors.Is(err, errShunned)
}

// numbers differ from try to try: ports of ours, times, tags.
var numbers = regexp.MustCompile(`[0-9]+`)

// news says whether an error is another than the last one.
func (o *owner) news(err error) bool {
	text := ""
	if err != nil {
		text = numbers.ReplaceAllString(err.Error(), "#")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	changed := text != o.lastFail
	o.lastFail = text
	return changed && err != nil
}

func (b *bmcs) redfish(bmc fleet.BMC, timeout time.Duration) (redfish.Options, bool) {
	url := bmc.Redfish
	if url == "" && bmc.Address != "" {
		url = "https://" + bmc.Address
		if a, err := netip.ParseAddr(bmc.Address); err == nil && a.Is6() {
			url = "https://[" + bmc.Address + "]"
		}
	}
	return redfish.Options{URL: url, User: b.c.cfg.BMCUser, Password: b.c.cfg.BMCPassword, CA: []byte(bmc.CAPEM), Timeout: timeout}, url != ""
}

func (b *bmcs) ipmi(bmc fleet.BMC, timeout time.Duration) (ipmi.Options, bool) {
	addr := firstOf(bmc.IPMI, bmc.Address)
	return ipmi.Options{Address: addr, User: b.c.cfg.BMCUser, Password: b.c.cfg.BMCPassword, Timeout: timeout}, addr != ""
}

// power reads the power state over one way.
func (b *bmcs) power(ctx context.Context, bmc fleet.BMC, via string) (state hardware.PowerState, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.c.cfg.BMCTimeout)
	defer cancel()
	err = b.owner(bmc).ask(via, func() (err error) {
		if via == viaIPMI {
			if o, ok := b.ipmi(bmc, b.c.cfg.BMCTimeout); ok {
				state, err = ipmi.Power(ctx, o)
				return err
			}
			return errors.New("read power state: no IPMI address is known")
		}
		if o, ok := b.redfish(bmc, b.c.cfg.BMCTimeout); ok {
			state, err = redfish.Power(ctx, o)
			return err
		}
		return errors.New("read power state: no Redfish address is known")
	})
	return state, err
}

func (b *bmcs) setPower(ctx context.Context, bmc fleet.BMC, via string, a hardware.PowerAction) error {
	return b.owner(bmc).ask(via, func() error {
		if via == viaIPMI {
			if o, ok := b.ipmi(bmc, powerTimeout); ok {
				return ipmi.SetPower(ctx, o, a)
			}
			return errors.New("set power: no IPMI address is known")
		}
		if o, ok := b.redfish(bmc, powerTimeout); ok {
			return redfish.SetPower(ctx, o, a)
		}
		return errors.New("set power: no Redfish address is known")
	})
}

// ways are the ways to a BMC, the cheaper one first: a Redfish login is four
// requests.
func ways(bmc fleet.BMC) []string {
	switch {
	case bmc.Address != "" || bmc.Redfish != "" && bmc.IPMI != "":
		return []string{viaIPMI, viaRedfish}
	case bmc.IPMI != "":
		return []string{viaIPMI}
	case bmc.Redfish != "":
		return []string{viaRedfish}
	}
	return nil
}

// targets are the expected machines that have a BMC.
func (b *bmcs) targets() []target {
	var out []target
	for _, m := range b.c.reg.allMachines() {
		if m.BMC != nil && len(ways(*m.BMC)) > 0 {
			out = append(out, target{b.c.reg.keyOf(m), m.Name, *m.BMC})
		}
	}
	return out
}

// target is the BMC of a node: that of its expected machine, else the one that
// its inventory names.
func (b *bmcs) target(ctx context.Context, key fleet.NodeID) (target, bool) {
	if m, ok := b.c.reg.machineOf(key); ok && m.BMC != nil && len(ways(*m.BMC)) > 0 {
		return target{key, m.Name, *m.BMC}, true
	}
	inv, _, ok, err := b.c.views.inventory(ctx, string(key))
	address := reachable(inv.BMC.Addresses)
	if err != nil || !ok || address == "" {
		return target{}, false
	}
	return target{key, string(key), fleet.BMC{Address: address}}, true
}

func (b *bmcs) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { b.crawl(ctx) })
	every := b.c.cfg.BMCEvery
	if every < 0 {
		return
	}
	if every == 0 {
		every = defaultBMCEvery
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		b.pollAll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-b.wake:
		}
	}
}

func (b *bmcs) pollAll(ctx context.Context) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, pollsAtOnce)
	for _, t := range b.targets() {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			b.poll(ctx, t)
		})
	}
	wg.Wait()
}

// poll reads the power state of one server and tells the status.
func (b *bmcs) poll(ctx context.Context, t target) {
	o := b.owner(t.bmc)
	var state hardware.PowerState
	err := o.with(ctx, func() (worst error) {
		for _, via := range ways(t.bmc) {
			var err error
			if state, err = b.power(ctx, t.bmc, via); err == nil {
				return nil
			}
			if worst == nil || denied(err) && !denied(worst) {
				worst = err
			}
		}
		return worst
	})
	if ctx.Err() != nil {
		return
	}
	if o.news(err) {
		b.c.log.Warn("BMC", "machine", t.name, "err", err)
		reason := fleet.ReasonBMCSilent
		if denied(err) {
			reason = fleet.ReasonBMCDenied
		}
		b.c.event(ctx, t.key, fleet.SourceControl, fleet.KindBMCFailed, fleet.NewProblemOf(reason, err))
	}
	if err != nil {
		return
	}
	if err := b.c.status.apply(ctx, t.key, Input{Now: time.Now(), Power: string(state)}); err != nil && ctx.Err() == nil {
		b.c.log.Error("status", "node", t.key, "err", err)
	}
}

// event writes one of our events into the present attempt.
func (c *Control) event(ctx context.Context, key fleet.NodeID, source fleet.Source, kind string, data any) {
	if err := c.publish(ctx, key, source, kind, data); err != nil && c.ctx.Err() == nil {
		c.log.Error("event", "node", key, "kind", kind, "err", err)
	}
}

// publish writes an event into the present boot of a server.
func (c *Control) publish(ctx context.Context, key fleet.NodeID, source fleet.Source, kind string, data any) error {
	attempt, err := c.att.current(ctx, key)
	if err != nil {
		return err
	}
	return c.pub.publish(ctx, key, attempt, source, kind, time.Now(), data)
}
