// Package vswitch is the lab's Ethernet switch: it learns which port a MAC
// address sits behind, floods what it does not know, and can cut a port as if
// somebody pulled the cable. Its ports are TAP devices and QEMU's network
// backends of the kind "stream".
package vswitch

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	headerBytes  = 14   // of an Ethernet frame without VLAN tag
	maxFrame     = 9216 // a jumbo frame with room for tags
	queueFrames  = 512  // per port; a full queue drops, as a switch does
	maxAddresses = 4096
	addressAge   = 5 * time.Minute
)

// MAC is an Ethernet address.
type MAC [6]byte

// Link carries whole Ethernet frames. ReadFrame fills the buffer with one
// frame; Close ends a ReadFrame that waits.
type Link interface {
	ReadFrame(buf []byte) (n int, err error)
	WriteFrame(frame []byte) error
	Close() error
}

// Switch is one broadcast domain. Its zero value is not of use: see [New].
type Switch struct {
	log *slog.Logger

	mu       sync.RWMutex
	ports    map[*Port]struct{}
	learned  map[MAC]entry
	closed   bool
	captures map[*capture]struct{}

	workers sync.WaitGroup
}

type entry struct {
	port *Port
	ip   netip.Addr
	seen time.Time
}

// New makes a switch without ports. The logger may be nil.
func New(log *slog.Logger) *Switch {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Switch{log: log, ports: map[*Port]struct{}{}, learned: map[MAC]entry{}}
}

// Port is one socket of the switch.
type Port struct {
	Name string

	sw   *Switch
	link Link
	out  chan []byte
	done chan struct{}
	once sync.Once
	cut  atomic.Bool

	received, sent, dropped atomic.Uint64
}

// Counters are the frames of one port, seen from the switch.
type Counters struct{ Received, Sent, Dropped uint64 }

// Attach joins a link to the switch, which owns it from then on. The port
// leaves by itself when its link ends; [Port.Done] tells.
func (s *Switch) Attach(name string, link Link) (*Port, error) {
	p := &Port{Name: name, sw: s, link: link, out: make(chan []byte, queueFrames), done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(fmt.Errorf("attach port %s: the switch is closed", name), link.Close())
	}
	s.ports[p] = struct{}{}
	s.workers.Add(2)
	go p.receive()
	go p.send()
	return p, nil
}

// Close detaches all ports and waits until none works any more.
func (s *Switch) Close() {
	s.mu.Lock()
	s.closed = true
	ports := make([]*Port, 0, len(s.ports))
	for p := range s.ports {
		ports = append(ports, p)
	}
	s.mu.Unlock()
	for _, p := range ports {
		p.detach()
	}
	s.workers.Wait()
}

// AddressOf is the IPv4 address that was last seen with a MAC address; it is a
// claim of whoever has sent it.
func (s *Switch) AddressOf(mac MAC) (netip.Addr, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.learned[mac]
	return e.ip, ok && e.ip.IsValid()
}

// Done is closed when the port has left the switch.
func (p *Port) Done() <-chan struct{} { return p.done }

// Cut pulls the cable of a port, or puts it back: while cut, no frame passes
// in either direction.
func (p *Port) Cut(cut bool) { p.cut.Store(cut) }

// Counters are the port's frames so far.
func (p *Port) Counters() Counters {
	return Counters{Received: p.received.Load(), Sent: p.sent.Load(), Dropped: p.dropped.Load()}
}

func (p *Port) detach() {
	p.once.Do(func() {
		p.sw.mu.Lock()
		delete(p.sw.ports, p)
		for mac, e := range p.sw.learned {
			if e.port == p {
				delete(p.sw.learned, mac)
			}
		}
		p.sw.mu.Unlock()
		if err := p.link.Close(); err != nil {
			p.sw.log.Debug("close link", "port", p.Name, "cause", err)
		}
		close(p.done)
	})
}

func (p *Port) receive() {
	defer p.sw.workers.Done()
	defer p.detach()
	buf := make([]byte, maxFrame)
	for {
		n, err := p.link.ReadFrame(buf)
		if err != nil {
			p.sw.log.Debug("port ends", "port", p.Name, "cause", err)
			return
		}
		if n < headerBytes || p.cut.Load() {
			p.dropped.Add(1)
			continue
		}
		p.received.Add(1)
		frame := make([]byte, n)
		copy(frame, buf)
		p.sw.show(p.Name, frame)
		p.sw.forward(p, frame)
	}
}

func (p *Port) send() {
	defer p.sw.workers.Done()
	defer p.detach()
	for {
		select {
		case <-p.done:
			return
		case frame := <-p.out:
			if err := p.link.WriteFrame(frame); err != nil {
				p.sw.log.Debug("port ends", "port", p.Name, "cause", err)
				return
			}
			p.sent.Add(1)
			p.sw.show(p.Name, frame)
		}
	}
}

func (p *Port) enqueue(frame []byte) {
	if p.cut.Load() {
		p.dropped.Add(1)
		return
	}
	select {
	case p.out <- frame:
	default:
		p.dropped.Add(1)
	}
}

// forward learns where a frame comes from and sends it on. No one writes to
// the frame from here on: all ports share it.
func (s *Switch) forward(from *Port, frame []byte) {
	to, from6 := MAC(frame[0:6]), MAC(frame[6:12])
	s.learn(from, from6, frame)
	if [5]byte(frame[0:5]) == linkLocal && frame[5] <= 0x0f {
		return // for this switch alone
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if to[0]&1 == 0 {
		if e, ok := s.learned[to]; ok && time.Since(e.seen) < addressAge {
			if e.port != from {
				e.port.enqueue(frame)
			}
			return
		}
	}
	for p := range s.ports {
		if p != from {
			p.enqueue(frame)
		}
	}
}

func (s *Switch) learn(from *Port, mac MAC, frame []byte) {
	if mac[0]&1 != 0 { // nobody sends from a group address
		return
	}
	now := time.Now()
	ip := sourceIPv4(frame)
	s.mu.RLock()
	e, known := s.learned[mac]
	s.mu.RUnlock()
	fresh := known && e.port == from && now.Sub(e.seen) < addressAge/10
	if fresh && (!ip.IsValid() || ip == e.ip) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, attached := s.ports[from]; !attached {
		return
	}
	if !known && len(s.learned) >= maxAddresses {
		s.forgetLocked(now)
	}
	if len(s.learned) >= maxAddresses && !known {
		return
	}
	if !ip.IsValid() {
		ip = e.ip
	}
	s.learned[mac] = entry{port: from, ip: ip, seen: now}
}

func (s *Switch) forgetLocked(now time.Time) {
	for mac, e := range s.learned {
		if now.Sub(e.seen) >= addressAge {
			delete(s.learned, mac)
		}
	}
}

// sourceIPv4 is the sender of an IPv4 packet (RFC 791) or of an ARP message
// (RFC 826), when the frame is one and the sender has an address.
func sourceIPv4(frame []byte) netip.Addr {
	const ipv4, arp = 0x0800, 0x0806
	if len(frame) < headerBytes+20 {
		return netip.Addr{}
	}
	var at int
	switch int(frame[12])<<8 | int(frame[13]) {
	case ipv4:
		at = headerBytes + 12
	case arp:
		at = headerBytes + 14
	default:
		return netip.Addr{}
	}
	addr := netip.AddrFrom4([4]byte(frame[at : at+4]))
	if addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr
}
