package fleet

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
)

// Schemas of what operators say about hardware.
const (
	BaselineSchema    = "ingot.baseline/v1"
	SignedEntrySchema = "ingot.signed-entry/v1"
)

// Baseline is a server as an operator accepted it. It is signed
// (images.BaselineType), and no other part of the system makes one: a server
// that was never accepted has none, and one that lost a part keeps its old one.
type Baseline struct {
	Schema    string             `json:"schema"`
	Node      NodeID             `json:"node"`
	Accepted  time.Time          `json:"accepted"`
	Note      string             `json:"note,omitempty"`
	Inventory hardware.Inventory `json:"inventory"`
}

// SignedEntry is a document of an operator in the config bucket: a [Baseline],
// or what is expected (hardware.Expected). The payload is its JSON, packed.
type SignedEntry struct {
	Schema      string            `json:"schema"`
	Document    images.Envelope   `json:"document"`
	Delegations []images.Envelope `json:"delegations"`
}

// maxUnpacked bounds what a packed document becomes.
const maxUnpacked = 8 << 20

// Pack is the JSON of v as gzip: an inventory does not fit into a message
// otherwise once it is signed. The same value gives the same bytes.
func Pack(v any) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if err := errors.Join(json.NewEncoder(z).Encode(v), z.Close()); err != nil {
		return nil, fmt.Errorf("pack %T: %v", v, err)
	}
	return out.Bytes(), nil
}

// Unpack reads what [Pack] made, bounded.
func Unpack(b []byte, v any) error {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("unpack %T: %v", v, err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	switch {
	case err != nil:
		return fmt.Errorf("unpack %T: %v", v, err)
	case len(text) > maxUnpacked:
		return fmt.Errorf("unpack %T: more than %d bytes come out of it", v, maxUnpacked)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("unpack %T: %v", v, err)
	}
	return nil
}

// ParseBaseline reads a baseline whose signature holds. It must be that of the
// node whose key it stands under.
func ParseBaseline(b []byte, n NodeID) (Baseline, error) {
	var out Baseline
	if err := Unpack(b, &out); err != nil {
		return Baseline{}, err
	}
	switch {
	case out.Schema != BaselineSchema:
		return Baseline{}, fmt.Errorf("baseline: schema is %.40q, want %q", out.Schema, BaselineSchema)
	case out.Node != n:
		return Baseline{}, fmt.Errorf("baseline: it is that of %.80q and stands at %s", out.Node, n)
	}
	out.Inventory.Normalize()
	return out, nil
}

// ParseExpected reads the expected machines, whose signature holds.
func ParseExpected(b []byte) (hardware.Expected, error) {
	var out hardware.Expected
	if err := Unpack(b, &out); err != nil {
		return hardware.Expected{}, err
	}
	switch {
	case out.Schema != hardware.ExpectedSchema:
		return hardware.Expected{}, fmt.Errorf("expected machines: schema is %.40q, want %q", out.Schema, hardware.ExpectedSchema)
	case len(out.Machines) > hardware.MaxExpectedMachines || len(out.SKUs) > hardware.MaxExpectedSKUs:
		return hardware.Expected{}, fmt.Errorf("expected machines: %d machines and %d SKUs, at most %d and %d are read",
			len(out.Machines), len(out.SKUs), hardware.MaxExpectedMachines, hardware.MaxExpectedSKUs)
	}
	return out, nil
}

// ExpectedMachine is an expected machine as the rest of the fleet knows them.
func ExpectedMachine(m hardware.ExpectedMachine) Machine {
	out := Machine{Schema: MachineSchema, Name: m.Label(), Rack: m.Rack, Unit: m.Unit, Serial: m.Serial, SKU: m.SKU}
	for _, mac := range m.MACs {
		out.MACs = append(out.MACs, string(mac))
	}
	return out
}
