package bus_test

import (
	"errors"
	"testing"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/nats-io/nats.go"
)

// TestValues: a value keeps its boot; a node's own words about either are not
// taken for the bus's.
func TestValues(t *testing.T) {
	s, a := start(t, bus.Config{})
	js := jetstreamOf(t, s)
	get := func(key string) (bus.Value, error) {
		return bus.GetValue(t.Context(), s.Conn(), fleet.BucketInventory, key)
	}
	if _, err := get("n-me.bmc"); !errors.Is(err, bus.ErrNoValue) {
		t.Errorf("a key that nobody wrote: %v", err)
	}
	for attempt, text := range []string{"first", "second"} {
		if err := bus.PutValue(t.Context(), js, fleet.BucketInventory, "n-me.bmc", int64(attempt), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := get("n-me.bmc"); err != nil || string(v.Data) != "second" || v.Attempt != 1 || v.Time.IsZero() {
		t.Errorf("value = %+v, %v; want the second, of boot 1", v, err)
	}
	agent := node(t, s, a, "n-me", fleet.RoleAgent)
	m := nats.NewMsg("$KV.ingot-inventory.n-me")
	m.Data = []byte("mine")
	m.Header.Set("Nats-Time-Stamp", "never")
	m.Header.Set("Status", "404")
	if err := agent.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if err := agent.Flush(); err != nil {
		t.Fatal(err)
	}
	if v, err := get("n-me"); err != nil || string(v.Data) != "mine" {
		t.Errorf("a node's value with headers of the bus = %+v, %v", v, err)
	}
	if err := keyValue(t, s, fleet.BucketInventory).Delete(t.Context(), "n-me.bmc"); err != nil {
		t.Fatal(err)
	}
	if _, err := get("n-me.bmc"); !errors.Is(err, bus.ErrNoValue) {
		t.Errorf("a key that was deleted: %v", err)
	}
}
