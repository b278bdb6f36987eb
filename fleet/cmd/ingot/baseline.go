package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/hardware"
	hardwarerender "github.com/ingot-metal/ingot/hardware/render"
)

const baselineLong = `A baseline is a server as an operator accepted it. From then on each boot is
compared with it, and what is gone, new, moved, changed or degraded is a finding
of the server: ingot node diff, ingot node findings, ingot why. Nothing is ever
accepted by itself, neither the first inventory nor a loss.`

func (a *app) baselineCommand() *cobra.Command {
	return group(&cobra.Command{Use: "baseline", Short: "Accept servers as they are, and see what was accepted", Long: baselineLong},
		a.baselineAcceptCommand(), a.baselineShowCommand())
}

// acceptance is what `ingot baseline accept` says of one server.
type acceptance struct {
	Node     fleet.NodeID      `json:"node"`
	Summary  string            `json:"summary"`
	Digest   hardware.Digest   `json:"digest"`
	Changes  []hardware.Change `json:"changes"`
	baseline fleet.Baseline
	name     string
}

func (a *app) baselineAcceptCommand() *cobra.Command {
	var note string
	var shrink bool
	c := &cobra.Command{
		Use: "accept NODE[,NODE…]", Short: "Accept servers as they are now", Args: args(1, "NODE, or several with commas"),
		Long: `Signs, with the context's key, that the server is to be as it is now. What it has
less than what was accepted before is listed and refused, unless --shrink says
that the loss is meant.`,
		Example: "  ingot node show r1u1 --inventory\n  ingot baseline accept r1u1 --note 'as delivered'\n  ingot baseline accept r1u1 --shrink --note 'DIMM B1 went to r1u2'",
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				var done []acceptance
				var errs []error
				for name := range strings.SplitSeq(given[0], ",") {
					t, err := c.Find(ctx, name)
					if err == nil {
						var b fleet.Baseline
						var changes []hardware.Change
						if b, changes, err = c.AcceptBaseline(ctx, t, note, shrink); err == nil {
							done = append(done, acceptance{b.Node, b.Inventory.Summary(), b.Inventory.Digest(), orEmpty(changes), b, t.Name()})
						}
					}
					errs = append(errs, err)
				}
				if len(done) > 0 {
					errs = append(errs, a.show(done, func(s render.Style) string { return acceptedPage(s, done) }))
				}
				return errors.Join(errs...)
			})
		},
	}
	c.Flags().StringVar(&note, "note", "", "why; it is kept with the baseline and shown")
	c.Flags().BoolVar(&shrink, "shrink", false, "accept also that the server has less than before")
	return c
}

func acceptedPage(s render.Style, done []acceptance) string {
	var b strings.Builder
	for _, d := range done {
		fmt.Fprintf(&b, "%s: accepted as %s\n", d.name, render.Clean(d.Summary))
		if len(d.Changes) > 0 {
			b.WriteString(changesPage(s, d.Changes))
		}
	}
	return b.String()
}

func (a *app) baselineShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NODE", Short: "What was accepted, when and by whom", Args: args(1, "one NODE"),
		Example: "  ingot baseline show r1u1\n  ingot baseline show r1u1 -o json | jq .inventory > accepted.json",
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				t, err := c.Find(ctx, given[0])
				if err != nil {
					return err
				}
				if t.Status == nil {
					return fmt.Errorf("baseline of %s: no baseline, and it was never seen: %w", t.Name(), operator.ErrNotFound)
				}
				b, err := c.Baseline(ctx, t.Status.Node)
				if errors.Is(err, operator.ErrNotFound) {
					return fmt.Errorf("baseline of %s: no baseline; accept it as it is with: ingot baseline accept %s: %w", t.Name(), t.Name(), operator.ErrNotFound)
				}
				if err != nil {
					return err
				}
				return a.show(b, func(s render.Style) string {
					head := render.Clean(fmt.Sprintf("%s: accepted at %s by operator %s", t.Name(), b.Accepted.Local().Format("2006-01-02 15:04"), fleet.ShortKey(b.By)))
					if b.Note != "" {
						head += ": " + render.Clean(b.Note)
					}
					return head + "\n\n" + page(func(w io.Writer) error {
						return hardwarerender.Page{Width: s.Width}.Inventory(w, b.Inventory, hardware.Readings{})
					})
				})
			})
		},
	}
}
