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
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
)

// Schemas of the config bucket's values.
const (
	stackEntrySchema = "ingot.stack-entry/v1"
	ruleEntrySchema  = "ingot.rule-entry/v1"
)

// Stacks returns the stacks that the fleet holds.
func (c *Client) Stacks(ctx context.Context) ([]fleet.StackEntry, error) {
	all, err := values[fleet.StackEntry](ctx, c, fleet.BucketConfig, fleet.ConfigStack)
	slices.SortFunc(all, func(a, b fleet.StackEntry) int {
		return cmp.Or(cmp.Compare(a.Ref, b.Ref), cmp.Compare(a.Digest, b.Digest))
	})
	return all, err
}

// Rules returns the rules that the fleet holds, by ID.
func (c *Client) Rules(ctx context.Context) ([]images.Rule, error) {
	entries, err := values[fleet.RuleEntry](ctx, c, fleet.BucketConfig, fleet.ConfigRule)
	if err != nil {
		return nil, err
	}
	var out []images.Rule
	for _, e := range entries {
		r, err := images.ParseRule(e.Rule.Payload)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b images.Rule) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// PutStack stores a signed stack in the fleet after checking its signature.
func (c *Client) PutStack(ctx context.Context, e fleet.StackEntry) (images.Manifest, error) {
	m, digest, err := c.Roots().OpenManifest(e.Delegations, e.Stack, time.Now())
	if err != nil {
		return m, &RefusedError{What: "stack " + e.Ref, Problem: fleet.NewProblemOf(fleet.ReasonCode(sign.ReasonSignature), err)}
	}
	if e.Digest != "" && e.Digest != digest {
		return m, &RefusedError{What: "stack " + e.Ref, Problem: fleet.NewProblem(
			fleet.ReasonCode(sign.ReasonMismatch), fmt.Sprintf("it is called %s and is %s", e.Digest.Short(), digest.Short()),
		)}
	}
	e.Schema, e.Ref, e.Digest = stackEntrySchema, m.Ref(), digest
	return m, c.put(ctx, fleet.ConfigStack+digest.Hex(), e)
}

// put writes a value of the config bucket by compare-and-set. The same bytes
// twice are no write.
func (c *Client) put(ctx context.Context, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %v", key, err)
	}
	return c.change(ctx, key, func([]byte) ([]byte, error) { return b, nil })
}

// change writes what f makes of the present bytes of a key, nil where there are
// none. f is called again where somebody else wrote meanwhile.
func (c *Client) change(ctx context.Context, key string, f func(old []byte) ([]byte, error)) error {
	kv, err := c.bucket(ctx, fleet.BucketConfig)
	if err != nil {
		return err
	}
	for range casTries {
		// Whether a write that nobody answered was done is seen by the next try.
		_, err = steady(ctx, 2*oneTry, func(ctx context.Context) (uint64, error) { return changeOnce(ctx, kv, key, f) })
		if !bus.Conflict(err) {
			break // else another operator wrote at the same time, and the later one stands
		}
	}
	var made *makeError
	if errors.As(err, &made) {
		return made.error
	}
	if err != nil {
		return c.explain(fmt.Errorf("write %s: %w", key, err))
	}
	return nil
}

// makeError is an error of whoever makes the bytes to write, not of the bus.
type makeError struct{ error }

func changeOnce(ctx context.Context, kv jetstream.KeyValue, key string, f func(old []byte) ([]byte, error)) (uint64, error) {
	old, err := entry(ctx, kv, key)
	there := err == nil
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, err
	}
	var was []byte
	if there {
		was = old.Value()
	}
	b, err := f(was)
	switch {
	case err != nil:
		return 0, &makeError{err}
	case len(b) > fleet.MaxMessageBytes:
		return 0, fmt.Errorf("is %d bytes, the bus takes %d", len(b), fleet.MaxMessageBytes)
	case !there:
		return kv.Create(ctx, key, b)
	case string(was) == string(b):
		return old.Revision(), nil
	}
	return kv.Update(ctx, key, b, old.Revision())
}

// casTries bounds how often a write is tried again because another came first.
const casTries = 16

