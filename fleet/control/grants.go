package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	grantLife = time.Hour
	// grantsEvery is how often waiting nodes are looked at without a cause:
	// rules begin and end by the clock.
	grantsEvery = 5 * time.Second
)

// granter gives waiting boots what operators signed for them. Its memory is a
// copy of the config bucket, checked; what is not signed is not in it.
type granter struct {
	c     *Control
	table table[images.GrantBundle]
	wake  chan struct{}

	mu     sync.Mutex
	rules  map[string]ruleHeld  // by key
	stacks map[string]stackHeld // by key
	// bad says why stacks of the config bucket are not accepted, by key.
	bad map[string]error
}

type ruleHeld struct {
	rule   images.Rule
	digest images.Digest
	entry  fleet.RuleEntry
}

type stackHeld struct {
	manifest images.Manifest
	digest   images.Digest
	entry    fleet.StackEntry
}

func newGranter(ctx context.Context, js jetstream.JetStream, c *Control) (*granter, error) {
	t, err := openTable[images.GrantBundle](ctx, js, fleet.BucketGrant)
	return &granter{c: c, table: t, wake: make(chan struct{}, 1), rules: map[string]ruleHeld{}, stacks: map[string]stackHeld{}, bad: map[string]error{}}, err
}

// nudge asks for a look at the waiting nodes soon.
func (g *granter) nudge() {
	select {
	case g.wake <- struct{}{}:
	default: // one is due
	}
}

func (g *granter) setRule(key string, raw *json.RawMessage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.nudge()
	delete(g.rules, key)
	if raw == nil {
		return
	}
	var e fleet.RuleEntry
	err := json.Unmarshal(*raw, &e)
	var h ruleHeld
	if err == nil {
		h.entry = e
		h.rule, h.digest, err = g.c.cfg.Roots.OpenRule(g.c.delegations(e.Delegations), e.Rule, time.Now())
	}
	if err != nil {
		g.c.log.Warn("rule is not accepted", "key", key, "err", err)
		return
	}
	g.rules[key] = h
}

func (g *granter) setStack(key string, raw *json.RawMessage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.nudge()
	delete(g.stacks, key)
	delete(g.bad, key)
	if raw == nil {
		return
	}
	var e fleet.StackEntry
	err := json.Unmarshal(*raw, &e)
	var h stackHeld
	if err == nil {
		h.entry = e
		h.manifest, h.digest, err = g.c.cfg.Roots.OpenManifest(g.c.delegations(e.Delegations), e.Stack, time.Now())
	}
	if err != nil {
		g.c.log.Warn("stack is not accepted", "key", key, "err", err)
		g.bad[key] = err
		return
	}
	g.stacks[key] = h
}

// rulesFor are the rules in force that select a node, the newest first.
func (g *granter) rulesFor(n fleet.NodeID, now time.Time) []ruleHeld {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []ruleHeld
	for _, h := range g.rules {
		if slices.Contains(h.rule.Selector.Nodes, string(n)) && now.Before(h.rule.NotAfter) && !now.Before(h.rule.NotBefore) {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b ruleHeld) int {
		if d := b.rule.Created.Compare(a.rule.Created); d != 0 {
			return d
		}
		return compareStrings(string(b.digest), string(a.digest))
	})
	return out
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (g *granter) stackOf(r images.Rule) (stackHeld, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range r.Stacks {
		for _, h := range g.stacks {
			if h.digest == d {
				return h, true
			}
		}
	}
	return stackHeld{}, false
}

// withoutStack says why a rule gives nothing: its stack is not there, or is not
// what an operator signed.
func (g *granter) withoutStack(ctx context.Context, n fleet.NodeID, r images.Rule) {
	g.mu.Lock()
	why := g.bad[fleet.ConfigStack+r.Stacks[0].Hex()]
	g.mu.Unlock()
	names := fmt.Sprintf("rule %s names stack %s, ", r.ID, r.Stacks[0].Short())
	switch {
	case errors.Is(why, sign.ErrSignature):
		g.c.finding(ctx, n, fleet.ReasonCode(sign.ReasonSignature), names+"which is refused: "+why.Error())
	case why != nil:
		g.c.finding(ctx, n, fleet.ReasonStackRefused, names+"which is refused: "+why.Error())
	default:
		g.c.finding(ctx, n, fleet.ReasonStackMissing, names+"which the fleet does not hold")
	}
}

// run looks at the waiting nodes when something changed, until ctx ends.
func (g *granter) run(ctx context.Context) {
	t := time.NewTicker(grantsEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		case <-t.C:
		}
		for _, n := range g.c.status.keys() {
			st, ok := g.c.status.of(n)
			if !ok || !wants(st) {
				continue
			}
			if err := g.grant(ctx, n, st); err != nil && ctx.Err() == nil {
				g.c.log.Error("grant", "node", n, "err", err)
			}
		}
	}
}

// wants says whether a node's agent would take a grant.
func wants(s fleet.Status) bool {
	return s.Phase == fleet.PhaseWaiting || s.Phase == fleet.PhaseFailed && s.Step == fleet.KindRefused
}

