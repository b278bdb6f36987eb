package hardware

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExpectedFind(t *testing.T) {
	e := Expected{Machines: []ExpectedMachine{
		{Serial: "X2", MACs: []MAC{"52:54:00:00:00:01"}, Rack: "r2"}, {Serial: "x1", Rack: "r1"}, {MACs: []MAC{"52:54:00:00:00:09"}, Rack: "r9"}}}
	for _, c := range []struct {
		aliases []Alias
		rack    string
	}{
		{[]Alias{"serial:X1", "mac:52:54:00:00:00:01"}, "r1"}, // a serial stands before a MAC
		{[]Alias{"serial:other", "mac:52:54:00:00:00:01"}, "r2"},
		{[]Alias{"mac:52:54:00:00:00:09"}, "r9"},
		{[]Alias{"bmc-mac:52:54:00:00:00:09", "board-serial:X1"}, ""},
		{nil, ""},
	} {
		got, ok := e.Find(c.aliases)
		if got.Rack != c.rack || ok != (c.rack != "") {
			t.Errorf("Find(%v) = %q, %v; want %q", c.aliases, got.Rack, ok, c.rack)
		}
	}
}

func TestSKUCompare(t *testing.T) {
	server := func() Inventory {
		return Inventory{
			System: System{Manufacturer: "Ingot Lab", Model: "LS-1"}, BIOS: BIOS{Version: "2.1"}, Memory: Memory{SizeBytes: 64 << 30},
			CPUs:  []CPU{{Socket: "CPU0", Model: "Xeon Gold 6354", Cores: 18}, {Socket: "CPU1", Model: "Xeon Gold 6354", Cores: 18}},
			DIMMs: []DIMM{{Slot: "A"}, {Slot: "B"}},
			Drives: []Drive{{Model: "Big 1", SizeBytes: 4e12, Transport: TransportNVMe}, {Model: "Big 2", SizeBytes: 4e12, Transport: TransportNVMe},
				{Model: "Boot", SizeBytes: 480e9, Transport: TransportSATA}},
			NICs: []NIC{{MaxMbps: 25000}, {MaxMbps: 25000}, {MaxMbps: 1000}, {Bus: "usb", MaxMbps: 1000}},
		}
	}
	sku := SKU{Manufacturer: "ingot", Model: "LS-1", CPUs: 2, CPUModel: "gold 6354", Cores: 36, MemoryBytes: 64 << 30, DIMMs: 2, BIOS: "2.1",
		Drives: []ExpectedDrive{{Count: 1, SizeBytes: 400e9, Transport: TransportSATA}, {Count: 2, SizeBytes: 3e12, Transport: TransportNVMe}},
		NICs:   []ExpectedNIC{{Count: 1, Mbps: 1000}, {Count: 2, Mbps: 25000}}}
	for _, c := range []struct {
		name   string
		change func(*Inventory)
		want   []string
	}{
		{"as ordered", func(*Inventory) {}, nil},
		{"nothing known", func(i *Inventory) { i.System, i.BIOS = System{}, BIOS{} }, nil},
		{"a DIMM less", func(i *Inventory) { i.DIMMs, i.Memory.SizeBytes = i.DIMMs[:1], 32<<30 },
			[]string{"warning memory: expected 64.0 GiB, found 32.0 GiB", "warning dimms: expected 2, found 1"}},
		{"a DIMM more", func(i *Inventory) { i.DIMMs = append(i.DIMMs, DIMM{}) }, []string{"info dimms: expected 2, found 3"}},
		{"another CPU", func(i *Inventory) { i.CPUs[1].Model = "Xeon Silver" },
			[]string{"warning cpu CPU1: model: expected gold 6354, found Xeon Silver"}},
		{"a small drive for a large", func(i *Inventory) { i.Drives[1].SizeBytes = 1e12 }, []string{"warning drives of 2.7 TiB nvme: expected 2, found 1"}},
		{"a slow port", func(i *Inventory) { i.NICs[0].MaxMbps = 10000 }, []string{"warning nics of 25000 Mbit/s: expected 2, found 1"}},
		{"the 1G port gone", func(i *Inventory) { i.NICs = append(i.NICs[:2], i.NICs[3]) }, []string{"warning nics of 1000 Mbit/s: expected 1, found 0"}},
		{"old BIOS", func(i *Inventory) { i.BIOS.Version = "1.9" }, []string{"warning bios: version: expected 2.1, found 1.9"}},
	} {
		inv := server()
		c.change(&inv)
		var got []string
		for _, f := range sku.Compare(inv) {
			if f.Code != CodeSKUDiffers || f.Hint == "" || f.Source != "expected" {
				t.Errorf("%s: finding %+v", c.name, f)
			}
			got = append(got, string(f.Severity)+" "+f.Part+": "+f.Evidence)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func TestDrift(t *testing.T) {
	got := Drift([]Change{{Kind: Gone, Part: "dimm B1", Was: "16.0 GiB"}, {Kind: New, Part: "drive Bay 2", Now: "Y"}})
	if len(got) != 2 || got[0].Severity != Warning || got[1].Severity != Info || got[0].Evidence != "gone: dimm B1: 16.0 GiB" || got[0].Code != CodeBaselineDiffers {
		t.Errorf("Drift = %+v", got)
	}
}

// Merging replaces a machine by its serial, keeps the others, and changes
// nothing the second time.
func TestExpectedMerge(t *testing.T) {
	old := Expected{SKUs: map[string]SKU{"A": {CPUs: 1}, "B": {CPUs: 2}}, Machines: []ExpectedMachine{
		{Serial: "X1", Rack: "r1", Unit: 1}, {Serial: "X2", Rack: "r1", Unit: 2}, {MACs: []MAC{"52:54:00:00:00:09"}, Rack: "r9"}}}
	more := Expected{SKUs: map[string]SKU{"A": {CPUs: 4}}, Machines: []ExpectedMachine{
		{Serial: "x2", Rack: "r10", Unit: 2, SKU: "A"}, {MACs: []MAC{"52:54:00:00:00:08", "52:54:00:00:00:09"}, Rack: "r2"}}}
	want := Expected{Schema: ExpectedSchema, SKUs: map[string]SKU{"A": {CPUs: 4}, "B": {CPUs: 2}}, Machines: []ExpectedMachine{
		{Serial: "X1", Rack: "r1", Unit: 1}, {MACs: more.Machines[1].MACs, Rack: "r2"}, {Serial: "x2", Rack: "r10", Unit: 2, SKU: "A"}}}
	got := old.Merge(more)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Merge (-want +got):\n%s", d)
	}
	if d := cmp.Diff(got, got.Merge(more)); d != "" {
		t.Errorf("merging again changes (-first +again):\n%s", d)
	}
	if old.SKUs["A"].CPUs != 1 {
		t.Error("Merge changed what it was called on")
	}
}
