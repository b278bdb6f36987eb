package hardware

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rack is a server with two of many kinds of parts.
func rack() Inventory {
	return Inventory{
		System: System{Serial: "X1"}, BIOS: BIOS{Version: "1.0", Attributes: map[string]string{"BootMode": "Uefi", "HT": "On"}},
		Memory: Memory{SizeBytes: 32 << 30},
		CPUs:   []CPU{{Socket: "CPU0", Cores: 32, Flags: []string{"sse", "avx"}}},
		DIMMs: []DIMM{{Slot: "A1", Serial: "D1", SizeBytes: 16 << 30, ConfiguredMTs: 3200},
			{Slot: "B1", Serial: "D2", SizeBytes: 16 << 30, ConfiguredMTs: 3200}},
		Drives: []Drive{{Name: "nvme0n1", Serial: "S1", Slot: "Bay 0", Firmware: "F1"}, {Name: "sda", Serial: "S2", Slot: "Bay 1"}},
		NICs:   []NIC{{MAC: "52:54:00:00:00:01", BDF: "0000:01:00.0", Carrier: Enabled, LinkMbps: 25000}},
		PSUs:   []PSU{{Name: "PSU 1", Serial: "P1"}, {Name: "PSU 2", Serial: "P2"}},
		PCI: []PCIDevice{{BDF: "0000:01:00.0", Class: "020000", Link: PCIeLink{SpeedGTs: 16, Width: 8, MaxSpeedGTs: 16, MaxWidth: 8}},
			{BDF: "0000:41:00.0", Class: "030200", Link: PCIeLink{SpeedGTs: 32, Width: 16}}},
	}
}

