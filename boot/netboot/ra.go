package netboot

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// advertisement is the body of a router advertisement (RFC 4861 4.2) that
// routes nothing: lifetime 0, no prefix, and both flags for DHCPv6 clear. It
// tells a client that there is no IPv6 to wait for.
var advertisement = [12]byte{0: 64}

// serveRouterAdvertisements answers router solicitations until ctx ends. An
// interface without IPv6 is no fault: nobody on it is asking.
func (s *Server) serveRouterAdvertisements(ctx context.Context) error {
	c, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		s.cfg.Logger.Info("netboot: no router advertisements", "err", err)
		return nil
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	p := c.IPv6PacketConn()
	if err := s.joinRouters(p); err != nil {
		s.cfg.Logger.Info("netboot: no router advertisements", "err", err)
		return nil
	}
	msg := &icmp.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: advertisement[:]}}
	out, err := msg.Marshal(nil) // the kernel fills in the checksum
	if err != nil {
		return fmt.Errorf("router advertisement: %w", err)
	}
	all := &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: s.ifi.Name}
	buf := make([]byte, maxRequest)
	for {
		n, cm, _, err := p.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("read router solicitations: %w", err)
		}
		// RFC 4861 6.1.1: from the link itself, so its hop limit is untouched.
		if err != nil || n < 8 || cm == nil || cm.IfIndex != s.ifi.Index || cm.HopLimit != 255 {
			continue
		}
		if _, err := p.WriteTo(out, nil, all); err != nil {
			s.cfg.Logger.Warn("netboot: send router advertisement", "err", err)
		}
	}
}

func (s *Server) joinRouters(p *ipv6.PacketConn) error {
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	if err := p.SetICMPFilter(&only); err != nil {
		return fmt.Errorf("filter router solicitations: %w", err)
	}
	if err := p.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true); err != nil {
		return fmt.Errorf("watch router solicitations: %w", err)
	}
	if err := p.SetMulticastHopLimit(255); err != nil {
		return fmt.Errorf("set hop limit: %w", err)
	}
	if err := p.JoinGroup(s.ifi, &net.IPAddr{IP: net.IPv6linklocalallrouters}); err != nil {
		return fmt.Errorf("join all routers: %w", err)
	}
	return nil
}
