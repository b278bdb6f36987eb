package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
)

const nodeLong = `Nodes are the servers of the fleet. Where a command wants a NODE, give its ID,
the name of its machine, its serial, its UUID or one of its MAC addresses.`

func (a *app) nodeCommand() *cobra.Command {
	return group(&cobra.Command{Use: "node", Short: "See and steer servers", Long: nodeLong},
		a.nodeListCommand(), a.nodeShowCommand(), a.nodeDiffCommand(), a.nodeFindingsCommand(), a.nodeEventsCommand(), a.nodeApproveCommand(), a.nodeRejectCommand(), a.nodeRevokeCommand(), a.nodePowerCommand(), a.nodeWaitCommand(), a.nodeVMCommand())
}

// withClient runs f with an open fleet.
func (a *app) withClient(ctx context.Context, f func(*operator.Client) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

func (a *app) nodeListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "All servers, one a line", Args: args(0, ""),
		Long:    "All nodes with their phase, and the expected machines that were never seen.",
		Example: "  ingot node list\n  ingot node list -o json | jq -r '.[] | select(.status.phase == \"waiting\") | .status.node'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				all, err := c.Targets(ctx)
				if err != nil {
					return err
				}
				nodes := []render.Node{}
				for _, t := range all {
					nodes = append(nodes, render.Node{Status: t.Status, Machine: t.Machine})
				}
				return a.show(nodes, func(s render.Style) string { return render.Nodes(s, nodes, a.now()) })
			})
		},
	}
}

func (a *app) nodeShowCommand() *cobra.Command {
	var record, readings bool
	c := &cobra.Command{
		Use: "show NODE", Short: "One server: its life, its parts, its layers, its timeline", Args: args(1, "one NODE"),
		Long: `Shows where the server is in its life, what it is, and what happened in its present
boot. --inventory shows the whole record of its hardware instead, to print and pin
to the rack; with -o json that is one document, ingot.inventory/v1. --readings
shows what moves: sensors, the wear of its drives, the newest entries of its logs.`,
		Example: "  ingot node show r1u1\n  ingot node show 52:54:00:01:01:01 --inventory\n  ingot node show r1u1 --readings\n  ingot node show r1u1 -o json | jq .status.reason",
		RunE: func(cmd *cobra.Command, given []string) error {
			switch {
			case record && readings:
				return usagef("--inventory and --readings are two documents: ask for one of them")
			case record || readings:
				return a.showRecord(cmd.Context(), given[0], readings)
			}
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				t, err := c.Find(ctx, given[0])
				if err != nil {
					return err
				}
				n, err := loadNode(ctx, c, t)
				if err != nil {
					return err
				}
				return a.show(n, func(s render.Style) string { return render.Page(s, n, a.now()) })
			})
		},
	}
	c.Flags().BoolVar(&record, "inventory", false, "the whole record of its hardware")
	c.Flags().BoolVar(&readings, "readings", false, "what moves: sensors, wear, logs")
	return c
}

// loadNode reads all that a page about one server shows.
func loadNode(ctx context.Context, c *operator.Client, t operator.Target) (render.Node, error) {
	n := render.Node{Status: t.Status, Machine: t.Machine}
	records, err := c.Events(ctx, t)
	if err != nil || t.Status == nil {
		return n, err
	}
	inv, ok, err := c.Inventory(ctx, t.Status.Node)
	if err != nil {
		return n, err
	}
	if ok {
		n.Inventory = &inv
		if n.Accepted, err = accepted(ctx, c, t.Status.Node); err != nil {
			return n, err
		}
	}
	n.Timeline = render.Timeline(render.Attempt(operator.Aligned(records), t.Status.Attempt))
	return n, nil
}

