package hardware

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// both are the two views of one healthy server, each with what that side
// knows, and in its own spelling.
func both() (inband, bmc Inventory) {
	sysfs, redfish := Sources{"sysfs"}, Sources{"redfish"}
	inband = Inventory{
		System: System{Manufacturer: "Dell Inc.", Model: "PowerEdge R750", Serial: "TAG1234", UUID: "4c4c4544-0034-4210-8034-b4c04f313333", Sources: Sources{"smbios"}},
		BIOS:   BIOS{Version: "U32", Sources: Sources{"smbios"}},
		Memory: Memory{SizeBytes: 64 << 30, Sources: Sources{"smbios"}},
		CPUs:   []CPU{{Socket: "CPU1", Model: "Xeon"}, {Socket: "CPU2", Model: "Xeon"}},
		DIMMs: []DIMM{{Slot: "A1", SizeBytes: 32 << 30, Serial: "8633DADC", Sources: Sources{"smbios"}},
			{Slot: "A2", SizeBytes: 32 << 30, Serial: "8633DADD", Sources: Sources{"smbios"}}},
		Drives: []Drive{{Name: "nvme0n1", Serial: "S1", Firmware: "HF56", BDF: "0000:3c:00.0", Sources: sysfs}, {Name: "sda", WWN: "naa.5000c500a1b2c3d4", Sources: sysfs}},
		NICs:   []NIC{{Name: "eno1", MAC: "52:54:00:00:00:01", Sources: sysfs}},
		PCI:    []PCIDevice{{BDF: "0000:3b:00.0", Class: "020000", Sources: sysfs}},
		GPUs:   []GPU{{BDF: "0000:17:00.0", Model: "GA100", Sources: sysfs}},
		PSUs:   []PSU{{Name: "PSU 1", Serial: "P1", Sources: Sources{"ipmi"}}},

		StorageControllers: []StorageController{{BDF: "0000:03:00.0", Driver: "megaraid_sas", Sources: sysfs}},
	}
	bmc = Inventory{
		System: System{Manufacturer: "Dell Inc.", Model: "PowerEdge R750", Serial: "CN0012", SKU: "TAG1234", UUID: inband.System.UUID, Sources: redfish},
		BIOS:   BIOS{Version: "U32 v2.90 (07/20/2023)", Sources: redfish},
		Memory: Memory{SizeBytes: 64 << 30, Sources: redfish},
		CPUs:   []CPU{{Socket: "CPU.Socket.1", Serial: "C1"}, {Socket: "CPU.Socket.2", Serial: "C2"}},
		DIMMs: []DIMM{{Slot: "DIMM A1", Serial: "0x8633dadc", Part: "M393", Sources: redfish},
			{Slot: "DIMM A2", Serial: "0x8633dadd", Part: "M393", Sources: redfish}},
		Drives: []Drive{{Slot: "Bay 0", Serial: "S1", Firmware: "HF56", Sources: redfish}, {Slot: "Bay 1", Serial: "S2", WWN: "naa.5000C500A1B2C3D4", Sources: redfish}},
		NICs:   []NIC{{MAC: "52:54:00:00:00:01", Adapter: "E810", Sources: redfish}},
		PCI:    []PCIDevice{{BDF: "0000:3b:00.0", Slot: "PCIe Slot 2", Sources: redfish}, {BDF: "0000:ff:00.0", Sources: redfish}},
		GPUs:   []GPU{{BDF: "0000:17:00.0", Serial: "1650421000123", Sources: redfish}},
		PSUs:   []PSU{{Name: "PS1 Status", Serial: "P1", CapacityWatt: 1400, Sources: redfish}},

		StorageControllers: []StorageController{{BDF: "0000:03:00.0", Serial: "2BK00XM", Sources: redfish}},
	}
	return inband, bmc
}

