package operator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
)

// checkDowngrade refuses an older version of the stack that the rule in force
// gives a target: what was mended in the newer one would come back unsaid.
func (c *Client) checkDowngrade(ctx context.Context, a Assignment) error {
	rules, err := values[fleet.RuleEntry](ctx, c, fleet.BucketConfig, fleet.ConfigRule)
	if err != nil {
		return err
	}
	stacks, err := c.Stacks(ctx)
	if err != nil {
		return err
	}
	given := map[images.Digest]images.Manifest{}
	for _, e := range stacks {
		if m, d, err := c.Roots().OpenManifest(e.Delegations, e.Stack, time.Now()); err == nil {
			given[d] = m // what nobody signed is given to nobody
		}
	}
	for _, t := range a.Targets {
		r, ok := newestRule(rules, t.Key())
		if !ok {
			continue
		}
		for _, d := range r.Stacks {
			if m, ok := given[d]; ok && m.Name == a.Manifest.Name && images.CompareVersions(a.Manifest.Version, m.Version) < 0 {
				return &RefusedError{What: fmt.Sprintf("assign %s %s", t.Name(), a.Manifest.Ref()), Problem: fleet.Problem{
					Reason: fleet.ReasonDowngrade, Hint: fleet.ReasonDowngrade.HintFor(fleet.NodeID(t.Name())),
					Evidence: fmt.Sprintf("rule %s gives it %s (%s)", r.ID, m.Ref(), d.Short()),
				}}
			}
		}
	}
	return nil
}

// newestRule is the one of a node that control takes.
func newestRule(rules []fleet.RuleEntry, node string) (newest images.Rule, found bool) {
	for _, e := range rules {
		r, err := images.ParseRule(e.Rule.Payload)
		if err != nil || !slices.Contains(r.Selector.Nodes, node) {
			continue
		}
		if !found || r.Created.After(newest.Created) {
			newest, found = r, true
		}
	}
	return newest, found
}
