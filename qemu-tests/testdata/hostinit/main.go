// Command hostinit is the first process of a test's virtual machine: it brings
// the machine up by agent/host alone, says what came of it, and powers off.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/hardware/inventory"
	"github.com/ingot-metal/ingot/hardware/nic"
	"github.com/ingot-metal/ingot/hardware/snapshot"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

func main() {
	var h *host.Host
	host.Init(func(ctx context.Context) (err error) {
		h, err = host.Setup()
		if err != nil {
			return err
		}
		return run(ctx, h)
	}, func(err error) {
		h.Console.Say("END: %v", err)
		h.Console.Flush(time.Second)
		h.Console.Say("power off: %v", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
	})
}

func run(ctx context.Context, h *host.Host) error {
	say := h.Console.Say
	say("STARTED %d ms kernel=%s boot_id=%s", h.Started.Milliseconds(), h.Kernel, h.BootID)
	if err := host.CheckInitramfs(); err != nil {
		return err
	}
	m, err := host.OpenModules(h.Kernel)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait(); say("AUTOLOAD-ENDED") }()
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	settled := make(chan struct{})
	wg.Go(func() {
		if err := m.Autoload(ctx, log, func() { close(settled) }); err != nil {
			say("autoload: %v", err)
		}
	})
	clock, err := host.OpenClock()
	if err != nil {
		return err
	}
	say("CLOCK %s %s", clock.State(), time.Now().UTC().Format(time.RFC3339))
	if _, ok := h.Cmdline.Lookup("ingot.inventory"); ok {
		<-settled
		return tellInventory(ctx, m, say)
	}
	n, err := host.NetworkUp(ctx, host.NetworkOptions{Log: log, BootMAC: h.Cmdline.BootMAC(), Waiting: func(s string) { say("WAITING for %s", s) }})
	if err != nil {
		return err
	}
	say("NETWORK %s %s %s gateway=%s server=%s dns=%v", n.Interface, n.MAC, n.Addr, n.Gateway, n.ServerID, n.DNS)
	<-settled
	say("SETTLED")
	if err := m.Load(ctx, "ipmi_devintf", "loop", "squashfs", "overlay", "efivarfs"); err != nil {
		return err
	}
	if err := host.MountEFIVars(); err != nil {
		return err
	}
	if name, ok := h.Cmdline.Lookup("ingot.hotplug"); ok {
		say("PLUG")
		if err := await(m, name); err != nil {
			return err
		}
		say("PLUGGED %s", name)
	}
	return report(m, say)
}

// tellInventory reads the machine as the agent does, ports up and without a
// lease, and prints what it is.
func tellInventory(ctx context.Context, m *host.Modules, say func(string, ...any)) error {
	if err := m.Load(ctx, "ipmi_devintf"); err != nil {
		return err
	}
	for _, name := range nic.Ports("/") {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		for end := time.Now().Add(15 * time.Second); sysfs.Root("/").Text("sys/class/net", name, "carrier") != "1"; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				return fmt.Errorf("%s has no carrier after 15 s", name)
			}
		}
	}
	if _, ok := host.ParseCmdline(sysfs.Root("/").Text("proc/cmdline")).Lookup("ingot.slow"); ok {
		if err := slowDrive(); err != nil {
			return err
		}
	}
	begin := time.Now()
	res := inventory.Stream(ctx, "/", func(r inventory.Result) {
		say("TOLD after %d ms, pending %v: %s", time.Since(begin).Milliseconds(), r.Pending, r.Inventory.Summary())
	})
	for _, r := range res.Readers {
		say("READER %s %d ms %s", r.Reader, r.Took.Milliseconds(), r.Err)
	}
	b, err := res.Inventory.Encode()
	if err != nil {
		return err
	}
	readings, err := json.Marshal(res.Readings)
	if err != nil {
		return err
	}
	var recorded bytes.Buffer
	if _, err := snapshot.Take(ctx, "/", &recorded, snapshot.Options{Keep: true}); err != nil {
		return err
	}
	fmt.Printf("\nINVENTORY %s\nREADINGS %s\n", b, readings)
	for part := range slices.Chunk(recorded.Bytes(), 6000) {
		fmt.Printf("SNAPSHOT %s\n", base64.StdEncoding.EncodeToString(part))
	}
	return nil
}

// slowDrive makes a drive of the kernel's own that takes 20 s for a command,
// from when it stands there.
func slowDrive() error {
	module, err := os.ReadFile("/scsi_debug.ko")
	if err != nil {
		return err
	}
	if err := unix.InitModule(module, "dev_size_mb=16 inq_vendor=ACME"); err != nil {
		return err
	}
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if disks, err := filepath.Glob("/sys/bus/pseudo/devices/adapter0/host*/target*/*/block/sd*"); err != nil || len(disks) > 0 && sysfs.Root("/").Text(disks[0], "size") == "32768" {
			break
		}
		if time.Now().After(end) {
			return errors.New("scsi_debug makes no drive in 15 s")
		}
	}
	time.Sleep(time.Second)                                                            // the kernel looks for partitions
	return os.WriteFile("/sys/bus/pseudo/drivers/scsi_debug/delay", []byte("5000"), 0) // of 4 ms each
}

// await waits until a module has been loaded for a device.
func await(m *host.Modules, name string) error {
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if slices.ContainsFunc(m.Loads(), func(l host.ModuleLoad) bool { return l.Name == name && l.Err == nil && l.For != "" }) {
			return nil
		}
	}
	return fmt.Errorf("no device asked for %s in 15 s", name)
}

func report(m *host.Modules, say func(string, ...any)) error {
	for _, l := range m.Loads() {
		say("MODULE %s at %d ms took %d ms: %v %s", l.Name, l.Start.Milliseconds(), l.Took.Milliseconds(), l.Err, l.For)
	}
	for _, dev := range []string{"/dev/nvme0n1", "/dev/ipmi0", "/dev/sr0", "/dev/loop0"} {
		_, err := os.Stat(dev)
		say("DEVICE %s: %v", dev, err)
	}
	mem, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mem)) {
		if strings.HasPrefix(line, "MemAvailable") {
			say("MEMORY %s", strings.Join(strings.Fields(line)[1:], " "))
		}
	}
	return host.Quiesce()
}
