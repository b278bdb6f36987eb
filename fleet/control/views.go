package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/redfish"
	"github.com/ingot-metal/ingot/images"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// mostDrift bounds the differences from the baseline that a view holds.
	mostDrift = 48
	// updateAgain is when a view that was not made is tried again.
	updateAgain = 10 * time.Second
	// mostTold is how many differences one event names.
	mostTold = 4
)

// views puts together, for each node, what its own readers and its BMC said,
// and what differs from the bill that it was bought by and from the baseline
// that an operator accepted. It follows reports, crawls and what operators
// write; nothing that a node waits for waits for it.
type views struct {
	c       *Control
	js      jetstream.JetStream
	config  jetstream.KeyValue
	writing sync.Mutex // one view at a time: both its worker and the crawls write

	mu   sync.Mutex
	due  map[fleet.NodeID]bool
	wake chan struct{}
}

func newViews(ctx context.Context, js jetstream.JetStream, c *Control) (*views, error) {
	kv, err := js.KeyValue(ctx, fleet.BucketConfig)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", fleet.BucketConfig, err)
	}
	return &views{c: c, js: js, config: kv, due: map[fleet.NodeID]bool{}, wake: make(chan struct{}, 1)}, nil
}

// nudge has the views of nodes made anew, soon.
func (v *views) nudge(nodes ...fleet.NodeID) {
	v.mu.Lock()
	for _, n := range nodes {
		v.due[n] = true
	}
	v.mu.Unlock()
	select {
	case v.wake <- struct{}{}:
	default: // it is awake
	}
}

func (v *views) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		}
		v.mu.Lock()
		due := v.due
		v.due = map[fleet.NodeID]bool{}
		v.mu.Unlock()
		for n := range due {
			if _, err := v.update(ctx, n); err != nil && ctx.Err() == nil {
				v.c.log.Error("inventory", "node", n, "err", err)
				time.AfterFunc(updateAgain, func() { v.nudge(n) })
			}
		}
	}
}

// get is a value of the inventory bucket; false where there is none.
func (v *views) get(ctx context.Context, key string) (bus.Value, bool, error) {
	got, err := led(ctx, func() (bus.Value, error) { return bus.GetValue(ctx, v.c.nc, fleet.BucketInventory, key) })
	if errors.Is(err, bus.ErrNoValue) {
		return got, false, nil
	}
	return got, err == nil, err
}

func (v *views) put(ctx context.Context, bucket, key string, attempt int64, b []byte) error {
	_, err := led(ctx, func() (any, error) { return nil, bus.PutValue(ctx, v.js, bucket, key, attempt, b) })
	return err
}

// inventory reads one record of the bucket. A node may have written it: it is
// bounded and may be nonsense.
func (v *views) inventory(ctx context.Context, key string) (inv hardware.Inventory, attempt int64, ok bool, err error) {
	got, ok, err := v.get(ctx, key)
	if err != nil || !ok {
		return inv, 0, false, err
	}
	if inv, err = hardware.Decode(got.Data); err != nil {
		return inv, 0, false, fmt.Errorf("read inventory %s: %v", key, err)
	}
	return inv, got.Attempt, true, nil
}

// guarded is f with a panic as its error: what a server or its BMC says must not
// end control.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// update makes the view of a node anew, and writes it where it changed.
func (v *views) update(ctx context.Context, n fleet.NodeID) (view hardware.Inventory, err error) {
	err = guarded(func() (err error) {
		view, err = v.make(ctx, n)
		return err
	})
	return view, err
}

func (v *views) make(ctx context.Context, n fleet.NodeID) (hardware.Inventory, error) {
	v.writing.Lock()
	defer v.writing.Unlock()
	st, known := v.c.status.of(n)
	own, attempt, ok, err := v.inventory(ctx, string(n))
	if err != nil || !ok || !known || attempt > st.Attempt { // of a boot whose report is on its way
		return own, err
	}
	if attempt == 0 { // an agent of an older version
		attempt = st.Attempt
	}
	view, joined, err := v.join(ctx, n, own, attempt)
	if err != nil {
		return own, err
	}
	found := slices.Concat(v.byBill(n, st, view, joined), v.byBaseline(ctx, n, view, joined))
	view.Findings = append(view.Findings, found...)
	raw, err := view.Encode()
	if err != nil {
		return view, fmt.Errorf("write joined inventory of %s: %w", n, err)
	}
	before, there, err := v.get(ctx, fleet.KeyJoined(n))
	switch {
	case err != nil:
		return view, err
	case there && before.Attempt == attempt && bytes.Equal(before.Data, raw):
		return view, nil
	case there && before.Attempt < attempt:
		if err := v.put(ctx, fleet.BucketInventory, fleet.KeyLast(n), before.Attempt, before.Data); err != nil {
			return view, err
		}
	}
	// It is told first: what stands in a view was told.
	if err := v.tell(ctx, n, attempt, slices.Concat(ofSource(view.Findings, "join"), found), told(before, attempt)); err != nil {
		return view, err
	}
	return view, v.put(ctx, fleet.BucketInventory, fleet.KeyJoined(n), attempt, raw)
}

func ofSource(all []hardware.Finding, source string) []hardware.Finding {
	return slices.DeleteFunc(slices.Clone(all), func(f hardware.Finding) bool { return f.Source != source })
}

// told are the findings of a view of the same boot: they stand in its timeline.
func told(before bus.Value, attempt int64) []hardware.Finding {
	if before.Attempt != attempt || len(before.Data) == 0 {
		return nil
	}
	inv, err := hardware.Decode(before.Data)
	if err != nil {
		return nil // a view of another version: it is told again
	}
	return inv.Findings
}

