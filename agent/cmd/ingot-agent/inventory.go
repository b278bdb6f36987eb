package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/ingot-metal/ingot/hardware/inventory"
	"github.com/ingot-metal/ingot/hardware/render"
)

// printInventory reads the machine that it runs on, any Linux, and prints what
// it is. What it could not read is a finding; how long each reader took goes to
// standard error.
func printInventory(args []string) error {
	f := flag.NewFlagSet("ingot-agent inventory", flag.ContinueOnError)
	output := f.String("o", "table", "table or json")
	root := f.String("root", "/", "directory that holds /sys and /proc of the machine")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	res := inventory.Read(context.Background(), *root)
	switch *output {
	case "json":
		b, err := json.MarshalIndent(res.Inventory, "", "  ")
		if err != nil {
			return fmt.Errorf("write inventory as JSON: %w", err)
		}
		if _, err := fmt.Println(string(b)); err != nil {
			return err
		}
	case "table":
		if err := render.Table(os.Stdout, res.Inventory); err != nil {
			return err
		}
	default:
		return fmt.Errorf("inventory: -o %.20q: want table or json", *output)
	}
	w := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', 0)
	for _, r := range res.Readers {
		fmt.Fprintf(w, "%s\t%v\t%s\n", r.Reader, r.Took.Round(time.Microsecond), r.Err)
	}
	return w.Flush()
}
