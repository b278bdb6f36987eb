package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/snapshot"
)

// takeSnapshot records the machine that it runs on in one file, from which
// ingot-agent inventory reads it anywhere. The file appears when it is whole.
func takeSnapshot(args []string) (err error) {
	f := flag.NewFlagSet("ingot-agent snapshot FILE", flag.ContinueOnError)
	root := f.String("root", "/", "`directory` that holds /sys and /proc of the machine, or a snapshot")
	keep := f.Bool("no-scrub", false, "keep serials, MACs, UUIDs, names and keys as they are")
	if done, err := parse(f, args, 1); done || err != nil {
		return err
	}
	dir, remove, err := machine(*root)
	if err != nil {
		return err
	}
	defer remove()
	file := f.Arg(0)
	tmp, err := os.CreateTemp(filepath.Dir(file), ".ingot-snapshot-") // for its owner alone
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	rep, err := snapshot.Take(context.Background(), dir, tmp, snapshot.Options{Keep: *keep})
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	for _, left := range rep.Left {
		fmt.Fprintln(os.Stderr, "left out:", left)
	}
	if err := notes(os.Stderr, rep.Result); err != nil {
		return err
	}
	what := fmt.Sprintf("%d names, numbers and keys of it replaced: look through it before you hand it on", rep.Standins)
	if *keep {
		what = "with all its names, numbers and keys"
	}
	fmt.Printf("%s: %s\n%s: %d files, %d answers, %s, %s\n", file, rep.Result.Inventory.Summary(), file, rep.Files, rep.Answers, hardware.FormatBytes(uint64(rep.Bytes)), what)
	return nil
}
