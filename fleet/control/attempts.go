package control

import (
	"context"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// firmwareGap is how long firmware may be silent and still be in the same
	// boot: it tries PXE, HTTP boot and IPv6 one after the other.
	firmwareGap = 3 * time.Minute
	// inheritGap is how old the boot of a MAC key may be that the first
	// enrolment of a node takes over.
	inheritGap = 30 * time.Minute
)

// attempts counts the boots of each server. All events of one boot carry one
// number, whoever sends them: a power action of ours begins one, so does
// firmware that asks for an address after a kernel did, so does an agent with
// a new boot ID that nothing announced.
type attempts struct {
	table table[fleet.Attempt]

	mu  sync.Mutex
	now map[fleet.NodeID]fleet.Attempt
}

func newAttempts(ctx context.Context, js jetstream.JetStream) (*attempts, error) {
	t, err := openTable[fleet.Attempt](ctx, js, fleet.BucketAttempts)
	return &attempts{table: t, now: map[fleet.NodeID]fleet.Attempt{}}, err
}

// step changes the attempt of a key by compare-and-set.
func (a *attempts) step(ctx context.Context, key fleet.NodeID, f func(*fleet.Attempt) (changed bool)) (fleet.Attempt, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	// What is known to change nothing costs no read.
	if v, ok := a.now[key]; ok && !f(&v) {
		return v, nil
	}
	v, _, err := a.table.update(ctx, string(key), func(v *fleet.Attempt, _ bool) error {
		v.Schema, v.Node = fleet.AttemptSchema, key
		if !f(v) {
			return errUnchanged
		}
		return nil
	})
	if err == nil {
		a.now[key] = v
	}
	return v, err
}

func next(v *fleet.Attempt, now time.Time) {
	*v = fleet.Attempt{Schema: v.Schema, Node: v.Node, Attempt: v.Attempt + 1, Started: now}
}

// firmware is what a DHCP request of a boot stage means.
func (a *attempts) firmware(ctx context.Context, key fleet.NodeID, stage fleet.BootStage, now time.Time) (fleet.Attempt, error) {
	return a.step(ctx, key, func(v *fleet.Attempt) bool {
		if stage >= fleet.StageKernel {
			if v.Reached == fleet.StageNone || v.Reached >= stage {
				return false // the system of the boot before still renews its lease
			}
			v.Reached = stage
			return true
		}
		over := v.Reached >= fleet.StageKernel
		quiet := !v.Firmware.IsZero() && now.Sub(v.Firmware) > firmwareGap
		if v.Attempt == 0 || over || quiet {
			next(v, now)
		}
		// A firmware that repeats itself is written down now and then.
		changed := v.Reached < stage || now.Sub(v.Firmware) > 10*time.Second
		v.Reached = max(v.Reached, stage)
		if changed {
			v.Firmware = now
		}
		return changed
	})
}

// power begins the attempt of a power action, before the action.
func (a *attempts) power(ctx context.Context, key fleet.NodeID, action, by string, now time.Time) (fleet.Attempt, error) {
	return a.step(ctx, key, func(v *fleet.Attempt) bool {
		if action != "off" && action != "shutdown" {
			next(v, now)
		}
		v.Intent, v.By = action, by
		return true
	})
}

// agent is the attempt that an agent's boot belongs to. seen are the keys that
// the same machine had before it was a node.
func (a *attempts) agent(ctx context.Context, key fleet.NodeID, seen []fleet.NodeID, bootID string, now time.Time) (fleet.Attempt, error) {
	before, err := a.latest(ctx, seen, now)
	if err != nil {
		return fleet.Attempt{}, err
	}
	return a.step(ctx, key, func(v *fleet.Attempt) bool {
		if v.BootID == bootID {
			return false
		}
		if v.Attempt == 0 && before.Attempt > 0 {
			*v = before
			v.Node = key
		}
		if v.Attempt == 0 || v.BootID != "" {
			next(v, now)
		}
		v.BootID, v.Reached = bootID, max(v.Reached, fleet.StageAgent)
		return true
	})
}

// inherit gives a new node the boot in which its machine was only seen.
func (a *attempts) inherit(ctx context.Context, key fleet.NodeID, seen []fleet.NodeID, now time.Time) error {
	before, err := a.latest(ctx, seen, now)
	if err != nil {
		return err
	}
	_, err = a.step(ctx, key, func(v *fleet.Attempt) bool {
		if v.Attempt != 0 || before.Attempt == 0 {
			return false
		}
		*v = before
		v.Node = key
		return true
	})
	return err
}

func (a *attempts) latest(ctx context.Context, keys []fleet.NodeID, now time.Time) (fleet.Attempt, error) {
	var best fleet.Attempt
	for _, k := range keys {
		v, rev, err := a.table.get(ctx, string(k))
		if err != nil {
			return best, err
		}
		last := v.Started
		if v.Firmware.After(last) {
			last = v.Firmware
		}
		if rev > 0 && v.Attempt > best.Attempt && now.Sub(last) < inheritGap {
			best = v
		}
	}
	return best, nil
}

func (a *attempts) resident(ctx context.Context, key fleet.NodeID, attempt int64) error {
	_, err := a.step(ctx, key, func(v *fleet.Attempt) bool {
		if v.Attempt != attempt || v.Reached >= fleet.StageResident {
			return false
		}
		v.Reached = fleet.StageResident
		return true
	})
	return err
}

// current is the number of the present attempt, 0 where none began.
func (a *attempts) current(ctx context.Context, key fleet.NodeID) (int64, error) {
	v, err := a.step(ctx, key, func(*fleet.Attempt) bool { return false })
	return v.Attempt, err
}