func (g *granter) grant(ctx context.Context, n fleet.NodeID, st fleet.Status) error {
	now := time.Now()
	node, ok := g.c.reg.node(n)
	if !ok {
		return nil
	}
	i := slices.IndexFunc(node.Sessions, func(s fleet.Session) bool {
		return s.Role == fleet.RoleAgent && s.BootID == st.BootID && now.Before(s.Expires)
	})
	if i < 0 {
		return nil // the agent that waited is gone
	}
	rules := g.rulesFor(n, now)
	if len(rules) == 0 {
		return nil
	}
	rule := rules[0]
	if len(rules) > 1 {
		g.c.finding(ctx, n, fleet.ReasonSeveralRules, fmt.Sprintf("rule %s of %s goes before %s of %s", rule.rule.ID, stamp(rule.rule.Created), rules[1].rule.ID, stamp(rules[1].rule.Created)))
	}
	stack, ok := g.stackOf(rule.rule)
	if !ok {
		g.withoutStack(ctx, n, rule.rule)
		return nil
	}
	params, err := stack.manifest.ResolveParams(rule.rule.Params)
	if err != nil {
		g.c.finding(ctx, n, fleet.ReasonParamsRefused, err.Error())
		return nil
	}
	full, err := g.full(ctx, n, rule)
	if err != nil {
		return err
	}
	if full {
		g.c.finding(ctx, n, fleet.ReasonRuleFull, fmt.Sprintf("rule %s holds its %d servers", rule.rule.ID, rule.rule.Count))
		return nil
	}
	return g.give(ctx, n, st, node, node.Sessions[i], rule, stack, params, now)
}

// full says whether other servers hold as many grants of the rule as it allows.
func (g *granter) full(ctx context.Context, n fleet.NodeID, rule ruleHeld) (bool, error) {
	others := 0
	for _, o := range rule.rule.Selector.Nodes {
		if o == string(n) {
			continue
		}
		b, rev, err := g.table.get(ctx, o)
		if err != nil {
			return false, err
		}
		if rev == 0 {
			continue
		}
		held, err := images.ParseGrant(b.Grant.Payload)
		if err == nil && held.RuleDigest == rule.digest {
			others++
		}
	}
	return others >= rule.rule.Count, nil
}

// give writes a grant and says so, once. Where the grant is there and the status
// has not taken that word, control was ended in between, and it is said again.
func (g *granter) give(ctx context.Context, n fleet.NodeID, st fleet.Status, node fleet.Node, ss fleet.Session, rule ruleHeld, stack stackHeld, params map[string]string, now time.Time) error {
	pd, err := images.ParamsDigest(params)
	if err != nil {
		return err
	}
	end := now.Add(grantLife)
	if rule.rule.NotAfter.Before(end) {
		end = rule.rule.NotAfter
	}
	grant := images.Grant{
		Schema: images.GrantSchema, Node: string(n), BootID: ss.BootID, Attempt: ss.Attempt,
		RuleDigest: rule.digest, StackDigest: stack.digest, Params: params, ParamsDigest: pd,
		AgentKey: ss.Key, Nonce: ss.Nonce, Issued: now.UTC().Truncate(time.Second), NotAfter: end.UTC().Truncate(time.Second),
	}
	if m, ok := g.c.reg.machineByAliases(node.Aliases); ok {
		grant.Placement = images.Placement{Name: m.Name, Rack: m.Rack, Unit: m.Unit}
	}
	env, _, err := sign.SignJSON(g.c.cfg.Reconciler, images.GrantType, grant)
	if err != nil {
		return err
	}
	bundle := images.GrantBundle{
		Schema: images.BundleSchema, Grant: env, Rule: rule.entry.Rule, Stack: stack.entry.Stack,
		Delegations: g.c.delegations(slices.Concat(rule.entry.Delegations, stack.entry.Delegations)),
	}
	written := false
	held, _, err := g.table.update(ctx, string(n), func(b *images.GrantBundle, there bool) error {
		if there && sameGrant(b.Grant.Payload, grant) {
			written = false
			return errUnchanged
		}
		*b, written = bundle, true
		return nil
	})
	if err != nil || !written && st.StackDigest == string(stack.digest) {
		return err
	}
	g.c.log.Info("granted", "node", n, "rule", rule.rule.ID, "stack", stack.manifest.Ref(), "written", written)
	return g.c.pub.publishOnce(ctx, string(images.DigestOf(held.Grant.Payload)), n, ss.Attempt, fleet.SourceControl, fleet.KindGranted, now,
		fleet.AssignedData{Rule: rule.rule.ID, Stack: stack.manifest.Ref(), Digest: string(stack.digest)})
}

// sameGrant says whether the grant that is there is for the same boot and gives
// the same: it is not given twice.
func sameGrant(there []byte, g images.Grant) bool {
	o, err := images.ParseGrant(there)
	return err == nil && o.BootID == g.BootID && o.AgentKey == g.AgentKey && o.Nonce == g.Nonce &&
		o.RuleDigest == g.RuleDigest && o.StackDigest == g.StackDigest && o.ParamsDigest == g.ParamsDigest &&
		o.Placement == g.Placement && g.Issued.Before(o.NotAfter)
}
