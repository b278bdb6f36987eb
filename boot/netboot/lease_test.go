package netboot

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

type clock struct{ at time.Time }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

func testTable(first, last string) (*table, *clock) {
	c := &clock{time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	return newTable(Range{netip.MustParseAddr(first), netip.MustParseAddr(last)}, c.now, netip.MustParseAddr("10.0.0.1")), c
}

func node(n byte) Machine { return Machine{MAC: MAC{0x52, 0x54, 0, 0, 0, n}} }

func mustOffer(t *testing.T, tb *table, m Machine) netip.Addr {
	t.Helper()
	a, err := tb.offer(m, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAddressDependsOnMACAlone(t *testing.T) {
	one, _ := testTable("10.0.0.100", "10.0.0.199")
	two, _ := testTable("10.0.0.100", "10.0.0.199")
	mustOffer(t, two, node(77)) // another's visit changes nothing
	if a, b := mustOffer(t, one, node(1)), mustOffer(t, two, node(1)); a != b {
		t.Errorf("after a restart offer = %v; want %v again", b, a)
	}
}

func TestSameAddressThroughEveryStage(t *testing.T) {
	tb, c := testTable("10.0.0.100", "10.0.0.199")
	first := mustOffer(t, tb, node(1))
	for _, s := range []Stage{StagePXE, StageIPXE, StageOS} {
		m := node(1)
		m.Stage = s
		if a := mustOffer(t, tb, m); a != first {
			t.Errorf("offer in stage %s = %v; want %v", s, a, first)
		}
		if err := tb.lease(m, first, time.Hour); err != nil {
			t.Errorf("lease in stage %s: %v", s, err)
		}
		c.advance(2 * time.Hour) // long expired, and still its own
	}
}

func TestPoolIsGivenOnceAndOldestExpiredReused(t *testing.T) {
	tb, c := testTable("10.0.0.100", "10.0.0.103")
	had := map[netip.Addr]MAC{}
	for n := range byte(4) {
		a := mustOffer(t, tb, node(n))
		if who, taken := had[a]; taken {
			t.Fatalf("%v given to %v and %v", a, who, node(n).MAC)
		}
		had[a] = node(n).MAC
		if err := tb.lease(node(n), a, time.Hour+time.Duration(n)*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := tb.offer(node(9), netip.Addr{}); err == nil {
		t.Errorf("offer from a full pool = %v; want none", a)
	}
	c.advance(time.Hour + 90*time.Second) // nodes 0 and 1 have expired, 0 first
	a := mustOffer(t, tb, node(9))
	if had[a] != node(0).MAC {
		t.Errorf("reused the address of %v; want that of %v", had[a], node(0).MAC)
	}
	if err := tb.lease(node(0), a, time.Hour); err == nil {
		t.Error("the former holder renewed an address that was given away")
	}
}

func TestLeaseRefuses(t *testing.T) {
	tb, _ := testTable("10.0.0.100", "10.0.0.103")
	mine := mustOffer(t, tb, node(1))
	for name, c := range map[string]struct {
		m Machine
		a string
	}{
		"another's":          {node(2), mine.String()},
		"outside the pool":   {node(2), "10.0.0.99"},
		"the server's own":   {node(2), "10.0.0.1"},
		"not the one it has": {node(1), "10.0.0.100"},
	} {
		a := netip.MustParseAddr(c.a)
		if name == "not the one it has" && a == mine {
			a = a.Next()
		}
		if err := tb.lease(c.m, a, time.Hour); err == nil {
			t.Errorf("%s: lease(%v, %v) = nil; want an error", name, c.m.MAC, a)
		}
	}
}

func TestLeaseAfterRestart(t *testing.T) {
	tb, _ := testTable("10.0.0.100", "10.0.0.103")
	a := netip.MustParseAddr("10.0.0.102")
	if err := tb.lease(node(1), a, time.Hour); err != nil {
		t.Errorf("renewal that a new server does not remember: %v; want a lease", err)
	}
	again, _ := testTable("10.0.0.100", "10.0.0.103")
	again.restore(append(tb.leases(), Lease{MAC: node(5).MAC, Address: netip.MustParseAddr("192.0.2.1")}))
	if diff := cmp.Diff(again.leases(), tb.leases(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("restored leases (-got +want):\n%s", diff)
	}
}

func TestDecline(t *testing.T) {
	tb, c := testTable("10.0.0.100", "10.0.0.107") // eight: at most two set aside
	if tb.decline(node(2).MAC, mustOffer(t, tb, node(1))) {
		t.Error("a machine declined the address of another")
	}
	var declined []netip.Addr
	for range 3 {
		a := mustOffer(t, tb, node(1))
		if len(declined) > 0 && a == declined[len(declined)-1] {
			t.Errorf("%v offered right after it was declined", a)
		}
		tb.decline(node(1).MAC, a)
		declined = append(declined, a)
		c.advance(time.Second)
	}
	if got := len(tb.bad); got != 2 {
		t.Errorf("addresses set aside = %d; want 2", got)
	}
	c.advance(declineHold)
	for _, a := range declined {
		if !tb.usable(a, c.at) {
			t.Errorf("%v still set aside after %v", a, declineHold)
		}
	}
}

func TestRelease(t *testing.T) {
	tb, c := testTable("10.0.0.100", "10.0.0.100")
	a := mustOffer(t, tb, node(1))
	if tb.release(node(2).MAC, a) {
		t.Error("a machine released the address of another")
	}
	tb.release(node(1).MAC, a)
	if got := mustOffer(t, tb, node(2)); got != a {
		t.Errorf("offer after release = %v; want %v", got, a)
	}
	c.advance(time.Second)
}
