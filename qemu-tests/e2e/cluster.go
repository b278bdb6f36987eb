package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
	"github.com/ingot-metal/ingot/qemu-tests/scenario"
)

const (
	// away is how long a killed server of the bus stays away.
	away = 6 * time.Second
	// rest is how long a bus that is whole again is left alone: leaders are
	// chosen in up to nine seconds, and without it two servers are away for them
	// at a time.
	rest = 5 * time.Second
)

// loseServers kills one server of the bus after the other, each until it is
// back and has caught up, over and over until ctx ends. It returns how often,
// and an error when the bus did not become whole again.
func (r *run) loseServers(ctx context.Context) (losses int, err error) {
	nc, err := bus.DialOperator(r.client.Context(), nats.ReconnectWait(200*time.Millisecond))
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	for ; ctx.Err() == nil; losses++ {
		name := fmt.Sprintf("n%d", losses%3+1)
		r.say("bus server %s is killed", name)
		if err := lab.SwitchBus(ctx, labName(), name, true); err != nil {
			return losses, endOf(ctx, err)
		}
		pause(ctx, away)
		// The job may be over: the server comes back all the same.
		if err := lab.SwitchBus(context.WithoutCancel(ctx), labName(), name, false); err != nil {
			return losses, err
		}
		if err := whole(ctx, nc); err != nil {
			return losses, endOf(ctx, fmt.Errorf("after the loss of bus server %s: %w", name, err))
		}
		pause(ctx, rest)
	}
	return losses, nil
}

// endOf is no error where the end of ctx is its cause.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// whole waits until every stream has a leader and all of its replicas.
func whole(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %v", err)
	}
	for {
		why := missing(ctx, js)
		if why == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until the bus is whole: %s", why)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// missing says what the cluster lacks, or nothing.
func missing(ctx context.Context, js jetstream.JetStream) string {
	ask, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	n := 0
	list := js.ListStreams(ask)
	for s := range list.Info() {
		n++
		switch c := s.Cluster; {
		case c == nil || c.Leader == "":
			return s.Config.Name + " has no leader"
		case len(c.Replicas) != 2:
			return s.Config.Name + " is not kept three times"
		case slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline }):
			return s.Config.Name + " has a replica that is behind"
		}
	}
	if err := list.Err(); err != nil {
		return err.Error()
	}
	if n == 0 {
		return "no stream is there"
	}
	return ""
}

// unbroken checks a node's timeline: what each source of each boot counted is
// there once and without a hole.
func unbroken(records []operator.Record) error {
	seen := map[string][]uint64{}
	for _, e := range records {
		if e.BootID == "" {
			continue // control, boot server and BMC count over all nodes
		}
		key := fmt.Sprintf("%s of boot %d", e.Source, e.Attempt)
		seen[key] = append(seen[key], e.Seq)
	}
	var errs []error
	for key, seqs := range seen {
		slices.Sort(seqs)
		for i, s := range seqs {
			if s != uint64(i)+1 {
				errs = append(errs, fmt.Errorf("%s: the events are numbered %s: want each from 1 to %d once", key, numbers(seqs), seqs[len(seqs)-1]))
				break
			}
		}
	}
	return errors.Join(errs...)
}

func numbers(seqs []uint64) string {
	return strings.Trim(fmt.Sprint(seqs), "[]")
}

// unbrokenNodes checks every server's timeline.
func (r *run) unbrokenNodes(ctx context.Context) error {
	var errs []error
	for _, n := range r.result.Nodes {
		t, err := r.client.Find(ctx, n.Name)
		if err != nil {
			return err
		}
		records, err := r.client.Events(ctx, t)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(records, func(e operator.Record) bool { return e.Source == fleet.SourceResident }) {
			errs = append(errs, fmt.Errorf("%s: no event of the resident is there", n.Name))
		}
		if err := unbroken(records); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.Name, err))
		}
	}
	return errors.Join(errs...)
}

// throwOut revokes a server that runs: its session ends at once, and its
// service goes on.
func (r *run) throwOut(ctx context.Context, o scenario.Outcome) error {
	if err := r.ingot(ctx, "node", "revoke", o.Name, "--note", "end of the test"); err != nil {
		return err
	}
	st, err := r.job().Await(ctx, o.Name, "revoked", func(st fleet.Status) bool { return st.Reason == "revoked" })
	if err != nil {
		return err
	}
	_, a, err := scenario.Ask(ctx, o.URL)
	if err == nil && a.Nonce != o.Nonce {
		err = fmt.Errorf("nonce is %q, want %q", a.Nonce, o.Nonce)
	}
	if err != nil {
		return fmt.Errorf("the service of a server that was revoked: %w", err)
	}
	r.say("holds: a revoked server is out, and its service goes on: %s", render.StatusLine(st))
	return nil
}
