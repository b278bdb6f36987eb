package qemutests

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	ingotcpio "github.com/ingot-metal/ingot/images/cpio"
	"github.com/ingot-metal/ingot/images/initramfs"
)

// The agent's initramfs under the kernel that it ships with, started with
// -kernel: what the first process does before there is a bus.

// guest is a virtual machine that a test talks with.
type guest struct {
	t     *testing.T
	lines chan string
	all   strings.Builder
	qmp   *json.Encoder
	ack   *json.Decoder
	wait  func() error
}

// TestAgentInit boots with everything in place and looks at what came up, and how fast.
func TestAgentInit(t *testing.T) {
	g := bootHost(t, "ingot.bootif=52:54:00:00:00:01",
		"-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01",
		"-netdev", "user,id=n1,net=10.99.0.0/24", "-device", "e1000e,netdev=n1,mac=52:54:00:00:00:02")
	g.qmpDo("cont", nil)
	g.until("AUTOLOAD-ENDED")
	text := g.finish()
	for _, want := range []string{
		`CLOCK rtc 20\d\d-`,
		`NETWORK eth\d 52:54:00:00:00:01 10\.0\.2\.15/24 gateway=10\.0\.2\.2 server=10\.0\.2\.2 dns=\[10\.0\.2\.3\]`,
		`MODULE nvme at .*: <nil> pci:`, `MODULE ahci at .*: <nil> pci:`, `MODULE ipmi_si at .*: <nil> `,
		`MODULE virtio_net at .*: <nil> virtio:`, `MODULE e1000e at .*: <nil> pci:`, `MODULE overlay at .*: <nil>`,
		`DEVICE /dev/nvme0n1: <nil>`, `DEVICE /dev/ipmi0: <nil>`, `DEVICE /dev/loop0: <nil>`,
		`END: <nil>`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the guest does not say %q", want)
		}
	}
	if strings.Contains(text, "MODULE ipmi_watchdog") {
		t.Error("ipmi_watchdog was loaded")
	}
	start, lease, settled := at(t, text, "STARTED"), at(t, text, "NETWORK"), at(t, text, "SETTLED")
	t.Logf("kernel start to /init %v, to the lease %v more, to all drivers %v", start, lease-start, settled-start)
	if limit := 15 * time.Second; settled-start > limit { // 1.2 s alone on two cores; the limit is for a busy machine
		t.Errorf("/init to all drivers = %v; want at most %v", settled-start, limit)
	}
}

// TestAgentInitWaits boots without a carrier, plugs the cable in, then a card.
func TestAgentInitWaits(t *testing.T) {
	g := bootHost(t, "ingot.hotplug=igb ingot.bootif=52:54:00:00:00:09", // a NIC that is not there
		"-netdev", "user,id=n0", "-device", "e1000e,id=nic0,netdev=n0,mac=52:54:00:00:00:01",
		"-device", "pcie-root-port,id=slot0,chassis=1,slot=1")
	g.qmpDo("set_link", map[string]any{"name": "nic0", "up": false})
	g.qmpDo("cont", nil)
	g.until("WAITING for a carrier on eth0 52:54:00:00:00:01")
	time.Sleep(4 * time.Second) // the boot NIC's head start is over
	plugged := time.Now()
	g.qmpDo("set_link", map[string]any{"name": "nic0", "up": true})
	g.until("NETWORK eth0")
	t.Logf("cable to lease %v", time.Since(plugged))
	if got := time.Since(plugged); got > 5*time.Second {
		t.Errorf("cable to lease = %v; want at most 5 s", got)
	}
	g.until("PLUG")
	g.qmpDo("device_add", map[string]any{"driver": "igb", "bus": "slot0", "id": "card0"})
	g.until("PLUGGED igb")
	g.until("END: <nil>")
	g.finish()
}

// TestAgentInitNoLease boots on a network where the link is up and nobody
// answers, until somebody does.
func TestAgentInitNoLease(t *testing.T) {
	g := bootHost(t, "", "-netdev", "hubport,id=n0,hubid=0", "-device", "e1000e,netdev=n0,mac=52:54:00:00:00:01")
	g.qmpDo("cont", nil)
	g.until("WAITING for a DHCP answer on eth0 52:54:00:00:00:01")
	g.qmpDo("netdev_add", map[string]any{"type": "user", "id": "u0"})
	g.qmpDo("netdev_add", map[string]any{"type": "hubport", "id": "h0", "hubid": 0, "netdev": "u0"})
	answered := time.Now()
	g.until("NETWORK eth0")
	t.Logf("a server that answers to lease %v", time.Since(answered))
	g.until("END: <nil>")
	g.finish()
}

// TestAgentInitDamaged boots with one file cut short, as a kernel leaves it that
// runs out of memory: the first process must say so, and not go on with what it has.
func TestAgentInitDamaged(t *testing.T) {
	g := bootHost(t, "", "-netdev", "user,id=n0")
	g.qmpDo("cont", nil)
	g.until("END: check initramfs: 1 of ")
	if text := g.finish(); !strings.Contains(text, "files are not whole (too little memory?): /usr/share/misc/pci.ids.gz has 3 of ") {
		t.Error("the guest does not say which file is lost")
	}
}

// at is when the guest said something first, since its kernel's start.
func at(t *testing.T, text, what string) time.Duration {
	t.Helper()
	m := regexp.MustCompile(`\[ *([0-9.]+)\] ingot: ` + what).FindStringSubmatch(text)
	if m == nil {
		t.Errorf("the guest does not say %q", what)
		return 0
	}
	s, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(s * float64(time.Second))
}

