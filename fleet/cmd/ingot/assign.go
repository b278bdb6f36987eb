package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/images"
)

const assignLong = `Gives a server a stack. You sign, with the context's key, a rule that names the
server, the stack by digest, and its parameters; control answers it with a signed
grant as soon as the server's agent waits for one; the agent checks all
signatures and digests and boots the stack.

STACK is name, name:version, or a digest. It is looked for in the OCI layout
--stacks, from where its signed manifest is put into the fleet, and then in the
fleet. A later assignment of the same server takes the place of the earlier one
at the server's next boot; an older version of the same stack does so only with
--allow-downgrade.`

// assignFlags are those of `ingot assign`.
type assignFlags struct {
	params  []string
	stacks  string
	count   int
	expires time.Duration
	wait    bool
	older   bool
}

func (a *app) assignCommand() *cobra.Command {
	var f assignFlags
	c := &cobra.Command{
		Use: "assign NODE[,NODE…] STACK", Short: "Give servers a stack", Args: args(2, "NODE and STACK"), Long: assignLong,
		Example: "  ingot assign r1u1 hello --param nonce=$RANDOM\n  ingot assign r1u1,r1u2 hello:1 --count 1 --wait",
		RunE: func(cmd *cobra.Command, given []string) error {
			params, err := parseParams(f.params)
			if err != nil {
				return err
			}
			if f.count < 0 || f.expires < 0 {
				return usagef("--count and --expires: want positive values")
			}
			limit := quick
			if f.wait {
				limit = patient
			}
			ctx, cancel := a.limited(cmd.Context(), limit)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				return a.assign(ctx, c, strings.Split(given[0], ","), given[1], params, f)
			})
		},
	}
	fs := c.Flags()
	fs.StringArrayVarP(&f.params, "param", "p", nil, "KEY=VALUE of the stack's parameters; may be given again")
	fs.StringVar(&f.stacks, "stacks", "", "OCI layout with the stack (default: the one that the context names)")
	fs.IntVar(&f.count, "count", 0, "how many of the nodes may run it at once (default: all)")
	fs.DurationVar(&f.expires, "expires", 0, "how long the rule holds (default one year)")
	fs.BoolVar(&f.older, "allow-downgrade", false, "also an older version of the stack that a node is given now")
	fs.BoolVar(&f.wait, "wait", false, "wait until all of them run it")
	return c
}

func parseParams(given []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range given {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, usagef("--param %q: want KEY=VALUE", p)
		}
		if _, twice := out[k]; twice {
			return nil, usagef("--param %s: is given twice", k)
		}
		out[k] = v
	}
	return out, nil
}

// assigned is what `ingot assign` says.
type assigned struct {
	Rule   images.Rule   `json:"rule"`
	Stack  string        `json:"stack"`
	Digest images.Digest `json:"digest"`
	Nodes  []string      `json:"nodes"`
}

func (a *app) assign(ctx context.Context, c *operator.Client, names []string, ref string, params map[string]string, f assignFlags) error {
	var as operator.Assignment
	for _, name := range names {
		t, err := c.Find(ctx, name)
		if err != nil {
			return err
		}
		as.Targets = append(as.Targets, t)
	}
	m, digest, err := a.fleetStack(ctx, c, ref, f.stacks)
	if err != nil {
		return err
	}
	as.Stack, as.Manifest, as.Params, as.Count, as.Life, as.Downgrade = digest, m, params, f.count, f.expires, f.older
	rule, err := c.Assign(ctx, as)
	if err != nil {
		return err
	}
	out := assigned{Rule: rule, Stack: m.Ref(), Digest: digest, Nodes: rule.Selector.Nodes}
	if err := a.show(out, func(render.Style) string { return assignPage(out, as) }); err != nil || !f.wait {
		return err
	}
	for _, name := range names {
		if _, err := a.waitPhase(ctx, c, name, fleet.PhaseRunning); err != nil {
			return err
		}
	}
	return nil
}

