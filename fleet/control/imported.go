package control

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
)

// imported are the machines that operators imported, found without a walk:
// there may be many thousands, and every heartbeat asks.
type imported struct {
	skus     map[string]hardware.SKU
	machines []fleet.Machine
	byAlias  map[string]int
	byName   map[string]int
	bySeen   map[fleet.NodeID]int // the keys of those that are not enrolled
}

func newImported(e hardware.Expected) imported {
	x := imported{skus: e.SKUs, byAlias: map[string]int{}, byName: map[string]int{}, bySeen: map[fleet.NodeID]int{}}
	for i, m := range e.Machines {
		machine := fleet.ExpectedMachine(m)
		x.machines = append(x.machines, machine)
		for _, a := range machineAliases(machine) {
			x.byAlias[a] = i
		}
		x.byName[machine.Name] = i
		x.bySeen[seenKey(machine)] = i
	}
	return x
}

// at is the machine that a table has under a key.
func at[K comparable](x imported, table map[K]int, key K) (fleet.Machine, bool) {
	i, ok := table[key]
	if !ok {
		return fleet.Machine{}, false
	}
	return x.machines[i], true
}

// machine is the one that the first known of the aliases belongs to; they come
// in the order of their weight.
func (x imported) machine(aliases []string) (fleet.Machine, bool) {
	for _, a := range aliases {
		if m, ok := at(x, x.byAlias, a); ok {
			return m, true
		}
	}
	return fleet.Machine{}, false
}

// setImported takes what operators imported in place of what was.
func (r *registry) setImported(e hardware.Expected) {
	x := newImported(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.imported = x
}

// importedAt is the machine that was imported and is seen under a key.
func (r *registry) importedAt(key fleet.NodeID) (fleet.Machine, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return at(r.imported, r.imported.bySeen, key)
}

// bill is the bill of materials that a node was bought by, and its name.
func (r *registry) bill(n fleet.NodeID) (hardware.SKU, string, bool) {
	m, ok := r.machineOf(n)
	if !ok {
		return hardware.SKU{}, "", false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	name := m.SKU
	if x, ok := r.imported.machine(machineAliases(m)); ok && name == "" {
		name = x.SKU
	}
	sku, ok := r.imported.skus[name]
	return sku, name, ok
}

// expectedChanged takes what operators imported. What no operator signed is
// passed over, and what was taken before stands.
func (c *Control) expectedChanged(raw *json.RawMessage) {
	var e hardware.Expected
	if raw != nil {
		payload, err := c.openSigned(*raw, images.ExpectedType)
		if err == nil {
			e, err = fleet.ParseExpected(payload)
		}
		if err != nil {
			c.log.Warn("expected machines are not accepted", "err", err)
			return
		}
	}
	c.reg.setImported(e)
	c.views.nudge(c.status.keys()...)
}

// openSigned checks a document of the config bucket that an operator signed.
func (c *Control) openSigned(raw []byte, typ string) ([]byte, error) {
	var e fleet.SignedEntry
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	payload, _, err := c.cfg.Roots.OpenBy(c.delegations(e.Delegations), e.Document, typ, time.Now())
	return payload, err
}

// baselineOf is the node whose baseline stands under a key of the config
// bucket.
func baselineOf(key string) (fleet.NodeID, bool) {
	name, ok := strings.CutPrefix(key, fleet.ConfigBaseline)
	if !ok {
		return "", false
	}
	n, err := fleet.ParseNodeID(name)
	return n, err == nil
}
