package ethtool

import (
	"encoding/binary"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// header is where Debian's linux-libc-dev has the kernel's own table.
const header = "/usr/include/linux/ethtool.h"

// TestModes compares the table with the kernel's header, where it is there.
func TestModes(t *testing.T) {
	b, err := os.ReadFile(header)
	if err != nil {
		t.Skipf("no %s here (package linux-libc-dev)", header)
	}
	n := 0
	for _, m := range regexp.MustCompile(`ETHTOOL_LINK_MODE_([0-9]+base[A-Za-z0-9_]*)_(Full|Half)_BIT\s*=\s*([0-9]+)`).FindAllStringSubmatch(string(b), -1) {
		bit, err := strconv.Atoi(m[3])
		if err != nil {
			t.Fatal(err)
		}
		n++
		if bit >= len(modes) || modes[bit] != m[1]+"/"+m[2] {
			t.Errorf("bit %d is not %s/%s", bit, m[1], m[2])
		}
	}
	if n < 70 {
		t.Errorf("%s names %d modes", header, n)
	}
}

// settings is an answer of LinkSettings with these bits supported.
func settings(words int, bits ...int) []byte {
	b := make([]byte, linkHeader+12*words)
	b[maskWordsAt] = byte(words)
	for _, bit := range bits {
		at := b[linkHeader+4*(bit/32):]
		binary.NativeEndian.PutUint32(at, binary.NativeEndian.Uint32(at)|1<<(bit%32))
	}
	return b
}

func TestModesOfAPort(t *testing.T) {
	names, most := Modes(settings(4, 5, 6, 13, 31, 38, 50, 120))
	if want := []string{"1000baseT/Full", "25000baseCR/Full", "100000baseCR4/Full", "800000baseVR4/Full"}; !slices.Equal(names, want) || most != 800000 {
		t.Errorf("Modes = %q, %d; want %q", names, most, want)
	}
	for what, b := range map[string][]byte{"nothing": nil, "short": settings(4, 5)[:50], "no words": settings(0)} {
		if names, most := Modes(b); names != nil || most != 0 {
			t.Errorf("%s: Modes = %q, %d", what, names, most)
		}
	}
}

func FuzzModes(f *testing.F) {
	f.Add(settings(4, 5, 38))
	f.Add(settings(127))
	f.Fuzz(func(t *testing.T, b []byte) {
		if names, most := Modes(b); len(names) > len(modes) || most < 0 || (most > 0) != (len(names) > 0) {
			t.Errorf("Modes = %d names, %d", len(names), most)
		}
		Firmware(b)
	})
}

// TestLoopback asks the one port that every Linux has.
func TestLoopback(t *testing.T) {
	b, err := DriverInfo("lo")
	if err != nil && !None(err) {
		t.Fatalf("DriverInfo(lo) = %v", err)
	}
	if len(b) != driverInfoBytes {
		t.Errorf("DriverInfo(lo) = %d bytes", len(b))
	}
	if _, err := PermanentAddress("lo"); err != nil && !None(err) {
		t.Errorf("PermanentAddress(lo) = %v", err)
	}
	if _, err := DriverInfo("nosuchport0"); !None(err) {
		t.Errorf("DriverInfo(nosuchport0) = %v; want none", err)
	}
	if _, err := DriverInfo("a-name-that-is-too-long"); err == nil {
		t.Error("a name that is too long is asked for")
	}
}

// TestVirtualCable asks the driver of a port that the test makes, whose modes
// are known: a pair of virtual ports runs at 10 Gbit/s.
func TestVirtualCable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a network namespace wants root")
	}
	runtime.LockOSThread() // the thread ends with the test, and its namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace here: %v", err)
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "here"}, PeerName: "there"}); err != nil {
		t.Skipf("no veth here: %v", err)
	}
	b, err := LinkSettings("here")
	if err != nil || binary.NativeEndian.Uint32(b[4:]) != 10000 {
		t.Errorf("LinkSettings = %x, %v; want a speed of 10000", b, err)
	}
	if words := int(b[maskWordsAt]); words < 2 || len(b) != linkHeader+12*words {
		t.Errorf("masks of %d words in %d bytes", words, len(b))
	}
	if b, err := DriverInfo("here"); err != nil || zeroEnded(b[4:36]) != "veth" {
		t.Errorf("DriverInfo = %q, %v; want veth", b, err)
	}
	if _, err := ModuleEEPROM("here"); !None(err) {
		t.Errorf("ModuleEEPROM = %v; want none", err)
	}
	if flags, err := PrivateFlags("here"); len(flags) != 0 || err != nil && !None(err) {
		t.Errorf("PrivateFlags = %v, %v; want none", flags, err)
	}
}
