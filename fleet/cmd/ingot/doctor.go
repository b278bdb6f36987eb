package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
)

// diagnosis is what `ingot lab doctor` says.
type diagnosis struct {
	OK     bool        `json:"ok"`
	Checks []lab.Check `json:"checks"`
}

func (a *app) labDoctorCommand() *cobra.Command {
	var build, accel string
	c := &cobra.Command{
		Use: "doctor", Short: "What this machine lacks for a lab, and the line that mends it", Args: args(0, ""),
		Long: `Checks each thing that the lab needs. For KVM it starts a guest, which takes up
to ten seconds: a device that opens says little. "missing" stands in the way of
a lab; "without" is what it can do without. The exit code is 1 when something is
missing.`,
		Example: "  ingot lab doctor\n  ingot lab doctor -o json | jq -r '.checks[] | select(.state==\"missing\").mend'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.labOptions(build, "", accel)
			if err != nil {
				return err
			}
			checks, err := lab.Checks(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.diagnose(checks)
		},
	}
	c.Flags().StringVar(&build, "build", "build", buildUsage)
	c.Flags().StringVar(&accel, "accel", string(lab.AccelAuto), accelUsage)
	return c
}

// diagnose shows all checks; that something is missing is the error.
func (a *app) diagnose(checks []lab.Check) error {
	d := diagnosis{OK: true, Checks: checks}
	var missing []string
	for _, c := range checks {
		if c.State == lab.StateMissing {
			d.OK = false
			missing = append(missing, c.Name)
		}
	}
	if err := a.show(d, func(s render.Style) string { return checksPage(s, checks) }); err != nil {
		return err
	}
	if d.OK {
		return nil
	}
	return errors.New("the lab cannot run here yet: missing is " + strings.Join(missing, ", "))
}

// checksPage is a table of what was seen, and below it the lines to type, which
// a table would cut.
func checksPage(s render.Style, checks []lab.Check) string {
	var rows [][]string
	var mend strings.Builder
	for _, c := range checks {
		rows = append(rows, []string{c.Name, string(c.State), c.Seen})
		if c.Mend != "" {
			fmt.Fprintf(&mend, "  %-12s %s\n", c.Name, render.Clean(c.Mend))
		}
	}
	page := s.Table([]string{"WHAT", "STATE", "SEEN"}, rows)
	if mend.Len() > 0 {
		page += "\nWhat mends it:\n" + mend.String()
	}
	return page
}
