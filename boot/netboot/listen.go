package netboot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

type sockets struct {
	dhcp, pxe, tftp *net.UDPConn
	http            net.Listener
}

func (s *sockets) close() {
	for _, c := range []*net.UDPConn{s.dhcp, s.pxe, s.tftp} {
		if c != nil {
			c.Close()
		}
	}
}

// listen opens every listener or none. DHCP is tied to the interface and hears
// its broadcasts; the rest to the server's address.
func (s *Server) listen() (*sockets, error) {
	var socks sockets
	var err error
	open := func(port uint16) *net.UDPConn {
		if err != nil {
			return nil
		}
		var c *net.UDPConn
		at := netip.AddrPortFrom(s.address, port)
		if port != 69 {
			at = netip.AddrPortFrom(netip.IPv4Unspecified(), port)
		}
		c, err = listenUDP(at, s.ifi.Name, port != 69)
		return c
	}
	socks.dhcp, socks.pxe, socks.tftp = open(portServer), open(portPXE), open(69)
	if err == nil {
		at := netip.AddrPortFrom(s.address, s.cfg.HTTPPort)
		if socks.http, err = net.Listen("tcp4", at.String()); err != nil {
			err = explain(err, "tcp", at)
		}
	}
	if err != nil {
		socks.close()
		return nil, err
	}
	return &socks, nil
}

func listenUDP(at netip.AddrPort, ifname string, bind bool) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		if !bind {
			return nil
		}
		var err error
		if e := raw.Control(func(fd uintptr) {
			if err = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, ifname); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
			}
		}); e != nil {
			return e
		}
		return err
	}}
	c, err := lc.ListenPacket(context.Background(), "udp4", at.String())
	if err != nil {
		return nil, explain(err, "udp", at)
	}
	return c.(*net.UDPConn), nil
}

// explain says what to do about a listener that could not be had.
func explain(err error, network string, at netip.AddrPort) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		who := "another process"
		if name := portOwner(network, at.Port()); name != "" {
			who = name
		}
		return fmt.Errorf("listen on %s port %d: taken by %s: stop it, or name another interface or port: %w", network, at.Port(), who, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("listen on %s port %d: not allowed: run as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW: %w", network, at.Port(), err)
	}
	return fmt.Errorf("listen on %s port %d: %w", network, at.Port(), err)
}

// portOwner names the process that has a local port open, "dnsmasq (pid 812)",
// as far as /proc lets us see; else "".
func portOwner(network string, port uint16) string {
	inodes := map[string]bool{}
	for _, suffix := range []string{"", "6"} {
		f, err := os.Open("/proc/thread-self/net/" + network + suffix)
		if err != nil {
			continue
		}
		in := bufio.NewScanner(f)
		for in.Scan() {
			w := strings.Fields(in.Text())
			if len(w) < 10 || (network == "tcp" && w[3] != "0A") {
				continue
			}
			_, hex, _ := strings.Cut(w[1], ":")
			if p, err := strconv.ParseUint(hex, 16, 16); err == nil && uint16(p) == port {
				inodes["socket:["+w[9]+"]"] = true
			}
		}
		f.Close()
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is sound
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && inodes[to] {
			pid := strings.Split(fd, "/")[2]
			comm, err := os.ReadFile("/proc/" + pid + "/comm")
			if err == nil {
				return strings.TrimSpace(string(comm)) + " (pid " + pid + ")"
			}
		}
	}
	return ""
}

// serveDHCP answers on one port until ctx ends.
func (s *Server) serveDHCP(ctx context.Context, c *net.UDPConn, port uint16) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	out := ipv4.NewPacketConn(c)
	buf := make([]byte, maxRequest+1)
	for {
		n, src, err := c.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("read udp port %d: %w", port, err)
		}
		if err != nil {
			s.cfg.Logger.Warn("netboot: read DHCP", "port", port, "err", err)
			continue
		}
		r := s.dhcp.handle(buf[:n], src, port)
		if r == nil {
			continue
		}
		if err := s.sendDHCP(out, r); err != nil {
			s.cfg.Logger.Warn("netboot: send DHCP", "to", r.to, "err", err)
		}
	}
}

// sendDHCP sends from the server's address, whichever others the interface has.
func (s *Server) sendDHCP(out *ipv4.PacketConn, r *reply) error {
	from := &ipv4.ControlMessage{Src: s.address.AsSlice()}
	_, err := out.WriteTo(r.packet, from, net.UDPAddrFromAddrPort(r.to))
	return err
}
