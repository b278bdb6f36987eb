package hardware

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

const (
	// defaultMost is how many elements a list keeps that says nothing else.
	defaultMost = 64
	maxFindings = 128
	maxEvidence = 512
	maxWord     = 64
)

// Normalize cleans every text, sorts the parts, bounds their number, and
// sets the schema. Readers call it last; calling it twice changes nothing.
func (inv *Inventory) Normalize() {
	inv.Schema = InventorySchema
	v := reflect.ValueOf(inv).Elem()
	cleanTexts(v)
	inv.Schema = InventorySchema
	inv.eachSources(func(s *Sources) {
		slices.Sort(*s)
		*s = slices.Compact(*s)
	})
	inv.sort()
	var cut []Finding
	boundLists(v, func(what string, kept, of int) { cut = append(cut, truncated(what, kept, of)) })
	if len(cut) > 0 {
		inv.Findings = append(cut, inv.Findings...)
		inv.sort()
	}
	inv.Findings = slices.Compact(inv.Findings)
	inv.Findings = inv.Findings[:min(len(inv.Findings), maxFindings)]
}

func truncated(what string, kept, of int) Finding {
	return Finding{Code: CodeInventoryTruncated, Severity: Warning, Part: what,
		Evidence: fmt.Sprintf("%d of %d kept", kept, of), Hint: "look at the machine itself for the rest"}
}

// Normalized is a normalized copy: what comes from another machine is safe to
// print, and bounded.
func (inv Inventory) Normalized() Inventory {
	c := cloned(inv)
	c.Normalize()
	return c
}

// word is an identifier or an enumeration: visible ASCII.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f {
			return r
		}
		return -1
	}, s[:min(len(s), maxWord)])
}

// Encode is the normalized inventory as canonical JSON of at most
// [MaxInventoryBytes]. Where it would be larger the PCI devices go first,
// those without a driver before the others, then findings, and a finding says
// so.
func (inv Inventory) Encode() ([]byte, error) {
	c := inv.Normalized()
	b := canonical(c)
	all := len(c.PCI)
	if len(b) > MaxInventoryBytes && all > 0 {
		c.PCI = slices.DeleteFunc(c.PCI, func(p PCIDevice) bool { return p.Driver == "" })
		b = c.encodeCut("pci", len(c.PCI), all)
	}
	if len(b) > MaxInventoryBytes && len(c.PCI) > 0 {
		c.PCI = nil
		b = c.encodeCut("pci", 0, all)
	}
	if n := len(c.Findings); len(b) > MaxInventoryBytes && n > 8 {
		c.Findings = c.Findings[:8]
		b = c.encodeCut("findings", 8, n)
	}
	if len(b) > MaxInventoryBytes {
		return nil, fmt.Errorf("encode inventory: %d bytes, at most %d", len(b), MaxInventoryBytes)
	}
	return b, nil
}

func (inv Inventory) encodeCut(what string, kept, of int) []byte {
	inv.Findings = append([]Finding{truncated(what, kept, of)}, inv.Findings...)
	return canonical(inv)
}

// Decode reads an inventory of the right schema, bounded in size, normalized.
// The bytes may come from a hostile node.
func Decode(b []byte) (Inventory, error) {
	var inv Inventory
	if len(b) > 2*MaxInventoryBytes {
		return inv, fmt.Errorf("decode inventory: %d bytes, at most %d", len(b), 2*MaxInventoryBytes)
	}
	if err := json.Unmarshal(b, &inv); err != nil {
		return Inventory{}, fmt.Errorf("decode inventory: %w", err)
	}
	if inv.Schema != InventorySchema {
		return Inventory{}, fmt.Errorf("decode inventory: schema %q, want %q", inv.Schema, InventorySchema)
	}
	inv.Normalize()
	return inv, nil
}

// Encode is the normalized readings as JSON of at most [MaxInventoryBytes].
// Where they would be larger, entries of logs go first, then sensors.
func (r Readings) Encode() ([]byte, error) {
	c := cloned(r)
	c.Normalize()
	b := canonical(c)
	if len(b) > MaxInventoryBytes {
		for i := range c.Logs {
			c.Logs[i].Newest = nil
		}
		b = canonical(c)
	}
	if len(b) > MaxInventoryBytes {
		c.Sensors = nil
		b = canonical(c)
	}
	if len(b) > MaxInventoryBytes {
		return nil, fmt.Errorf("encode readings: %d bytes, at most %d", len(b), MaxInventoryBytes)
	}
	return b, nil
}
