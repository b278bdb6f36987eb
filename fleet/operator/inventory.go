package operator

import (
	"context"
	"errors"
	"fmt"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/hardware"
)

// value reads one key with the boot that it is of.
func (c *Client) value(ctx context.Context, bucket, key string) (bus.Value, bool, error) {
	v, err := steady(ctx, oneTry, func(ctx context.Context) (bus.Value, error) { return bus.GetValue(ctx, c.nc, bucket, key) })
	if errors.Is(err, bus.ErrNoValue) {
		return v, false, nil
	}
	return v, err == nil, c.explain(err)
}

// Inventory returns what is known of a node's hardware: joined with what its BMC
// says and with what differs from what is expected and accepted, once control
// has done that for its last boot, else what the node itself said. It is false
// where there is none.
func (c *Client) Inventory(ctx context.Context, n fleet.NodeID) (hardware.Inventory, bool, error) {
	own, ok, err := c.value(ctx, fleet.BucketInventory, string(n))
	if err != nil {
		return hardware.Inventory{}, false, err
	}
	joined, there, err := c.value(ctx, fleet.BucketInventory, fleet.KeyJoined(n))
	if err != nil {
		return hardware.Inventory{}, false, err
	}
	if there && joined.Attempt >= own.Attempt {
		own, ok = joined, true
	}
	return decode(own, ok, n)
}

// LastInventory returns the inventory of a node at the end of the boot before,
// and which that was; false where none is kept.
func (c *Client) LastInventory(ctx context.Context, n fleet.NodeID) (hardware.Inventory, int64, bool, error) {
	v, ok, err := c.value(ctx, fleet.BucketInventory, fleet.KeyLast(n))
	if err != nil {
		return hardware.Inventory{}, 0, false, err
	}
	inv, ok, err := decode(v, ok, n)
	return inv, v.Attempt, ok, err
}

// decode reads what a node may have written: it is bounded, and cleaned.
func decode(v bus.Value, ok bool, n fleet.NodeID) (hardware.Inventory, bool, error) {
	if !ok {
		return hardware.Inventory{}, false, nil
	}
	inv, err := hardware.Decode(v.Data)
	if err != nil {
		return inv, false, fmt.Errorf("read inventory of %s: %v", n, err)
	}
	return inv, true, nil
}

// Readings returns what moves about a node, as it and its BMC read it last;
// false where nobody has.
func (c *Client) Readings(ctx context.Context, n fleet.NodeID) (hardware.Readings, bool, error) {
	var out hardware.Readings
	found := false
	for _, key := range []string{string(n), fleet.KeyJoined(n)} {
		v, ok, err := c.value(ctx, fleet.BucketReadings, key)
		if err != nil {
			return out, false, err
		}
		if !ok {
			continue
		}
		r, err := hardware.DecodeReadings(v.Data)
		if err != nil {
			return out, false, fmt.Errorf("read readings of %s: %v", n, err)
		}
		out.Join(r)
		found = true
	}
	out.Normalize()
	return out, found, nil
}