// Assignment is what [Client.Assign] is asked for.
type Assignment struct {
	Targets []Target
	Stack   images.Digest
	// Manifest is the stack's, for its parameters.
	Manifest images.Manifest
	Params   map[string]string
	// Count is how many of the targets may run the stack at once; all, if zero.
	Count int
	// Life is how long the rule holds; a year, if zero.
	Life time.Duration
	// Downgrade allows an older version of the stack that a target has.
	Downgrade bool
}

// Assign signs the rule that gives the targets a stack, and stores it. A rule
// is called by its nodes, so that a later one for the same nodes takes its
// place.
func (c *Client) Assign(ctx context.Context, a Assignment) (images.Rule, error) {
	var rule images.Rule
	if c.key == nil {
		return rule, errors.New("assign: the context holds no signing key")
	}
	rule, err := a.rule(time.Now().UTC().Truncate(time.Second))
	if err != nil {
		return rule, err
	}
	if !a.Downgrade {
		if err := c.checkDowngrade(ctx, a); err != nil {
			return rule, err
		}
	}
	env, _, err := sign.SignJSON(c.key, images.RuleType, rule)
	if err != nil {
		return rule, err
	}
	return rule, c.put(ctx, fleet.ConfigRule+rule.ID, fleet.RuleEntry{
		Schema: ruleEntrySchema, Rule: env, Delegations: c.oc.Delegations,
	})
}

// Unassign takes back the rules that are for this server alone. What it runs
// goes on; at its next boot it waits. A rule for several servers is left as it
// is and named in the error: taking it back would take it from the others.
func (c *Client) Unassign(ctx context.Context, t Target) ([]images.Rule, error) {
	if t.Status == nil {
		return nil, fmt.Errorf("unassign %s: it has no node ID yet: %w", t.Name(), ErrNotFound)
	}
	rules, err := c.Rules(ctx)
	if err != nil {
		return nil, err
	}
	kv, err := c.bucket(ctx, fleet.BucketConfig)
	if err != nil {
		return nil, err
	}
	var gone []images.Rule
	for _, r := range rules {
		switch {
		case !slices.Contains(r.Selector.Nodes, string(t.Status.Node)):
			continue
		case len(r.Selector.Nodes) > 1:
			return gone, fmt.Errorf("unassign %s: rule %s is for %d servers: assign the others anew, each by itself", t.Name(), r.ID, len(r.Selector.Nodes))
		}
		key := fleet.ConfigRule + r.ID
		e, err := entry(ctx, kv, key)
		if err == nil {
			err = kv.Delete(ctx, key, jetstream.LastRevision(e.Revision()))
		}
		if err != nil {
			return gone, c.explain(fmt.Errorf("unassign %s: remove rule %s: %w", t.Name(), r.ID, err))
		}
		gone = append(gone, r)
	}
	if len(gone) == 0 {
		return nil, fmt.Errorf("unassign %s: no rule is for it: %w", t.Name(), ErrNotFound)
	}
	return gone, nil
}

func (a Assignment) rule(now time.Time) (images.Rule, error) {
	r := images.Rule{
		Schema: images.RuleSchema, Stacks: []images.Digest{a.Stack}, Params: maps.Clone(a.Params),
		Count: a.Count, Created: now, NotBefore: now, NotAfter: now.Add(cmp.Or(a.Life, 365*24*time.Hour)),
	}
	if r.Count == 0 {
		r.Count = len(a.Targets)
	}
	for _, t := range a.Targets {
		if t.Status == nil || strings.HasPrefix(string(t.Status.Node), "mac-") {
			return r, fmt.Errorf("assign %s: it has no node ID yet: power it on and wait until `ingot node list` shows it waiting", t.Name())
		}
		r.Selector.Nodes = append(r.Selector.Nodes, string(t.Status.Node))
	}
	if len(r.Selector.Nodes) == 0 {
		return r, errors.New("assign: no node is named")
	}
	slices.Sort(r.Selector.Nodes)
	r.Selector.Nodes = slices.Compact(r.Selector.Nodes)
	r.ID = ruleID(r.Selector.Nodes)
	if _, err := a.Manifest.ResolveParams(a.Params); err != nil {
		return r, fmt.Errorf("assign: %w", err)
	}
	return r, r.Validate()
}

func ruleID(nodes []string) string {
	if len(nodes) == 1 {
		return nodes[0]
	}
	return "set-" + images.DigestOf([]byte(strings.Join(nodes, ","))).Short()
}
