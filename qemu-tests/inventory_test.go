package qemutests

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/hardware"
)

// lldpFrame is what the switch at the other end of the cable sends.
const lldpFrame = "\x01\x80\xc2\x00\x00\x0e\x44\x38\x39\x00\x00\x01\x88\xcc" +
	"\x02\x07\x04\x44\x38\x39\x00\x00\x01" + // chassis, a MAC
	"\x04\x05\x05swp7" + // port, an interface's name
	"\x06\x02\x00\x78" + // lives for 120 s
	"\x0a\x05leaf1" +
	"\xfe\x06\x00\x80\xc2\x01\x00\x64" + // port VLAN 100
	"\x00\x00"

// TestInventoryOfAGuest reads a machine of two NUMA nodes by all readers, first
// and late, and compares with what QEMU was told to make.
func TestInventoryOfAGuest(t *testing.T) {
	port := switchPort(t)
	args := []string{"-smp", "2,sockets=2,cores=1,threads=1",
		"-object", "memory-backend-ram,id=m0,size=512M", "-object", "memory-backend-ram,id=m1,size=512M",
		"-numa", "node,nodeid=0,cpus=0,memdev=m0", "-numa", "node,nodeid=1,cpus=1,memdev=m1", "-numa", "dist,src=0,dst=1,val=21",
		"-smbios", "type=1,manufacturer=ACME,product=Box,serial=BOX-7,uuid=00112233-4455-6677-8899-aabbccddeeff",
		"-netdev", port, "-device", "pcie-root-port,id=slot0,chassis=1,slot=1", "-device", "igb,netdev=n0,mac=52:54:00:00:00:01,bus=slot0",
		"-device", "VGA", "-device", "qemu-xhci", "-device", "usb-kbd"}
	tpm := softwareTPM(t)
	g := bootHost(t, "ingot.inventory=1 ingot.token=hidden", append(args, tpm...)...)
	g.qmpDo("cont", nil)
	g.until("AUTOLOAD-ENDED")
	text := g.finish()
	if !regexp.MustCompile(`TOLD after \d+ ms, pending \[[^]]*lldp[^]]*\]: ACME Box serial BOX-7, 2 CPUs, 1.0 GiB, 1 drive, 1 NIC`).MatchString(text) {
		t.Error("the first facts are not told before the late ones")
	}
	m := regexp.MustCompile(`(?m)^INVENTORY (.*?)\r?$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("the guest has printed no inventory; its console:\n%s", text)
	}
	inv, err := hardware.Decode([]byte(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	checkGuestPlatform(t, inv)
	checkGuestPort(t, inv)
	if len(tpm) > 0 && (inv.TPM.Version != "2.0" || inv.TPM.Manufacturer != "IBM" || inv.TPM.EKPublic == "" || !slices.Contains(inv.TPM.PCRBanks, "sha256")) {
		t.Errorf("TPM = %+v", inv.TPM)
	}
	for _, f := range inv.Findings {
		if f.Source != "ipmi" { // QEMU's own BMC has no FRU
			t.Errorf("finding: %v", f)
		}
	}
}

func checkGuestPlatform(t *testing.T, inv hardware.Inventory) {
	t.Helper()
	if len(inv.NUMANodes) != 2 || inv.NUMANodes[1].CPUs != "1" || inv.NUMANodes[1].SizeBytes < 400<<20 || !slices.Equal(inv.NUMANodes[1].Distances, []int{21, 10}) {
		t.Errorf("NUMA nodes = %+v", inv.NUMANodes)
	}
	for i, c := range inv.CPUs {
		if c.Cores != 1 || c.Threads != 1 || len(c.Caches) == 0 || len(c.Flags) == 0 || c.Microcode == "" || !slices.Equal(c.NUMANodes, []int{i}) {
			t.Errorf("CPU %d = %+v", i, c)
		}
	}
	if inv.System.UUID != "00112233-4455-6677-8899-aabbccddeeff" || inv.BIOS.Mode != hardware.ModeBIOS || inv.Memory.ECC != "multi-bit" {
		t.Errorf("system %+v, BIOS %+v, memory %+v", inv.System, inv.BIOS, inv.Memory)
	}
	if len(inv.GPUs) != 0 {
		t.Errorf("GPUs = %+v; the console is none", inv.GPUs)
	}
	if len(inv.USB) != 1 || inv.USB[0].Class != "03" || !strings.Contains(inv.USB[0].Product, "Keyboard") {
		t.Errorf("USB = %+v", inv.USB)
	}
	if c := inv.Kernel.Cmdline; !strings.Contains(c, "ingot.token=[redacted]") || strings.Contains(c, "hidden") {
		t.Errorf("cmdline = %q", c)
	}
}

func checkGuestPort(t *testing.T, inv hardware.Inventory) {
	t.Helper()
	if len(inv.NICs) != 1 || len(inv.Adapters) != 1 {
		t.Fatalf("NICs = %+v, adapters = %+v", inv.NICs, inv.Adapters)
	}
	n := inv.NICs[0]
	if n.MAC != "52:54:00:00:00:01" || n.Driver != "igb" || n.Firmware == "" || n.MaxMbps != 1000 || n.LinkMbps != 1000 || n.Duplex != "full" ||
		!slices.Contains(n.Modes, "1000baseT/Full") || n.Port != 1 || !strings.Contains(n.Adapter, "82576") {
		t.Errorf("NIC = %+v", n)
	}
	if b := n.Neighbor; b.ChassisID != "44:38:39:00:00:01" || b.PortID != "swp7" || b.SystemName != "leaf1" || b.VLAN != 100 {
		t.Errorf("neighbor = %+v", b)
	}
	for _, p := range inv.PCI {
		if p.BDF == n.BDF && (p.MaxVFs != 7 || p.Link.SpeedGTs != 2.5 || p.Link.Width != 1) {
			t.Errorf("PCI function of the NIC = %+v", p)
		}
	}
}

// switchPort is a cable for QEMU whose other end sends LLDP until the test ends.
func switchPort(t *testing.T) string {
	t.Helper()
	ours, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	to := theirs.LocalAddr().(*net.UDPAddr)
	if err := theirs.Close(); err != nil { // QEMU takes the number
		t.Fatal(err)
	}
	done, gone := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(done); <-gone; ours.Close() })
	go func() {
		defer close(gone)
		for {
			// Refused while QEMU is not there yet, or no more.
			_, _ = ours.WriteToUDP([]byte(lldpFrame+strings.Repeat("\x00", 20)), to)
			select {
			case <-done:
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
	return fmt.Sprintf("dgram,id=n0,local.type=inet,local.host=127.0.0.1,local.port=%d,remote.type=inet,remote.host=127.0.0.1,remote.port=%d",
		to.Port, ours.LocalAddr().(*net.UDPAddr).Port)
}

// softwareTPM starts a TPM for QEMU, where swtpm is installed.
func softwareTPM(t *testing.T) []string {
	t.Helper()
	bin, err := exec.LookPath("swtpm")
	if err != nil || testing.Short() {
		t.Log("no TPM in the guest: package swtpm is not installed")
		return nil
	}
	dir, err := os.MkdirTemp("", "ingot-tpm") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(bin, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for range 500 {
		if _, err := os.Stat(socket); err == nil {
			return []string{"-chardev", "socket,id=tpmc,path=" + socket, "-tpmdev", "emulator,id=tpm0,chardev=tpmc", "-device", "tpm-tis,tpmdev=tpm0"}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("swtpm makes no socket")
	return nil
}
