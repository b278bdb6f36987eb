package control

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/ipmi"
	"github.com/ingot-metal/ingot/hardware/redfish"
)

// crawlsAtOnce bounds the BMCs that are read at once; each has a window of its
// own beside that.
const crawlsAtOnce = 256

// crawl is a BMC to read, for one boot of its server.
type crawl struct {
	node    fleet.NodeID
	attempt int64
}

// statusChanged has a node's BMC read once in each boot, after the report.
func (b *bmcs) statusChanged(s fleet.Status) {
	if !reported(s) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.begun[s.Node] >= s.Attempt {
		return
	}
	select {
	case b.crawls <- crawl{s.Node, s.Attempt}:
		b.begun[s.Node] = s.Attempt
	default: // the next change of the status asks again
	}
}

// reported says whether the in-band report of this boot is there and its agent
// still is.
func reported(s fleet.Status) bool {
	return s.Phase == fleet.PhaseWaiting || s.Phase == fleet.PhaseFetching
}

// awaited says whether a crawl of a node's BMC is still to end in this boot.
func (b *bmcs) awaited(n fleet.NodeID, s fleet.Status) bool {
	if s.Phase != fleet.PhaseInspecting && !reported(s) {
		return false
	}
	b.mu.Lock()
	ended := b.ended[n] >= s.Attempt
	b.mu.Unlock()
	if ended {
		return false
	}
	ctx, cancel := context.WithTimeout(b.c.ctx, viewLimit)
	defer cancel()
	_, ok := b.target(ctx, n)
	return ok
}

// crawl reads BMCs until ctx ends.
func (b *bmcs) crawl(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, crawlsAtOnce)
	for {
		select {
		case <-ctx.Done():
			return
		case x := <-b.crawls:
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				b.crawlNode(ctx, x)
			})
		}
	}
}

// crawlNode reads what the BMC says of its server and has it joined to what the
// server said.
func (b *bmcs) crawlNode(ctx context.Context, x crawl) {
	t, ok := b.target(ctx, x.node)
	if !ok {
		return // no BMC is known: a finding of the inventory says so
	}
	start := time.Now()
	var view hardware.View
	err := guarded(func() (err error) {
		if view, err = b.readOne(ctx, t); err != nil {
			return err
		}
		return b.c.views.crawled(ctx, x.node, x.attempt, view)
	})
	b.mu.Lock()
	b.ended[x.node] = max(b.ended[x.node], x.attempt)
	b.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	joined, jerr := b.c.views.update(ctx, x.node)
	if err = errors.Join(err, jerr); err != nil {
		b.c.log.Warn("crawl BMC", "node", x.node, "err", err)
		b.c.event(ctx, x.node, fleet.SourceControl, fleet.KindBMCFailed, fleet.NewProblemOf(fleet.ReasonBMCUnreadable, err))
		return
	}
	b.c.event(ctx, x.node, fleet.SourceControl, fleet.KindRedfish, fleet.ReportData{
		Digest: string(joined.Digest()), Summary: view.Inventory.Summary(), Seconds: time.Since(start).Seconds()})
}

func (b *bmcs) readOne(ctx context.Context, t target) (view hardware.View, err error) {
	ctx, cancel := context.WithTimeout(ctx, crawlTimeout)
	defer cancel()
	err = b.owner(t.bmc).with(ctx, func() (err error) {
		view, err = b.read(ctx, t.bmc)
		return err
	})
	return view, err
}

// read asks by Redfish, and by IPMI what that alone knows: event log, sensors,
// accounts and cipher suites of the LAN. A BMC of which one way is closed, as it
// should be where nobody uses it, is read over the other.
func (b *bmcs) read(ctx context.Context, bmc fleet.BMC) (hardware.View, error) {
	var over [2]hardware.View
	errs := [2]error{errNoWay, errNoWay}
	if o, ok := b.redfish(bmc, 0); ok {
		o.Readings = true
		errs[0] = b.owner(bmc).ask(viaRedfish, func() (err error) {
			over[0].Inventory, over[0].Readings, _, err = redfish.Read(ctx, o)
			return err
		})
	}
	if o, ok := b.ipmi(bmc, 0); ok {
		errs[1] = b.owner(bmc).ask(viaIPMI, func() (err error) {
			over[1], _, err = ipmi.Crawl(ctx, o)
			return err
		})
	}
	switch {
	case errs[0] != nil && errs[1] != nil:
		return hardware.View{}, errors.Join(without(errs[0], errNoWay), without(errs[1], errNoWay))
	case errs[0] != nil:
		b.c.log.Info("BMC was read over IPMI alone", "err", errs[0])
		return over[1], nil
	case errs[1] != nil:
		b.c.log.Info("BMC was read over Redfish alone", "err", errs[1])
		return over[0], nil
	}
	view := hardware.View{Inventory: hardware.Fill(over[0].Inventory, over[1].Inventory), Readings: over[0].Readings}
	view.Inventory.Findings = append(view.Inventory.Findings, over[1].Inventory.Findings...)
	view.Readings.Join(over[1].Readings)
	return view, nil
}

var errNoWay = errors.New("no address is known for it")

func without(err, drop error) error {
	if errors.Is(err, drop) {
		return nil
	}
	return err
}

// reachable is the address of a BMC that a node's own inventory names, which a
// hostile node chose: none that leads back to ourselves or to no one machine.
func reachable(addresses []string) string {
	var six string
	for _, text := range addresses {
		a, err := netip.ParseAddr(text)
		if p, perr := netip.ParsePrefix(text); perr == nil {
			a, err = p.Addr(), nil
		}
		a = a.Unmap()
		switch {
		case err != nil || !a.IsGlobalUnicast() || a.IsLoopback():
		case a.Is4():
			return a.String()
		case six == "":
			six = a.String()
		}
	}
	return six
}
