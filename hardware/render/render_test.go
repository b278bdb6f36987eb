package render

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

var update = flag.Bool("update", false, "rewrite want.txt")

func TestTable(t *testing.T) {
	machines, err := filepath.Glob("../testdata/machines/*/want.json")
	if err != nil || len(machines) == 0 {
		t.Fatalf("no machines below ../testdata: %v", err)
	}
	for _, m := range machines {
		dir := filepath.Dir(m)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			b, err := os.ReadFile(m)
			if err != nil {
				t.Fatal(err)
			}
			inv, err := hardware.Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			if err := Table(&got, inv); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(dir, "want.txt"), got.String())
		})
	}
}

// fill sets every text and every list of a record.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1700000000, 0)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), text)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		k, x := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(k, text)
		fill(x, text)
		v.SetMapIndex(k, x)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text)
	case reflect.Int:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(1 << 33)
	case reflect.Float64:
		v.SetFloat(1.5)
	}
}

// TestNothingReachesTheTerminal has a hostile node's words in every place that
// there is, and long ones.
func TestNothingReachesTheTerminal(t *testing.T) {
	bad := "\x1b]0;owned\x07\r\n\tx\u202e" + strings.Repeat("long", 60)
	var inv hardware.Inventory
	var r hardware.Readings
	fill(reflect.ValueOf(&inv).Elem(), bad)
	fill(reflect.ValueOf(&r).Elem(), bad)
	var got strings.Builder
	p := Page{Width: 80}
	for _, err := range []error{p.Inventory(&got, inv, r), p.Readings(&got, r), p.Findings(&got, inv.Normalized().Findings),
		p.Changes(&got, hardware.Diff(hardware.Inventory{}, inv))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if i := strings.IndexAny(got.String(), "\x1b\x07\r\u202e"); i >= 0 {
		t.Errorf("control characters reach the terminal: %q", got.String()[max(0, i-40):i+1])
	}
	for _, line := range strings.Split(got.String(), "\n") {
		if n := len([]rune(line)); n > 80 {
			t.Errorf("a line of %d columns: %q", n, line)
		}
	}
}

// rich is a server with something in every section.
func rich() (hardware.Inventory, hardware.Readings) {
	zero, one := 0, 1
	f := func(v float64) *float64 { return &v }
	u := func(v uint64) *uint64 { return &v }
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	inv := hardware.Inventory{
		System:    hardware.System{Manufacturer: "Acme", Model: "A1 rack server", Serial: "7XK3LM2", UUID: "4c4c4544-0031-3510-8030-b4c04f4d4d31", SKU: "A1-512", AssetTag: "R7-12", OEMSerials: map[string]string{"service tag": "7XK3LM2"}},
		Baseboard: hardware.Baseboard{Manufacturer: "Acme", Model: "A1-MB", Serial: "MB-77"}, Chassis: hardware.Chassis{Type: "rack mount", Serial: "CH-77"},
		BIOS:   hardware.BIOS{Vendor: "AMI", Version: "2.14", Date: "2026-02-01", Mode: "uefi", SecureBoot: "enabled", Attributes: map[string]string{"SMT": "on"}, Boot: hardware.BootOverride{Target: "pxe", Enabled: "once"}},
		Memory: hardware.Memory{SizeBytes: 64 << 30, ECC: "multi-bit"},
		BMC: hardware.BMC{Manufacturer: "Acme", Model: "AST2600", Firmware: "4.11", IPMIVersion: "2.0", Protocol: "1.15.0", MAC: "52:54:00:00:00:bc", Addresses: []string{"10.78.0.11"}, PowerRestore: "previous", CipherSuites: []int{3, 17},
			Interfaces: []hardware.BMCInterface{{Name: "eth0", Channel: 1, MAC: "52:54:00:00:00:bc", Addresses: []string{"10.78.0.11/24"}, Gateway: "10.78.0.1", Origin: "dhcp", Enabled: "enabled"}},
			Accounts:   []hardware.BMCAccount{{ID: "1", Name: "", Privilege: "callback", Enabled: "disabled"}, {ID: "2", Name: "admin", Privilege: "administrator", Enabled: "enabled"}}},
		TPM:       hardware.TPM{Version: "2.0", Manufacturer: "IFX", Firmware: "7.85", EKPublic: hardware.Digest("sha256:" + strings.Repeat("0a", 32)), PCRBanks: []string{"sha1", "sha256"}},
		CPUs:      []hardware.CPU{{Socket: "CPU 0", Model: "Xeon Gold 6354", Cores: 18, Threads: 36, MaxMHz: 3600, Microcode: "0xd0003a5", Caches: []hardware.Cache{{Level: 1, Kind: "data", SizeBytes: 48 << 10}, {Level: 3, Kind: "unified", SizeBytes: 39 << 20}}, NUMANodes: []int{0}}},
		NUMANodes: []hardware.NUMANode{{ID: 0, CPUs: "0-17", SizeBytes: 32 << 30}, {ID: 1, CPUs: "18-35", SizeBytes: 32 << 30}},
		DIMMs: []hardware.DIMM{{Slot: "A1", SizeBytes: 32 << 30, Serial: "F00D1", Manufacturer: "Micron", Part: "36ASF4G72PZ", SpeedMTs: 3200, ConfiguredMTs: 2933, Type: "DDR4", Module: "RDIMM", Ranks: 2, NUMANode: &zero},
			{Slot: "B1", SizeBytes: 32 << 30, Serial: "F00D2", Manufacturer: "Micron", Part: "36ASF4G72PZ", SpeedMTs: 3200, ConfiguredMTs: 3200, Type: "DDR4", Module: "RDIMM", Ranks: 2, NUMANode: &one}},
		DIMMSlots: []hardware.DIMMSlot{{Name: "A1", Populated: true}, {Name: "A2"}, {Name: "B1", Populated: true}},
		Drives: []hardware.Drive{{Name: "nvme0n1", Slot: "Bay 0", Model: "PM9A3", Serial: "S64FNE0R", SizeBytes: 3840755982336, Transport: "nvme", Firmware: "GDC7302Q", WWN: "eui.36344630"},
			{Name: "sda", Model: "ST12000NM0027", Vendor: "SEAGATE", Serial: "ZJV0001", SizeBytes: 12000138625024, Transport: "sas", Rotational: true}},
		StorageControllers: []hardware.StorageController{{Name: "HBA", Manufacturer: "Broadcom", Model: "9500-8i", Firmware: "28.00", BDF: "0000:41:00.0"}},
		Volumes:            []hardware.Volume{{ID: "0", Name: "root", RAID: "RAID1", SizeBytes: 480 << 30, Drives: []string{"S1", "S2"}}},
		NICs: []hardware.NIC{{Name: "ens1f0", MAC: "0c:42:a1:00:00:10", Driver: "mlx5_core", BDF: "0000:3b:00.0", Adapter: "ConnectX-6 Lx", Firmware: "26.36", MaxMbps: 25000, LinkMbps: 10000, Carrier: "enabled",
			Transceiver: hardware.Transceiver{Type: "SFP28", Part: "MCP2M00", Serial: "MT1"}, Neighbor: hardware.Neighbor{SystemName: "sw7", PortID: "Eth1/12", VLAN: 40}}, {Name: "ens1f1", MAC: "0c:42:a1:00:00:11", Carrier: "disabled"}},
		PCI:         []hardware.PCIDevice{{BDF: "0000:3b:00.0", Vendor: "Mellanox", Device: "ConnectX-6 Lx", Slot: "Slot 3", Link: hardware.PCIeLink{SpeedGTs: 8, Width: 8, MaxSpeedGTs: 16, MaxWidth: 8}, NUMANode: &zero}, {BDF: "0000:00:00.0", Vendor: "Intel", Device: "Host bridge"}},
		GPUs:        []hardware.GPU{{Name: "GPU 1", Kind: "gpu", Manufacturer: "NVIDIA", Model: "L4", Serial: "GPU-9", MemoryBytes: 24 << 30, BDF: "0000:81:00.0"}},
		PSUs:        []hardware.PSU{{Name: "PSU 1", Model: "PWS-1K2", Serial: "P1", CapacityWatt: 1200}, {Name: "PSU 2", Model: "PWS-1K2", Serial: "P2", CapacityWatt: 1200}},
		Fans:        []hardware.FanPart{{Name: "Fan 1"}, {Name: "Fan 2", Serial: "FN2"}},
		Firmware:    []hardware.Firmware{{Name: "CPLD", Version: "1.0.7"}},
		BootEntries: []hardware.BootEntry{{ID: "Boot0002", Name: "debian", Order: 2, Path: "HD(1,GPT)/File(\\EFI\\debian\\shimx64.efi)"}, {ID: "Boot0001", Name: "PXE IPv4", Order: 1, Current: true}, {ID: "Boot0003", Name: "old", Active: "disabled"}},
		Findings: []hardware.Finding{{Code: "pcie-link-reduced", Severity: "warning", Part: "pci 0000:3b:00.0", Evidence: "rated for 16 GT/s, runs at 8", Hint: "reseat the card", Source: "pci"},
			{Code: "uuid-byte-order", Severity: "info", Part: "system", Evidence: "in-band 4c4c4544, BMC 44454c4c", Source: "join"}, {Code: "drive-failing", Severity: "critical", Part: "drive sda", Evidence: "SMART says failing", Hint: "replace it", Source: "smart"}},
	}
	r := hardware.Readings{PowerState: "on", Health: "warning", Watts: f(312), BMCTime: &at,
		Temperatures: []hardware.Temperature{{Name: "CPU 0", Celsius: f(61), UpperCelsius: f(95)}}, Fans: []hardware.Fan{{Name: "Fan 1", RPM: f(8100)}, {Name: "Fan 2"}},
		Sensors: []hardware.Sensor{{Name: "12V", Kind: "voltage", Value: f(12.06), Unit: "V", Status: "ok", Thresholds: &hardware.Thresholds{LowerCritical: f(10.8), UpperCritical: f(13.2)}}, {Name: "PSU 2 status", States: []string{"presence detected", "failure detected"}, Status: "critical"}},
		PSUs:    []hardware.PSUReading{{Name: "PSU 1", InputVolts: f(230), OutputWatts: f(300), Health: "ok"}, {Name: "PSU 2", Health: "critical"}},
		Drives:  []hardware.DriveReading{{Name: "nvme0n1", Serial: "S64FNE0R", Health: "ok", WearPercent: f(3), SparePercent: f(100), Celsius: f(38), PowerOnHours: u(9125), MediaErrors: u(0)}, {Serial: "ZJV0001", Health: "critical", Reallocated: u(1992), Warnings: []string{"FAILURE PREDICTION THRESHOLD EXCEEDED"}}},
		ECC:     []hardware.ECCReading{{Name: "A1", Corrected: 14}, {Name: "mc#1", Uncorrected: 1}}, Links: []hardware.Link{{MAC: "0c:42:a1:00:00:10", Carrier: "enabled", LinkMbps: 10000}},
		Logs: []hardware.Log{{Name: "SEL", Entries: 512, Overflowed: true, Newest: []hardware.LogEntry{{ID: "512", Time: &at, Sensor: "PSU 2 status", Severity: "critical", Text: "failure detected", Asserted: "enabled"}, {ID: "511", Sensor: "Intrusion", Text: "general chassis intrusion", Asserted: "disabled"}}}}}
	return inv, r
}

func TestPages(t *testing.T) {
	inv, r := rich()
	for _, width := range []int{0, 80} {
		var record, readings strings.Builder
		p := Page{Width: width}
		if err := errors.Join(p.Inventory(&record, inv, r), p.Readings(&readings, r)); err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string]string{"record": record.String(), "readings": readings.String()} {
			golden(t, fmt.Sprintf("testdata/%s.%d.txt", what, width), got)
		}
	}
	// Nothing of a serial is lost where the page is narrow: it goes on below.
	var narrow strings.Builder
	if err := (Page{Width: 1}).Inventory(&narrow, inv, r); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(narrow.String(), "7XK3LM2") {
		t.Errorf("the serial is not on a narrow page:\n%s", narrow.String())
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; make it with -update", err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("pipe closed") }

func TestTableReportsItsWriter(t *testing.T) {
	if err := Table(broken{}, hardware.Inventory{}); err == nil {
		t.Error("a write that fails is no error")
	}
}
