package lldp

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/partial"
	"github.com/ingot-metal/ingot/hardware/sysfs"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// pdu is a frame of TLVs, each a type and a value.
func pdu(tlvs ...any) []byte {
	b := slices.Concat(groups[0][:], []byte{0x02, 0, 0, 0, 0, 0x99, 0x88, 0xcc})
	for i := 0; i < len(tlvs); i += 2 {
		v := tlvs[i+1].(string)
		b = binary.BigEndian.AppendUint16(b, uint16(tlvs[i].(int))<<9|uint16(len(v)))
		b = append(b, v...)
	}
	return append(b, 0, 0)
}

var sample = pdu(tlvChassis, "\x04\x44\x38\x39\x00\x00\x01", tlvPort, "\x05swp7", tlvTTL, "\x00\x78",
	tlvPortDescription, "server r1u7\x1b[0m", tlvSystemName, "leaf1", tlvSystemText, "Cumulus Linux\n5.9",
	tlvManagement, "\x05\x01\x0a\x00\x00\x01\x02\x00\x00\x00\x02\x00", tlvManagement, "\x11\x02\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x02\x00",
	tlvOrganization, "\x00\x80\xc2\x01\x00\x64", tlvOrganization, "\x00\x80\xc2\x03\x00\x64\x04prod", tlvOrganization, "\x00\x80\xc2\x03\x00\xc8\x04mgmt",
	tlvOrganization, "\x00\x12\x0f\x01\x03\x6c\x11\x00\x1e")

func TestDecode(t *testing.T) {
	got, err := Decode(sample)
	want := hardware.Neighbor{ChassisID: "44:38:39:00:00:01", PortID: "swp7", PortDescription: "server r1u7[0m", SystemName: "leaf1",
		SystemText: "Cumulus Linux 5.9", Management: []string{"10.0.0.1", "fe80::1"}, VLAN: 100, VLANs: []int{100, 200},
		VLANNames: map[string]string{"100": "prod", "200": "mgmt"}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("Decode = %v (-want +got):\n%s", err, d)
	}
	got, err = Decode(pdu(tlvChassis, "\x05\x01\xc0\x00\x02\x01", tlvPort, "\x03\x02\x00\x00\x00\x00\x07", tlvTTL, "\x00\x01"))
	if err != nil || got.ChassisID != "192.0.2.1" || got.PortID != "02:00:00:00:00:07" {
		t.Errorf("Decode = %+v, %v", got, err)
	}
	for why, frame := range map[string][]byte{
		"a frame of 3 bytes":           sample[:3],
		"EtherType 0x0800":             append(slices.Clone(sample[:12]), 8, 0),
		"has 7 bytes of 3":             sample[:19],
		"no chassis or no port":        pdu(tlvPort, "\x05swp7"),
		"the neighbor takes its leave": pdu(tlvChassis, "\x07a", tlvPort, "\x07b", tlvTTL, "\x00\x00"),
	} {
		if _, err := Decode(frame); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("Decode = %v; want %q", err, why)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample)
	f.Add(pdu(tlvChassis, "\x07a", tlvPort, "\x07b", tlvManagement, "\xff\x01", tlvOrganization, "\x00\x80\xc2\x03\x00\x01\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Decode(b)
		if err != nil {
			if d := cmp.Diff(hardware.Neighbor{}, n); d != "" {
				t.Errorf("an error, and %s", d)
			}
			return
		}
		if len(n.VLANs) > maxVLANs || len(n.VLANNames) > len(n.VLANs) || len(n.Management) > maxTLVs {
			t.Errorf("more than the bounds: %+v", n)
		}
		all := strings.Join(append(n.Management, n.ChassisID, n.PortID, n.PortDescription, n.SystemName, n.SystemText), "")
		if !utf8.ValidString(all) || strings.ContainsAny(all, "\x00\x1b\n") {
			t.Errorf("not fit for a console: %q", all)
		}
	})
}

// cable makes two ports that are joined, in a network namespace of the test's
// own, on a thread that ends with the test.
func cable(t *testing.T) (here, there *net.Interface) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a network namespace wants root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace here: %v", err)
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "here"}, PeerName: "there"}); err != nil {
		t.Skipf("no veth here: %v", err)
	}
	var ends [2]*net.Interface
	for i, name := range []string{"here", "there"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		if ends[i], err = net.InterfaceByName(name); err != nil {
			t.Fatal(err)
		}
	}
	return ends[0], ends[1]
}

// send writes frames on a port every few milliseconds until the test ends.
func send(t *testing.T, from *net.Interface, frames ...[]byte) {
	t.Helper()
	c, err := packet.Listen(from, packet.Raw, etherType, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	gone := make(chan struct{})
	t.Cleanup(func() { close(done); <-gone; c.Close() })
	go func() {
		defer close(gone)
		for i := 0; ; i++ {
			if _, err := c.WriteTo(frames[i%len(frames)], &packet.Addr{HardwareAddr: groups[0][:]}); err != nil {
				t.Errorf("send: %v", err)
			}
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
}

// TestHear listens on a real port: a frame that is no LLDP, one of our own, one
// that takes its leave, then the neighbor's.
func TestHear(t *testing.T) {
	here, there := cable(t)
	own := slices.Clone(sample)
	copy(own[6:], here.HardwareAddr)
	send(t, there, sample[:20], own, pdu(tlvChassis, "\x07a", tlvPort, "\x07b", tlvTTL, "\x00\x00"), sample)
	frame, err := hear(t.Context(), "here", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sample, frame); d != "" {
		t.Errorf("hear (-want +got):\n%s", d)
	}
}

// TestHearEnds: nobody speaks; the limit ends it, or the context.
func TestHearEnds(t *testing.T) {
	cable(t)
	begin := time.Now()
	if _, err := hear(t.Context(), "here", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("hear = %v; want the deadline", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := hear(ctx, "here", time.Hour); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("hear = %v; want the deadline", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestReadTellsEarly: one neighbor has spoken, the other speaks later.
func TestReadTellsEarly(t *testing.T) {
	root := sysfs.Root(t.TempDir())
	for _, name := range []string{"eth0", "eth1"} {
		for file, content := range map[string]string{"sys/class/net/" + name + "/type": "1\n", "sys/class/net/" + name + "/device/x": "", "answers/lldp/" + name + "/x": ""} {
			if err := os.MkdirAll(filepath.Dir(root.Path(file)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(root.Path(file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(root.Path("answers/lldp/eth1/frame"), sample, 0o644); err != nil {
		t.Fatal(err)
	}
	pipe := root.Path("answers/lldp/eth0/frame")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var told []string
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ctx = partial.With(ctx, func(_ context.Context, v hardware.View) {
		for _, n := range v.Inventory.NICs {
			told = append(told, n.Name+" "+n.Neighbor.SystemName)
		}
		if err := os.WriteFile(pipe, sample, 0o600); err != nil {
			t.Error(err)
		}
	})
	inv, err := Read(ctx, root)
	if err != nil || len(inv.NICs) != 2 || len(inv.Findings) != 0 {
		t.Errorf("Read = %+v, %v", inv, err)
	}
	if want := []string{"eth1 leaf1"}; !slices.Equal(told, want) {
		t.Errorf("told %q; want %q", told, want)
	}
}
