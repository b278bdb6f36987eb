package qemutests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/hardware"
)

// operator types commands at a lab.
type operator struct {
	t    *testing.T
	name string
}

const ingotBinary = "../build/ingot"

// rackOf is a lab with servers of these kinds, which ends with the test.
func rackOf(t *testing.T, kinds string) operator {
	t.Helper()
	if testing.Short() {
		t.Skip("boots servers: skipped with -short")
	}
	for _, path := range []string{ingotBinary, "../build/agent/initramfs.cpio.zst"} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("missing: %s; make build image makes it", path)
		}
	}
	o := operator{t, fmt.Sprintf("truth-%d", os.Getpid())}
	cmd := exec.Command(ingotBinary, "lab", "up", "--lab", o.name, "--build", "../build", "--servers", kinds, "--logs", t.TempDir(), "-o", "json")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the lab ends: %v\n%s", err, said.String())
		}
	})
	if err := json.NewDecoder(out).Decode(&struct{}{}); err != nil {
		t.Fatalf("the lab is not up: %v\n%s", err, said.String())
	}
	go io.Copy(io.Discard, out) //nolint:errcheck // it ends with the process
	return o
}

func (o operator) ingot(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(o.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, ingotBinary, append(args, "--lab", o.name)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	b, err := cmd.Output()
	if err != nil {
		return b, fmt.Errorf("ingot %s: %v: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return b, nil
}

func (o operator) must(args ...string) {
	o.t.Helper()
	if _, err := o.ingot(args...); err != nil {
		o.t.Fatal(err)
	}
}

// until asks for a server's inventory until it is as it should be: late facts
// come when they come.
func (o operator) until(server, what string, is func(hardware.Inventory) bool) hardware.Inventory {
	o.t.Helper()
	var inv hardware.Inventory
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		b, err := o.ingot("node", "show", server, "--inventory", "-o", "json")
		if err != nil {
			continue // it has not reported yet
		}
		inv = hardware.Inventory{}
		if err := json.Unmarshal(b, &inv); err != nil {
			o.t.Fatal(err)
		}
		if is(inv) {
			return inv
		}
	}
	o.t.Errorf("%s: no %s: %+v", server, what, inv)
	return inv
}

func hasCodes(inv hardware.Inventory, codes ...hardware.Code) bool {
	for _, c := range codes {
		if !slices.ContainsFunc(inv.Findings, func(f hardware.Finding) bool { return f.Code == c }) {
			return false
		}
	}
	return true
}

// TestHardwareTruth boots a server of many parts, and one whose BMC does not see
// what its kernel does: all of the first is in the record, with the switch's
// port at the other end of each cable, and what the second's sides do not agree
// on is found.
func TestHardwareTruth(t *testing.T) {
	o := rackOf(t, "rich,disagree")
	o.must("node", "power", "on", "r1u3")
	o.must("node", "power", "on", "r1u4")
	o.must("node", "wait", "r1u3", "--for", "waiting")
	o.must("node", "wait", "r1u4", "--for", "waiting")

	odd := o.until("r1u4", "disagreements", func(inv hardware.Inventory) bool {
		return hasCodes(inv, hardware.CodeDIMMsDisagree, hardware.CodeMemoryDisagrees, hardware.CodeUUIDByteOrder)
	})
	if len(odd.DIMMs) != 2 || odd.Memory.SizeBytes != 3<<30 {
		t.Errorf("%d DIMMs, %d bytes; want the kernel's word: 2, 3 GiB", len(odd.DIMMs), odd.Memory.SizeBytes)
	}
	rich := o.until("r1u3", "neighbor at both NICs", func(inv hardware.Inventory) bool {
		return len(inv.NICs) == 2 && inv.NICs[0].Neighbor.SystemName == "lab-switch" && inv.NICs[1].Neighbor.SystemName == "lab-switch"
	})
	checkRich(t, rich)
	if hasCodes(rich, hardware.CodeDIMMsDisagree) || hasCodes(rich, hardware.CodeUUIDByteOrder) {
		t.Errorf("findings of a server whose sides agree: %v", rich.Findings)
	}

	digest := rich.Digest()
	o.must("baseline", "accept", "r1u3", "--note", "as delivered")
	o.must("node", "power", "cycle", "r1u3")
	time.Sleep(5 * time.Second)
	o.must("node", "wait", "r1u3", "--for", "waiting")
	again := o.until("r1u3", "second boot like the first", func(inv hardware.Inventory) bool { return inv.Digest() == digest })
	if hasCodes(again, hardware.CodeBaselineDiffers) {
		t.Errorf("a boot without a change differs from what was accepted: %v", again.Findings)
	}
	o.readings("r1u3")
}

// readings waits until what moves is there: by the server's own readers, and
// by its BMC.
func (o operator) readings(server string) {
	o.t.Helper()
	said := ""
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		b, err := o.ingot("node", "show", server, "--readings", "-o", "json")
		if err != nil {
			o.t.Fatal(err)
		}
		var r hardware.Readings
		if err := json.Unmarshal(b, &r); err != nil {
			o.t.Fatal(err)
		}
		said = fmt.Sprintf("power %s, %d sensors, %d temperatures, %d links, %d logs", r.PowerState, len(r.Sensors), len(r.Temperatures), len(r.Links), len(r.Logs))
		if r.PowerState == hardware.PowerOn && len(r.Sensors) > 0 && len(r.Temperatures) > 0 && len(r.Links) == 2 && len(r.Logs) > 0 {
			return
		}
	}
	o.t.Errorf("%s reads %s", server, said)
}

func checkRich(t *testing.T, inv hardware.Inventory) {
	t.Helper()
	if len(inv.NUMANodes) != 2 || len(inv.CPUs) != 2 || len(inv.DIMMs) != 4 || inv.Memory.SizeBytes != 3<<30 {
		t.Errorf("%d NUMA nodes, %d CPUs, %d DIMMs, %d bytes; want 2, 2, 4, 3 GiB", len(inv.NUMANodes), len(inv.CPUs), len(inv.DIMMs), inv.Memory.SizeBytes)
	}
	var drives, drivers, ports []string
	for _, d := range inv.Drives {
		drives = append(drives, string(d.Transport)+" "+d.Serial)
	}
	for _, n := range inv.NICs {
		drivers, ports = append(drivers, n.Driver), append(ports, n.Neighbor.PortID)
	}
	slices.Sort(drives)
	slices.Sort(drivers)
	slices.Sort(ports)
	if want := []string{"nvme NVME-0103", "sata SATA-0103", "scsi SCSI-0103"}; !slices.Equal(drives, want) {
		t.Errorf("drives = %q; want %q", drives, want)
	}
	if !slices.Equal(drivers, []string{"e1000e", "virtio_net"}) || !slices.Equal(ports, []string{"r1u3", "r1u3.2"}) {
		t.Errorf("NICs are driven by %q and plugged into %q", drivers, ports)
	}
}