// bootHost builds the initramfs with the test's own init and starts a stopped
// machine: NVMe, AHCI, BMC over KCS, and what more says.
func bootHost(t *testing.T, cmdline string, more ...string) *guest {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a virtual machine: skipped with -short")
	}
	tools, dir := toolsRoot(t), t.TempDir()
	kernel, err := initramfs.FindKernel(tools)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./testdata/hostinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest's init: %v\n%s", err, out)
	}
	initrd := filepath.Join(dir, "initramfs.cpio.zst")
	res, err := initramfs.Build(t.Context(), initramfs.Options{
		Agent: bin, ModulesDir: kernel.ModulesDir, PCIIDs: filepath.Join(tools, "usr/share/misc/pci.ids"), Output: initrd,
		Built: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	if err != nil {
		t.Fatal(err)
	}
	switch t.Name() {
	case "TestAgentInitDamaged": // one file cut short
		appendFile(t, initrd, ingotcpio.File{Name: "usr/share/misc/pci.ids.gz", Data: []byte("cut")})
	case "TestDriveThatHangs":
		appendFile(t, initrd, ingotcpio.File{Name: "scsi_debug.ko", Data: moduleFile(t, kernel.ModulesDir, "drivers/scsi/scsi_debug.ko.xz")})
	}
	t.Logf("initramfs: %d modules, %.1f MiB", len(res.Modules), float64(res.SizeBytes)/(1<<20))
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	return startGuest(t, tools, append([]string{
		"-m", "1024", "-kernel", kernel.Image, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 no_timer_check " + cmdline,
		"-drive", "if=none,id=d0,format=raw,file=" + disk, "-device", "nvme,drive=d0,serial=S1",
		"-device", "ipmi-bmc-sim,id=bmc0", "-device", "isa-ipmi-kcs,bmc=bmc0"}, more...))
}

// appendFile appends an archive whose file replaces what is there, as the kernel
// unpacks them in turn.
func appendFile(t *testing.T, initrd string, file ingotcpio.File) {
	t.Helper()
	more, err := ingotcpio.Archive(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(initrd, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Write(append(make([]byte, (4-size%4)%4), more...)) // archives start at multiples of four
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func startGuest(t *testing.T, tools string, more []string) *guest {
	t.Helper()
	dir, err := os.MkdirTemp("", "ingot-qmp") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket := filepath.Join(dir, "qmp")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	lib := filepath.Join(tools, "usr/lib/x86_64-linux-gnu")
	args := append([]string{"--library-path", lib + ":" + lib + "/pulseaudio", filepath.Join(tools, "usr/bin/qemu-system-x86_64"),
		"-L", filepath.Join(tools, "usr/share/qemu"), "-L", filepath.Join(tools, "usr/share/seabios"), "-L", filepath.Join(tools, "usr/lib/ipxe/qemu"),
		"-nodefaults", "-display", "none", "-no-reboot", "-S", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
		"-serial", "stdio", "-qmp", "unix:" + socket}, more...)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	q := exec.CommandContext(ctx, filepath.Join(lib, "ld-linux-x86-64.so.2"), args...)
	q.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	q.WaitDelay = time.Second
	out, err := q.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	q.Stderr = q.Stdout
	if err := q.Start(); err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, lines: make(chan string, 10000)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(g.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			g.lines <- sc.Text()
		}
	}()
	ended := false
	g.wait = func() error { ended = true; <-read; defer cancel(); return q.Wait() }
	t.Cleanup(func() {
		cancel()
		if !ended {
			<-read
			if err := q.Wait(); err == nil {
				t.Error("the machine ended by itself before the test was done with it")
			}
		}
	})
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	g.qmp, g.ack = json.NewEncoder(conn), json.NewDecoder(conn)
	g.qmpDo("qmp_capabilities", nil)
	return g
}

// qmpDo gives QEMU an order and waits for its answer.
func (g *guest) qmpDo(execute string, arguments map[string]any) {
	g.t.Helper()
	if arguments == nil {
		arguments = map[string]any{}
	}
	if err := g.qmp.Encode(map[string]any{"execute": execute, "arguments": arguments}); err != nil {
		g.t.Fatalf("QMP %s: %v", execute, err)
	}
	for {
		var reply struct {
			Return json.RawMessage
			Error  json.RawMessage
		}
		if err := g.ack.Decode(&reply); err != nil {
			g.t.Fatalf("QMP %s: %v", execute, err)
		}
		if reply.Error != nil {
			g.t.Fatalf("QMP %s: %s", execute, reply.Error)
		}
		if reply.Return != nil {
			return
		}
	}
}

// until reads the guest's console up to a line that holds what.
func (g *guest) until(what string) {
	g.t.Helper()
	for line := range g.lines {
		fmt.Fprintln(&g.all, line)
		if strings.Contains(line, "ingot: ") {
			g.t.Log(line)
		}
		if strings.Contains(line, what) {
			return
		}
	}
	g.t.Fatalf("the guest has not said %q; its console:\n%s", what, g.all.String())
}

// finish waits for the guest to power off and gives all that it said.
func (g *guest) finish() string {
	g.t.Helper()
	for line := range g.lines {
		fmt.Fprintln(&g.all, line)
	}
	if err := g.wait(); err != nil {
		g.t.Errorf("QEMU: %v", err)
	}
	return g.all.String()
}
