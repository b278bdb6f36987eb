package netboot

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

// File is one file to serve: Bytes when set, else what Path holds when the
// server is made. It is read once, into memory.
type File struct {
	Path  string
	Bytes []byte
}

// Mount serves every path under Prefix ("/blobs/") by Handler. The handler sees
// the whole path, with runs of slashes made one. The boot server's own files
// come first.
type Mount struct {
	Prefix  string
	Handler http.Handler
}

// Subnet is a segment behind a DHCP relay.
type Subnet struct {
	Prefix netip.Prefix // the relay's giaddr lies in it
	Pool   Range        // zero: the upper half of Prefix
	Router netip.Addr   // zero: the relay itself
}

// Config says what to serve and where. Interface and the five files are needed;
// the rest has defaults.
type Config struct {
	// Interface is the one NIC that DHCP answers on. No name, no DHCP.
	Interface string
	// Address is the server's own address with its prefix. Zero: the
	// interface's first IPv4 address.
	Address netip.Prefix
	// Pool is what clients get. Zero: the upper half of the prefix.
	Pool Range
	// Lease is how long; zero: one hour.
	Lease time.Duration
	// Router and DNS go to clients when set.
	Router netip.Addr
	DNS    []netip.Addr
	// Relayed lists the segments behind relays.
	Relayed []Subnet
	// HTTPPort: zero: 8080.
	HTTPPort uint16

	UndionlyKPXE File // iPXE for BIOS
	SNPOnlyEFI   File // iPXE for x64 UEFI
	Kernel       File
	Initramfs    File
	Trust        File // cpio appended to the initramfs

	// Cmdline of the kernel; nil: DefaultCmdline.
	Cmdline []Param
	// Known decides whether a machine is answered; nil: none is, all are
	// reported. It is called for each packet and must answer from memory.
	Known func(Machine) bool
	// Observe gets the events, one at a time. It must return: Run waits for it.
	Observe func(Event)
	// Leases of an earlier run, by Server.Leases.
	Leases []Lease
	Mounts []Mount

	// RivalWait is how long to listen for another DHCP server before starting;
	// zero: 2 s, negative: do not look.
	RivalWait time.Duration
	// NoRouterAdvertisement leaves IPv6 router solicitations unanswered.
	NoRouterAdvertisement bool
	Logger                *slog.Logger // nil: none
}

// Size bounds of the files served, in bytes.
const (
	maxLoader    = 16 << 20
	maxKernel    = 128 << 20
	maxInitramfs = 1 << 30
	maxTrust     = 1 << 20
)

// Paths of the files served over HTTP; without the slash, the
// loaders and autoexec.ipxe have the same names over TFTP.
const (
	PathScript    = "/boot.ipxe"
	PathKernel    = "/boot/vmlinuz"
	PathInitramfs = "/boot/initramfs.cpio.zst"
	PathTrust     = "/boot/trust.cpio"
	PathUndionly  = "/undionly.kpxe"
	PathSNPOnly   = "/snponly.efi"
	PathAutoexec  = "/autoexec.ipxe"
)

func (c Config) withDefaults() Config {
	if c.Lease == 0 {
		c.Lease = time.Hour
	}
	if c.HTTPPort == 0 {
		c.HTTPPort = 8080
	}
	if c.Cmdline == nil {
		c.Cmdline = DefaultCmdline()
	}
	if c.Known == nil {
		c.Known = func(Machine) bool { return false }
	}
	if c.RivalWait == 0 {
		c.RivalWait = 2 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) check() error {
	if c.Interface == "" {
		return errors.New("no interface named: DHCP stays off until one is")
	}
	if c.Lease < time.Minute || c.Lease > 30*24*time.Hour {
		return fmt.Errorf("lease of %v: want one minute to 30 days", c.Lease)
	}
	for _, m := range c.Mounts {
		if !strings.HasPrefix(m.Prefix, "/") || !strings.HasSuffix(m.Prefix, "/") || m.Handler == nil {
			return fmt.Errorf("mount %q: want /prefix/ and a handler", m.Prefix)
		}
	}
	for _, a := range c.DNS {
		if !a.Is4() {
			return fmt.Errorf("DNS server %v is not IPv4", a)
		}
	}
	return nil
}

// load reads f into memory and checks it.
func (f File) load(what string, maxBytes int64) ([]byte, error) {
	if f.Bytes != nil || f.Path == "" {
		switch n := int64(len(f.Bytes)); {
		case n == 0:
			return nil, fmt.Errorf("load %s: neither a path nor bytes are given", what)
		case n > maxBytes:
			return nil, fmt.Errorf("load %s: %d bytes, at most %d", what, n, maxBytes)
		}
		return f.Bytes, nil
	}
	in, err := os.Open(f.Path)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", what, err)
	}
	defer in.Close()
	if st, err := in.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("load %s: %s is not a regular file", what, f.Path)
	}
	b, err := io.ReadAll(io.LimitReader(in, maxBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("load %s: %w", what, err)
	case len(b) == 0:
		return nil, fmt.Errorf("load %s: %s is empty", what, f.Path)
	case int64(len(b)) > maxBytes:
		return nil, fmt.Errorf("load %s: %s is larger than %d bytes", what, f.Path, maxBytes)
	}
	return b, nil
}

// interfaceAddress finds the first IPv4 address of the interface, or checks
// that it carries the one wanted.
func interfaceAddress(name string, want netip.Prefix) (*net.Interface, netip.Prefix, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, netip.Prefix{}, fmt.Errorf("interface %s: %w", name, err)
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil, netip.Prefix{}, fmt.Errorf("addresses of %s: %w", name, err)
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().Is4() {
			continue
		}
		if !want.IsValid() || want == p {
			return ifi, p, nil
		}
	}
	if want.IsValid() {
		return nil, netip.Prefix{}, fmt.Errorf("interface %s has no address %v: add it with: ip addr add %v dev %s", name, want, want, name)
	}
	return nil, netip.Prefix{}, fmt.Errorf("interface %s has no IPv4 address: give it one with: ip addr add ADDRESS/LENGTH dev %s", name, name)
}

// subnetOf checks and completes one subnet.
func subnetOf(s Subnet) (Subnet, error) {
	p := s.Prefix.Masked()
	if !p.IsValid() || !p.Addr().Is4() || p.Bits() < 8 || p.Bits() > 30 {
		return s, fmt.Errorf("subnet %v: want an IPv4 prefix of 8 to 30 bits", s.Prefix)
	}
	size := uint32(1) << (32 - p.Bits())
	first, last := addrUint(p.Addr())+1, addrUint(p.Addr())+size-2
	if s.Pool == (Range{}) {
		from := addrUint(p.Addr()) + size/2
		if last-from >= maxPool {
			last = from + maxPool - 1
		}
		s.Pool = Range{uintAddr(from), uintAddr(last)}
		return s, nil
	}
	a, b := s.Pool.First, s.Pool.Last
	if !a.Is4() || !b.Is4() || b.Less(a) || addrUint(a) < first || addrUint(b) > last {
		return s, fmt.Errorf("pool %v: want addresses of %v in order, without its first and last", s.Pool, p)
	}
	if s.Pool.size() > maxPool {
		return s, fmt.Errorf("pool %v: %d addresses, at most %d", s.Pool, s.Pool.size(), maxPool)
	}
	return s, nil
}
