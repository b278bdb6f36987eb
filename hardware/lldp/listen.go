package lldp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/nic"
	"github.com/ingot-metal/ingot/hardware/partial"
	"github.com/ingot-metal/ingot/hardware/sysfs"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// Interval is how long each port is listened to: a switch sends every 30
// seconds (802.1AB 9.2.5.7), and sooner when a link comes up.
const Interval = 31 * time.Second

// groups are the addresses that frames are sent to (802.1AB table 7-1): the
// nearest bridge, the nearest one that is no repeater, the nearest customer's.
var groups = [][6]byte{{0x01, 0x80, 0xc2, 0, 0, 0x0e}, {0x01, 0x80, 0xc2, 0, 0, 0x03}, {0x01, 0x80, 0xc2, 0, 0, 0x00}}

// errNoLink says that there is nobody to listen to.
var errNoLink = errors.New("no link")

// Read listens on all ports that have a link, for at most [Interval], and tells
// of each neighbor when it speaks. Each port of its answer has its name and its
// neighbor alone.
func Read(ctx context.Context, root sysfs.Root) (hardware.Inventory, error) {
	var inv hardware.Inventory
	names := nic.Ports(root)
	answers := make(chan answer, len(names))
	for _, name := range names {
		if f, refuses := prepare(root, name); refuses {
			inv.Findings = append(inv.Findings, f)
		}
		go func() { answers <- neighbor(ctx, root, name) }()
	}
	for left := len(names); left > 0; left-- {
		var a answer
		select {
		case a = <-answers: // within Interval
		case <-ctx.Done():
			return inv, fmt.Errorf("listen on %d ports more: %w", left, ctx.Err())
		}
		a.into(&inv)
		if a.err == nil && left > 1 {
			partial.Tell(ctx, hardware.View{Inventory: hardware.Inventory{NICs: slices.Clone(inv.NICs)}})
		}
	}
	return inv, nil
}

type answer struct {
	port     string
	neighbor hardware.Neighbor
	err      error
}

func (a answer) into(inv *hardware.Inventory) {
	f := hardware.Finding{Code: hardware.CodeSourceMalformed, Severity: hardware.Info, Part: "nic " + a.port, Source: Source}
	switch {
	case a.err == nil:
		inv.NICs = append(inv.NICs, hardware.NIC{Name: a.port, Neighbor: a.neighbor, Sources: hardware.Sources{Source}})
		return
	case errors.Is(a.err, errNoLink), errors.Is(a.err, os.ErrDeadlineExceeded), errors.Is(a.err, sysfs.ErrNotRecorded):
		return
	case errors.Is(a.err, fs.ErrPermission):
		f.Code, f.Hint = hardware.CodeNotPermitted, "LLDP is heard by root only"
	}
	f.Evidence = a.err.Error()
	inv.Findings = append(inv.Findings, f)
}

func neighbor(ctx context.Context, root sysfs.Root, name string) answer {
	frame, err := root.Ask(ctx, "lldp/"+name+"/frame", maxFrame, func() ([]byte, error) {
		if root.Text("sys/class/net", name, "carrier") != "1" {
			return nil, errNoLink
		}
		return hear(ctx, name, Interval)
	})
	if err != nil {
		return answer{port: name, err: err}
	}
	n, err := Decode(frame)
	return answer{name, n, err}
}

// hear waits for the first frame on a port that names a neighbor. What this
// machine itself sends is none.
func hear(ctx context.Context, name string, limit time.Duration) ([]byte, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", name, err)
	}
	c, err := packet.Listen(ifi, packet.Raw, etherType, nil)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", name, err)
	}
	defer c.Close()
	if err := join(c, ifi.Index); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", name, err)
	}
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) }) // a closed socket has no reader left
	defer stop()
	b := make([]byte, maxFrame)
	for {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", name, err)
		}
		if n < header || bytes.Equal(b[6:12], ifi.HardwareAddr) {
			continue
		}
		if _, err := Decode(b[:n]); err == nil {
			return bytes.Clone(b[:n]), nil
		}
	}
}

// join lets the frames through a NIC's filter of group addresses.
func join(c *packet.Conn, index int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for _, g := range groups {
			m := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_MULTICAST, Alen: uint16(len(g))}
			copy(m.Address[:], g[:])
			if err := unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil && failed == nil {
				failed = fmt.Errorf("join %s: %w", net.HardwareAddr(g[:]), err)
			}
		}
	})
	return errors.Join(err, failed)
}
