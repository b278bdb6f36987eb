package storage

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// tree is a recorded machine: path to content, or to "-> target". The FIFO
// content makes a file that blocks whoever reads it.
type tree map[string]string

const fifo = "FIFO"

func (files tree) plant(t *testing.T) sysfs.Root {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		p := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(to, p)
		} else if content == fifo {
			err = syscall.Mkfifo(p, 0o600)
			t.Cleanup(func() { // let the reader that was left behind go
				if f, err := os.OpenFile(p, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
					f.Close()
				}
			})
		} else {
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return sysfs.Root(root)
}

// add is a copy with more files.
func (files tree) add(more tree) tree {
	out := tree{}
	for _, m := range []tree{files, more} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// sata is a disk on the second port of an AHCI controller.
func sata() tree {
	const ata = "sys/devices/pci0000:00/0000:00:1f.2/ata2"
	const dev = ata + "/host1/target1:0:0/1:0:0:0"
	return tree{
		"sys/block/sda":                                 "-> ../devices/pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0/block/sda",
		dev + "/block/sda/size":                         "7814037168\n",
		dev + "/block/sda/queue/rotational":             "1\n",
		dev + "/block/sda/device":                       "-> ../../../1:0:0:0",
		dev + "/vendor":                                 "ATA     \n",
		dev + "/model":                                  "ST4000NM0035-1V4\n",
		dev + "/power/runtime_status":                   "active\n",
		ata + "/link2/ata_link/link2/sata_spd":          "6.0 Gbps\n",
		"answers/ata/sda/power":                         "\xff",
		"answers/ata/sda/identify":                      identify(),
		"answers/ata/sda/smart-status":                  "\x4f\xc2",
		"answers/ata/sda/smart-data":                    attributes(row(5, 100, 0), row(9, 90, 12345), row(12, 100, 40), row(194, 30, 30)),
		"answers/ata/sda/smart-thresholds":              thresholds(5, 10),
		ata + "/link2/ata_link/link2/hw_sata_spd_limit": "6.0 Gbps\n",
	}
}

func identify() string {
	b := make([]byte, 512)
	put := func(at, n int, s string) {
		s += strings.Repeat(" ", n-len(s))
		for i := 0; i < n; i += 2 {
			b[at+i], b[at+i+1] = s[i+1], s[i]
		}
	}
	put(20, 20, "ZJV0000100")
	put(46, 8, "SN03")
	put(54, 40, "ST4000NM0035-1V4107")
	for n, w := range map[int]uint16{76: 0x850e, 82: 0x306b, 84: 0x6143, 85: 0x3069, 87: 0x6163, 106: 0x6003, 108: 0x5000, 109: 0xc500, 110: 0x9501, 111: 0x0203, 217: 7200} {
		binary.LittleEndian.PutUint16(b[2*n:], w)
	}
	return string(b)
}

func row(id, value byte, raw uint32) []byte {
	b := []byte{id, 1, 0, value, value, 0, 0, 0, 0, 0, 0, 0}
	binary.LittleEndian.PutUint32(b[5:], raw)
	return b
}

func attributes(rows ...[]byte) string {
	b := append([]byte{1, 0}, slices.Concat(rows...)...)
	return sealed(append(b, make([]byte, 512-len(b))...))
}

func thresholds(id, limit byte) string {
	b := make([]byte, 512)
	b[2], b[3] = id, limit
	return sealed(b)
}

// sealed gives a page the checksum in its last byte.
func sealed(b []byte) string {
	b[511] = 0
	for _, x := range b[:511] {
		b[511] -= x
	}
	return string(b)
}

func TestSATA(t *testing.T) {
	v, err := Read(t.Context(), sata().plant(t))
	if err != nil || len(v.Inventory.Findings) > 0 {
		t.Fatalf("Read: %v, findings %v", err, v.Inventory.Findings)
	}
	want := []hardware.Drive{{Name: "sda", Model: "ST4000NM0035-1V4107", Serial: "ZJV0000100", SizeBytes: 4000787030016, Transport: hardware.TransportSATA,
		Firmware: "SN03", WWN: "naa.5000c50095010203", Rotational: true, RPM: 7200, BDF: "0000:00:1f.2", LogicalBlockBytes: 512, PhysicalBlockBytes: 4096,
		LinkMbps: 6000, MaxLinkMbps: 6000, Sources: hardware.Sources{Source}}}
	if d := cmp.Diff(want, v.Inventory.Drives); d != "" {
		t.Errorf("drives (-want +got):\n%s", d)
	}
	health := []hardware.DriveReading{{Name: "sda", Serial: "ZJV0000100", Health: "ok", Celsius: pointer(30.0), PowerOnHours: pointer(uint64(12345)),
		PowerCycles: pointer(uint64(40)), Reallocated: pointer(uint64(0))}}
	if d := cmp.Diff(health, v.Readings.Drives); d != "" {
		t.Errorf("readings (-want +got):\n%s", d)
	}
}

// What is wrong with a drive becomes a finding; what is only emulated, absent
// or asleep does not.
func TestFindings(t *testing.T) {
	for _, c := range []struct {
		what     string
		more     tree
		code     hardware.Code
		severity hardware.Severity
		evidence string
		health   string
		warning  string
	}{
		{"SMART says so", tree{"answers/ata/sda/smart-status": "\xf4\x2c"}, hardware.CodeDriveFailing, hardware.Critical, "SMART says that it will fail", "critical", "SMART says that it will fail"},
		{"an attribute at its threshold", tree{"answers/ata/sda/smart-data": attributes(row(5, 10, 4000))}, hardware.CodeDriveFailing, hardware.Critical,
			"attribute 5 (reallocated sectors) is 10, its threshold 10", "critical", "attribute 5 (reallocated sectors) is 10, its threshold 10"},
		{"pending sectors", tree{"answers/ata/sda/smart-data": attributes(row(197, 100, 8))}, hardware.CodeDriveErrors, hardware.Warning, "8 sectors wait to be reallocated", "warning", ""},
		{"a slow link", tree{"sys/devices/pci0000:00/0000:00:1f.2/ata2/link2/ata_link/link2/sata_spd": "1.5 Gbps\n"}, hardware.CodeDriveLink, hardware.Warning,
			"its link runs at 1500 Mbit/s, drive and port can 6000", "ok", ""},
		{"SMART data with a wrong checksum", tree{"answers/ata/sda/smart-data": "\x01" + strings.Repeat("\x00", 511)}, hardware.CodeSourceMalformed, hardware.Info, "read SMART data: checksum 0x00 is wrong", "ok", ""},
		{"in standby", tree{"answers/ata/sda/power": "\x00", "answers/ata/sda/smart-status": "\xf4\x2c"}, "", "", "", "", asleep},
		{"suspended by the kernel", tree{"sys/devices/pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0/power/runtime_status": "suspended\n", "answers/ata/sda/power": fifo}, "", "", "", "", asleep},
	} {
		t.Run(c.what, func(t *testing.T) {
			v, err := read(t.Context(), sata().add(c.more).plant(t), driveLimit)
			if err != nil {
				t.Fatal(err)
			}
			var got hardware.Finding
			if f := v.Inventory.Findings; len(f) > 1 || len(f) == 0 && c.code != "" {
				t.Fatalf("findings = %v; want one of %q", f, c.code)
			} else if len(f) == 1 {
				got = f[0]
			}
			if got.Code != c.code || got.Severity != c.severity || got.Evidence != c.evidence || c.code != "" && (got.Part != "drive sda" || got.Hint == "") {
				t.Errorf("finding = %+v; want %s, %s, %q", got, c.severity, c.code, c.evidence)
			}
			var h hardware.DriveReading
			if len(v.Readings.Drives) == 1 {
				h = v.Readings.Drives[0]
			}
			if h.Health != c.health || strings.Join(h.Warnings, ";") != c.warning {
				t.Errorf("reading = %+v; want health %q, warning %q", h, c.health, c.warning)
			}
		})
	}
}

// A drive whose answer never comes costs its own facts, and nothing else is
// later for it.
func TestHungDrive(t *testing.T) {
	const limit = 300 * time.Millisecond
	files := sata().add(tree{"answers/ata/sda/smart-data": fifo,
		"sys/block/sdb":                "-> ../devices/virtual/sdb",
		"sys/devices/virtual/sdb/size": "8\n", "sys/devices/virtual/sdb/device/vendor": "ACME\n", "answers/scsi/sdb/log-00": "\x00\x00\x00\x02\x00\x0d",
		"answers/scsi/sdb/log-0d": "\x0d\x00\x00\x06\x00\x00\x03\x02\x00\x21"})
	begin := time.Now()
	v, err := read(t.Context(), files.plant(t), limit)
	if took := time.Since(begin); took < limit || took > limit+5*time.Second {
		t.Errorf("Read took %v; want %v", took, limit)
	}
	inv := v.Inventory
	if err != nil || len(inv.Drives) != 2 || inv.Drives[0].LinkMbps != 6000 {
		t.Errorf("drives = %+v, %v; want what sysfs says of both", inv.Drives, err)
	}
	if len(inv.Findings) != 1 || inv.Findings[0].Code != hardware.CodeDriveHung || inv.Findings[0].Evidence != "no answer to ata/sda/smart-data within 300ms" {
		t.Errorf("findings = %v; want one: the drive hung", inv.Findings)
	}
	if len(v.Readings.Drives) != 1 || v.Readings.Drives[0].Name != "sdb" || *v.Readings.Drives[0].Celsius != 33 {
		t.Errorf("readings = %+v; want the other drive's", v.Readings.Drives)
	}
}

// A file of sysfs that blocks is as bad.
func TestBlockedFile(t *testing.T) {
	files := sata().add(tree{"sys/class/scsi_host/host1": "-> ../../devices/pci0000:00/0000:00:1f.2/ata2/host1/scsi_host/host1",
		"sys/devices/pci0000:00/0000:00:1f.2/ata2/host1/scsi_host/host1/model_name": fifo})
	v, _ := read(t.Context(), files.plant(t), 300*time.Millisecond)
	if f := v.Inventory.Findings; len(v.Inventory.Drives) != 1 || len(f) != 1 || f[0].Code != hardware.CodeReaderDeadline {
		t.Errorf("drives %v, findings %v", v.Inventory.Drives, f)
	}
}

// shelf is a SAS drive of two paths in a shelf, behind an HBA.
func shelf() tree {
	const hba = "sys/devices/pci0000:3a/0000:3b:00.0/host6"
	files := tree{
		"sys/bus/pci/devices/0000:3b:00.0":              "-> ../../../devices/pci0000:3a/0000:3b:00.0",
		"sys/devices/pci0000:3a/0000:3b:00.0/numa_node": "1\n",
		"sys/class/scsi_host/host6":                     "-> ../../devices/pci0000:3a/0000:3b:00.0/host6/scsi_host/host6",
		hba + "/scsi_host/host6/proc_name":              "mpt3sas\n",
		hba + "/scsi_host/host6/board_name":             "SAS9300-8e\n",
		hba + "/scsi_host/host6/version_fw":             "16.00.12.00\n",
		hba + "/scsi_host/host6/board_tracer":           "SV73013666\n",
		hba + "/scsi_host/host6/host_sas_address":       "0x500605b00d0a1b2c\n",
		"sys/class/sas_host/host6/x":                    "",
		"sys/class/enclosure/6:0:9:0":                   "-> ../../devices/pci0000:3a/0000:3b:00.0/host6/port-6:9/6:0:9:0/enclosure/6:0:9:0",
	}
	const ses = hba + "/port-6:9/6:0:9:0"
	files = files.add(tree{ses + "/vendor": "ACME    \n", ses + "/model": "SHELF24         \n", ses + "/rev": "0102\n", ses + "/vpd_pg80": "\x00\x80\x00\x06SHX001",
		ses + "/enclosure/6:0:9:0/device": "-> ../../../6:0:9:0", ses + "/enclosure/6:0:9:0/id": "0x500c0ff0deadbeef\n",
		ses + "/enclosure/6:0:9:0/Slot 01/type": "array device\n", ses + "/enclosure/6:0:9:0/Slot 01/fault": "0\n",
		ses + "/enclosure/6:0:9:0/Slot 02/type": "array device\n", ses + "/enclosure/6:0:9:0/Slot 02/fault": "1\n",
		ses + "/enclosure/6:0:9:0/PSU 1/type": "power supply\n"})
	for _, name := range []string{"sdk", "sdl"} {
		port := hba + "/port-6:" + name
		dev := port + "/end_device-6:" + name + "/target6:0:1/6:0:1:" + name
		files = files.add(tree{
			"sys/block/" + name:              "-> ../" + strings.TrimPrefix(dev, "sys/") + "/block/" + name,
			dev + "/block/" + name + "/size": "15628053168\n", dev + "/block/" + name + "/queue/rotational": "1\n", dev + "/block/" + name + "/device": "-> ../../../6:0:1:" + name,
			dev + "/vendor": "HGST    \n", dev + "/model": "HUH721008AL5204 \n", dev + "/rev": "C925\n", dev + "/vpd_pg80": "\x00\x80\x00\x08VJG1A2B3",
			dev + "/vpd_pg83": "\x00\x83\x00\x0c\x01\x03\x00\x08\x50\x00\xcc\xa2\x5a\x01\x02\x03", dev + "/vpd_pg89": "\x00\x89\x02\x38" + strings.Repeat("\x00", 56) + identify(), // of a disk that it is not
			dev + "/vpd_pgb1": "\x00\xb1\x00\x3c\x1c\x20\x00\x02" + strings.Repeat("\x00", 56),
			port + "/phy-6:0/sas_phy/phy-6:0/negotiated_linkrate": "12.0 Gbit\n",
			"answers/scsi/" + name + "/sense":                     "\x70\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
			"answers/scsi/" + name + "/log-00":                    "\x00\x00\x00\x03\x00\x0d\x2f",
			"answers/scsi/" + name + "/log-0d":                    "\x0d\x00\x00\x0c\x00\x00\x03\x02\x00\x25\x00\x01\x03\x02\x00\x55",
			"answers/scsi/" + name + "/log-2f":                    "\x2f\x00\x00\x08\x00\x00\x03\x04\x5d\x32\x25\x00",
		})
	}
	files["sys/devices/pci0000:3a/0000:3b:00.0/host6/port-6:sdk/end_device-6:sdk/target6:0:1/6:0:1:sdk/enclosure_device:Slot 01"] = "-> ../../../../port-6:9/6:0:9:0/enclosure/6:0:9:0/Slot 01"
	return files
}

func TestShelf(t *testing.T) {
	v, err := Read(t.Context(), shelf().plant(t))
	if err != nil {
		t.Fatal(err)
	}
	one := 1
	want := hardware.Inventory{
		Drives: []hardware.Drive{{Name: "sdk", Vendor: "HGST", Model: "HUH721008AL5204", Serial: "VJG1A2B3", SizeBytes: 8001563222016, Transport: hardware.TransportSAS,
			Firmware: "C925", WWN: "naa.5000cca25a010203", Rotational: true, RPM: 7200, FormFactor: "3.5 inch", BDF: "0000:3b:00.0", Slot: "Slot 01",
			Enclosure: "ACME SHELF24", LinkMbps: 12000, NUMANode: &one, Sources: hardware.Sources{Source}}},
		StorageControllers: []hardware.StorageController{{Model: "SAS9300-8e", Serial: "SV73013666", Firmware: "16.00.12.00", Protocols: []string{"sas", "sata"},
			BDF: "0000:3b:00.0", WWN: "naa.500605b00d0a1b2c", Driver: "mpt3sas", Sources: hardware.Sources{Source}}},
		Enclosures: []hardware.Enclosure{{Name: "ACME SHELF24", Manufacturer: "ACME", Model: "SHELF24", Serial: "SHX001", Firmware: "0102", WWN: "naa.500c0ff0deadbeef",
			Slots: 2, Sources: hardware.Sources{Source}}},
		Findings: []hardware.Finding{
			{Code: hardware.CodeDriveFailing, Severity: hardware.Critical, Part: "drive sdk", Evidence: "the drive expects to fail: ASC 0x5d, ASCQ 0x32",
				Hint: "save what is on it, and replace drive sdk, serial VJG1A2B3, in ACME SHELF24 Slot 01", Source: Source},
			{Code: hardware.CodeEnclosureFault, Severity: hardware.Warning, Part: "enclosure ACME SHELF24", Evidence: "slot Slot 02 reports a fault",
				Hint: "look at the drive in it and at its light; replace the drive, or clear the fault", Source: Source},
		},
	}
	if d := cmp.Diff(want, v.Inventory, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("inventory (-want +got):\n%s", d)
	}
	if h := v.Readings.Drives; len(h) != 1 || h[0].Health != "critical" || *h[0].Celsius != 37 {
		t.Errorf("readings = %+v; want one drive of two paths", h)
	}
}

func TestSleepingSAS(t *testing.T) {
	files := shelf()
	for _, name := range []string{"sdk", "sdl"} {
		files["answers/scsi/"+name+"/sense"] = "\x70\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x00\x00\x5e\x02\x00\x00\x00\x00"
		files["answers/scsi/"+name+"/log-00"] = fifo
	}
	v, err := read(t.Context(), files.plant(t), 2*time.Second)
	if h := v.Readings.Drives; err != nil || len(h) != 1 || !slices.Equal(h[0].Warnings, []string{asleep}) || len(v.Inventory.Findings) != 1 {
		t.Errorf("readings = %+v, findings %v", h, v.Inventory.Findings)
	}
}

func TestVolumes(t *testing.T) {
	files := sata().add(tree{
		"sys/block/md0": "-> ../devices/virtual/block/md0", "sys/devices/virtual/block/md0/size": "2048\n",
		"sys/devices/virtual/block/md0/md/level": "raid1\n", "sys/devices/virtual/block/md0/md/uuid": "0a1b2c3d:11223344:55667788:99aabbcc\n",
		"sys/devices/virtual/block/md0/md/degraded": "1\n", "sys/devices/virtual/block/md0/md/raid_disks": "2\n",
		"sys/devices/virtual/block/md0/md/dev-sda1/block":                                             "-> ../../../../../pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0/block/sda/sda1",
		"sys/devices/pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0/block/sda/sda1/partition": "1\n",
		"sys/block/md1": "-> ../devices/virtual/block/md1", "sys/devices/virtual/block/md1/size": "0\n", // never assembled
	})
	v, err := Read(t.Context(), files.plant(t))
	want := []hardware.Volume{{Name: "md0", ID: "0a1b2c3d:11223344:55667788:99aabbcc", RAID: "RAID1", SizeBytes: 1 << 20, Drives: []string{"ZJV0000100"}, Sources: hardware.Sources{Source}}}
	if d := cmp.Diff(want, v.Inventory.Volumes); d != "" || err != nil {
		t.Errorf("volumes: %v (-want +got):\n%s", err, d)
	}
	if f := v.Inventory.Findings; len(f) != 1 || f[0].Code != hardware.CodeVolumeDegraded || f[0].Evidence != "RAID1 lacks 1 of its 2 drives" {
		t.Errorf("findings = %v", f)
	}
}

// nvmeTree is a drive of native multipath with two namespaces, the second
// first by name, and one that the kernel does not show.
func nvmeTree() tree {
	const ctl = "sys/devices/pci0000:00/0000:00:03.0/nvme/nvme0"
	const sub = "sys/devices/virtual/nvme-subsystem/nvme-subsys0"
	files := tree{
		"sys/class/nvme/nvme0": "-> ../../devices/pci0000:00/0000:00:03.0/nvme/nvme0", ctl + "/model": "ACME FAST\n", ctl + "/serial": "NV0001\n", ctl + "/firmware_rev": "1.0\n",
		sub + "/nvme0": "-> ../../../pci0000:00/0000:00:03.0/nvme/nvme0", sub + "/model": "ACME FAST\n", sub + "/serial": "NV0001\n", sub + "/firmware_rev": "1.0\n",
		"answers/nvme/nvme0/smart": nvmeSmart(0, 3), "answers/nvme/nvme0/identify": nvmeIdentify(),
	}
	for name, id := range map[string]string{"nvme0n1": "7", "nvme0n2": "1"} {
		files["sys/block/"+name] = "-> ../devices/virtual/nvme-subsystem/nvme-subsys0/" + name
		files[sub+"/"+name+"/size"], files[sub+"/"+name+"/nsid"], files[sub+"/"+name+"/device"] = "2048\n", id+"\n", "-> ../../nvme-subsys0"
	}
	list := make([]byte, 4096)
	for i, id := range []byte{1, 7, 9} {
		list[4*i] = id
	}
	ns := make([]byte, 4096)
	ns[0], ns[130] = 16, 12
	files["answers/nvme/nvme0/namespaces"], files["answers/nvme/nvme0/namespace-9"] = string(list), string(ns)
	return files
}

func nvmeSmart(warning, used byte) string {
	b := make([]byte, 512)
	b[0], b[1], b[2], b[3], b[4], b[5], b[128] = warning, 0x37, 0x01, 100, 10, used, 9
	return string(b)
}

func nvmeIdentify() string {
	b := make([]byte, 4096)
	b[82], b[81], b[266], b[267] = 1, 4, 0x57, 1
	return string(b)
}

func TestNVMe(t *testing.T) {
	v, err := Read(t.Context(), nvmeTree().plant(t))
	want := []hardware.Drive{{Name: "nvme0n2", Model: "ACME FAST", Serial: "NV0001", SizeBytes: 2 << 20, Transport: hardware.TransportNVMe, Firmware: "1.0", BDF: "0000:00:03.0",
		NVMeVersion: "1.4.0", Sources: hardware.Sources{Source}, Namespaces: []hardware.Namespace{{ID: 1, Name: "nvme0n2", SizeBytes: 1 << 20},
			{ID: 7, Name: "nvme0n1", SizeBytes: 1 << 20}, {ID: 9, SizeBytes: 1 << 16, BlockBytes: 4096}}}}
	if d := cmp.Diff(want, v.Inventory.Drives); d != "" || err != nil || len(v.Inventory.Findings) > 0 {
		t.Errorf("drives: %v, findings %v (-want +got):\n%s", err, v.Inventory.Findings, d)
	}
	if h := v.Readings.Drives; len(h) != 1 || h[0].Health != "ok" || *h[0].Celsius != 38 || *h[0].SparePercent != 100 || *h[0].WearPercent != 3 || *h[0].PowerOnHours != 9 {
		t.Errorf("readings = %+v", h)
	}
	for _, c := range []struct {
		what string
		more tree
		code hardware.Code
	}{
		{"media errors", tree{"answers/nvme/nvme0/smart": nvmeSmart(4, 3)}, hardware.CodeDriveFailing},
		{"worn out", tree{"answers/nvme/nvme0/smart": nvmeSmart(0, 95)}, hardware.CodeDriveWorn},
		{"too hot", tree{"answers/nvme/nvme0/smart": nvmeSmart(2, 3)}, hardware.CodeDriveHot},
		{"cut SMART", tree{"answers/nvme/nvme0/smart": nvmeSmart(2, 3)[:100]}, hardware.CodeSourceMalformed},
		{"new firmware waits", tree{"answers/nvme/nvme0/firmware-slots": "\x21" + strings.Repeat("\x00", 7) + "1.0     1.1     " + strings.Repeat("\x00", 488)}, hardware.CodeDriveFirmware},
	} {
		v, err := Read(t.Context(), nvmeTree().add(c.more).plant(t))
		if f := v.Inventory.Findings; err != nil || len(f) != 1 || f[0].Code != c.code {
			t.Errorf("%s: findings = %v, %v; want %s", c.what, f, err, c.code)
		}
	}
}

func TestNVMeWithoutNamespace(t *testing.T) {
	const ctl = "sys/devices/pci0000:00/0000:00:03.0/nvme/nvme0"
	v, err := Read(t.Context(), tree{"sys/class/nvme/nvme0": "-> ../../devices/pci0000:00/0000:00:03.0/nvme/nvme0", ctl + "/model": "ACME FAST\n", ctl + "/serial": "NV0001\n"}.plant(t))
	if d := v.Inventory.Drives; err != nil || len(d) != 1 || d[0].Serial != "NV0001" || d[0].BDF != "0000:00:03.0" {
		t.Errorf("drives = %+v, %v; want the empty one", d, err)
	}
}

func TestMbps(t *testing.T) {
	for in, want := range map[string]int{"6.0 Gbps": 6000, "1.5 Gbps": 1500, "22.5 Gbit": 22500, "<unknown>": 0, "NaN Gbps": 0, "1e9 Gbps": 0, "6.0": 0, "": 0} {
		if got := mbps(in); got != want {
			t.Errorf("mbps(%q) = %d; want %d", in, got, want)
		}
	}
}
