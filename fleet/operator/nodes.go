package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/hardware"
)

// Target is one server of the fleet: a node with a status, a machine that is
// expected, or, most often, both.
type Target struct {
	Status  *fleet.Status  `json:"status,omitempty"`
	Machine *fleet.Machine `json:"machine,omitempty"`
}

// Name is what people call it: the machine's name, else the node's ID.
func (t Target) Name() string {
	switch {
	case t.Machine != nil:
		return t.Machine.Name
	case t.Status != nil && t.Status.Name != "":
		return t.Status.Name
	}
	return string(t.Status.Node)
}

// Key is what control is asked by: the node's ID once it has one.
func (t Target) Key() string {
	if t.Status != nil {
		return string(t.Status.Node)
	}
	return t.Machine.Name
}

// values reads every value of a bucket; what does not parse is an error, since
// only our own writers put values there.
func values[T any](ctx context.Context, c *Client, bucket, prefix string) ([]T, error) {
	out, err := steady(ctx, 4*oneTry, func(ctx context.Context) ([]T, error) { return readAll[T](ctx, c, bucket, prefix) })
	if err != nil {
		return nil, c.explain(err)
	}
	return out, nil
}

// errThrough ends a reading at the end of the present values.
var errThrough = errors.New("through")

func readAll[T any](ctx context.Context, c *Client, bucket, prefix string) ([]T, error) {
	now := map[string]T{}
	err := bus.TailBucket(ctx, bus.Tail{JS: c.js}, bucket, prefix, func(key string, b []byte, _ uint64) error {
		delete(now, key)
		if b == nil {
			return nil
		}
		var v T
		if err := json.Unmarshal(b, &v); err != nil {
			return fmt.Errorf("%s: %v", key, err)
		}
		now[key] = v
		return nil
	}, func() error { return errThrough })
	if !errors.Is(err, errThrough) {
		return nil, err
	}
	out := make([]T, 0, len(now))
	for _, key := range slices.Sorted(maps.Keys(now)) {
		out = append(out, now[key])
	}
	return out, nil
}

// Statuses returns the status of every node, by name and ID.
func (c *Client) Statuses(ctx context.Context) ([]fleet.Status, error) {
	all, err := values[fleet.Status](ctx, c, fleet.BucketStatus, "")
	slices.SortFunc(all, func(a, b fleet.Status) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Node, b.Node))
	})
	return all, err
}

// Machines returns the machines that operators expect, by name: those that serve
// was told of, and those that were imported.
func (c *Client) Machines(ctx context.Context) ([]fleet.Machine, error) {
	all, err := values[fleet.Machine](ctx, c, fleet.BucketConfig, fleet.ConfigMachine)
	if err != nil {
		return nil, err
	}
	e, _, err := c.Expected(ctx)
	all = withExpected(all, e)
	slices.SortFunc(all, func(a, b fleet.Machine) int { return cmp.Compare(a.Name, b.Name) })
	return all, err
}

// Targets returns all servers: every node, and every expected machine that was
// not seen yet.
func (c *Client) Targets(ctx context.Context) ([]Target, error) {
	statuses, err := c.Statuses(ctx)
	if err != nil {
		return nil, err
	}
	machines, err := c.Machines(ctx)
	if err != nil {
		return nil, err
	}
	return join(statuses, machines), nil
}

// join matches nodes with machines by name. Where a node has an ID, what was
// only seen of the same MAC ("mac-…") is left out.
func join(statuses []fleet.Status, machines []fleet.Machine) []Target {
	known := map[string]bool{}
	for _, s := range statuses {
		if strings.HasPrefix(string(s.Node), "mac-") {
			continue
		}
		for _, m := range s.MACs {
			if k, err := fleet.MACKey(m); err == nil {
				known[string(k)] = true
			}
		}
	}
	var out []Target
	for i := range statuses {
		if s := &statuses[i]; !known[string(s.Node)] {
			out = append(out, Target{Status: s})
		}
	}
	for i := range machines {
		m := &machines[i]
		j := slices.IndexFunc(out, func(t Target) bool { return t.Status != nil && isMachine(*t.Status, *m) })
		if j < 0 {
			out = append(out, Target{Machine: m})
			continue
		}
		out[j].Machine = m
	}
	slices.SortStableFunc(out, func(a, b Target) int { return cmp.Compare(a.Name(), b.Name()) })
	return out
}

