package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Network is the lease that the agent works with.
type Network struct {
	Interface  string
	MAC        net.HardwareAddr
	Addr       netip.Prefix
	Gateway    netip.Addr // zero where the server named none
	DNS        []netip.Addr
	ServerID   netip.Addr // the DHCP server
	Hostname   string
	LeaseTime  time.Duration
	ObtainedAt time.Duration // since the kernel's start
	lease      *lease
}

// NetworkOptions say how NetworkUp looks for a lease.
type NetworkOptions struct {
	Log *slog.Logger // default: discards
	// BootMAC is the NIC that the firmware booted from. The others stand back
	// for a while, so that a machine on two networks reports on this one.
	BootMAC net.HardwareAddr
	// Waiting is told what is waited for, each time that it changes: it is what
	// a person at the machine sees. Called from one goroutine.
	Waiting func(string)
}

const (
	// othersStandBack is how long NICs wait that did not boot the machine.
	othersStandBack = 4 * time.Second
	// usbStandsBack is for NICs on USB: most are the BMC's own little network,
	// whose lease leads nowhere.
	usbStandsBack = 12 * time.Second
	// noNews is how long nothing is said of waiting: drivers load, and a
	// 10GBASE-T link trains for three seconds.
	noNews = 3 * time.Second
)

// NetworkUp brings every wired NIC up and asks for a lease on each that has a
// carrier, until one answers; NICs that appear meanwhile join. It returns only
// with a lease that is set up, or with ctx's end.
func NetworkUp(ctx context.Context, o NetworkOptions) (*Network, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Waiting == nil {
		o.Waiting = func(string) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &search{opts: o, started: Uptime(), nics: map[int]*nic{}, won: make(chan *lease)}
	defer func() { cancel(); s.clients.Wait() }()
	l, err := s.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	n, err := l.apply(resolvConf)
	if err != nil {
		return nil, fmt.Errorf("network: %s: %w", l.nic, err)
	}
	return n, nil
}

// search is one run of NetworkUp; its fields belong to the goroutine of run.
type search struct {
	opts    NetworkOptions
	started time.Duration
	nics    map[int]*nic // by interface index
	won     chan *lease
	clients sync.WaitGroup
	said    string
}

type nic struct {
	name    string
	mac     net.HardwareAddr
	usb     bool
	upErr   error
	carrier bool
	stop    context.CancelFunc // of its DHCP client; nil while none runs
	asked   time.Duration      // when that began
}

func (s *search) run(ctx context.Context) (*lease, error) {
	links := make(chan netlink.LinkUpdate, 64)
	lost := make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{
		ListExisting: true,
		ErrorCallback: func(err error) {
			select {
			case lost <- err:
			default:
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("listen for links: %w", err)
	}
	tick := time.NewTicker(time.Second) // for what to say; never waited on for progress
	defer tick.Stop()
	for {
		select {
		case u, ok := <-links:
			if !ok {
				return nil, fmt.Errorf("listen for links: %w", errors.Join(drain(lost)...))
			}
			s.link(ctx, u)
		case l := <-s.won:
			return l, nil
		case <-tick.C:
			s.say()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func drain(errs <-chan error) []error {
	select {
	case err := <-errs:
		return []error{err}
	default:
		return []error{errors.New("the kernel closed the socket")}
	}
}

// link takes in what the kernel says of one interface.
func (s *search) link(ctx context.Context, u netlink.LinkUpdate) {
	index := int(u.Index)
	if u.Header.Type == unix.RTM_DELLINK {
		if n := s.nics[index]; n != nil {
			n.halt()
			delete(s.nics, index)
		}
		return
	}
	attrs := u.Link.Attrs()
	n := s.nics[index]
	if n == nil {
		if n = wiredNIC("/sys/class/net", attrs); n == nil {
			return
		}
		s.nics[index] = n
		if n.upErr = netlink.LinkSetUp(u.Link); n.upErr != nil {
			s.opts.Log.Warn("bring NIC up", "nic", n.name, "err", n.upErr)
		}
	}
	n.name = attrs.Name // it may be renamed
	n.carrier = attrs.RawFlags&unix.IFF_LOWER_UP != 0 && attrs.RawFlags&unix.IFF_UP != 0
	switch {
	case n.carrier && n.stop == nil:
		s.ask(ctx, n)
	case !n.carrier:
		n.halt()
	}
}

// ask starts a DHCP client on a NIC.
func (s *search) ask(ctx context.Context, n *nic) {
	ctx, n.stop = context.WithCancel(ctx)
	n.asked = Uptime()
	name, mac, wait := n.name, n.mac, s.standsBack(n)
	s.clients.Go(func() {
		if !sleep(ctx, wait) {
			return
		}
		l, err := discover(ctx, name, mac, s.opts.Log)
		if err != nil {
			return // ctx ended: there is a winner, or the carrier is gone
		}
		select {
		case s.won <- l:
		case <-ctx.Done():
		}
	})
}

// standsBack is how long a NIC leaves the field to better ones.
func (s *search) standsBack(n *nic) time.Duration {
	var until time.Duration
	if len(s.opts.BootMAC) > 0 && !bytes.Equal(n.mac, s.opts.BootMAC) {
		until = othersStandBack
	}
	if n.usb && !bytes.Equal(n.mac, s.opts.BootMAC) {
		until = usbStandsBack
	}
	return max(0, s.started+until-Uptime())
}

func (n *nic) halt() {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

// say tells what is waited for, once for each change.
func (s *search) say() {
	if Uptime()-s.started < noNews {
		return
	}
	text := s.waitingFor()
	if text != s.said {
		s.said = text
		s.opts.Waiting(text)
	}
}

func (s *search) waitingFor() string {
	if len(s.nics) == 0 {
		return "a NIC: none found (is its driver in the initramfs?)"
	}
	var asking, dark, broken []string
	for _, n := range s.nics {
		label := n.name + " " + n.mac.String()
		switch {
		case n.upErr != nil:
			broken = append(broken, label+": "+n.upErr.Error())
		case n.carrier:
			asking = append(asking, label)
		default:
			dark = append(dark, label)
		}
	}
	slices.Sort(asking)
	slices.Sort(dark)
	slices.Sort(broken)
	var parts []string
	if len(asking) > 0 {
		parts = append(parts, "a DHCP answer on "+strings.Join(asking, ", "))
	}
	if len(dark) > 0 {
		parts = append(parts, "a carrier on "+strings.Join(dark, ", "))
	}
	if len(broken) > 0 {
		parts = append(parts, "a NIC that comes up: "+strings.Join(broken, ", "))
	}
	return strings.Join(parts, "; ")
}

// wiredNIC describes an interface that is a piece of hardware with Ethernet on
// it, or gives nil: loopback, bridges, wireless, a bond's members and the like.
func wiredNIC(sysNet string, a *netlink.LinkAttrs) *nic {
	dir := filepath.Join(sysNet, a.Name)
	if a.EncapType != "ether" || len(a.HardwareAddr) != 6 || a.MasterIndex != 0 {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "device")); err != nil {
		return nil
	}
	for _, sub := range []string{"wireless", "phy80211"} {
		if _, err := os.Stat(filepath.Join(dir, sub)); err == nil {
			return nil
		}
	}
	bus, err := os.Readlink(filepath.Join(dir, "device/subsystem"))
	return &nic{name: a.Name, mac: slices.Clone(a.HardwareAddr), usb: err == nil && filepath.Base(bus) == "usb"}
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback: bring up: %w", err)
	}
	return nil
}

// sleep waits and tells whether the time has passed, not ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
