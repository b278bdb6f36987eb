package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/serve"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
	"github.com/ingot-metal/ingot/qemu-tests/scenario"
)

// errNoContext says that nothing names a fleet.
var errNoContext = errors.New("no fleet is named: start a lab with `ingot lab up`, or name the context file that `ingot serve` wrote with --context FILE or $INGOT_CONTEXT")

// fleetContext finds the fleet that a command means.
func (a *app) fleetContext(ctx context.Context) (fleet.OperatorContext, error) {
	if a.contextFile != "" && a.labName != "" {
		return fleet.OperatorContext{}, usagef("--context and --lab name two fleets: give one of them")
	}
	if a.contextFile != "" {
		return readContext(a.contextFile)
	}
	if a.labName != "" {
		return labContext(ctx, a.labName)
	}
	if path := a.env("INGOT_CONTEXT"); path != "" {
		return readContext(path)
	}
	oc, err := labContext(ctx, "default")
	if !errors.Is(err, lab.ErrNotUp) {
		return oc, err
	}
	path := a.userContext()
	if path == "" {
		return oc, errNoContext
	}
	oc, err = readContext(path)
	if errors.Is(err, os.ErrNotExist) {
		return oc, errNoContext
	}
	return oc, err
}

func (a *app) userContext() string {
	if dir := a.env("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "ingot", "context.json")
	}
	if home := a.env("HOME"); home != "" {
		return filepath.Join(home, ".config", "ingot", "context.json")
	}
	return ""
}

func readContext(path string) (fleet.OperatorContext, error) {
	var oc fleet.OperatorContext
	_, err := serve.ReadJSON(path, &oc)
	// One of another version may have other keys: its schema says so better.
	if old := checkContext(oc, path); oc.Schema != "" && old != nil {
		return oc, old
	}
	if err != nil {
		return oc, fmt.Errorf("read context: %w", err)
	}
	return oc, checkContext(oc, path)
}

func checkContext(oc fleet.OperatorContext, from string) error {
	if oc.Schema != serve.ContextSchema {
		return fmt.Errorf("read context %s: schema is %.40q, want %q: name the context.json that this version of ingot serve wrote", from, oc.Schema, serve.ContextSchema)
	}
	return nil
}

// labContext asks a lab for its context.
func labContext(ctx context.Context, name string) (fleet.OperatorContext, error) {
	oc, err := scenario.Context(ctx, name)
	if err != nil {
		return oc, err
	}
	return oc, checkContext(oc, "of lab "+name)
}

// connect opens the fleet that a command means.
func (a *app) connect(ctx context.Context) (*operator.Client, error) {
	oc, err := a.fleetContext(ctx)
	if err != nil {
		return nil, err
	}
	return operator.Connect(oc, a.lost)
}

// labClient opens the fleet of a lab.
func (a *app) labClient(ctx context.Context, name string) (*operator.Client, error) {
	oc, err := labContext(ctx, name)
	if err != nil {
		return nil, err
	}
	return operator.Connect(oc, a.lost)
}

// lost tells that the bus went away; the client tries again by itself.
func (a *app) lost(err error) { a.progress("the bus went away (%v); trying again, Ctrl-C ends", err) }