// join adds what the BMC said in the same boot.
func (v *views) join(ctx context.Context, n fleet.NodeID, own hardware.Inventory, attempt int64) (view hardware.Inventory, joined bool, err error) {
	lan, of, ok, err := v.inventory(ctx, fleet.KeyLAN(n))
	if err != nil || !ok || of != attempt {
		return own, false, err
	}
	return hardware.Join(own, lan), true, nil
}

// byBill compares a node with what was bought, once its BMC was asked where it
// has one: only that knows power supplies, and drives behind a controller.
func (v *views) byBill(n fleet.NodeID, st fleet.Status, view hardware.Inventory, joined bool) []hardware.Finding {
	sku, _, ok := v.c.reg.bill(n)
	if !ok || !joined && v.c.bmcs.awaited(n, st) {
		return nil
	}
	if !joined {
		sku.PSUs = 0
	}
	return sku.Compare(view)
}

// byBaseline compares a node with what an operator accepted.
func (v *views) byBaseline(ctx context.Context, n fleet.NodeID, view hardware.Inventory, joined bool) []hardware.Finding {
	b, ok, err := v.baseline(ctx, n)
	switch {
	case err != nil:
		return []hardware.Finding{{Code: hardware.CodeBaselineDiffers, Severity: hardware.Warning, Part: "baseline", Source: "baseline",
			Evidence: "it is passed over: " + err.Error(), Hint: "look at the server and accept it anew: ingot baseline accept NODE"}}
	case !ok:
		return nil
	}
	was := b.Inventory
	if !joined {
		was = was.Without(redfish.Source)
	}
	for _, f := range view.Findings {
		switch f.Code {
		case hardware.CodeReaderFailed, hardware.CodeReaderDeadline, hardware.CodeReaderPanicked:
			was = was.Without(f.Source) // what was not read is not gone
		}
	}
	drift := hardware.Drift(hardware.Diff(was, view))
	slices.SortStableFunc(drift, func(a, b hardware.Finding) int { return b.Severity.Rank() - a.Severity.Rank() })
	if more := len(drift) - mostDrift; more > 0 {
		drift = append(drift[:mostDrift], hardware.Finding{Code: hardware.CodeBaselineDiffers, Severity: hardware.Info, Source: "baseline",
			Evidence: fmt.Sprintf("and %d more differences", more), Hint: "ingot node diff shows all of them"})
	}
	return drift
}

func (v *views) baseline(ctx context.Context, n fleet.NodeID) (fleet.Baseline, bool, error) {
	e, err := led(ctx, func() (jetstream.KeyValueEntry, error) { return v.config.Get(ctx, fleet.ConfigBaseline+string(n)) })
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return fleet.Baseline{}, false, nil
	}
	if err != nil {
		return fleet.Baseline{}, false, err
	}
	payload, err := v.c.openSigned(e.Value(), images.BaselineType)
	if err != nil {
		return fleet.Baseline{}, false, err
	}
	b, err := fleet.ParseBaseline(payload, n)
	return b, err == nil, err
}

// tell puts into the node's timeline what was found and not told in this boot:
// each disagreement with the BMC, and in one line each what differs from the
// bill and from the baseline.
func (v *views) tell(ctx context.Context, n fleet.NodeID, attempt int64, found, before []hardware.Finding) error {
	var errs []error
	for _, f := range found {
		if f.Source == "join" && !slices.Contains(before, f) {
			errs = append(errs, v.say(ctx, n, attempt, f.Code, f.Hint, f.Evidence))
		}
	}
	for _, code := range []hardware.Code{hardware.CodeSKUDiffers, hardware.CodeBaselineDiffers} {
		now, was := ofCode(found, code), ofCode(before, code)
		slices.Sort(was)
		if sorted := slices.Sorted(slices.Values(now)); len(now) > 0 && !slices.Equal(sorted, was) {
			errs = append(errs, v.say(ctx, n, attempt, code, "", few(now)))
		}
	}
	return errors.Join(errs...)
}

// say writes a finding into a boot's timeline, once over the life of all
// controls.
func (v *views) say(ctx context.Context, n fleet.NodeID, attempt int64, code hardware.Code, hint, evidence string) error {
	reason := fleet.ReasonCode(code)
	return v.c.pub.publishOnce(ctx, fmt.Sprintf("%d/%s/%s", attempt, code, evidence), n, attempt, fleet.SourceControl, fleet.KindFinding, time.Now(),
		fleet.Problem{Reason: reason, Hint: firstOf(hint, reason.HintFor(n)), Evidence: evidence})
}

func ofCode(all []hardware.Finding, code hardware.Code) []string {
	var out []string
	for _, f := range all {
		if f.Code == code {
			out = append(out, f.Seen())
		}
	}
	return out
}

func few(texts []string) string {
	s := strings.Join(texts[:min(len(texts), mostTold)], "; ")
	if more := len(texts) - mostTold; more > 0 {
		s += fmt.Sprintf("; and %d more", more)
	}
	return s
}

// crawled keeps what a BMC said in one boot of its server.
func (v *views) crawled(ctx context.Context, n fleet.NodeID, attempt int64, view hardware.View) error {
	raw, err := view.Inventory.Encode()
	if err != nil {
		return fmt.Errorf("write the BMC's view of %s: %w", n, err)
	}
	if err := v.put(ctx, fleet.BucketInventory, fleet.KeyLAN(n), attempt, raw); err != nil {
		return err
	}
	if raw, err = view.Readings.Encode(); err != nil {
		return fmt.Errorf("write the BMC's readings of %s: %w", n, err)
	}
	return v.put(ctx, fleet.BucketReadings, fleet.KeyJoined(n), attempt, raw)
}

// viewLimit bounds the making of one view.
const viewLimit = 30 * time.Second
