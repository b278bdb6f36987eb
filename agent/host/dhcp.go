package host

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// lease is what a DHCP server has granted on one NIC.
type lease struct {
	nic      string
	mac      net.HardwareAddr
	raw      *nclient4.Lease
	obtained time.Duration // since the kernel's start
	// what the server asked for, checked
	addr     netip.Prefix
	gateway  netip.Addr
	dns      []netip.Addr
	server   netip.Addr
	routes   []route
	hostname string
	mtu      int // 0: not named
	length   time.Duration
}

type route struct {
	to  netip.Prefix
	via netip.Addr // 0.0.0.0: on the link
}

const (
	firstTimeout = time.Second      // doubles with each repeat of one message
	repeats      = 4                // of one DISCOVER: 1+2+4+8 s
	longestPause = 30 * time.Second // between rounds
	shortLease   = 10 * time.Second // a lease below is renewed as if it were this
	defaultLease = time.Hour        // where a server names none
)

// discover asks until a server grants a lease; only ctx ends it.
func discover(ctx context.Context, nic string, mac net.HardwareAddr, log *slog.Logger) (*lease, error) {
	for round := 0; ; round++ {
		l, err := discoverOnce(ctx, nic, mac)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		log.Info("no DHCP lease", "nic", nic, "round", round+1, "err", err)
		if !sleep(ctx, jitter(min(longestPause, time.Second<<min(round, 5)))) {
			return nil, ctx.Err()
		}
	}
}

// jitter gives a time between half of d and d: a rack that gets its power back
// must not ask in step.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func discoverOnce(ctx context.Context, nic string, mac net.HardwareAddr) (l *lease, err error) {
	err = Guard(func() error {
		client, err := openClient(nic, mac)
		if err != nil {
			return err
		}
		defer client.Close()
		raw, err := client.Request(ctx, identity(mac, systemUUID())...)
		if err != nil {
			return err
		}
		l, err = readLease(nic, mac, raw)
		return err
	})
	return l, err
}

func openClient(nic string, mac net.HardwareAddr) (*nclient4.Client, error) {
	return nclient4.New(nic, nclient4.WithHWAddr(mac), nclient4.WithTimeout(firstTimeout), nclient4.WithRetry(repeats))
}

// identity tells the server who asks, in the way in which iPXE did on the same
// NIC: so the server gives the same address and knows that it is one machine.
func identity(mac net.HardwareAddr, uuid []byte) []dhcpv4.Modifier {
	m := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(append([]byte{1}, mac...))), // RFC 2132 9.14, hardware type 1
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("ingot-agent")),
		dhcpv4.WithRequestedOptions(
			dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionHostName,
			dhcpv4.OptionInterfaceMTU, dhcpv4.OptionNTPServers, dhcpv4.OptionClasslessStaticRoute),
	}
	if len(uuid) == 16 {
		m = append(m, dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, append([]byte{0}, uuid...)))) // RFC 4578 2.3
	}
	return m
}

// systemUUID is the SMBIOS UUID as its bytes stand in the table, which is how
// firmware sends it; nil where there is none.
func systemUUID() []byte {
	text, err := os.ReadFile("/sys/class/dmi/id/product_uuid")
	if err != nil {
		return nil
	}
	return uuidBytes(strings.TrimSpace(string(text)))
}

// uuidBytes turns the text form into the table's bytes: the first three fields
// are little-endian (DSP0134 7.2.1).
func uuidBytes(text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		return nil
	}
	slices.Reverse(b[0:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
	return b
}

// errLease is an answer that gives no usable address.
var errLease = errors.New("unusable DHCP answer")

// readLease takes from an ACK what the agent uses. Options that are not sane
// are left out; an address must be.
func readLease(nic string, mac net.HardwareAddr, raw *nclient4.Lease) (*lease, error) {
	ack := raw.ACK
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || !ip.IsGlobalUnicast() {
		return nil, fmt.Errorf("%w: address %v", errLease, ack.YourIPAddr)
	}
	bits := 24
	if mask := ack.SubnetMask(); mask != nil {
		ones, size := mask.Size()
		if size != 32 || ones == 0 {
			return nil, fmt.Errorf("%w: subnet mask %v", errLease, mask)
		}
		bits = ones
	}
	l := &lease{
		nic: nic, mac: mac, raw: raw, obtained: Uptime(), addr: netip.PrefixFrom(ip, bits),
		dns: addrs(ack.DNS()), hostname: ack.HostName(), length: ack.IPAddressLeaseTime(defaultLease),
	}
	if routers := addrs(ack.Router()); len(routers) > 0 {
		l.gateway = routers[0]
	}
	l.server, _ = netip.AddrFromSlice(ack.ServerIdentifier().To4())
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= 1280 {
		l.mtu = int(mtu) // RFC 8504 5.2: less breaks IPv6
	}
	for _, r := range ack.ClasslessStaticRoute() {
		l.addRoute(r)
	}
	return l, nil
}

// addRoute keeps a route of option 121; with that option, the router option is
// not to be used (RFC 3442).
func (l *lease) addRoute(r *dhcpv4.Route) {
	if r == nil || r.Dest == nil {
		return
	}
	ones, size := r.Dest.Mask.Size()
	to, ok := netip.AddrFromSlice(r.Dest.IP.To4())
	via, ok2 := netip.AddrFromSlice(r.Router.To4())
	if !ok || !ok2 || size != 32 {
		return
	}
	if ones == 0 {
		l.gateway = via
		return
	}
	l.routes = append(l.routes, route{to: netip.PrefixFrom(to, ones).Masked(), via: via})
}

// addrs keeps the addresses that can be spoken to.
func addrs(ips []net.IP) []netip.Addr {
	var out []netip.Addr
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip.To4()); ok && a.IsGlobalUnicast() {
			out = append(out, a)
		}
	}
	return out
}
