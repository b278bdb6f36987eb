package netboot

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"sort"
	"sync"
	"time"
)

// Range is an inclusive span of IPv4 addresses.
type Range struct{ First, Last netip.Addr }

func (r Range) contains(a netip.Addr) bool {
	return a.Is4() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

func (r Range) size() int { return int(addrUint(r.Last)-addrUint(r.First)) + 1 }

func (r Range) at(i int) netip.Addr { return uintAddr(addrUint(r.First) + uint32(i)) }

func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

func addrUint(a netip.Addr) uint32 { b := a.As4(); return binary.BigEndian.Uint32(b[:]) }

func uintAddr(u uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], u)
	return netip.AddrFrom4(b)
}

// maxPool bounds one subnet's pool, and with it the table.
const maxPool = 1 << 16

// declineHold is how long an address that a client found in use is left alone.
const declineHold = time.Hour

// offerHold is how long an offered address waits for its request; firmware
// under emulation takes its time.
const offerHold = 2 * time.Minute

// Lease is one address and who holds it.
type Lease struct {
	MAC         MAC        `json:"mac"`
	UUID        string     `json:"uuid,omitempty"`
	UUIDSwapped string     `json:"uuid_swapped,omitempty"`
	Address     netip.Addr `json:"address"`
	Expires     time.Time  `json:"expires"`
	Stage       Stage      `json:"stage,omitempty"` // who asked last
}

// table holds the leases of one subnet. The key is the MAC alone.
type table struct {
	pool     Range
	reserved map[netip.Addr]bool // never given: the server, the router
	now      func() time.Time

	mu     sync.Mutex
	byMAC  map[MAC]*Lease
	byAddr map[netip.Addr]*Lease
	bad    map[netip.Addr]time.Time // declined until
}

func newTable(pool Range, now func() time.Time, reserved ...netip.Addr) *table {
	t := &table{pool: pool, now: now, reserved: map[netip.Addr]bool{},
		byMAC: map[MAC]*Lease{}, byAddr: map[netip.Addr]*Lease{}, bad: map[netip.Addr]time.Time{}}
	for _, a := range reserved {
		t.reserved[a] = true
	}
	return t
}

// offer finds the address for m: the one it has, else the one it asks for when
// nobody ever held that, else the first never-used one from a place that
// depends on the MAC alone, else the one that expired longest ago.
func (t *table) offer(m Machine, hint netip.Addr) (netip.Addr, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if l := t.byMAC[m.MAC]; l != nil {
		if hold := now.Add(offerHold); l.Expires.Before(hold) {
			l.Expires = hold
		}
		l.claim(m)
		return l.Address, nil
	}
	a, err := t.pick(m.MAC, hint, now)
	if err != nil {
		return netip.Addr{}, err
	}
	t.give(m, a, now.Add(offerHold))
	return a, nil
}

// lease confirms a for m until d from now, or says why not.
func (t *table) lease(m Machine, a netip.Addr, d time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if l := t.byMAC[m.MAC]; l != nil {
		if l.Address != a {
			return fmt.Errorf("%v asks for %v and holds %v", m.MAC, a, l.Address)
		}
		l.Expires = now.Add(d)
		l.claim(m)
		return nil
	}
	// A client that we do not remember: this server was started anew.
	switch l := t.byAddr[a]; {
	case !t.usable(a, now):
		return fmt.Errorf("%v is not ours to give", a)
	case l != nil && now.Before(l.Expires):
		return fmt.Errorf("%v is leased to %v", a, l.MAC)
	}
	t.give(m, a, now.Add(d))
	return nil
}

// release ends the lease; the address stays with its MAC until needed.
func (t *table) release(mac MAC, a netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.byMAC[mac]
	if l == nil || l.Address != a {
		return false
	}
	l.Expires = t.now()
	return true
}

// decline sets an address aside that its holder found in use. A client that
// declines everything takes at most a quarter of the pool.
func (t *table) decline(mac MAC, a netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.byMAC[mac]
	if l == nil || l.Address != a {
		return false
	}
	t.drop(l)
	if len(t.bad) >= max(1, t.pool.size()/4) {
		t.forgetOldestDecline()
	}
	t.bad[a] = t.now().Add(declineHold)
	return true
}

func (t *table) forgetOldestDecline() {
	var oldest netip.Addr
	for a, until := range t.bad {
		if !oldest.IsValid() || until.Before(t.bad[oldest]) {
			oldest = a
		}
	}
	delete(t.bad, oldest)
}

func (t *table) holder(a netip.Addr) (Lease, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.byAddr[a]; l != nil {
		return *l, true
	}
	return Lease{}, false
}

func (t *table) leases() []Lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Lease, 0, len(t.byAddr))
	for _, l := range t.byAddr {
		out = append(out, *l)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Address.Less(out[j].Address) })
	return out
}

// restore takes over leases of an earlier run; those that do not fit are left.
func (t *table) restore(ls []Lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range ls {
		if t.usable(l.Address, t.now()) && t.byAddr[l.Address] == nil && t.byMAC[l.MAC] == nil {
			keep := l
			t.byMAC[l.MAC], t.byAddr[l.Address] = &keep, &keep
		}
	}
}

func (l *Lease) claim(m Machine) {
	l.Stage = m.Stage
	if m.UUID != "" {
		l.UUID, l.UUIDSwapped = m.UUID, m.UUIDSwapped
	}
}

func (t *table) give(m Machine, a netip.Addr, expires time.Time) {
	if old := t.byAddr[a]; old != nil {
		t.drop(old)
	}
	l := &Lease{MAC: m.MAC, Address: a, Expires: expires}
	l.claim(m)
	t.byMAC[m.MAC], t.byAddr[a] = l, l
}

func (t *table) drop(l *Lease) {
	delete(t.byMAC, l.MAC)
	delete(t.byAddr, l.Address)
}

func (t *table) usable(a netip.Addr, now time.Time) bool {
	if !t.pool.contains(a) || t.reserved[a] {
		return false
	}
	until, declined := t.bad[a]
	if declined && !now.Before(until) {
		delete(t.bad, a)
		declined = false
	}
	return !declined
}

func (t *table) pick(mac MAC, hint netip.Addr, now time.Time) (netip.Addr, error) {
	if t.usable(hint, now) && t.byAddr[hint] == nil {
		return hint, nil
	}
	h := fnv.New32a()
	h.Write(mac[:])
	n := t.pool.size()
	start := int(h.Sum32() % uint32(n))
	var oldest *Lease
	for i := range n {
		a := t.pool.at((start + i) % n)
		if !t.usable(a, now) {
			continue
		}
		l := t.byAddr[a]
		if l == nil {
			return a, nil
		}
		if !now.Before(l.Expires) && (oldest == nil || l.Expires.Before(oldest.Expires)) {
			oldest = l
		}
	}
	if oldest == nil {
		return netip.Addr{}, fmt.Errorf("pool %v: all %d addresses are leased", t.pool, n)
	}
	return oldest.Address, nil
}
