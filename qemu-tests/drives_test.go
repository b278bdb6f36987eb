package qemutests

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/ulikunitz/xz"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/inventory"
	"github.com/ingot-metal/ingot/hardware/snapshot"
)

// image makes an empty drive of so many MiB for QEMU.
func image(t *testing.T, id string, mib int64, more string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), id)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, mib<<20); err != nil {
		t.Fatal(err)
	}
	return []string{"-drive", fmt.Sprintf("if=none,id=%s,format=raw,file=%s", id, file), "-device", more + ",drive=" + id}
}

// driveArgs are one drive of each kind that QEMU has, beside the NVMe drive of
// bootHost.
func driveArgs(t *testing.T) []string {
	t.Helper()
	args := []string{"-device", "virtio-scsi-pci,id=scsi0", "-device", "nvme,id=nvmetwo,serial=NVME-TWO-0002,cmb_size_mb=0"}
	for _, more := range [][]string{
		image(t, "sata", 96, "ide-hd,bus=ide.0,serial=SATA-0003,wwn=0x5000c500a0b0c0d0,rotation_rate=7200,model=ACME 9000 with a long model name"),
		image(t, "solid", 32, "ide-hd,bus=ide.1,serial=SSD-0004,rotation_rate=1"),
		image(t, "scsi", 48, "scsi-hd,bus=scsi0.0,serial=SCSI-0005,wwn=0x5000c500a0b0c0e0,rotation_rate=10000,vendor=ACME,product=SPINDLE,ver=1.2"),
		image(t, "virtio", 40, "virtio-blk-pci,serial=VIRTIO-0006"),
		image(t, "ns1", 64, "nvme-ns,bus=nvmetwo,nsid=1"),
		image(t, "ns2", 64, "nvme-ns,bus=nvmetwo,nsid=7,logical_block_size=4096,physical_block_size=4096"),
	} {
		args = append(args, more...)
	}
	return args
}

