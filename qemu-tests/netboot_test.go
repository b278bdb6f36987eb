package qemutests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"
	"github.com/vishvananda/netlink"

	"github.com/ingot-metal/ingot/boot/netboot"
)

// The boot server against real firmware: power-on to the first line of an init
// that came over the wire, in a network namespace of the test's own.

func TestNetbootBIOS(t *testing.T)     { testNetboot(t, biosMachine) }
func TestNetbootUEFI(t *testing.T)     { testNetboot(t, uefiMachine) }
func TestNetbootUEFIHTTP(t *testing.T) { testNetboot(t, uefiHTTPMachine) }

const (
	netbootMAC  = "52:54:00:ab:12:cd"
	netbootUUID = "6f1c0a52-7a0e-4b7c-9d7e-0123456789ab"
)

// machine is one kind of firmware, as QEMU arguments.
type machine struct {
	name   string
	args   func(tools, scratch string) ([]string, error)
	stages []netboot.Stage
	files  []string // must be read to the end, in this order
}

var biosMachine = machine{
	name: "SeaBIOS",
	args: func(_, scratch string) ([]string, error) {
		port := filepath.Join(scratch, "sercon") // SeaBIOS and its ROMs speak on COM1
		if err := os.WriteFile(port, []byte{0xf8, 0x03}, 0o600); err != nil {
			return nil, err
		}
		return []string{"-fw_cfg", "name=etc/sercon-port,file=" + port,
			"-device", "virtio-net-pci,disable-legacy=on,netdev=n0,mac=" + netbootMAC + ",romfile=pxe-virtio.rom,bootindex=0"}, nil
	},
	stages: []netboot.Stage{netboot.StageIPXE},
	files:  []string{netboot.PathScript, netboot.PathKernel, netboot.PathInitramfs, netboot.PathTrust},
}

var uefiMachine = machine{
	name:   "OVMF PXE",
	args:   ovmf(nil),
	stages: []netboot.Stage{netboot.StagePXE, netboot.StageIPXE},
	files:  []string{netboot.PathSNPOnly[1:], netboot.PathScript, netboot.PathKernel, netboot.PathInitramfs, netboot.PathTrust},
}

var uefiHTTPMachine = machine{
	name: "OVMF HTTP boot",
	args: ovmf([]string{"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n",
		"-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"}),
	stages: []netboot.Stage{netboot.StageHTTP, netboot.StageIPXE},
	files:  []string{netboot.PathSNPOnly, netboot.PathScript, netboot.PathKernel, netboot.PathInitramfs, netboot.PathTrust},
}

func ovmf(more []string) func(tools, scratch string) ([]string, error) {
	return func(tools, scratch string) ([]string, error) {
		vars, err := os.ReadFile(filepath.Join(tools, "usr/share/OVMF/OVMF_VARS_4M.fd"))
		if err != nil {
			return nil, err
		}
		nv := filepath.Join(scratch, "vars.fd")
		if err := os.WriteFile(nv, vars, 0o600); err != nil {
			return nil, err
		}
		return append([]string{
			"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + filepath.Join(tools, "usr/share/OVMF/OVMF_CODE_4M.fd"),
			"-drive", "if=pflash,format=raw,unit=1,file=" + nv,
			"-device", "virtio-net-pci,netdev=n0,mac=" + netbootMAC + ",romfile=,bootindex=0",
		}, more...), nil
	}
}

var netbootTrust = []byte(`{"schema":"probe"}`)

func testNetboot(t *testing.T, m machine) {
	if testing.Short() {
		t.Skip("boots a virtual machine: skipped with -short")
	}
	tools := toolsRoot(t)
	if !inOwnNetwork(t) {
		return
	}
	scratch := t.TempDir()
	var seen eventLog
	stop := startNetboot(t, netbootConfig(t, tools, scratch, &seen))
	console, took := bootMachine(t, tools, scratch, m)
	stop()
	seen.print(t)
	checkBoot(t, m, console, seen.all())
	t.Logf("%s: power-on to power-off by init %v", m.name, took.Round(100*time.Millisecond))
}

