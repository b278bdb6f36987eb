package netboot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// lookForRival asks for an address as a machine that does not exist. An offer
// within wait means that another server owns the segment, and is the error.
func lookForRival(ctx context.Context, ifname string, wait time.Duration) error {
	conn, err := nclient4.NewRawUDPConn(ifname, portClient)
	if err != nil {
		return fmt.Errorf("look for another DHCP server: open a packet socket (needs CAP_NET_RAW): %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var mac MAC
	rand.Read(mac[:])            // never fails
	mac[0] = mac[0]&^0x01 | 0x02 // locally administered, unicast
	ask, err := dhcpv4.NewDiscovery(mac[:], dhcpv4.WithBroadcast(true))
	if err != nil {
		return fmt.Errorf("look for another DHCP server: %w", err)
	}
	end := time.Now().Add(wait)
	buf := make([]byte, maxRequest)
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: portServer}
	for again := time.Now(); time.Now().Before(end); {
		if !time.Now().Before(again) {
			if _, err := conn.WriteTo(ask.ToBytes(), to); err != nil {
				return fmt.Errorf("look for another DHCP server: send DISCOVER: %w", err)
			}
			again = time.Now().Add(wait/2 + time.Millisecond)
		}
		if err := conn.SetReadDeadline(earlier(again, end)); err != nil {
			return fmt.Errorf("look for another DHCP server: %w", err)
		}
		n, _, err := conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return fmt.Errorf("look for another DHCP server: %w", err)
		}
		if who, is := rivalOffer(buf[:n], ask); is {
			return fmt.Errorf("another DHCP server, %s, answers on this interface: stop it, or name an interface of our own", who)
		}
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// rivalOffer tells whether raw answers ask, and who sent it.
func rivalOffer(raw []byte, ask *dhcpv4.DHCPv4) (string, bool) {
	p, err := dhcpv4.FromBytes(raw)
	if err != nil || p.OpCode != dhcpv4.OpcodeBootReply || p.TransactionID != ask.TransactionID {
		return "", false
	}
	if id := addr4(p.ServerIdentifier()); id.IsValid() {
		return id.String(), true
	}
	if id := addr4(p.ServerIPAddr); id.IsValid() {
		return id.String(), true
	}
	return "which does not give its address", true
}
