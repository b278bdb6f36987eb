package lab

import (
	"testing"

	"github.com/u-root/u-root/pkg/smbios"
)

// TestMemoryStructures reads our type 16 and 17 with a foreign decoder.
func TestMemoryStructures(t *testing.T) {
	m := Rack()[0].machine(bmcAddress(0))
	for i, d := range m.DIMMs {
		table, rest, err := smbios.ParseTable(memoryDevice(i, &d))
		if err != nil || len(rest) != 0 {
			t.Fatalf("type 17 = %v, with %d bytes over", err, len(rest))
		}
		got, err := smbios.NewMemoryDevice(table)
		if err != nil {
			t.Fatal(err)
		}
		if got.SerialNumber != d.Serial || got.PartNumber != d.PartNumber || got.DeviceLocator != d.Slot || int64(got.GetSizeBytes()) != d.SizeBytes || int(got.Speed) != d.SpeedMTs {
			t.Errorf("type 17 = %+v; want %+v", got, d)
		}
	}
	array := memoryArray(&m, 3*gib)
	if got := len(array); got != 0x17+2 || int(array[1]) != 0x17 {
		t.Errorf("type 16 has %d bytes, header says %#x; want 0x17 and two zeros", got, array[1])
	}
}

func TestRackIsDistinct(t *testing.T) {
	seen := map[string]string{}
	for i, s := range shelf() {
		m := s.machine(bmcAddress(i))
		for what, value := range map[string]string{
			"serial": m.Serial, "uuid": formatUUID(m.UUID), "mac": m.NICs[0].MAC.String(), "bmc mac": m.Controller.MAC.String(),
			"drive": m.Drives[0].Serial, "dimm": m.DIMMs[0].Serial, "dimm 2": m.DIMMs[1].Serial, "bmc": m.Controller.Address.String(),
		} {
			if other, taken := seen[value]; taken {
				t.Errorf("%s of %s = %s, which is %s", what, s.Name, value, other)
			}
			seen[value] = what + " of " + s.Name
		}
	}
}

func TestChoose(t *testing.T) {
	got, err := Choose([]string{"rich", "bios", "rich"})
	if err != nil || len(got) != 2 || got[0].Name != "r1u3" || !got[0].Rich || got[1].Name != "r1u1" {
		t.Errorf("Choose = %+v, %v", got, err)
	}
	for _, bad := range [][]string{nil, {"mainframe"}} {
		if _, err := Choose(bad); err == nil {
			t.Errorf("Choose(%q) = nil; want an error", bad)
		}
	}
	s := shelf()[3]
	m := s.machine(bmcAddress(0))
	if told := s.told(m); len(told.DIMMs) != len(m.DIMMs)+1 || told.UUID == m.UUID || len(m.DIMMs) != 2 {
		t.Errorf("the BMC tells of %d DIMMs and %x; the machine has %d and %x", len(told.DIMMs), told.UUID, len(m.DIMMs), m.UUID)
	}
}
