package inventory

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

func TestMergeCPUs(t *testing.T) {
	firmware := []hardware.CPU{{Socket: "P0", Model: "pc-q35", Cores: 8, Threads: 16, MaxMHz: 2000, Serial: "S", Sources: hardware.Sources{"smbios"}}}
	kernel := []hardware.CPU{{Socket: "CPU 0", Model: "EPYC", Manufacturer: "AMD", Family: 25, Cores: 4, Threads: 4, Microcode: "0x1", Flags: []string{"fpu"}, Sources: hardware.Sources{"cpu"}}}
	want := []hardware.CPU{{Socket: "P0", Model: "EPYC", Manufacturer: "AMD", Family: 25, Cores: 8, Threads: 16, MaxMHz: 2000, Serial: "S", Microcode: "0x1",
		Flags: []string{"fpu"}, Sources: hardware.Sources{"smbios", "cpu"}}}
	if d := cmp.Diff(want, mergeCPUs(firmware, kernel)); d != "" {
		t.Errorf("x86 (-want +got):\n%s", d)
	}
	kernel[0].Family, kernel[0].Model, firmware[0].Model, firmware[0].Manufacturer = 0, "Neoverse-N1", "Altra Q80-30", "Ampere"
	if got := mergeCPUs(firmware, kernel)[0]; got.Model != "Altra Q80-30" || got.Manufacturer != "Ampere" {
		t.Errorf("ARM: %s %s", got.Manufacturer, got.Model)
	}
	if firmware[0].Microcode != "" {
		t.Error("mergeCPUs changed what it was given")
	}
}

func TestNeighborsAndAdapters(t *testing.T) {
	var inv hardware.Inventory
	ports := []hardware.NIC{
		{Name: "b", Bus: "pci", BDF: "0000:3b:00.1", Firmware: "1.2", Sources: hardware.Sources{"nic"}},
		{Name: "a", Bus: "pci", BDF: "0000:3b:00.0", Sources: hardware.Sources{"nic"}},
		{Name: "usb0", Bus: "usb", BDF: "0000:00:14.0", Sources: hardware.Sources{"nic"}},
	}
	merge(&inv, hardware.Inventory{NICs: ports})
	merge(&inv, hardware.Inventory{NICs: []hardware.NIC{
		{Name: "b", Neighbor: hardware.Neighbor{SystemName: "leaf1"}, Sources: hardware.Sources{"lldp"}},
		{Name: "c", Neighbor: hardware.Neighbor{SystemName: "leaf2"}, Sources: hardware.Sources{"lldp"}}}})
	merge(&inv, hardware.Inventory{PCI: []hardware.PCIDevice{
		{BDF: "0000:3b:00.0", Vendor: "Mellanox", Device: "CX-5", Slot: "Slot 1", VPD: hardware.VPD{Serial: "MT1", Product: "ConnectX-5 EN"}, Sources: hardware.Sources{"pci"}},
		{BDF: "0000:3b:00.1", Vendor: "Mellanox", Device: "CX-5", Slot: "Slot 1"}, {BDF: "0000:00:14.0", Vendor: "Intel"}}})
	adapters(&inv)
	if d := cmp.Diff([]hardware.Adapter{{Name: "Mellanox CX-5", Manufacturer: "Mellanox", Model: "ConnectX-5 EN", Serial: "MT1", Firmware: "1.2", Slot: "Slot 1",
		BDF: "0000:3b:00.0", Ports: 2, Sources: hardware.Sources{"pci"}}}, inv.Adapters); d != "" {
		t.Errorf("adapters (-want +got):\n%s", d)
	}
	got := map[string][3]string{}
	for _, n := range inv.NICs {
		got[n.Name] = [3]string{n.Neighbor.SystemName, n.Adapter, n.Slot}
	}
	if d := cmp.Diff(map[string][3]string{"a": {"", "Mellanox CX-5", "Slot 1"}, "b": {"leaf1", "Mellanox CX-5", "Slot 1"}, "c": {"leaf2", "", ""}, "usb0": {"", "", ""}}, got); d != "" {
		t.Errorf("ports (-want +got):\n%s", d)
	}
	if ports[0].Neighbor.SystemName != "" || ports[0].Adapter != "" {
		t.Error("merge changed what it was given")
	}
}
