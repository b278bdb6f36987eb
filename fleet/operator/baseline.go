package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
)

// Accepted is the baseline of a node, and who signed it.
type Accepted struct {
	fleet.Baseline
	By string `json:"by"` // the ID of the operator's key
}

// Baseline returns what an operator accepted the node as. [ErrNotFound] says
// that nobody did; a [RefusedError] that what is there is no operator's word.
func (c *Client) Baseline(ctx context.Context, n fleet.NodeID) (Accepted, error) {
	payload, by, err := c.signed(ctx, fleet.ConfigBaseline+string(n), images.BaselineType)
	if err != nil {
		return Accepted{}, fmt.Errorf("baseline of %s: %w", n, err)
	}
	b, err := fleet.ParseBaseline(payload, n)
	return Accepted{b, by}, err
}

// signed reads a document that an operator signed.
func (c *Client) signed(ctx context.Context, key, typ string) (payload []byte, by string, err error) {
	kv, err := c.bucket(ctx, fleet.BucketConfig)
	if err != nil {
		return nil, "", err
	}
	e, err := entry(ctx, kv, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, "", ErrNotFound
	}
	if err != nil {
		return nil, "", c.explain(err)
	}
	return c.opened(e.Value(), key, typ)
}

func (c *Client) opened(raw []byte, key, typ string) (payload []byte, by string, err error) {
	var e fleet.SignedEntry
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, "", fmt.Errorf("read %s: %v", key, err)
	}
	payload, by, err = c.Roots().OpenBy(e.Delegations, e.Document, typ, time.Now())
	if err != nil {
		err = &RefusedError{What: key, Problem: fleet.NewProblemOf(fleet.ReasonCode(sign.ReasonSignature), err)}
	}
	return payload, by, err
}

// sealed signs a document of the config bucket.
func (c *Client) sealed(typ string, v any) ([]byte, error) {
	if c.key == nil {
		return nil, errors.New("sign: the context holds no signing key")
	}
	packed, err := fleet.Pack(v)
	if err != nil {
		return nil, err
	}
	env, err := sign.Sign(c.key, typ, packed)
	if err != nil {
		return nil, err
	}
	return json.Marshal(fleet.SignedEntry{Schema: fleet.SignedEntrySchema, Document: env, Delegations: c.oc.Delegations})
}

// AcceptBaseline signs that the node is to be as it is now, and returns that
// and how it differs from what was accepted before. Where it is less than
// before, shrink must say that this is meant; else it is refused, and the old
// baseline stands.
func (c *Client) AcceptBaseline(ctx context.Context, t Target, note string, shrink bool) (fleet.Baseline, []hardware.Change, error) {
	var b fleet.Baseline
	if t.Status == nil {
		return b, nil, fmt.Errorf("accept baseline of %s: it was never seen: %w", t.Name(), ErrNotFound)
	}
	n := t.Status.Node
	inv, ok, err := c.Inventory(ctx, n)
	switch {
	case err != nil:
		return b, nil, err
	case !ok:
		return b, nil, fmt.Errorf("accept baseline of %s: it has not reported an inventory yet: %w", t.Name(), ErrNotFound)
	case len(note) > maxNote:
		return b, nil, fmt.Errorf("accept baseline of %s: the note has %d bytes, at most %d are kept", t.Name(), len(note), maxNote)
	}
	var changes []hardware.Change
	old, err := c.Baseline(ctx, n)
	var refused *RefusedError
	switch {
	case err == nil:
		changes = hardware.Diff(old.Inventory, inv)
	case !errors.Is(err, ErrNotFound) && !errors.As(err, &refused):
		return b, nil, err
	}
	if lost := losses(changes); len(lost) > 0 && !shrink {
		return b, changes, &RefusedError{What: "accept baseline of " + t.Name(), Problem: fleet.Problem{
			Reason: fleet.ReasonCode(hardware.CodeBaselineDiffers), Evidence: strings.Join(lost, "; "),
			Hint: "it is less than what was accepted: where that is meant, say --shrink"}}
	}
	inv.Findings, inv.Kernel = nil, hardware.Kernel{}
	b = fleet.Baseline{Schema: fleet.BaselineSchema, Node: n, Accepted: time.Now().UTC().Truncate(time.Second), Note: note, Inventory: inv}
	sealed, err := c.sealed(images.BaselineType, b)
	if err != nil {
		return b, changes, fmt.Errorf("accept baseline of %s: %w", t.Name(), err)
	}
	return b, changes, c.change(ctx, fleet.ConfigBaseline+string(n), func([]byte) ([]byte, error) { return sealed, nil })
}

const maxNote = 256

// losses are what a server has less of, the first few.
func losses(changes []hardware.Change) []string {
	const most = 8
	var out []string
	for _, ch := range changes {
		if ch.Shrinks() {
			out = append(out, ch.String())
		}
	}
	if more := len(out) - most; more > 0 {
		out = append(slices.Clip(out[:most]), fmt.Sprintf("and %d more", more))
	}
	return out
}
