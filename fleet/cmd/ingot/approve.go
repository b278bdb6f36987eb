package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
)

func (a *app) nodeApproveCommand() *cobra.Command {
	return a.wordCommand("approve", "Let a server in, now and at its later boots",
		`Says that the server is one of yours. What is approved is what it is shown by:
its UUID, serial and MAC addresses, in a command that the context's key signs. It
holds over later boots and over restarts of the fleet until it is revoked. A boot
that says another UUID or serial under the same name waits again, with the reason
identity-changed.

The waiting agent hears of it and comes in without a reboot.`,
		"  ingot node list\n  ingot node approve r1u1\n  ingot node approve mac-525400010101 --note 'rack 7, checked the label'",
		(*operator.Client).Approve, "approved; watch it come in: ingot node events %s --follow")
}

func (a *app) nodeRejectCommand() *cobra.Command {
	return a.wordCommand("reject", "Turn a server away, now and at its later boots",
		`Says that the server is none of yours. Its agent is told so, with the note, and
asks again once a minute, should it be approved after all. Sessions that it has
end at once.`,
		"  ingot node reject mac-525400010101 --note 'not ours'",
		(*operator.Client).Reject, "rejected; to let it in after all: ingot node approve %s")
}

func (a *app) nodeRevokeCommand() *cobra.Command {
	return a.wordCommand("revoke", "End a node's sessions at once",
		`Throws the node off the bus and puts the keys of its sessions on a list that is
never let in again. Its next boot is pending until it is approved. What runs on
the server goes on running; to end that too, take its power: ingot node power off.`,
		"  ingot node revoke r1u1 --note 'board sent back'",
		(*operator.Client).Revoke, "revoked; its sessions ended. To let its next boot in: ingot node approve %s")
}

func (a *app) wordCommand(verb, short, long, example string, say func(*operator.Client, context.Context, operator.Target, string) (fleet.CommandReply, error), done string) *cobra.Command {
	var note string
	c := &cobra.Command{
		Use: verb + " NODE", Short: short, Long: long, Example: example, Args: args(1, "one NODE"),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				t, err := c.Find(ctx, given[0])
				if err != nil {
					return err
				}
				r, err := say(c, ctx, t, note)
				if err != nil {
					return err
				}
				return a.show(r, func(render.Style) string {
					return fmt.Sprintf("%s: "+done+"\n", box(t), r.Node)
				})
			})
		},
	}
	c.Flags().StringVar(&note, "note", "", "why; it is kept with the word and shown")
	return c
}

// box says which server was meant, so that a slip is seen.
func box(t operator.Target) string {
	var is []string
	if s := t.Status; s != nil {
		is = append(is, s.Summary)
		if s.Serial != "" && !strings.Contains(s.Summary, s.Serial) {
			is = append(is, "serial "+s.Serial)
		}
		is = append(is, s.MACs...)
	}
	text := strings.Join(strings.Fields(render.Clean(strings.Join(is, " "))), " ")
	if text == "" {
		return t.Name()
	}
	return t.Name() + " (" + text + ")"
}
