package netboot

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/pin/tftp/v3"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// TestOnTheWire runs the whole server in a network namespace, and real clients
// in another one at the far end of a veth pair.
func TestOnTheWire(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	wire(t)
	var events eventList
	cfg := wireConfig(t, &events)
	srv, stop := start(t, cfg)
	clientTests(t, srv)
	t.Run("a rival is noticed", func(t *testing.T) {
		far(t, func() {
			err := lookForRival(t.Context(), "far0", time.Second)
			if err == nil || !strings.Contains(err.Error(), "10.77.0.1") {
				t.Errorf("lookForRival = %v; want it to name 10.77.0.1", err)
			}
		})
	})
	t.Run("a taken port is named", func(t *testing.T) {
		again := cfg
		again.RivalWait = -1
		two, err := New(again)
		if err != nil {
			t.Fatal(err)
		}
		err = two.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "udp port 67") || !strings.Contains(err.Error(), "pid "+strconv.Itoa(os.Getpid())) {
			t.Errorf("Run = %v; want it to name udp port 67 and this process", err)
		}
	})
	stop()
	t.Run("events", func(t *testing.T) { wireEvents(t, events.all()) })
	t.Run("a strange machine is ignored", func(t *testing.T) {
		var seen eventList
		cfg := cfg
		cfg.Known, cfg.Observe = nil, seen.add
		_, stop := start(t, cfg) // the ports are free again
		far(t, func() {
			if _, err := dora(t, asUEFI, nclient4.WithTimeout(300*time.Millisecond), nclient4.WithRetry(1)); err == nil {
				t.Error("an unknown machine got a lease")
			}
		})
		stop()
		if all := seen.all(); len(all) < 2 || all[1].Kind != KindIgnore || all[1].MAC.String() != testMAC.String() {
			t.Errorf("events = %+v; want discover and ignore", all)
		}
	})
}

func wireConfig(t *testing.T, events *eventList) Config {
	return Config{
		Interface:    "near0",
		Pool:         Range{netip.MustParseAddr("10.77.0.100"), netip.MustParseAddr("10.77.0.199")},
		UndionlyKPXE: loader(t, "undionly.kpxe"),
		SNPOnlyEFI:   loader(t, "snponly.efi"),
		Kernel:       File{Bytes: bzImage(1 << 16)},
		Initramfs:    File{Bytes: []byte("initramfs")},
		Trust:        File{Bytes: []byte("trust")},
		Known:        AnyMachine,
		Observe:      events.add,
		RivalWait:    300 * time.Millisecond,
	}
}

// loader is the real one where the tools root has it, else bytes of a size that
// needs a short last block; TFTP carries either.
func loader(t *testing.T, name string) File {
	root := os.Getenv("INGOT_TOOLS")
	if root == "" {
		root = "../../build/tools"
	}
	path := root + "/usr/lib/ipxe/" + name
	if _, err := os.Stat(path); err != nil {
		t.Logf("%v: bytes of our own in its place", err)
		return File{Bytes: bytes.Repeat([]byte(name), 8365)}
	}
	return File{Path: path}
}

func clientTests(t *testing.T, srv *Server) {
	on := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { far(t, func() { f(t) }) })
	}
	on("one address through every stage", func(t *testing.T) {
		for _, as := range [][]dhcpv4.Modifier{asBIOS, asUEFI, asHTTP, asIPXE, nil} {
			lease, err := dora(t, as)
			if err != nil {
				t.Fatal(err)
			}
			if want := srv.Leases()[0].Address.String(); lease.ACK.YourIPAddr.String() != want {
				t.Errorf("ACK of %v; want %s", lease.ACK.YourIPAddr, want)
			}
		}
		setAddress(t, srv.Leases()[0].Address)
	})
	on("TFTP", func(t *testing.T) {
		for name, want := range srv.loaders {
			for _, asked := range []string{name, "/" + name} {
				if got, err := readTFTP(asked); err != nil || !bytes.Equal(got, want) {
					t.Errorf("read %s: %d bytes, %v; want %d", asked, len(got), err, len(want))
				}
			}
		}
		if _, err := readTFTP("../../etc/passwd"); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("read of a foreign file: %v; want no such file", err)
		}
	})
	on("HTTP", func(t *testing.T) {
		for path, c := range srv.http.files {
			if got, err := readHTTP("/" + path); err != nil || !bytes.Equal(got, c.body) {
				t.Errorf("read /%s: %d bytes, %v; want %d", path, len(got), err, len(c.body))
			}
		}
	})
	on("router advertisement", advertised)
}

