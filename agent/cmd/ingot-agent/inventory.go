package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/inventory"
	"github.com/ingot-metal/ingot/hardware/render"
	"github.com/ingot-metal/ingot/hardware/snapshot"
)

// printInventory reads the machine that it runs on, any Linux, or a recorded
// one, and prints what it is. What it could not read is a finding; that, and
// how long each reader took, goes to standard error.
func printInventory(args []string) error {
	f := flag.NewFlagSet("ingot-agent inventory", flag.ContinueOnError)
	output := f.String("o", "table", "`format`: table, json or yaml")
	root := f.String("root", "/", "`directory` that holds /sys and /proc of the machine, or a file that ingot-agent snapshot made")
	only := f.String("only", "", "`readers` to run, with commas between: "+strings.Join(readerNames(), ","))
	readings := f.Bool("readings", false, "what moves (temperatures, wear, errors) in place of what stays")
	if done, err := parse(f, args, 0); done || err != nil {
		return err
	}
	if !slices.Contains([]string{"table", "json", "yaml"}, *output) {
		return fmt.Errorf("inventory: -o %.20q: want table, json or yaml", *output)
	}
	readers, err := chosen(*only)
	if err != nil {
		return err
	}
	dir, remove, err := machine(*root)
	if err != nil {
		return err
	}
	defer remove()
	res := inventory.Run(context.Background(), dir, readers)
	if *readings {
		err = show(os.Stdout, *output, res.Readings, func(w io.Writer) error { return render.Readings(w, res.Readings) })
	} else {
		err = show(os.Stdout, *output, res.Inventory, func(w io.Writer) error { return render.Table(w, res.Inventory) })
	}
	if err != nil {
		return err
	}
	return notes(os.Stderr, res)
}

// parse reads flags before and after so many other words.
func parse(f *flag.FlagSet, args []string, words int) (done bool, err error) {
	var rest []string
	for len(args) > 0 {
		if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
			return true, nil
		} else if err != nil {
			return false, err
		}
		if args = f.Args(); len(args) > 0 {
			rest, args = append(rest, args[0]), args[1:]
		}
	}
	if len(rest) != words {
		return false, fmt.Errorf("%s: %d words %.80q, want %d; see -h", f.Name(), len(rest), rest, words)
	}
	if words > 0 {
		return false, f.Parse(append([]string{"--"}, rest...))
	}
	return false, nil
}

// readerNames are those of both tables.
func readerNames() []string {
	var out []string
	for _, r := range slices.Concat(inventory.Readers(), inventory.Late()) {
		out = append(out, r.Name)
	}
	return out
}

// chosen are the readers of these names; without names those of the first
// table.
func chosen(only string) ([]inventory.Reader, error) {
	if only == "" {
		return inventory.Readers(), nil
	}
	var out []inventory.Reader
	for name := range strings.SplitSeq(only, ",") {
		all := slices.Concat(inventory.Readers(), inventory.Late())
		i := slices.IndexFunc(all, func(r inventory.Reader) bool { return r.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("inventory: --only %.40q is no reader; there are %s", name, strings.Join(readerNames(), ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

// machine is the directory to read below: that of the name, or what is in the
// snapshot of the name, which remove takes away again.
func machine(root string) (dir string, remove func(), err error) {
	st, err := os.Stat(root)
	if err != nil {
		return "", nil, fmt.Errorf("read machine below --root: %w", err)
	}
	if st.IsDir() {
		return root, func() {}, nil
	}
	f, err := os.Open(root)
	if err != nil {
		return "", nil, fmt.Errorf("read machine below --root: %w", err)
	}
	defer f.Close()
	if dir, err = os.MkdirTemp("", "ingot-snapshot-"); err != nil {
		return "", nil, fmt.Errorf("unpack %s: %w", root, err)
	}
	remove = func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "ingot: remove what was unpacked:", err)
		}
	}
	if err := snapshot.Unpack(f, dir, snapshot.Limits{}); err != nil {
		remove()
		return "", nil, fmt.Errorf("%s: %w", root, err)
	}
	return dir, remove, nil
}

func show(w io.Writer, output string, document any, table func(io.Writer) error) error {
	if output == "table" {
		return table(w)
	}
	b, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return fmt.Errorf("write as JSON: %w", err)
	}
	if output == "yaml" {
		if b, err = render.YAML(b); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(w, strings.TrimSuffix(string(b), "\n"))
	return err
}

// notes says how long each reader took, and what was not read and why.
func notes(w io.Writer, res inventory.Result) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range res.Readers {
		fmt.Fprintf(tab, "%s\t%v\t%s\n", r.Reader, r.Took.Round(time.Microsecond), r.Err)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	for _, f := range res.Inventory.Findings {
		switch f.Code {
		case hardware.CodeNotPermitted:
			fmt.Fprintf(w, "not read: %s: %s: run as root\n", f.Part, f.Evidence)
		case hardware.CodeReaderFailed, hardware.CodeReaderDeadline, hardware.CodeReaderPanicked, hardware.CodeDriveHung, hardware.CodeInventoryTruncated:
			fmt.Fprintf(w, "not read: %s: %s: %s\n", f.Part, f.Evidence, f.Hint)
		}
	}
	return nil
}
