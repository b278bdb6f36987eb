package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// openTAP makes a TAP device in the network namespace of the calling thread,
// gives it its addresses and switches it on.
func openTAP(name string, mac net.HardwareAddr, addr netip.Prefix) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	f, err := makeTAP(fd, name)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	if err := configure(name, mac, addr); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func makeTAP(fd int, name string) (*os.File, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("name TAP device %q: %w", name, err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, fmt.Errorf("make TAP device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func configure(name string, mac net.HardwareAddr, addr netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	if mac != nil {
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("set MAC address of %s: %w", name, err)
		}
	}
	if addr.IsValid() {
		ipNet := &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen())}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet}); err != nil {
			return fmt.Errorf("add address %s to %s: %w", addr, name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch %s on: %w", name, err)
	}
	return nil
}

// inNewNetns calls f on a thread that has a network namespace of its own. The
// sockets and devices that f opens keep the namespace alive; the thread ends.
func inNewNetns(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread is of no use to others
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// bmcNetwork is the one network port of a BMC, in a namespace of its own, and
// the sockets that listen there.
type bmcNetwork struct {
	tap     *os.File
	redfish net.Listener
	ipmi    *net.UDPConn
}

func openBMCNetwork(mac net.HardwareAddr, addr netip.Prefix) (n bmcNetwork, err error) {
	err = inNewNetns(func() error {
		if err := configure("lo", nil, netip.Prefix{}); err != nil {
			return err
		}
		if n.tap, err = openTAP("eth0", mac, addr); err != nil {
			return err
		}
		if n.redfish, err = net.Listen("tcp4", netip.AddrPortFrom(addr.Addr(), 443).String()); err != nil {
			return fmt.Errorf("listen for Redfish: %w", err)
		}
		if n.ipmi, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr.Addr(), 623))); err != nil {
			return fmt.Errorf("listen for IPMI: %w", err)
		}
		return nil
	})
	return n, err
}
