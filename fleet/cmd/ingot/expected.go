package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/expected"
)

const expectedLong = `What was bought: machines by serial or MAC, their racks and units, and for each
SKU its bill of materials. A server that is one of them has its name and place,
and what it lacks by its bill is a finding (sku-differs).`

func (a *app) expectedCommand() *cobra.Command {
	return group(&cobra.Command{Use: "expected", Short: "What was bought, and what of it has come", Long: expectedLong},
		a.expectedImportCommand(), a.expectedListCommand())
}

func (a *app) expectedImportCommand() *cobra.Command {
	var replace bool
	c := &cobra.Command{
		Use: "import FILE", Short: "Say what was bought, by a file", Args: args(1, "one FILE"),
		Long: `Reads a file of expected machines, YAML or CSV, and adds it to what is expected,
signed with the context's key: all of it or, where one line is wrong, nothing; each
mistake is told with its line and column. Machines of the same serial take the
place of those that were there; the same file twice changes nothing. A file "-" is
stdin.

YAML:
  skus:
    R650-A:
      model: PowerEdge R650
      cpus: 2
      memory: 512GiB
      dimms: 16
      drives: ["2x 480GB sata", "8x 3.84TB nvme"]
      nics: ["2x 25000"]        # ports, Mbit/s
  machines:
    - {serial: 7XK3LM2, name: r7u12, rack: r7, unit: 12, sku: R650-A}

CSV, of machines and, where the first column is sku, of bills; a cell that holds
several values has semicolons:
  serial,name,rack,unit,sku,macs
  sku,model,cpus,memory,dimms,drives,nics`,
		Example: "  ingot expected import rack7.yaml\n  ingot expected import - < rack8.csv",
		RunE: func(cmd *cobra.Command, given []string) error {
			b, err := readBounded(given[0], cmd.InOrStdin(), expected.MaxBytes)
			if err != nil {
				return fmt.Errorf("import: %w", err)
			}
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				done, err := c.ImportExpected(ctx, replace, func(known map[string]hardware.SKU) (hardware.Expected, error) {
					e, err := expected.Parse(given[0], b, known)
					if err != nil {
						return e, fmt.Errorf("import %s: nothing was taken:\n%w", given[0], err)
					}
					return e, nil
				})
				if err != nil {
					return err
				}
				return a.show(done, func(render.Style) string { return importedPage(done) })
			})
		},
	}
	c.Flags().BoolVar(&replace, "replace", false, "what is not in the file is expected no longer")
	return c
}

func importedPage(d operator.Imported) string {
	dropped := ""
	if d.Dropped > 0 {
		dropped = fmt.Sprintf(", %d dropped", d.Dropped)
	}
	return fmt.Sprintf("%d machines and %d bills of materials: %d new, %d changed, %d as they were%s; %d machines are expected\nWhat has not come yet: ingot expected list --missing\n",
		d.Machines, d.SKUs, d.New, d.Changed, d.Unchanged, dropped, d.Total)
}

func (a *app) expectedListCommand() *cobra.Command {
	var missing bool
	c := &cobra.Command{
		Use: "list", Short: "What was bought, and which server it is", Args: args(0, ""),
		Long:    "Lists the machines that were imported, with the node that each is; --missing those\nthat were never seen.",
		Example: "  ingot expected list --missing\n  ingot expected list -o json | jq -r '.[] | select(.node == null) | [.rack, .unit, .serial] | @tsv'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				all, err := c.Expectations(ctx)
				if err != nil {
					return err
				}
				shown := []operator.Expectation{}
				for _, x := range all {
					if !missing || x.Node == "" {
						shown = append(shown, x)
					}
				}
				return a.show(shown, func(s render.Style) string { return expectedPage(s, shown, len(all)) })
			})
		},
	}
	c.Flags().BoolVar(&missing, "missing", false, "only those that were never seen")
	return c
}

func expectedPage(s render.Style, shown []operator.Expectation, of int) string {
	if len(shown) == 0 {
		return fmt.Sprintf("none of %d expected machines\n", of)
	}
	var rows [][]string
	seen := 0
	for _, x := range shown {
		unit, state := "", "never seen"
		if x.Unit > 0 {
			unit = fmt.Sprint(x.Unit)
		}
		if x.Node != "" {
			seen++
			state = string(x.Phase)
		}
		var macs []string
		for _, m := range x.MACs {
			macs = append(macs, string(m))
		}
		rows = append(rows, []string{x.Rack, unit, x.Label(), x.Serial, x.SKU, string(x.Node), state, strings.Join(macs, " ")})
	}
	return s.Table([]string{"RACK", "UNIT", "NAME", "SERIAL", "SKU", "NODE", "STATE", "MAC"}, rows) +
		fmt.Sprintf("%d of %d expected machines, %d of them seen\n", len(shown), of, seen)
}
