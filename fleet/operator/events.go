package operator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ingot-metal/ingot/fleet"
)

// Record is an event with the time at which the bus took it.
type Record struct {
	fleet.Event
	Received time.Time `json:"received"`

	stream uint64 // place in the stream
}

// eventSubjects are where the events of a node stand: under its ID, and under
// the keys of its MACs, from the time when it was only seen.
func eventSubjects(n fleet.NodeID, macs []string) []string {
	out := []string{"ingot.ev." + string(n) + ".>"}
	for _, m := range macs {
		if k, err := fleet.MACKey(m); err == nil && k != n {
			out = append(out, "ingot.ev."+string(k)+".>")
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Events returns the stored events of a server, in the order of the bus.
func (c *Client) Events(ctx context.Context, t Target) ([]Record, error) {
	var out []Record
	err := c.events(ctx, t, false, func(r Record) error {
		out = append(out, r)
		return nil
	})
	return out, err
}

// FollowEvents calls see with the stored events of a server and then with those
// that come, until ctx ends. A machine that becomes a node meanwhile is followed
// under its new name.
func (c *Client) FollowEvents(ctx context.Context, t Target, see func(Record) error) error {
	seen := map[uint64]bool{}
	for {
		renamed, err := c.followAs(ctx, t, func(r Record) error {
			if seen[r.stream] {
				return nil
			}
			seen[r.stream] = true
			return see(r)
		})
		if renamed == nil || ctx.Err() != nil {
			return cmp.Or(ctx.Err(), err)
		}
		t = *renamed
	}
}

// followAs follows a server under the names that it has, and ends with another
// target once it has another.
func (c *Client) followAs(ctx context.Context, t Target, see func(Record) error) (*Target, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var renamed *Target
	watched := make(chan error, 1)
	go func() {
		watched <- c.WatchStatus(ctx, func(st fleet.Status) (bool, error) {
			if !t.Same(st) || t.Status != nil && t.Status.Node == st.Node {
				return false, nil
			}
			renamed = &Target{Status: &st, Machine: t.Machine}
			cancel()
			return true, nil
		})
	}()
	err := c.events(ctx, t, true, see)
	cancel()
	if werr := <-watched; renamed == nil && err == nil {
		err = werr
	}
	return renamed, err
}

func (t Target) subjects() []string {
	var macs []string
	var out []string
	if t.Machine != nil {
		macs = append(macs, t.Machine.MACs...)
	}
	if t.Status != nil {
		macs = append(macs, t.Status.MACs...)
		return eventSubjects(t.Status.Node, macs)
	}
	for _, m := range macs {
		if k, err := fleet.MACKey(m); err == nil {
			out = append(out, "ingot.ev."+string(k)+".>")
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (c *Client) events(ctx context.Context, t Target, follow bool, see func(Record) error) error {
	subjects := t.subjects()
	if len(subjects) == 0 {
		if follow {
			<-ctx.Done() // it has no name yet under which anything could stand
		}
		return nil
	}
	return c.read(ctx, "events of "+t.Name(), subjects, follow, see)
}

// audited are the kinds of events in which control says who was let in, turned
// away or thrown out, by whom, and what was refused.
var audited = []string{fleet.KindApproved, fleet.KindRejected, fleet.KindRevoked, fleet.KindCommand, fleet.KindFinding}

// Audit calls see with what operators said of all servers, with commands that
// control refused, and with what was tried on the bus and is forbidden. What no
// server is named in stands under [fleet.ControlNode].
func (c *Client) Audit(ctx context.Context, follow bool, see func(Record) error) error {
	var subjects []string
	for _, kind := range audited {
		subjects = append(subjects, "ingot.ev.*."+string(fleet.SourceControl)+"."+kind)
	}
	return c.read(ctx, "the audit", subjects, follow, see)
}

// read calls see with the stored events under subjects, and, to follow, with
// those that come.
func (c *Client) read(ctx context.Context, what string, subjects []string, follow bool, see func(Record) error) error {
	cons, err := steady(ctx, oneTry, func(ctx context.Context) (jetstream.Consumer, error) {
		return c.js.OrderedConsumer(ctx, fleet.StreamEvents, jetstream.OrderedConsumerConfig{FilterSubjects: subjects})
	})
	if err != nil {
		return c.explain(fmt.Errorf("read %s: %w", what, err))
	}
	pending := uint64(1)
	if i, err := cons.Info(ctx); err == nil {
		pending = i.NumPending
	}
	if pending == 0 && !follow {
		return nil
	}
	it, err := cons.Messages()
	if err != nil {
		return c.explain(fmt.Errorf("read %s: %w", what, err))
	}
	defer it.Stop()
	stop := context.AfterFunc(ctx, it.Stop)
	defer stop()
	for {
		m, err := it.Next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return c.explain(fmt.Errorf("read %s: %w", what, err))
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
		// A node wrote this: what is no event is passed over, as control does.
		if e, err := fleet.ParseEvent(m.Data()); err == nil {
			if err := see(Record{Event: e, Received: meta.Timestamp, stream: meta.Sequence.Stream}); err != nil {
				return err
			}
		}
		if meta.NumPending == 0 && !follow {
			return nil
		}
	}
}

// Plain returns the events of records.
func Plain(records []Record) []fleet.Event {
	out := make([]fleet.Event, len(records))
	for i, r := range records {
		out[i] = r.Event
	}
	return out
}

// Aligned returns the events of records with the times of each boot moved onto
// the bus's clock: a server's own may stand a second, or years, beside it. What
// the quickest message of a boot took on its way is taken for no time.
func Aligned(records []Record) []fleet.Event {
	offset := map[string]time.Duration{}
	for _, r := range records {
		if r.BootID == "" || r.Received.IsZero() {
			continue
		}
		d := r.Received.Sub(r.Time)
		if o, ok := offset[r.BootID]; !ok || d < o {
			offset[r.BootID] = d
		}
	}
	out := Plain(records)
	for i := range out {
		out[i].Time = out[i].Time.Add(offset[out[i].BootID])
	}
	return out
}
