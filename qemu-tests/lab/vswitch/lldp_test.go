package vswitch

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/lldp"
)

// Each port hears which one it is, at once and again; and what a port says to
// its switch alone does not reach another.
func TestAnnounce(t *testing.T) {
	sw := New(nil)
	defer sw.Close()
	a, b := attach(t, sw, "r1u1"), attach(t, sw, "r1u2")
	a.send(t, frame(MAC{0x01, 0x80, 0xc2, 0, 0, 0x0e}, macA, "an agent of its own"))
	if got := b.receive(t, never); got != nil {
		t.Errorf("a frame for the switch alone was forwarded: %x", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		sw.Announce(ctx, Identity{Name: "lab-switch", MAC: MAC{0x52, 0x54, 0, 1, 0, 0xff}, VLAN: 7}, 50*time.Millisecond)
	}()
	for range 2 {
		for name, port := range map[string]*station{"r1u1": a, "r1u2": b} {
			got, err := lldp.Decode(port.receive(t, soon))
			want := hardware.Neighbor{ChassisID: "52:54:00:01:00:ff", PortID: name, PortDescription: "to " + name, SystemName: "lab-switch", VLAN: 7}
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Errorf("%s hears %v (-want +got):\n%s", name, err, d)
			}
		}
	}
	cancel()
	<-done
}