func TestJoinParts(t *testing.T) {
	got := Join(both())
	if len(got.Findings) != 0 {
		t.Errorf("a healthy server has findings: %v", got.Findings)
	}
	for what, ok := range map[string]bool{
		"CPU by order":            len(got.CPUs) == 2 && got.CPUs[1].Serial == "C2",
		"DIMM by serial":          len(got.DIMMs) == 2 && got.DIMMs[0].Part == "M393" && got.DIMMs[0].Slot == "A1",
		"drive by serial":         len(got.Drives) == 2 && slices.ContainsFunc(got.Drives, func(d Drive) bool { return d.Name == "nvme0n1" && d.Slot == "Bay 0" }),
		"drive by WWN":            slices.ContainsFunc(got.Drives, func(d Drive) bool { return d.Name == "sda" && d.Serial == "S2" }),
		"NIC by MAC":              len(got.NICs) == 1 && got.NICs[0].Adapter == "E810",
		"PCI by BDF":              len(got.PCI) == 1 && got.PCI[0].Slot == "PCIe Slot 2",
		"GPU by BDF":              len(got.GPUs) == 1 && got.GPUs[0].Serial == "1650421000123",
		"PSU by serial":           len(got.PSUs) == 1 && got.PSUs[0].CapacityWatt == 1400,
		"controller by BDF":       len(got.StorageControllers) == 1 && got.StorageControllers[0].Serial == "2BK00XM",
		"both sources of a joint": slices.Equal(got.GPUs[0].Sources, Sources{"redfish", "sysfs"}),
	} {
		if !ok {
			t.Errorf("not joined: %s", what)
		}
	}
	inband, bmc := both()
	inband.DIMMs[1].Serial, bmc.DIMMs[1].Slot = "", "A_2"
	if got := Join(inband, bmc); got.DIMMs[1].Part != "M393" {
		t.Error("a DIMM without a serial is not joined by its slot")
	}
}

// TestDisagreements breaks the healthy server in one way at a time.
func TestDisagreements(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(inband, bmc *Inventory)
		code Code
		says string
	}{
		"a DIMM the kernel lacks": {func(i, _ *Inventory) { i.DIMMs = i.DIMMs[:1] }, CodeDIMMsDisagree, "in-band 1, BMC 2; only the BMC sees DIMM A2 serial 0x8633dadd"},
		"a DIMM the BMC lacks":    {func(_, b *Inventory) { b.DIMMs = b.DIMMs[:1] }, CodeDIMMsDisagree, "only the server sees A2"},
		"memory":                  {func(i, _ *Inventory) { i.Memory.SizeBytes = 32 << 30 }, CodeMemoryDisagrees, "in-band 32.0 GiB, BMC 64.0 GiB"},
		"a CPU":                   {func(i, _ *Inventory) { i.CPUs = i.CPUs[:1] }, CodeCPUsDisagree, "in-band 1, BMC 2"},
		"a drive": {func(_, b *Inventory) { b.Drives = append(b.Drives, Drive{Slot: "Bay 9", Serial: "S9", Model: "M"}) },
			CodeDrivesDisagree, "the BMC sees M serial S9"},
		"serial":          {func(i, _ *Inventory) { i.System.Serial = "OTHER" }, CodeSerialDisagrees, "OTHER"},
		"UUID":            {func(i, _ *Inventory) { i.System.UUID = "11223344-5566-4788-99aa-bbccddeeff01" }, CodeUUIDDisagrees, "11223344"},
		"UUID byte order": {func(i, _ *Inventory) { i.System.UUID = i.System.UUID.Swapped() }, CodeUUIDByteOrder, "44454c4c"},
		"BIOS":            {func(i, _ *Inventory) { i.BIOS.Version = "U30" }, CodeFirmwareDisagrees, "U30"},
		"drive firmware":  {func(i, _ *Inventory) { i.Drives[0].Firmware = "GC57" }, CodeFirmwareDisagrees, "GC57"},
		"model":           {func(i, _ *Inventory) { i.System.Model = "PowerEdge R640" }, CodeModelDisagrees, "R640"},
		"a SAS link":      {func(_, b *Inventory) { b.Drives[1].LinkMbps, b.Drives[1].MaxLinkMbps = 6000, 12000 }, CodeLinkSlow, "rated for 12 Gb/s runs at 6 Gb/s"},
	} {
		inband, bmc := both()
		c.set(&inband, &bmc)
		var codes []Code
		var evidence string
		for _, f := range Join(inband, bmc).Findings {
			codes = append(codes, f.Code)
			evidence += f.Evidence
			if f.Part == "" || f.Severity == "" || f.Source != "join" {
				t.Errorf("%s: %+v lacks something", name, f)
			}
		}
		if d := cmp.Diff([]Code{c.code}, codes); d != "" || !strings.Contains(evidence, c.says) {
			t.Errorf("%s: evidence %q, want %q; codes (-want +got):\n%s", name, evidence, c.says, d)
		}
	}
}