func dora(t *testing.T, as []dhcpv4.Modifier, opts ...nclient4.ClientOpt) (*nclient4.Lease, error) {
	t.Helper()
	opts = append(opts, nclient4.WithHWAddr(testMAC))
	c, err := nclient4.New("far0", opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.Request(t.Context(), as...)
}

func setAddress(t *testing.T, a netip.Addr) {
	t.Helper()
	link, err := netlink.LinkByName("far0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}}); err != nil {
		t.Fatal(err)
	}
}

func readTFTP(name string) ([]byte, error) {
	c, err := tftp.NewClient("10.77.0.1:69")
	if err != nil {
		return nil, err
	}
	c.SetBlockSize(1468)
	c.RequestTSize(true)
	from, err := c.Receive(name, "octet")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = from.WriteTo(&b)
	return b.Bytes(), err
}

// readHTTP dials on the calling thread, which stands in the far namespace.
func readHTTP(path string) ([]byte, error) {
	conn, err := net.Dial("tcp4", "10.77.0.1:8080")
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	resp, err := (&http.Client{Transport: tr}).Get("http://10.77.0.1:8080" + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// advertised solicits as iPXE does and wants the answer that ends its wait.
func advertised(t *testing.T) {
	link, err := net.InterfaceByName("far0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		missing(t, "no IPv6 in the namespace: %v", err)
	}
	defer c.Close()
	p := c.IPv6PacketConn()
	if err := p.SetMulticastHopLimit(255); err != nil {
		t.Fatal(err)
	}
	ask, err := (&icmp.Message{Type: ipv6.ICMPTypeRouterSolicitation, Body: &icmp.RawBody{Data: make([]byte, 4)}}).Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	for range 20 { // link-local addresses take a second or two to be usable
		to := &net.IPAddr{IP: net.IPv6linklocalallrouters, Zone: link.Name}
		if _, err := p.WriteTo(ask, &ipv6.ControlMessage{IfIndex: link.Index}, to); err != nil {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
			if err := p.SetReadDeadline(end); err != nil {
				t.Fatal(err)
			}
			n, _, _, err := p.ReadFrom(buf)
			if err == nil && n == 16 && buf[0] == byte(ipv6.ICMPTypeRouterAdvertisement) {
				if !bytes.Equal(buf[4:16], advertisement[:]) {
					t.Errorf("advertisement = %x; want %x", buf[4:16], advertisement)
				}
				return
			}
		}
	}
	t.Error("no router advertisement")
}

func wireEvents(t *testing.T, events []Event) {
	has := func(what string, is func(Event) bool) {
		for _, e := range events {
			if is(e) {
				if e.MAC.String() != testMAC.String() || e.Time.IsZero() {
					t.Errorf("%s: MAC %v at %v; want %v", what, e.MAC, e.Time, testMAC)
				}
				return
			}
		}
		t.Errorf("no event: %s", what)
	}
	for _, s := range []Stage{StagePXE, StageHTTP, StageIPXE, StageOS} {
		for _, k := range []Kind{KindDiscover, KindOffer, KindRequest, KindACK} {
			has(string(k)+" in stage "+string(s), func(e Event) bool { return e.Kind == k && e.Stage == s })
		}
	}
	has("TFTP of undionly.kpxe", func(e Event) bool {
		return e.Kind == KindTFTPRead && e.File == "undionly.kpxe" && e.Bytes > 1<<16 && e.Detail == "" && e.Duration > 0
	})
	has("TFTP of what is not there", func(e Event) bool { return e.Kind == KindTFTPRead && e.Detail == "no such file" })
	for _, path := range []string{PathScript, PathKernel, PathInitramfs, PathTrust} {
		has("HTTP of "+path, func(e Event) bool { return e.Kind == KindHTTPGet && e.File == path && e.Status == 200 && e.Bytes > 0 })
	}
}

// start runs a server; stop ends it and checks that it ended well.
func start(t *testing.T, cfg Config) (*Server, func()) {
	t.Helper()
	srv, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	select {
	case <-srv.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	return srv, func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run = %v; want nil when its context ends", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run did not return")
		}
	}
}

var farNetwork netns.NsHandle = -1

// wire makes near0 (10.77.0.1/24) here and far0 in a second namespace.
func wire(t *testing.T) {
	t.Helper()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	must("find lo", err)
	must("set lo up", netlink.LinkSetUp(lo))
	must("make a veth pair", netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near0"}, PeerName: "far0"}))
	near, err := netlink.LinkByName("near0")
	must("find near0", err)
	addr, err := netlink.ParseAddr("10.77.0.1/24")
	must("parse", err)
	must("address near0", netlink.AddrAdd(near, addr))
	must("set near0 up", netlink.LinkSetUp(near))
	peer, err := netlink.LinkByName("far0")
	must("find far0", err)
	made := make(chan error)
	go func() { // this thread is never unlocked, and ends with the goroutine
		runtime.LockOSThread()
		var err error
		farNetwork, err = netns.New()
		made <- err
	}()
	must("make the far namespace", <-made)
	t.Cleanup(func() { farNetwork.Close() })
	must("move far0", netlink.LinkSetNsFd(peer, int(farNetwork)))
	far(t, func() {
		peer, err := netlink.LinkByName("far0")
		must("find far0", err)
		must("set far0 up", netlink.LinkSetUp(peer))
	})
}

// far runs f on a thread in the far namespace. Sockets that f opens itself,
// not in goroutines, are there.
func far(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := netns.Set(farNetwork); err != nil {
			t.Errorf("enter the far namespace: %v", err)
			return
		}
		f()
	}()
	<-done
}

// missing skips, and fails where CI=true says that nothing may be missing.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if ci, _ := strconv.ParseBool(os.Getenv("CI")); ci {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// inOwnNetwork runs the calling test again as a child in a network namespace of
// its own, and takes over its verdict; in that child it returns true.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	const mark = "INGOT_TEST_OWN_NETWORK"
	if os.Getenv(mark) == "1" {
		return true
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=1m")
	c.Env = append(os.Environ(), mark+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		missing(t, "no network namespace of our own: %v", err)
	}
	err := c.Wait()
	switch {
	case err != nil:
		t.Errorf("in the namespace: %v\n%s", err, out.Bytes())
	case !bytes.Contains(out.Bytes(), []byte("--- PASS: "+t.Name())):
		t.Errorf("the test in the namespace did not say that it passed\n%s", out.Bytes())
	default:
		t.Logf("%s", out.Bytes())
	}
	return false
}