// The boot server goes away in the middle of a boot and comes back: the machine
// says what is wrong, keeps trying, and boots.
func TestNetbootTriesAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a virtual machine: skipped with -short")
	}
	tools := toolsRoot(t)
	if !inOwnNetwork(t) {
		return
	}
	scratch := t.TempDir()
	var seen eventLog
	cfg := netbootConfig(t, tools, scratch, &seen)
	scripted := make(chan struct{}, 100)
	cfg.Observe = func(e netboot.Event) {
		if seen.add(e); e.File == netboot.PathScript {
			scripted <- struct{}{}
		}
	}
	stop := startNetboot(t, cfg)
	booted := make(chan struct{})
	var console string
	var took time.Duration
	go func() {
		defer close(booted)
		console, took = bootMachine(t, tools, scratch, biosMachine)
	}()
	again := make(chan func())
	go func() {
		defer close(again)
		select {
		case <-scripted:
		case <-booted: // without a script: checkBoot will say so
			return
		}
		stop()
		time.Sleep(6 * time.Second) // long enough for two tries
		again <- startNetboot(t, cfg)
	}()
	if stopAgain := <-again; stopAgain != nil {
		defer stopAgain()
	}
	<-booted
	seen.print(t)
	checkBoot(t, biosMachine, console, seen.all())
	for _, want := range []string{"trying again in 2 s", "trying again in 5 s"} {
		if !strings.Contains(console, want) {
			t.Errorf("console lacks %q", want)
		}
	}
	t.Logf("power-on to power-off by init, past 6 s without a server: %v", took.Round(100*time.Millisecond))
}

func netbootConfig(t *testing.T, tools, scratch string, seen *eventLog) netboot.Config {
	t.Helper()
	makeTAP(t, "nb0", "10.77.9.1/24")
	initramfs, trustCPIO := probeArchives(t, scratch, netbootTrust)
	kernels, err := filepath.Glob(filepath.Join(tools, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("kernels in %s/boot: %v, %v; want one", tools, kernels, err)
	}
	return netboot.Config{
		Interface:    "nb0",
		Pool:         netboot.Range{First: netip.MustParseAddr("10.77.9.100"), Last: netip.MustParseAddr("10.77.9.120")},
		UndionlyKPXE: netboot.File{Path: filepath.Join(tools, "usr/lib/ipxe/undionly.kpxe")},
		SNPOnlyEFI:   netboot.File{Path: filepath.Join(tools, "usr/lib/ipxe/snponly.efi")},
		Kernel:       netboot.File{Path: kernels[0]},
		Initramfs:    netboot.File{Bytes: initramfs},
		Trust:        netboot.File{Bytes: trustCPIO},
		Known:        netboot.AnyMachine,
		Observe:      seen.add,
		RivalWait:    200 * time.Millisecond,
	}
}

// startNetboot runs a boot server until stop, which checks that it ended well.
func startNetboot(t *testing.T, cfg netboot.Config) (stop func()) {
	t.Helper()
	srv, err := netboot.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.Run(ctx) }()
	select {
	case <-srv.Ready():
	case err := <-served:
		t.Fatal(err)
	}
	return func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

func checkBoot(t *testing.T, m machine, console string, events []netboot.Event) {
	for _, want := range []string{
		fmt.Sprintf("PROBE trust %x err=<nil>", sha256.Sum256(netbootTrust)),
		"ingot.bootif=" + netbootMAC,
		"PROBE done",
	} {
		if !strings.Contains(console, want) {
			t.Errorf("console lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("console:\n%s", console)
	}
	stages, addresses, files := map[netboot.Stage]bool{}, map[netip.Addr]bool{}, m.files
	for _, e := range events {
		switch e.Kind {
		case netboot.KindACK:
			stages[e.Stage], addresses[e.Address] = true, true
			if e.MAC.String() != netbootMAC || (e.UUID != netbootUUID && e.UUIDSwapped != netbootUUID) {
				t.Errorf("ACK to %v, UUID %s or %s; want %s, %s", e.MAC, e.UUID, e.UUIDSwapped, netbootMAC, netbootUUID)
			}
		case netboot.KindHTTPGet, netboot.KindTFTPRead:
			if len(files) > 0 && e.File == files[0] && e.Method != "HEAD" && e.Detail == "" && e.Bytes > 0 {
				files = files[1:]
			}
		}
	}
	for _, s := range m.stages {
		if !stages[s] {
			t.Errorf("no ACK in stage %q", s)
		}
	}
	if len(addresses) != 1 {
		t.Errorf("addresses given = %v; want the same one each time", addresses)
	}
	if len(files) > 0 {
		t.Errorf("not read to the end, in order: %v", files)
	}
}

// bootMachine runs QEMU until it powers off and returns its serial console.
func bootMachine(t *testing.T, tools, scratch string, m machine) (string, time.Duration) {
	t.Helper()
	more, err := m.args(tools, scratch)
	if err != nil {
		t.Fatal(err)
	}
	lib := filepath.Join(tools, "usr/lib/x86_64-linux-gnu")
	args := append([]string{"--library-path", lib + ":" + lib + "/pulseaudio", filepath.Join(tools, "usr/bin/qemu-system-x86_64"),
		"-L", filepath.Join(tools, "usr/share/qemu"), "-L", filepath.Join(tools, "usr/share/seabios"),
		"-L", filepath.Join(tools, "usr/lib/ipxe/qemu"),
		"-nodefaults", "-display", "none", "-no-reboot", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
		"-smp", "2", "-m", "1024", "-uuid", netbootUUID, "-serial", "stdio",
		"-netdev", "tap,id=n0,ifname=nb0,script=no,downscript=no"}, more...)
	ctx, cancel := context.WithTimeout(t.Context(), 85*time.Second)
	defer cancel()
	q := exec.CommandContext(ctx, filepath.Join(lib, "ld-linux-x86-64.so.2"), args...)
	q.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	console := &timedConsole{start: time.Now(), t: t}
	q.Stdout, q.Stderr = console, console
	q.WaitDelay = time.Second
	err = q.Run()
	if err != nil {
		t.Errorf("QEMU: %v (%v)", err, ctx.Err())
	}
	return console.text.String(), time.Since(console.start)
}

// timedConsole keeps the guest's output and logs each line of ours, or of the
// firmware's progress, with the time since power-on.
type timedConsole struct {
	start time.Time
	t     *testing.T
	text  bytes.Buffer
	line  []byte
}

func (c *timedConsole) Write(b []byte) (int, error) {
	c.text.Write(b)
	for _, ch := range b {
		if ch != '\n' && ch != '\r' {
			c.line = append(c.line, ch)
			continue
		}
		l := string(c.line)
		c.line = c.line[:0]
		for _, mark := range []string{"PROBE", "ingot:", "BdsDxe", "iPXE", "PXE", "Linux version", "Configuring", "http"} {
			if strings.Contains(l, mark) {
				c.t.Logf("%5.1f s  %s", time.Since(c.start).Seconds(), l)
				break
			}
		}
	}
	return len(b), nil
}

// eventLog collects what the boot server saw.
type eventLog struct {
	mu     sync.Mutex
	events []netboot.Event
}

func (l *eventLog) add(e netboot.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *eventLog) all() []netboot.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]netboot.Event(nil), l.events...)
}