func assignPage(out assigned, as operator.Assignment) string {
	var b strings.Builder
	fmt.Fprintf(&b, "rule %s: %s (%s) for %s, until %s\n", out.Rule.ID, out.Stack, out.Digest.Short(),
		strings.Join(out.Nodes, ", "), out.Rule.NotAfter.Format(time.DateOnly))
	for _, k := range slices.Sorted(maps.Keys(out.Rule.Params)) {
		fmt.Fprintf(&b, "  %s = %s\n", k, render.Clean(out.Rule.Params[k]))
	}
	for _, t := range as.Targets {
		next := "takes it at its next boot: ingot node power cycle " + t.Name()
		switch t.Status.Phase {
		case fleet.PhaseWaiting:
			next = "waits for it: control grants it now, the agent fetches, verifies and jumps"
		case fleet.PhaseOff:
			next = "is off: ingot node power on " + t.Name()
		}
		fmt.Fprintf(&b, "%s is %s and %s\n", t.Name(), t.Status.Phase, next)
	}
	return b.String()
}

// fleetStack finds a stack in the layout and puts it into the fleet, or finds
// it there.
func (a *app) fleetStack(ctx context.Context, c *operator.Client, ref, layout string) (images.Manifest, images.Digest, error) {
	var m images.Manifest
	explicit := layout != ""
	if !explicit {
		layout = existing(c.Context().Stacks)
	}
	e, err := fleet.StackEntry{}, operator.ErrNotFound
	if layout != "" {
		here, rerr := readStacks(layout)
		if rerr != nil {
			return m, "", rerr
		}
		e, err = pickStack(here, ref)
	}
	if errors.Is(err, operator.ErrNotFound) && !explicit {
		there, rerr := c.Stacks(ctx)
		if rerr != nil {
			return m, "", rerr
		}
		e, err = pickStack(there, ref)
	}
	if err != nil {
		return m, "", err
	}
	m, err = c.PutStack(ctx, e)
	return m, images.DigestOf(e.Stack.Payload), err
}

// pickStack finds the one stack that ref means. A version wins over another
// only by being named.
func pickStack(all []fleet.StackEntry, ref string) (fleet.StackEntry, error) {
	found := map[images.Digest]fleet.StackEntry{}
	names := map[string]bool{}
	for _, e := range all {
		names[e.Ref] = true
		name, _, _ := strings.Cut(e.Ref, ":")
		d := images.DigestOf(e.Stack.Payload)
		if ref == e.Ref || ref == name || ref == string(d) || len(ref) >= 8 && strings.HasPrefix(d.Hex(), ref) {
			found[d] = e
		}
	}
	if len(found) == 1 {
		for _, e := range found {
			return e, nil
		}
	}
	known := strings.Join(slices.Sorted(maps.Keys(names)), ", ")
	if len(found) == 0 {
		if known == "" {
			known = "none; `make stack` builds one"
		}
		return fleet.StackEntry{}, fmt.Errorf("stack %q: %w (known: %s)", ref, operator.ErrNotFound, known)
	}
	var which []string
	for d, e := range found {
		which = append(which, e.Ref+" "+d.Short())
	}
	slices.Sort(which)
	return fleet.StackEntry{}, usagef("stack %q: means %s; name one by its digest", ref, strings.Join(which, " and "))
}

func (a *app) unassignCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unassign NODE", Short: "Take a server's stack back", Args: args(1, "one NODE"),
		Long: `Removes the rule that gives the server its stack. What the server runs goes on;
at its next boot it is inventoried and waits.`,
		Example: "  ingot unassign r1u1\n  ingot node power cycle r1u1",
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				t, err := c.Find(ctx, given[0])
				if err != nil {
					return err
				}
				gone, err := c.Unassign(ctx, t)
				if err != nil {
					return err
				}
				return a.show(gone, func(render.Style) string {
					var b strings.Builder
					for _, r := range gone {
						fmt.Fprintf(&b, "rule %s is removed: %s waits at its next boot\n", r.ID, t.Name())
					}
					return b.String()
				})
			})
		},
	}
}