// TestDrivesOfAGuest reads drives of every kind that QEMU has, by the kernel's
// own drivers, and compares with what QEMU was told to make.
func TestDrivesOfAGuest(t *testing.T) {
	g := bootHost(t, "ingot.inventory=1", driveArgs(t)...)
	g.qmpDo("cont", nil)
	g.until("AUTOLOAD-ENDED")
	text := g.finish()
	say := func(word string) []byte {
		m := regexp.MustCompile(`(?m)^` + word + ` (.*?)\r?$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("the guest has printed no %s; its console:\n%s", word, text)
		}
		return []byte(m[1])
	}
	inv, err := hardware.Decode(say("INVENTORY"))
	if err != nil {
		t.Fatal(err)
	}
	readings, err := hardware.DecodeReadings(say("READINGS"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range inv.Findings {
		if f.Source != "ipmi" { // QEMU's own BMC has no FRU
			t.Errorf("finding: %v", f)
		}
	}
	ignore := cmpopts.IgnoreFields(hardware.Drive{}, "Name", "BDF", "Firmware", "Raw", "Sources")
	order := cmpopts.SortSlices(func(a, b hardware.Drive) bool { return a.Serial < b.Serial })
	if d := cmp.Diff(wantDrives(), inv.Drives, ignore, order, cmpopts.IgnoreFields(hardware.Namespace{}, "Name")); d != "" {
		t.Errorf("drives (-want +got):\n%s", d)
	}
	checkGuestReadings(t, readings)
	checkGuestControllers(t, inv)
	var recorded []byte
	for _, m := range regexp.MustCompile(`(?m)^SNAPSHOT (.*?)\r?$`).FindAllStringSubmatch(text, -1) {
		part, err := base64.StdEncoding.DecodeString(m[1])
		if err != nil {
			t.Fatal(err)
		}
		recorded = append(recorded, part...)
	}
	replay(t, recorded, inv)
}

// replay reads the guest again, from its snapshot.
func replay(t *testing.T, packed []byte, inv hardware.Inventory) {
	t.Helper()
	dir := t.TempDir()
	if err := snapshot.Unpack(bytes.NewReader(packed), dir, snapshot.Limits{}); err != nil {
		t.Fatal(err)
	}
	again := inventory.Read(t.Context(), dir)
	for _, i := range []*hardware.Inventory{&inv, &again.Inventory} { // what the BMC says is in no snapshot
		i.Findings, i.BMC, i.Watchdogs = nil, hardware.BMC{}, nil
	}
	if d := cmp.Diff(inv, again.Inventory, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("the guest by its snapshot (-want +got):\n%s", d)
	}
	checkGuestReadings(t, again.Readings)
}

// moduleFile is a module of the guest's kernel, unpacked, that its initramfs
// has no use for.
func moduleFile(t *testing.T, dir, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "kernel", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := xz.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDriveThatHangs gives the guest a drive, of the kernel's scsi_debug, that
// takes 20 s for each command. It costs its own facts: the others are read,
// and the report comes in time and says so.
func TestDriveThatHangs(t *testing.T) {
	g := bootHost(t, "ingot.inventory=1 ingot.slow=1")
	g.qmpDo("cont", nil)
	g.until("READER lldp")
	if text := g.all.String(); !regexp.MustCompile(`READER storage 3\d\d\d ms *\r?\n`).MatchString(text) {
		t.Error("the reader of drives did not take its 3 s")
	}
	g.until(`"code":"drive-hung"`)
	text := g.all.String()
	for _, want := range []string{`"serial":"S1"`, `no answer to scsi/sd[a-z]/log-00 within 3s`, `replace drive sd[a-z], serial [0-9]+000 when`} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the guest does not say %q", want)
		}
	}
	g.qmpDo("quit", nil) // it waits for the drive before it powers off
	g.finish()
}

func wantDrives() []hardware.Drive {
	const mib = 1 << 20
	nvme := hardware.Drive{Model: "QEMU NVMe Ctrl", Transport: hardware.TransportNVMe, LogicalBlockBytes: 512, PhysicalBlockBytes: 512, NVMeVersion: "1.4.0"}
	one, two := nvme, nvme
	one.Serial, one.SizeBytes, one.WWN = "S1", 64*mib, "nvme.1b36-5331-51454d55204e564d65204374726c-00000001"
	one.Namespaces = []hardware.Namespace{{ID: 1, SizeBytes: 64 * mib, BlockBytes: 512, WWN: one.WWN}}
	two.Serial, two.SizeBytes, two.WWN = "NVME-TWO-0002", 128*mib, "nvme.1b36-4e564d452d54574f2d30303032-51454d55204e564d65204374726c-00000001"
	two.Namespaces = []hardware.Namespace{{ID: 1, SizeBytes: 64 * mib, BlockBytes: 512, WWN: two.WWN}, {ID: 7, SizeBytes: 64 * mib, BlockBytes: 4096, WWN: strings.TrimSuffix(two.WWN, "1") + "7"}}
	sata := hardware.Drive{Model: "ACME 9000 with a long model name", Serial: "SATA-0003", SizeBytes: 96 * mib, Transport: hardware.TransportSATA,
		WWN: "naa.5000c500a0b0c0d0", Rotational: true, RPM: 7200, LogicalBlockBytes: 512, PhysicalBlockBytes: 512, LinkMbps: 1500}
	solid := hardware.Drive{Model: "QEMU HARDDISK", Serial: "SSD-0004", SizeBytes: 32 * mib, Transport: hardware.TransportSATA, LogicalBlockBytes: 512, PhysicalBlockBytes: 512, LinkMbps: 1500}
	scsi := hardware.Drive{Vendor: "ACME", Model: "SPINDLE", Serial: "SCSI-0005", SizeBytes: 48 * mib, Transport: hardware.TransportSCSI, WWN: "naa.5000c500a0b0c0e0",
		Rotational: true, RPM: 10000, LogicalBlockBytes: 512, PhysicalBlockBytes: 512}
	virtio := hardware.Drive{Serial: "VIRTIO-0006", SizeBytes: 40 * mib, Transport: hardware.TransportVirtio, LogicalBlockBytes: 512, PhysicalBlockBytes: 512}
	return []hardware.Drive{one, two, sata, solid, scsi, virtio}
}

// checkGuestReadings: QEMU gives SMART to its NVMe and SATA drives, and to no
// other.
func checkGuestReadings(t *testing.T, r hardware.Readings) {
	t.Helper()
	celsius := map[string]float64{"S1": 50, "NVME-TWO-0002": 50, "SATA-0003": 31, "SSD-0004": 31}
	for _, d := range r.Drives {
		want, ok := celsius[d.Serial]
		if !ok || d.Health != "ok" || d.Celsius == nil || *d.Celsius != want || d.PowerOnHours == nil || d.PowerCycles == nil || len(d.Warnings) > 0 {
			t.Errorf("reading = %+v", d)
		}
		delete(celsius, d.Serial)
	}
	if len(celsius) > 0 {
		t.Errorf("no readings of %v", celsius)
	}
}

func checkGuestControllers(t *testing.T, inv hardware.Inventory) {
	t.Helper()
	got := map[string]string{}
	for _, c := range inv.StorageControllers {
		got[string(c.BDF)+" "+c.Driver] = strings.Join(append(c.Protocols, c.Model), " ")
	}
	want := map[string]string{"0000:00:01.0 nvme": "nvme QEMU NVMe Ctrl", "0000:00:03.0 nvme": "nvme QEMU NVMe Ctrl",
		"0000:00:02.0 virtio_scsi": "scsi Virtio SCSI", "0000:00:1f.2 ahci": "sata 82801IR/IO/IH (ICH9R/DO/DH) 6 port SATA Controller [AHCI mode]"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("controllers (-want +got):\n%s", d)
	}
}
