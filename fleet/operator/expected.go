package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
)

// Expected returns what operators imported, and who signed it; it is empty where
// nobody did.
func (c *Client) Expected(ctx context.Context) (hardware.Expected, string, error) {
	payload, by, err := c.signed(ctx, fleet.ConfigExpected, images.ExpectedType)
	if errors.Is(err, ErrNotFound) {
		return hardware.Expected{}, "", nil
	}
	if err != nil {
		return hardware.Expected{}, "", fmt.Errorf("expected machines: %w", err)
	}
	e, err := fleet.ParseExpected(payload)
	return e, by, err
}

// Imported counts what an import did.
type Imported struct {
	Machines  int `json:"machines"` // of the file
	SKUs      int `json:"skus"`
	New       int `json:"new"` // machines that were not expected before
	Changed   int `json:"changed"`
	Unchanged int `json:"unchanged"`
	Dropped   int `json:"dropped,omitempty"` // expected before, and not in the file
	Total     int `json:"total"`             // machines that are expected now
}

// ImportExpected adds a file of expected machines to those that are there, or
// puts it in their place; all of it or nothing. parse is given the SKUs that
// the file's machines may be of. The same file twice changes nothing.
func (c *Client) ImportExpected(ctx context.Context, replace bool, parse func(known map[string]hardware.SKU) (hardware.Expected, error)) (Imported, error) {
	var done Imported
	err := c.change(ctx, fleet.ConfigExpected, func(raw []byte) ([]byte, error) {
		var old hardware.Expected
		if raw != nil {
			payload, _, err := c.opened(raw, fleet.ConfigExpected, images.ExpectedType)
			if err == nil {
				old, err = fleet.ParseExpected(payload)
			}
			if err != nil && !replace {
				return nil, err
			}
		}
		base := old
		if replace {
			base = hardware.Expected{}
		}
		file, err := parse(base.SKUs)
		if err != nil {
			return nil, err
		}
		now := base.Merge(file)
		done = count(old, file, now)
		switch {
		case len(now.Machines) > hardware.MaxExpectedMachines || len(now.SKUs) > hardware.MaxExpectedSKUs:
			return nil, fmt.Errorf("there would be %d machines and %d SKUs, at most %d and %d are held", len(now.Machines), len(now.SKUs), hardware.MaxExpectedMachines, hardware.MaxExpectedSKUs)
		case raw != nil && reflect.DeepEqual(old, now):
			return raw, nil
		}
		return c.sealed(images.ExpectedType, now)
	})
	return done, err
}

// count says what the file changes.
func count(old, file, now hardware.Expected) Imported {
	done := Imported{Machines: len(file.Machines), SKUs: len(file.SKUs), Total: len(now.Machines)}
	before := map[string]hardware.ExpectedMachine{}
	for _, m := range old.Machines {
		before[label(m)] = m
	}
	for _, m := range file.Machines {
		was, there := before[label(m)]
		switch {
		case !there:
			done.New++
		case reflect.DeepEqual(was, m):
			done.Unchanged++
		default:
			done.Changed++
		}
	}
	done.Dropped = len(old.Machines) + done.New - len(now.Machines)
	return done
}

func label(m hardware.ExpectedMachine) string {
	if m.Serial != "" {
		return strings.ToLower(m.Serial)
	}
	return m.Label()
}

// withExpected adds what was imported to the machines that serve was told of;
// where both know a machine, the latter stand, and learn its SKU.
func withExpected(all []fleet.Machine, e hardware.Expected) []fleet.Machine {
	bySerial, byMAC := map[string]int{}, map[hardware.MAC]int{}
	for i, m := range all {
		if m.Serial != "" {
			bySerial[strings.ToLower(m.Serial)] = i
		}
		for _, mac := range m.MACs {
			byMAC[hardware.ParseMAC(mac)] = i
		}
	}
	for _, x := range e.Machines {
		i, known := bySerial[strings.ToLower(x.Serial)]
		for _, mac := range x.MACs {
			if j, ok := byMAC[mac]; ok && !known {
				i, known = j, true
			}
		}
		if known {
			all[i].SKU = cmp.Or(all[i].SKU, x.SKU)
			continue
		}
		all = append(all, fleet.ExpectedMachine(x))
	}
	return all
}

// Expectation is a machine that was imported, and what became of it.
type Expectation struct {
	hardware.ExpectedMachine
	// Node and Phase are those of the server that it is; empty while it was
	// never seen.
	Node  fleet.NodeID `json:"node,omitempty"`
	Phase fleet.Phase  `json:"phase,omitempty"`
}

// Expectations returns the imported machines and which server each is. A server
// of which only a BMC or a DHCP request was seen counts as seen.
func (c *Client) Expectations(ctx context.Context) ([]Expectation, error) {
	e, _, err := c.Expected(ctx)
	if err != nil || len(e.Machines) == 0 {
		return nil, err
	}
	statuses, err := c.Statuses(ctx)
	if err != nil {
		return nil, err
	}
	return expectations(e, statuses), nil
}

func expectations(e hardware.Expected, statuses []fleet.Status) []Expectation {
	bySerial, byMAC := map[string]fleet.Status{}, map[hardware.MAC]fleet.Status{}
	for _, s := range slices.Backward(statuses) {
		if s.Phase == "" {
			continue // nobody but ourselves spoke of it
		}
		if s.Serial != "" {
			bySerial[strings.ToLower(s.Serial)] = s
		}
		for _, mac := range s.MACs {
			byMAC[hardware.ParseMAC(mac)] = s
		}
	}
	var out []Expectation
	for _, m := range e.Machines {
		x := Expectation{ExpectedMachine: m}
		s, ok := bySerial[strings.ToLower(m.Serial)]
		for _, mac := range m.MACs {
			if found, there := byMAC[mac]; there && !ok {
				s, ok = found, true
			}
		}
		if ok && (m.Serial != "" || len(m.MACs) > 0) {
			x.Node, x.Phase = s.Node, s.Phase
		}
		out = append(out, x)
	}
	return out
}