// TestSlowLinks is for a record that the kernel has no part in.
func TestSlowLinks(t *testing.T) {
	slow := PCIeLink{SpeedGTs: 8, Width: 4, MaxSpeedGTs: 32, MaxWidth: 4}
	for name, c := range map[string]struct {
		pci  []PCIDevice
		says string
	}{
		"an NVMe drive":         {[]PCIDevice{{Class: "010802", Link: slow}}, "rated for 32 GT/s x4 runs at 8 GT/s x4"},
		"two ports of one card": {[]PCIDevice{{BDF: "0000:3b:00.0", Slot: "2", Class: "020000", Link: slow}, {BDF: "0000:3b:00.1", Slot: "2", Class: "020000", Link: slow}}, "rated for 32"},
		"fewer lanes":           {[]PCIDevice{{Slot: "2", Class: "020000", Link: PCIeLink{SpeedGTs: 16, Width: 4, MaxSpeedGTs: 16, MaxWidth: 8}}}, "x8 runs at 16 GT/s x4"},
		"a GPU that idles":      {[]PCIDevice{{Slot: "7", Class: "030200", Link: slow}}, ""},
		"a port on the board":   {[]PCIDevice{{Slot: "Embedded", Class: "020000", Link: slow}}, ""},
		"an unknown link":       {[]PCIDevice{{Slot: "2", Class: "020000", Link: PCIeLink{MaxSpeedGTs: 16, MaxWidth: 8}}}, ""},
		"as fast as it can":     {[]PCIDevice{{Slot: "2", Class: "020000", Link: PCIeLink{SpeedGTs: 16, Width: 8, MaxSpeedGTs: 16, MaxWidth: 8}}}, ""},
	} {
		got := Inventory{PCI: c.pci}.SlowLinks("redfish")
		if c.says == "" && len(got) > 0 || c.says != "" && (len(got) != 1 || !strings.Contains(got[0].Evidence, c.says)) {
			t.Errorf("%s: %v; want %q", name, got, c.says)
		}
	}
	inband, bmc := both()
	bmc.Findings = []Finding{{Code: CodePCIeLinkReduced, Part: "pci", Source: "redfish"}}
	if got := Join(inband, bmc).Findings; len(got) > 0 {
		t.Errorf("what the kernel says better is said twice: %v", got)
	}
}

// TestNoFalseAlarm has what differs on healthy servers.
func TestNoFalseAlarm(t *testing.T) {
	for name, set := range map[string]func(inband, bmc *Inventory){
		"a RAID controller hides drives": func(i, b *Inventory) { i.Drives, b.Volumes = i.Drives[:1], []Volume{{ID: "0"}} },
		"a BMC that knows fewer drives":  func(_, b *Inventory) { b.Drives = b.Drives[:1] },
		"no serial in common": func(i, b *Inventory) {
			i.Drives = []Drive{{Name: "sda", Serial: "PERC"}}
		},
		"a BMC that knows nothing": func(_, b *Inventory) { *b = Inventory{} },
	} {
		inband, bmc := both()
		set(&inband, &bmc)
		if got := Join(inband, bmc).Findings; len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}
