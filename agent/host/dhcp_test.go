package host

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
)

// inOwnNetwork runs the calling test again in a network namespace of its own
// and tells whether this is that run.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	const mark = "INGOT_HOST_TEST_NETNS"
	if os.Getenv(mark) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil && bytes.Contains(out, []byte("--- PASS: "+t.Name())):
	case err == nil || errors.As(err, &exit):
		t.Errorf("in a network namespace: %v\n%s", err, out)
	case os.Getenv("CI") == "true":
		t.Fatalf("make a network namespace: %v", err)
	default:
		t.Skipf("no network namespace for this user: %v", err)
	}
	return false
}

// dhcpServer is a real server on one end of a veth pair.
type dhcpServer struct {
	mu    sync.Mutex
	give  net.IP
	nak   bool
	asked []*dhcpv4.DHCPv4
}

func (s *dhcpServer) answer(conn net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, m)
	kind := dhcpv4.MessageTypeAck
	switch {
	case m.MessageType() == dhcpv4.MessageTypeDiscover:
		kind, s.nak = dhcpv4.MessageTypeOffer, false
	case s.nak:
		kind = dhcpv4.MessageTypeNak
	}
	reply, err := dhcpv4.NewReplyFromRequest(m,
		dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(s.give), dhcpv4.WithServerIP(serverIP),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(serverIP)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(routerIP), dhcpv4.WithDNS(net.IPv4(10, 9, 0, 53)), dhcpv4.WithLeaseTime(10),
		dhcpv4.WithOption(dhcpv4.OptHostName("r1u1")),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("x")),
		dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(
			&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(10, 20, 0, 0).To4(), Mask: net.CIDRMask(16, 32)}, Router: net.IPv4(10, 9, 0, 2)},
			&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Router: routerIP})))
	if err == nil {
		_, err = conn.WriteTo(reply.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
	}
	if err != nil {
		panic(err)
	}
}

var (
	serverIP = net.IPv4(10, 9, 0, 1).To4()
	routerIP = net.IPv4(10, 9, 0, 254).To4() // the kernel refuses one of its own addresses
)

// wire makes the pair c0 — s0 with a server on s0.
func wire(t *testing.T) (*dhcpServer, net.HardwareAddr) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "c0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "s0"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"c0", "s0"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		if name == "s0" {
			if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: serverIP, Mask: net.CIDRMask(24, 32)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := &dhcpServer{give: net.IPv4(10, 9, 0, 50)}
	srv, err := server4.NewServer("s0", &net.UDPAddr{IP: net.IPv4zero, Port: 67}, s.answer)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	c0, err := net.InterfaceByName("c0")
	if err != nil {
		t.Fatal(err)
	}
	return s, c0.HardwareAddr
}

