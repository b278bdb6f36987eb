package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/hardware"
	hardwarerender "github.com/ingot-metal/ingot/hardware/render"
)

// withInventory runs f with a node and what is known of its hardware.
func (a *app) withInventory(ctx context.Context, name string, f func(context.Context, *operator.Client, operator.Target, hardware.Inventory) error) error {
	ctx, cancel := a.limited(ctx, quick)
	defer cancel()
	return a.withClient(ctx, func(c *operator.Client) error {
		t, err := c.Find(ctx, name)
		if err != nil {
			return err
		}
		if t.Status == nil {
			return fmt.Errorf("inventory of %s: it was never seen: %w", t.Name(), operator.ErrNotFound)
		}
		inv, ok, err := c.Inventory(ctx, t.Status.Node)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("inventory of %s: it has not reported one yet: %w", t.Name(), operator.ErrNotFound)
		}
		return f(ctx, c, t, inv)
	})
}

// showRecord prints the whole record, or the readings.
func (a *app) showRecord(ctx context.Context, name string, readings bool) error {
	return a.withInventory(ctx, name, func(ctx context.Context, c *operator.Client, t operator.Target, inv hardware.Inventory) error {
		r, ok, err := c.Readings(ctx, t.Status.Node)
		switch {
		case err != nil:
			return err
		case readings && !ok:
			return fmt.Errorf("readings of %s: nobody has read any yet: %w", t.Name(), operator.ErrNotFound)
		case readings:
			return a.show(r, func(s render.Style) string {
				return page(func(w io.Writer) error { return hardwarerender.Page{Width: s.Width}.Readings(w, r) })
			})
		}
		return a.show(inv, func(s render.Style) string {
			return page(func(w io.Writer) error { return hardwarerender.Page{Width: s.Width}.Inventory(w, inv, r) })
		})
	})
}

var severities = []string{string(hardware.Info), string(hardware.Warning), string(hardware.Critical)}

func (a *app) nodeFindingsCommand() *cobra.Command {
	least := string(hardware.Info)
	c := &cobra.Command{
		Use: "findings NODE", Short: "What looked wrong with a server's hardware", Args: args(1, "one NODE"),
		Long: `Lists what the readers of the server and of its BMC noticed, where they disagree,
and what differs from the bill of materials and from the accepted baseline, the
gravest first. The exit code is 0 also where there are some.`,
		Example: "  ingot node findings r1u1 --severity warning\n  ingot node findings r1u1 -o json | jq -r '.[] | [.severity, .code, .part] | @tsv'",
		RunE: func(cmd *cobra.Command, given []string) error {
			if !slices.Contains(severities, least) {
				return usagef("--severity %q: want info, warning or critical", least)
			}
			return a.withInventory(cmd.Context(), given[0], func(_ context.Context, _ *operator.Client, _ operator.Target, inv hardware.Inventory) error {
				found := slices.DeleteFunc(inv.Findings, func(f hardware.Finding) bool { return f.Severity.Rank() < hardware.Severity(least).Rank() })
				return a.show(orEmpty(found), func(s render.Style) string {
					return page(func(w io.Writer) error { return hardwarerender.Page{Width: s.Width}.Findings(w, found) })
				})
			})
		},
	}
	c.Flags().StringVar(&least, "severity", least, "the least that is shown: info, warning or critical")
	return c
}

// difference is what `ingot node diff` says.
type difference struct {
	Node fleet.NodeID `json:"node"`
	// Against is "baseline", or "boot" with the boot's number.
	Against  string            `json:"against"`
	Boot     int64             `json:"boot,omitempty"`
	Accepted *time.Time        `json:"accepted,omitempty"`
	Changes  []hardware.Change `json:"changes"`
}

func (a *app) nodeDiffCommand() *cobra.Command {
	var boot string
	c := &cobra.Command{
		Use: "diff NODE", Short: "What changed in a server since it was accepted", Args: args(1, "one NODE"),
		Long: `Compares the server as it is with its accepted baseline, by the serials and places
of its parts: gone, new, moved, changed, degraded. With --boot last it is compared
with the end of its boot before, which is kept without anybody's doing; so it is
where nobody accepted a baseline. Older boots are not kept.`,
		Example: "  ingot node diff r1u1\n  ingot node diff r1u1 --boot last -o json | jq -r '.changes[] | select(.kind == \"gone\") | .part'",
		RunE: func(cmd *cobra.Command, given []string) error {
			if n, err := strconv.ParseInt(boot, 10, 64); boot != "" && boot != lastBoot && (err != nil || n < 1) {
				return usagef("--boot %q: want last, or the number of a boot", boot)
			}
			return a.withInventory(cmd.Context(), given[0], func(ctx context.Context, c *operator.Client, t operator.Target, inv hardware.Inventory) error {
				was, d, err := a.earlier(ctx, c, t, boot)
				if err != nil {
					return err
				}
				d.Changes = orEmpty(hardware.Diff(was, inv))
				return a.show(d, func(s render.Style) string {
					against := fmt.Sprintf("the end of boot %d", d.Boot)
					if d.Accepted != nil {
						against = "what was accepted at " + d.Accepted.Local().Format("2006-01-02 15:04")
					}
					return fmt.Sprintf("%s against %s\n%s", t.Name(), against, changesPage(s, d.Changes))
				})
			})
		},
	}
	c.Flags().StringVar(&boot, "boot", "", "compare with this boot, or with the last before the present one, not with the baseline")
	return c
}

const lastBoot = "last"

// earlier is the record to compare a node with.
func (a *app) earlier(ctx context.Context, c *operator.Client, t operator.Target, boot string) (hardware.Inventory, difference, error) {
	d := difference{Node: t.Status.Node, Against: "baseline"}
	b, err := c.Baseline(ctx, t.Status.Node)
	switch {
	case boot != "" || errors.Is(err, operator.ErrNotFound):
		if boot == "" {
			a.progress("no baseline: ingot baseline accept %s accepts it as it is; compared with the boot before", t.Name())
		}
	case err != nil:
		return hardware.Inventory{}, d, err
	default:
		d.Accepted = &b.Accepted
		return b.Inventory, d, nil
	}
	inv, kept, ok, err := c.LastInventory(ctx, t.Status.Node)
	switch {
	case err != nil:
	case !ok:
		err = fmt.Errorf("boot before of %s: none is kept: %w", t.Name(), operator.ErrNotFound)
	case boot != "" && boot != lastBoot && boot != fmt.Sprint(kept):
		err = fmt.Errorf("boot %s of %s: it is not kept, only boot %d is: %w", boot, t.Name(), kept, operator.ErrNotFound)
	}
	d.Against, d.Boot = "boot", kept
	return inv, d, err
}

// accepted is what a page says of a node's baseline.
func accepted(ctx context.Context, c *operator.Client, n fleet.NodeID) (*render.Accepted, error) {
	b, err := c.Baseline(ctx, n)
	var refused *operator.RefusedError
	switch {
	case errors.Is(err, operator.ErrNotFound):
		return nil, nil
	case errors.As(err, &refused):
		return &render.Accepted{Refused: refused.Evidence}, nil
	case err != nil:
		return nil, err
	}
	return &render.Accepted{Time: b.Accepted, By: b.By, Note: b.Note}, nil
}