func TestDiff(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Inventory)
		want   []Change
	}{
		{"nothing", func(*Inventory) {}, nil},
		{"what moves", func(i *Inventory) {
			i.Drives[0].Name, i.NICs[0].Carrier, i.NICs[0].LinkMbps, i.Kernel.Release = "nvme1n1", Disabled, 0, "7"
			i.PCI[1].Link.SpeedGTs = 2.5 // a GPU without work
			slices.Reverse(i.DIMMs)
		}, nil},
		{"a fact no longer known", func(i *Inventory) { i.System.Serial, i.PSUs, i.BIOS.Attributes = "", nil, nil }, nil},
		{"a DIMM gone", func(i *Inventory) { i.DIMMs = i.DIMMs[:1]; i.Memory.SizeBytes = 16 << 30 }, []Change{
			{Degraded, "memory", "size_bytes", "32.0 GiB", "16.0 GiB"},
			{Kind: Gone, Part: "dimm B1", Was: "16.0 GiB serial D2"}}},
		{"a DIMM replaced", func(i *Inventory) { i.DIMMs[1].Serial = "D9" }, []Change{
			{Kind: Gone, Part: "dimm B1", Was: "16.0 GiB serial D2"}, {Kind: New, Part: "dimm B1", Now: "16.0 GiB serial D9"}}},
		{"DIMMs swapped", func(i *Inventory) { i.DIMMs[0].Slot, i.DIMMs[1].Slot = "B1", "A1" }, []Change{
			{Moved, "dimm B1", "", "A1", "B1"}, {Moved, "dimm A1", "", "B1", "A1"}}},
		{"a slower DIMM", func(i *Inventory) { i.DIMMs[0].ConfiguredMTs = 2400 }, []Change{{Degraded, "dimm A1", "configured_mts", "3200", "2400"}}},
		{"a drive more", func(i *Inventory) { i.Drives = append(i.Drives, Drive{Serial: "S3", Slot: "Bay 2", Model: "Y"}) }, []Change{
			{Kind: New, Part: "drive Bay 2", Now: "Y serial S3"}}},
		{"firmware", func(i *Inventory) {
			i.Drives[0].Firmware = "F2"
			i.BIOS.Version = "1.1"
			i.BIOS.Attributes["HT"] = "Off"
		}, []Change{
			{Changed, "bios", "version", "1.0", "1.1"}, {Changed, "bios", "attributes.HT", "On", "Off"}, {Changed, "drive Bay 0", "firmware", "F1", "F2"}}},
		{"a link that came down", func(i *Inventory) { i.NICs[0].LinkMbps = 1000; i.PCI[0].Link.Width = 4 }, []Change{
			{Degraded, "nic 0000:01:00.0", "link_mbps", "25000", "1000"}, {Degraded, "pci 0000:01:00.0", "link.width", "8", "4"}}},
		{"a flag", func(i *Inventory) { i.CPUs[0].Flags = []string{"sse", "amx"} }, []Change{{Changed, "cpu CPU0", "flags", "avx", "amx"}}},
		{"all drives gone", func(i *Inventory) { i.Drives = nil }, []Change{
			{Kind: Gone, Part: "drive Bay 0", Was: "serial S1"}, {Kind: Gone, Part: "drive Bay 1", Was: "serial S2"}}},
	} {
		now := rack()
		c.change(&now)
		if d := cmp.Diff(c.want, Diff(rack(), now)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func TestShrinks(t *testing.T) {
	for kind, want := range map[ChangeKind]bool{Gone: true, Degraded: true, New: false, Moved: false, Changed: false} {
		if got := (Change{Kind: kind}).Shrinks(); got != want {
			t.Errorf("%s shrinks = %v; want %v", kind, got, want)
		}
	}
}

// TestDiffKnowsEveryList fails when a list of parts is added to the record
// and not to the diff.
func TestDiffKnowsEveryList(t *testing.T) {
	record := reflect.TypeFor[Inventory]()
	for i := range record.NumField() {
		f := record.Field(i)
		known := slices.ContainsFunc(kinds, func(k kind) bool { return k.field == f.Name })
		if f.Type.Kind() == reflect.Slice && f.Name != "Findings" && f.Name != "DIMMSlots" && !known {
			t.Errorf("Diff does not look at %s", f.Name)
		}
	}
	for _, k := range kinds {
		f, _ := record.FieldByName(k.field)
		for _, name := range slices.Concat(k.serials, k.places, k.what) {
			if _, ok := f.Type.Elem().FieldByName(name); !ok {
				t.Errorf("%s has no field %s", k.field, name)
			}
		}
	}
	one, other := whole[Inventory](2, plain), whole[Inventory](2, plain)
	if d := Diff(one, other); d != nil {
		t.Errorf("Diff of a whole record with itself = %v", d)
	}
}

// What one source alone knew cannot be missed where it was not read.
func TestWithout(t *testing.T) {
	inv := rack()
	inv.Drives[0].Sources, inv.Drives[1].Sources = Sources{"redfish"}, Sources{"redfish", "storage"}
	got := inv.Without("redfish")
	if len(got.Drives) != 1 || got.Drives[0].Serial != "S2" || len(inv.Drives) != 2 {
		t.Errorf("drives = %+v of %d; want the one that another source knows", got.Drives, len(inv.Drives))
	}
	inv.Drives, inv.DIMMs = inv.Drives[:0], inv.DIMMs[:1]
	for _, c := range Diff(got, inv) {
		if c.Part == "drive Bay 0" {
			t.Errorf("a drive that was not looked for: %v", c)
		}
	}
}

// Readings that are too many for a message lose what can be read again.
func TestReadingsFit(t *testing.T) {
	long := strings.Repeat("x", 250)
	var r Readings
	for range 600 {
		r.Sensors = append(r.Sensors, Sensor{Name: long, Kind: long, Status: long})
	}
	for range 16 {
		l := Log{Name: long, Entries: 64}
		for range 64 {
			l.Newest = append(l.Newest, LogEntry{Text: long, Sensor: long})
		}
		r.Logs = append(r.Logs, l)
	}
	r.PowerState = PowerOn
	b, err := r.Encode()
	if err != nil || len(b) > MaxInventoryBytes {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	got, err := DecodeReadings(b)
	if err != nil || got.PowerState != PowerOn || len(got.Logs) != 16 || got.Logs[0].Entries != 64 {
		t.Errorf("%v, %+v", err, got.PowerState)
	}
	if len(r.Sensors) != 600 || len(r.Logs[0].Newest) != 64 {
		t.Error("what was encoded has lost something itself")
	}
}

// Readings with times in them are put together, and encoded, like others.
func TestReadingsWithTimes(t *testing.T) {
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	with := Readings{BMCTime: &at, Logs: []Log{{Name: "SEL", LastErased: &at, Newest: []LogEntry{{Time: &at, Text: "x"}}}}}
	var r Readings
	r.Add(with)
	*with.Logs[0].Newest[0].Time = at.Add(time.Hour)
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeReadings(b)
	if err != nil || !got.Logs[0].Newest[0].Time.Equal(time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v, %v; want the time as it was", got, err)
	}
}

// What a server and its BMC both read stands once, by the server's word.
func TestJoinReadings(t *testing.T) {
	f := func(v float64) *float64 { return &v }
	r := Readings{Links: []Link{{MAC: "52:54:00:00:00:01", LinkMbps: 1000}}, Sensors: []Sensor{{Name: "12V", Kind: "voltage", Value: f(12)}, {Name: "Fan", Kind: "fan"}},
		Drives: []DriveReading{{Name: "sda", Serial: "S1"}}}
	r.Join(Readings{PowerState: PowerOn, Links: []Link{{MAC: "52:54:00:00:00:01"}, {MAC: "52:54:00:00:00:02"}}, Sensors: []Sensor{{Name: "12v", Kind: "voltage"}, {Name: "Fan", Kind: "state"}, {Name: "Fan", Kind: "state"}},
		Drives: []DriveReading{{Name: "Bay 0", Serial: "s1"}, {Name: "Bay 1"}}, Logs: []Log{{Name: "SEL"}}})
	if len(r.Links) != 2 || r.Links[0].LinkMbps != 1000 || len(r.Sensors) != 4 || *r.Sensors[0].Value != 12 || len(r.Drives) != 2 || len(r.Logs) != 1 || r.PowerState != PowerOn {
		t.Errorf("joined: %+v", r)
	}
}