func (l *eventLog) print(t *testing.T) {
	t.Helper()
	for _, e := range l.all() {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("event %s", b)
	}
}

// probeArchives builds an initramfs whose init prints what it was booted with,
// and a second archive that the kernel unpacks over it.
func probeArchives(t *testing.T, scratch string, trust []byte) (initramfs, second []byte) {
	t.Helper()
	bin := filepath.Join(scratch, "init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the probe: %v\n%s", err, out)
	}
	init, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	first := archive(t, cpio.Directory("dev", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1), cpio.StaticFile("init", string(init), 0o755))
	return first, archive(t, cpio.Directory("etc", 0o755), cpio.Directory("etc/ingot", 0o755), cpio.StaticFile("etc/ingot/trust.json", string(trust), 0o644))
}

func archive(t *testing.T, records ...cpio.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	if err := cpio.WriteRecords(w, records); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// toolsRoot is where QEMU, the firmware and the kernel are.
func toolsRoot(t *testing.T) string {
	t.Helper()
	root := os.Getenv("INGOT_TOOLS")
	if root == "" {
		root = "../build/tools"
	}
	root, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "usr/bin/qemu-system-x86_64")); err != nil {
		missing(t, "no QEMU in the tools root (INGOT_TOOLS, or build/tools): %v", err)
	}
	return root
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
// its own, and takes over its verdict; in that child it returns true. The
// namespace ends with the child.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	const mark = "INGOT_TEST_OWN_NETWORK"
	if os.Getenv(mark) == "1" {
		return true
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		missing(t, "no TAP devices: %v", err)
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=3m")
	c.Env = append(os.Environ(), mark+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = c.Stdout
	if err := c.Start(); err != nil {
		missing(t, "no network namespace of our own: %v", err)
		return false
	}
	text, readErr := io.ReadAll(out)
	err = c.Wait()
	t.Logf("%s", text)
	switch {
	case err != nil || readErr != nil:
		t.Errorf("in the namespace: %v", err)
	case bytes.Contains(text, []byte("--- SKIP: "+t.Name())):
		t.Skip("skipped in the namespace")
	case !bytes.Contains(text, []byte("--- PASS: "+t.Name())):
		t.Error("the test in the namespace did not say that it passed")
	}
	return false
}

func makeTAP(t *testing.T, name, cidr string) {
	t.Helper()
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP}
	if err := netlink.LinkAdd(tap); err != nil {
		missing(t, "make TAP %s: %v", name, err)
	}
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(tap, a); err != nil {
		t.Fatalf("address of %s: %v", name, err)
	}
	if err := netlink.LinkSetUp(tap); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
}
