package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// resolvConf is where Go's resolver looks for name servers.
const resolvConf = "/etc/resolv.conf"

// apply sets up the NIC as the lease says, and the resolver's file.
func (l *lease) apply(resolv string) (*Network, error) {
	link, err := netlink.LinkByName(l.nic)
	if err != nil {
		return nil, err
	}
	if l.mtu > 0 && l.mtu <= 9216 && l.mtu != link.Attrs().MTU {
		if err := netlink.LinkSetMTU(link, l.mtu); err != nil {
			return nil, fmt.Errorf("set MTU %d: %w", l.mtu, err)
		}
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(l.addr)}); err != nil {
		return nil, fmt.Errorf("set address %s: %w", l.addr, err)
	}
	for _, r := range l.routes {
		if err := setRoute(link, r); err != nil {
			return nil, err
		}
	}
	if l.gateway.IsValid() {
		if err := setRoute(link, route{to: netip.PrefixFrom(netip.IPv4Unspecified(), 0), via: l.gateway}); err != nil {
			return nil, err
		}
	}
	if err := writeResolvConf(resolv, l.dns); err != nil {
		return nil, err
	}
	return &Network{
		Interface: l.nic, MAC: l.mac, Addr: l.addr, Gateway: l.gateway, DNS: l.dns, ServerID: l.server,
		Hostname: l.hostname, LeaseTime: l.length, ObtainedAt: l.obtained, lease: l,
	}, nil
}

func setRoute(link netlink.Link, r route) error {
	nr := netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(r.to), Protocol: unix.RTPROT_DHCP}
	if r.via.IsUnspecified() {
		nr.Scope = netlink.SCOPE_LINK
	} else {
		nr.Gw = r.via.AsSlice()
		nr.Flags = int(netlink.FLAG_ONLINK) // a router outside the subnet is common with /32 leases
	}
	if err := netlink.RouteReplace(&nr); err != nil {
		return fmt.Errorf("set route to %s via %s: %w", r.to, r.via, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

func writeResolvConf(path string, dns []netip.Addr) error {
	var b bytes.Buffer
	for _, d := range dns[:min(3, len(dns))] {
		fmt.Fprintf(&b, "nameserver %s\n", d)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write resolver: %w", err)
	}
	return nil
}

// Keep renews the lease until ctx ends. When the server refuses, or the lease
// runs out, it looks for a new one on the same NIC; changed is told of an
// address that is not the old one, since connections die with it.
func (n *Network) Keep(ctx context.Context, log *slog.Logger, changed func(*Network)) error {
	l := n.lease
	for {
		next, err := l.keep(ctx, log)
		if err != nil {
			return nil // ctx ended
		}
		moved := next.addr != l.addr
		if moved {
			if err := l.drop(); err != nil {
				log.Warn("remove old address", "nic", l.nic, "err", err)
			}
		}
		fresh, err := next.apply(resolvConf)
		if err != nil {
			return fmt.Errorf("network: %s: %w", l.nic, err)
		}
		if moved {
			changed(fresh)
		}
		l = next
	}
}

// keep waits for the time to renew and gives the lease that follows.
func (l *lease) keep(ctx context.Context, log *slog.Logger) (*lease, error) {
	length := max(l.length, shortLease)
	end := l.obtained + length
	pause := length / 2 // T1 (RFC 2131 4.4.5)
	for {
		if !sleep(ctx, pause-rand.N(pause/10)) {
			return nil, ctx.Err()
		}
		next, err := l.renew(ctx)
		if err == nil {
			return next, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		log.Warn("renew DHCP lease", "nic", l.nic, "server", l.server, "err", err)
		var nak *nclient4.ErrNak
		left := end - Uptime()
		if errors.As(err, &nak) || left <= 0 {
			return discover(ctx, l.nic, l.mac, log)
		}
		pause = max(left/2, 5*time.Second)
	}
}

func (l *lease) renew(ctx context.Context) (next *lease, err error) {
	err = Guard(func() error {
		client, err := openClient(l.nic, l.mac)
		if err != nil {
			return err
		}
		defer client.Close()
		raw, err := client.Renew(ctx, l.raw, identity(l.mac, systemUUID())...)
		if err != nil {
			return err
		}
		next, err = readLease(l.nic, l.mac, raw)
		return err
	})
	return next, err
}

func (l *lease) drop() error {
	link, err := netlink.LinkByName(l.nic)
	if err != nil {
		return err
	}
	return netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(l.addr)})
}

// NetworkDown takes every wired NIC down, so that no card writes into memory
// that the next kernel owns.
func NetworkDown() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("network down: %w", err)
	}
	var errs []error
	for _, link := range links {
		if wiredNIC("/sys/class/net", link.Attrs()) == nil {
			continue
		}
		if err := netlink.LinkSetDown(link); err != nil {
			errs = append(errs, fmt.Errorf("network down: %s: %w", link.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// BootMAC reads the NIC that the firmware booted from: our script's
// ingot.bootif=52:54:00:ab:12:cd, or pxelinux's BOOTIF=01-52-54-00-ab-12-cd.
func (c Cmdline) BootMAC() net.HardwareAddr {
	for _, key := range []string{keyBootIf, "BOOTIF"} {
		v, ok := c.Lookup(key)
		if !ok {
			continue
		}
		if len(v) == len("01-52-54-00-ab-12-cd") && v[:2] == "01" { // ARP hardware type 1
			v = v[3:]
		}
		if mac, err := net.ParseMAC(v); err == nil && len(mac) == 6 {
			return mac
		}
	}
	return nil
}
