package inventory

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/hardware"
)

// TestMergePSUs has SMBIOS and the BMC name the same power supply, and the BMC
// one more.
func TestMergePSUs(t *testing.T) {
	inv := hardware.Inventory{PSUs: []hardware.PSU{{Slot: "PSU bay 1", Serial: "D123", CapacityWatt: 800, Sources: hardware.Sources{"smbios"}}}}
	before := inv
	merge(&inv, hardware.Inventory{PSUs: []hardware.PSU{
		{Name: "PSU1", Serial: "D123", Firmware: "1.0", CapacityWatt: 750, Kind: "ac", Sources: hardware.Sources{"ipmi"}},
		{Name: "PSU2", Sources: hardware.Sources{"ipmi"}}}})
	want := []hardware.PSU{{Slot: "PSU bay 1", Serial: "D123", Firmware: "1.0", CapacityWatt: 800, Kind: "ac", Sources: hardware.Sources{"smbios", "ipmi"}},
		{Name: "PSU2", Sources: hardware.Sources{"ipmi"}}}
	if d := cmp.Diff(want, inv.PSUs); d != "" {
		t.Error(d)
	}
	if before.PSUs[0].Firmware != "" {
		t.Error("merging changes what was told before")
	}
}