func (a *app) nodeEventsCommand() *cobra.Command {
	var follow, all bool
	c := &cobra.Command{
		Use: "events NODE", Short: "What happened, event by event", Args: args(1, "one NODE"),
		Long: `The events of the server's present boot as they stand on the bus; --all shows
those of every boot that is still kept. With -o json each line is one event.`,
		Example: "  ingot node events r1u1 --follow\n  ingot node events r1u1 --all -o json | jq -r '[.time, .source, .kind] | @tsv'",
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx := cmd.Context()
			if !follow {
				limited, cancel := a.limited(ctx, quick)
				defer cancel()
				ctx = limited
			}
			return a.withClient(ctx, func(c *operator.Client) error {
				t, err := c.Find(ctx, given[0])
				if err != nil {
					return err
				}
				return a.events(ctx, c, t, follow, all)
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until Ctrl-C")
	c.Flags().BoolVar(&all, "all", false, "events of every boot, not only of the present one")
	return c
}

func (a *app) events(ctx context.Context, c *operator.Client, t operator.Target, follow, all bool) error {
	if follow {
		err := c.FollowEvents(ctx, t, func(r operator.Record) error {
			if !all && t.Status != nil && r.Attempt != 0 && r.Attempt < t.Status.Attempt {
				return nil
			}
			return a.printEvent(r.Event)
		})
		if errors.Is(err, context.Canceled) {
			return nil // Ctrl-C is how one stops to follow
		}
		return err
	}
	records, err := c.Events(ctx, t)
	if err != nil {
		return err
	}
	events := operator.Plain(records)
	if !all && t.Status != nil {
		events = render.Attempt(events, t.Status.Attempt)
	}
	for _, e := range events {
		if err := a.printEvent(e); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printEvent(e fleet.Event) error {
	if a.output == "table" {
		_, err := fmt.Fprintln(a.stdout, render.EventLine(a.style(a.stdout), e))
		return err
	}
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write event %s: %v", e.ID, err)
	}
	_, err = fmt.Fprintf(a.stdout, "%s\n", b)
	return err
}

const powerLong = `Control asks the server's BMC and reads the power state back: a BMC that says yes
and does nothing is found out. The request is signed with the context's key and
stands in the node's events.`

func (a *app) nodePowerCommand() *cobra.Command {
	action := func(verb, short string) *cobra.Command {
		var via string
		c := &cobra.Command{
			Use: verb + " NODE", Short: short, Long: short + ".\n\n" + powerLong, Args: args(1, "one NODE"),
			Example: fmt.Sprintf("  ingot node power %s r1u1\n  ingot node power %s r1u2 --via ipmi", verb, verb),
			RunE: func(cmd *cobra.Command, given []string) error {
				if via != "" && via != "redfish" && via != "ipmi" {
					return usagef("--via %q: want redfish or ipmi", via)
				}
				ctx, cancel := a.limited(cmd.Context(), 2*quick)
				defer cancel()
				return a.withClient(ctx, func(c *operator.Client) error { return a.power(ctx, c, given[0], verb, via) })
			},
		}
		c.Flags().StringVar(&via, "via", "", "how to reach the BMC: redfish or ipmi (default: control's choice)")
		return c
	}
	return group(&cobra.Command{
		Use: "power", Short: "Press a server's power button, by its BMC",
		Long: powerLong,
	}, action("on", "Switch a server on"), action("off", "Take a server's power away, at once"), action("cycle", "Switch a server off and on again"))
}

func (a *app) power(ctx context.Context, c *operator.Client, name, verb, via string) error {
	t, err := c.Find(ctx, name)
	if err != nil {
		return err
	}
	r, err := c.Power(ctx, t, verb, via)
	if err != nil {
		return err
	}
	return a.show(r, func(render.Style) string {
		s := fmt.Sprintf("%s: power %s: %s\n", t.Name(), verb, render.Clean(orDone(r.Text)))
		if verb != "off" {
			s += fmt.Sprintf("Watch it come: ingot node events %s --follow\n", t.Name())
		}
		return s
	})
}

func orDone(text string) string {
	if strings.TrimSpace(text) == "" {
		return "done"
	}
	return text
}

func (a *app) nodeWaitCommand() *cobra.Command {
	var phase string
	c := &cobra.Command{
		Use: "wait NODE", Short: "Wait until a server is in a phase", Args: args(1, "one NODE"),
		Long: `Waits until the server is in the phase, and fails as soon as it has failed or
is lost. Exit code 4 says that the time was up.

The phases are ` + phaseNames(",\n") + ".",
		Example: "  ingot node wait r1u1 --for waiting\n  ingot node wait r1u1 --for running --timeout 5m",
		RunE: func(cmd *cobra.Command, given []string) error {
			if !slices.Contains(fleet.Phases(), fleet.Phase(phase)) {
				return usagef("--for %q: want one of %s", phase, phaseNames(", "))
			}
			ctx, cancel := a.limited(cmd.Context(), patient)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				st, err := a.waitPhase(ctx, c, given[0], fleet.Phase(phase))
				if err != nil {
					return err
				}
				return a.show(st, func(s render.Style) string {
					return fmt.Sprintf("%s is %s\n", given[0], st.Phase)
				})
			})
		},
	}
	c.Flags().StringVar(&phase, "for", string(fleet.PhaseRunning), "the phase to wait for")
	return c
}

// phaseNames are all phases; sep stands after every seventh.
func phaseNames(sep string) string {
	var b strings.Builder
	for i, p := range fleet.Phases() {
		switch {
		case i > 0 && i%7 == 0:
			b.WriteString(sep)
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(p))
	}
	return b.String()
}

// waitPhase waits for a phase and tells on stderr what goes on.
func (a *app) waitPhase(ctx context.Context, c *operator.Client, name string, want fleet.Phase) (fleet.Status, error) {
	t, err := c.Find(ctx, name)
	if err != nil {
		return fleet.Status{}, err
	}
	var last fleet.Status
	said := ""
	err = c.WatchStatus(ctx, func(st fleet.Status) (bool, error) {
		if !t.Same(st) {
			return false, nil
		}
		last = st
		if line := render.StatusLine(st); line != said {
			said = line
			a.progress("%s  %s: %s", a.now().Format("15:04:05"), t.Name(), line)
		}
		if st.Phase == want {
			return true, nil
		}
		if st.Phase == fleet.PhaseFailed || st.Phase == fleet.PhaseLost {
			return true, fmt.Errorf("wait for %s to be %s: it is %s", t.Name(), want, render.StatusLine(st))
		}
		return false, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = timeUp(fmt.Sprintf("wait for %s to be %s: the time is up and it is %s (ingot why %s says more; --timeout waits longer)", t.Name(), want, render.StatusLine(last), t.Name()))
	}
	return last, err
}

func (a *app) nodeVMCommand() *cobra.Command {
	stop := &cobra.Command{
		Use: "stop NODE VM", Short: "End a virtual machine at once, as a fault would", Args: args(2, "NODE and VM"),
		Long: `Asks the resident agent of the node to kill the VM's process. The command is
signed with the context's key; the resident checks it, and does not start the
VM again. It shows what the fleet says when a layer goes: the status becomes
degraded and names it.`,
		Example: "  ingot node vm stop r1u1 vm0",
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				t, err := c.Find(ctx, given[0])
				if err != nil {
					return err
				}
				r, err := c.Command(ctx, t, fleet.VerbStopVM, map[string]string{"vm": given[1]})
				if err != nil {
					return err
				}
				return a.show(r, func(render.Style) string {
					return fmt.Sprintf("%s: VM %s: %s\n", t.Name(), given[1], render.Clean(orDone(r.Text)))
				})
			})
		},
	}
	return group(&cobra.Command{Use: "vm", Short: "Steer the virtual machines of a node"}, stop)
}
