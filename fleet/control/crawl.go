package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/ipmi"
	"github.com/ingot-metal/ingot/hardware/redfish"
	"github.com/nats-io/nats.go/jetstream"
)

// bmcView is the key of the inventory bucket where the node's own view and its
// BMC's stand joined; the node may not write it.
func bmcView(n fleet.NodeID) string { return string(n) + ".bmc" }

// statusChanged has a node's BMC read once in each boot, after the report.
func (b *bmcs) statusChanged(s fleet.Status) {
	if s.Phase != fleet.PhaseWaiting && s.Phase != fleet.PhaseFetching {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.crawled[s.Node] >= s.Attempt {
		return
	}
	select {
	case b.crawls <- s.Node:
		b.crawled[s.Node] = s.Attempt
	default: // the next change of the status asks again
	}
}

func (b *bmcs) crawl(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-b.crawls:
			if err := b.crawlNode(ctx, n); err != nil && ctx.Err() == nil {
				b.c.log.Warn("crawl BMC", "node", n, "err", err)
				b.c.event(ctx, n, fleet.SourceControl, fleet.KindBMCFailed, fleet.NewProblemOf(fleet.ReasonBMCUnreadable, err))
			}
		}
	}
}

// crawlNode reads what the BMC says of its server and joins it to what the
// server said.
func (b *bmcs) crawlNode(ctx context.Context, n fleet.NodeID) error {
	t, ok := b.target(ctx, n)
	if !ok {
		return nil // no BMC is known: a finding of the inventory says so
	}
	inband, ok, err := b.stored(ctx, n)
	if err != nil || !ok {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, crawlTimeout)
	defer cancel()
	var view hardware.Inventory
	start := time.Now()
	err = b.owner(t.bmc).with(ctx, func() (err error) {
		view, err = b.read(ctx, t.bmc)
		return err
	})
	if err != nil {
		return err
	}
	joined := hardware.Join(inband, view)
	raw, err := joined.Encode()
	if err != nil {
		return fmt.Errorf("write joined inventory: %w", err)
	}
	if _, err := b.inventory.Put(ctx, bmcView(n), raw); err != nil {
		return fmt.Errorf("store joined inventory: %w", err)
	}
	b.c.event(ctx, n, fleet.SourceControl, fleet.KindRedfish, fleet.ReportData{Digest: string(joined.Digest()), Summary: view.Summary(), Seconds: time.Since(start).Seconds()})
	for _, f := range joined.Findings {
		if f.Source == "join" && !slices.Contains(inband.Findings, f) {
			b.c.event(ctx, n, fleet.SourceControl, fleet.KindFinding, fleet.Problem{Reason: fleet.ReasonCode(f.Code), Hint: firstOf(f.Hint, fleet.ReasonCode(f.Code).Hint()), Evidence: f.Evidence})
		}
	}
	return nil
}

// read asks by Redfish, and by IPMI where that does not answer.
func (b *bmcs) read(ctx context.Context, bmc fleet.BMC) (hardware.Inventory, error) {
	var inv hardware.Inventory
	var first error
	if o, ok := b.redfish(bmc, 0); ok {
		first = b.owner(bmc).ask(viaRedfish, func() (err error) {
			inv, _, _, err = redfish.Read(ctx, o)
			return err
		})
		if first == nil || denied(first) {
			return inv, first
		}
	}
	o, ok := b.ipmi(bmc, 0)
	if !ok {
		return hardware.Inventory{}, first
	}
	err := b.owner(bmc).ask(viaIPMI, func() (err error) {
		inv, err = ipmi.ReadLAN(ctx, o)
		return err
	})
	return inv, errors.Join(first, err)
}

// stored is the inventory that a node put into the bucket. A node wrote it: it
// is bounded and may be nonsense.
func (b *bmcs) stored(ctx context.Context, n fleet.NodeID) (hardware.Inventory, bool, error) {
	var inv hardware.Inventory
	e, err := b.inventory.Get(ctx, string(n))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return inv, false, nil
	}
	if err != nil {
		return inv, false, fmt.Errorf("read inventory of %s: %w", n, err)
	}
	if inv, err = hardware.Decode(e.Value()); err != nil {
		return inv, false, fmt.Errorf("read inventory of %s: %v", n, err)
	}
	return inv, true, nil
}