func isMachine(s fleet.Status, m fleet.Machine) bool {
	if s.Name != "" {
		return s.Name == m.Name
	}
	return m.Serial != "" && s.Serial == m.Serial || slices.ContainsFunc(m.MACs, func(mac string) bool {
		return slices.ContainsFunc(s.MACs, func(x string) bool { return sameMAC(x, mac) })
	})
}

func sameMAC(a, b string) bool {
	x := hardware.ParseMAC(a)
	return x != "" && x == hardware.ParseMAC(b)
}

// Find returns the server that name means: a node's ID, a machine's name, a
// serial, a MAC address or a UUID.
func (c *Client) Find(ctx context.Context, name string) (Target, error) {
	all, err := c.Targets(ctx)
	if err != nil {
		return Target{}, err
	}
	return pick(all, name)
}

func pick(all []Target, name string) (Target, error) {
	var found []Target
	for _, t := range all {
		if t.is(name) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		var names []string
		for _, t := range all {
			names = append(names, t.Name())
		}
		known := strings.Join(names[:min(len(names), 12)], ", ")
		if known == "" {
			known = "none yet"
		}
		return Target{}, fmt.Errorf("node %q: %w (known: %s)", name, ErrNotFound, known)
	}
	var keys []string
	for _, t := range found {
		keys = append(keys, t.Key())
	}
	return Target{}, fmt.Errorf("node %q: means %s; name one of them", name, strings.Join(keys, " and "))
}

func (t Target) is(name string) bool {
	if name == "" {
		return false
	}
	if s := t.Status; s != nil {
		if string(s.Node) == name || s.Name == name || strings.EqualFold(s.Serial, name) || strings.EqualFold(s.UUID, name) {
			return true
		}
		if slices.ContainsFunc(s.MACs, func(m string) bool { return sameMAC(m, name) }) {
			return true
		}
	}
	if m := t.Machine; m != nil {
		return m.Name == name || strings.EqualFold(m.Serial, name) || strings.EqualFold(m.UUID, name) ||
			slices.ContainsFunc(m.MACs, func(x string) bool { return sameMAC(x, name) })
	}
	return false
}

// Status returns the status of a node, and its revision.
func (c *Client) Status(ctx context.Context, n fleet.NodeID) (fleet.Status, error) {
	var s fleet.Status
	kv, err := c.bucket(ctx, fleet.BucketStatus)
	if err != nil {
		return s, err
	}
	e, err := entry(ctx, kv, string(n))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return s, fmt.Errorf("status of %s: %w", n, ErrNotFound)
	}
	if err != nil {
		return s, c.explain(fmt.Errorf("read status of %s: %w", n, err))
	}
	if err := json.Unmarshal(e.Value(), &s); err != nil {
		return s, fmt.Errorf("read status of %s: %v", n, err)
	}
	return s, nil
}

// WatchStatus calls see with every status as it stands and as it changes, until
// see says that it has seen enough.
func (c *Client) WatchStatus(ctx context.Context, see func(fleet.Status) (enough bool, err error)) error {
	enough := errors.New("enough")
	t := bus.Tail{JS: c.js, Hints: "ingot.ev.>", Every: watchEvery}
	_, err := steady(ctx, forever, func(ctx context.Context) (any, error) {
		return nil, bus.TailBucket(ctx, t, fleet.BucketStatus, "", func(key string, b []byte, rev uint64) error {
			if b == nil {
				return nil
			}
			var s fleet.Status
			if err := json.Unmarshal(b, &s); err != nil {
				return fmt.Errorf("%s: %v", key, err)
			}
			done, err := see(s)
			if err == nil && done {
				err = enough
			}
			t.Next = rev + 1
			return err
		}, nil)
	})
	if errors.Is(err, enough) {
		return nil
	}
	return err
}

const (
	// watchEvery is how often statuses are looked at that change without an
	// event: by heartbeats, and by deadlines.
	watchEvery = 250 * time.Millisecond
	forever    = 100 * 365 * 24 * time.Hour
)

// Same says whether a status is this server's: by ID, by machine, or by MAC
// address where the server was only seen before.
func (t Target) Same(s fleet.Status) bool {
	if t.Status != nil && t.Status.Node == s.Node {
		return true
	}
	if strings.HasPrefix(string(s.Node), "mac-") && t.Status != nil {
		return false
	}
	if t.Machine != nil && isMachine(s, *t.Machine) {
		return true
	}
	return t.Status != nil && slices.ContainsFunc(t.Status.MACs, func(m string) bool {
		return slices.ContainsFunc(s.MACs, func(x string) bool { return sameMAC(m, x) })
	})
}