func TestLease(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	server, mac := wire(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	l, err := discover(ctx, "c0", mac, log)
	if err != nil {
		t.Fatal(err)
	}
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	n, err := l.apply(resolv)
	if err != nil {
		t.Fatal(err)
	}
	if n.Addr.String() != "10.9.0.50/24" || n.Gateway.String() != "10.9.0.254" || n.ServerID.String() != "10.9.0.1" ||
		n.Hostname != "r1u1" || n.LeaseTime != 10*time.Second {
		t.Errorf("network = %+v", n)
	}
	checkHost(t, resolv)

	// As iPXE names itself, so that the server joins the two.
	server.mu.Lock()
	first := server.asked[0]
	server.mu.Unlock()
	if id := first.Options.Get(dhcpv4.OptionClientIdentifier); !bytes.Equal(id, append([]byte{1}, mac...)) {
		t.Errorf("client identifier = %x; want the MAC with type 1", id)
	}

	// Renewed on its own time; a refusal leads to a new lease, with a new address.
	server.mu.Lock()
	server.nak, server.give = true, net.IPv4(10, 9, 0, 77)
	server.mu.Unlock()
	next, err := l.keep(ctx, log)
	if err != nil {
		t.Fatal(err)
	}
	if got := next.addr.String(); got != "10.9.0.77/24" {
		t.Errorf("address after a refusal = %s; want the new one", got)
	}
	again, err := next.renew(ctx)
	if err != nil || again.addr != next.addr {
		t.Errorf("renew = %+v, %v; want the same address", again, err)
	}
}

func checkHost(t *testing.T, resolv string) {
	t.Helper()
	got, err := os.ReadFile(resolv)
	if err != nil || string(got) != "nameserver 10.9.0.53\n" {
		t.Errorf("resolv.conf = %q, %v", got, err)
	}
	routes, err := netlink.RouteGet(net.IPv4(10, 20, 1, 1))
	if err != nil || len(routes) != 1 || routes[0].Gw.String() != "10.9.0.2" || routes[0].Src.String() != "10.9.0.50" {
		t.Errorf("route to 10.20.1.1 = %+v, %v; want by 10.9.0.2 from 10.9.0.50", routes, err)
	}
	routes, err = netlink.RouteGet(net.IPv4(192, 0, 2, 1))
	if err != nil || len(routes) != 1 || routes[0].Gw.String() != "10.9.0.254" {
		t.Errorf("route to 192.0.2.1 = %+v, %v; want by the router", routes, err)
	}
}

// TestDiscoverEndsWithContext asks where nobody answers.
func TestDiscoverEndsWithContext(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	if err := loopbackUp(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := discover(ctx, "lo", net.HardwareAddr{2, 0, 0, 0, 0, 1}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
		t.Errorf("discover = %v after %v; want the deadline", err, time.Since(start))
	}
}

func TestReadLeaseRefusals(t *testing.T) {
	for name, ack := range map[string]*dhcpv4.DHCPv4{
		"no address": {YourIPAddr: net.IPv4zero},
		"multicast":  {YourIPAddr: net.IPv4(224, 0, 0, 1)},
		"nothing":    {},
		"zero mask":  {YourIPAddr: net.IPv4(10, 0, 0, 1), Options: dhcpv4.Options{1: {0, 0, 0, 0}}},
		"holed mask": {YourIPAddr: net.IPv4(10, 0, 0, 1), Options: dhcpv4.Options{1: {255, 0, 255, 0}}},
	} {
		if l, err := readLease("eth0", nil, &nclient4.Lease{ACK: ack}); !errors.Is(err, errLease) {
			t.Errorf("readLease of an answer with %s = %+v, %v; want errLease", name, l, err)
		}
	}
}

// FuzzLease reads any ACK.
func FuzzLease(f *testing.F) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	seed, err := dhcpv4.New(dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed.ToBytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		ack, err := dhcpv4.FromBytes(data)
		if err != nil {
			return
		}
		l, err := readLease("eth0", mac, &nclient4.Lease{ACK: ack, Offer: ack})
		if err != nil {
			return
		}
		if !l.addr.IsValid() || l.mtu != 0 && l.mtu < 1280 {
			t.Errorf("lease = %+v", l)
		}
		for _, r := range l.routes {
			if !r.to.IsValid() || !r.via.IsValid() {
				t.Errorf("route = %+v", r)
			}
		}
	})
}

func TestUUIDBytes(t *testing.T) {
	got := uuidBytes("00112233-4455-6677-8899-aabbccddeeff")
	want := []byte{0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	if !bytes.Equal(got, want) {
		t.Errorf("uuidBytes = %x; want %x", got, want)
	}
	if got := uuidBytes("Not Settable"); got != nil {
		t.Errorf("uuidBytes of no UUID = %x; want none", got)
	}
}

func TestWaitingFor(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		nics map[int]*nic
		want string
	}{
		{nil, "a NIC: none found (is its driver in the initramfs?)"},
		{map[int]*nic{1: {name: "eth0", mac: mac}}, "a carrier on eth0 02:00:00:00:00:01"},
		{map[int]*nic{1: {name: "eth0", mac: mac, carrier: true}, 2: {name: "eth1", mac: mac}},
			"a DHCP answer on eth0 02:00:00:00:00:01; a carrier on eth1 02:00:00:00:00:01"},
		{map[int]*nic{1: {name: "eth0", mac: mac, upErr: errors.New("no firmware")}}, "a NIC that comes up: eth0 02:00:00:00:00:01: no firmware"},
	} {
		s := &search{nics: c.nics, started: -time.Hour}
		if got := s.waitingFor(); got != c.want {
			t.Errorf("waitingFor = %q; want %q", got, c.want)
		}
	}
}

func TestStandsBack(t *testing.T) {
	boot, other := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	for _, c := range []struct {
		name     string
		bootMAC  net.HardwareAddr
		nic      nic
		min, max time.Duration
	}{
		{"the NIC that booted", boot, nic{mac: boot}, 0, 0},
		{"another", boot, nic{mac: other}, 3 * time.Second, othersStandBack},
		{"no hint", nil, nic{mac: other}, 0, 0},
		{"on USB", nil, nic{mac: other, usb: true}, 11 * time.Second, usbStandsBack},
		{"on USB, and booted", boot, nic{mac: boot, usb: true}, 0, 0},
	} {
		s := &search{opts: NetworkOptions{BootMAC: c.bootMAC}, started: Uptime()}
		if got := s.standsBack(&c.nic); got < c.min || got > c.max {
			t.Errorf("%s stands back %v; want %v to %v", c.name, got, c.min, c.max)
		}
	}
	if a := netip.MustParsePrefix("10.0.0.1/32"); ipNet(a).String() != "10.0.0.1/32" {
		t.Errorf("ipNet = %v", ipNet(a))
	}
}
