package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
)

func (a *app) auditCommand() *cobra.Command {
	var follow bool
	c := &cobra.Command{
		Use: "audit", Short: "Who let which server in, and what was refused", Args: args(0, ""),
		Long: `Shows, over all servers, what operators said of them (approved, rejected,
revoked: by whom and when), the commands that control refused, and what was tried
on the bus and is forbidden. What names no server stands under "control". With
-o json each line is one event.`,
		Example: "  ingot audit\n  ingot audit --follow\n  ingot audit -o json | jq -r 'select(.kind == \"approved\") | [.time, .node, .data.by] | @tsv'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if !follow {
				limited, cancel := a.limited(ctx, quick)
				defer cancel()
				ctx = limited
			}
			return a.withClient(ctx, func(c *operator.Client) error {
				return c.Audit(ctx, follow, a.auditLine)
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until Ctrl-C")
	return c
}

func (a *app) auditLine(r operator.Record) error {
	if a.output != "table" {
		b, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("write event %s: %v", r.ID, err)
		}
		_, err = fmt.Fprintf(a.stdout, "%s\n", b)
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%s  %-18s %s\n", r.Time.Local().Format("2006-01-02"), render.Clean(string(r.Node)), render.EventLine(render.Style{}, r.Event))
	return err
}
