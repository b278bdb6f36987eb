package smbios

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// table is one structure: formatted part from offset 4, then strings.
func table(kind byte, formatted []byte, strs ...string) []byte {
	b := append([]byte{kind, byte(4 + len(formatted)), kind, 0}, formatted...)
	for _, s := range strs {
		b = append(append(b, s...), 0)
	}
	if len(strs) == 0 {
		b = append(b, 0)
	}
	return append(b, 0)
}

func device(size uint16, ext uint32, locator, bank byte) []byte {
	b := make([]byte, 0x24-4)
	binary.LittleEndian.PutUint16(b[0x0c-4:], size)
	b[0x10-4], b[0x11-4], b[0x12-4] = locator, bank, 0x1a
	binary.LittleEndian.PutUint16(b[0x15-4:], 3200)
	binary.LittleEndian.PutUint32(b[0x1c-4:], ext)
	return b
}

var end = table(127, nil)

func TestMemoryDevices(t *testing.T) {
	tables := append([]byte{}, table(17, device(0, 0, 1, 0), "A1")...)
	for _, d := range [][]byte{
		table(17, device(0x7fff, 0x20000, 1, 0), "A2"),   // 128 GiB in the extended field
		table(17, device(0x8000|512, 0, 1, 0), "A3"),     // KiB
		table(17, device(0xffff, 0, 1, 0), "A4"),         // unknown size
		table(17, device(1024, 0, 1, 2), "A2", "BANK 1"), // a locator that is taken
		end,
	} {
		tables = append(tables, d...)
	}
	inv, err := Decode(nil, tables)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, d := range inv.DIMMs {
		got[d.Slot] = d.SizeBytes
	}
	want := map[string]uint64{"A2": 128 << 30, "A3": 512 << 10, "A4": 0, "BANK 1 A2": 1 << 30}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("DIMMs (-want +got):\n%s", d)
	}
	if len(inv.DIMMSlots) != 5 || inv.DIMMSlots[0].Populated {
		t.Errorf("slots = %+v", inv.DIMMSlots)
	}
	if want := uint64(128<<30 + 512<<10 + 1<<30); inv.Memory.SizeBytes != want {
		t.Errorf("memory = %d; want %d", inv.Memory.SizeBytes, want)
	}
}

func TestOneBrokenStructureCostsItself(t *testing.T) {
	system := make([]byte, 0x1b-4)
	system[0], system[1], system[3] = 1, 2, 3
	copy(system[4:], "\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff")
	tables := append(table(4, []byte{1, 2}), table(1, system, "ACME", "Box", "0123456789")...)
	inv, err := Decode(nil, append(tables, end...))
	if err != nil {
		t.Fatal(err)
	}
	if s := inv.System; s.Model != "Box" || s.Serial != "" || s.UUID != "00112233-4455-6677-8899-aabbccddeeff" {
		t.Errorf("system = %+v", s)
	}
	n := 0
	for _, f := range inv.Findings {
		if f.Code != hardware.CodeSourceMalformed {
			t.Errorf("finding %v", f)
		}
		n++
	}
	if n != 2 { // the entry point and the processor
		t.Errorf("findings = %v; want two", inv.Findings)
	}
}

// formatted is a structure's fixed part from offset 4, with bytes set by their
// offset in the specification.
func formatted(length int, at map[int][]byte) []byte {
	b := make([]byte, length)
	for offset, v := range at {
		copy(b[offset:], v)
	}
	return b[4:]
}

func TestDevices(t *testing.T) {
	tables := slices.Concat(
		table(16, formatted(0x0f, map[int][]byte{0x05: {3, 6}})),
		table(17, formatted(0x5c, map[int][]byte{0x08: {80, 0, 64, 0}, 0x0c: {0xff, 0x7f}, 0x0e: {9, 0, 1, 2, 0x22, 0, 0x20}, 0x15: {0xff, 0xff}, 0x1b: {2, 0, 0, 1, 0, 0xc0, 0x12},
			0x54: {0, 0, 1, 0}}), "A1", "NODE 0"),
		table(39, formatted(0x16, map[int][]byte{0x05: {1, 2, 3, 4, 0, 5, 0, 0x20, 3, 2, 0}}), "PSU bay 1", "PWS", "Delta", "D123", "DPS-800"),
		table(39, formatted(0x16, map[int][]byte{0x05: {1, 2, 3, 4, 0, 5, 0, 0x20, 3, 0, 0}}), "PSU bay 2", "PWS", "Delta", "D124", "DPS-800"),
		table(45, formatted(0x18, map[int][]byte{0x04: {1, 2, 0, 3, 0, 4, 5, 0}, 0x14: {1, 0, 4}}), "BMC", "1.44", "id-1", "03/09/2025", "ACME"),
		table(45, formatted(0x18, map[int][]byte{0x04: {1}, 0x16: {5}}), "an absent one"),
		table(43, formatted(0x1f, map[int][]byte{0x04: []byte("IFX\x00"), 0x08: {2, 0, 3, 0, 7, 0}})),
		end)
	inv, err := Decode(nil, tables)
	if err != nil {
		t.Fatal(err)
	}
	want := hardware.Inventory{
		Memory: hardware.Memory{SizeBytes: 64 << 30, ECC: "multi-bit", Sources: from},
		TPM:    hardware.TPM{Version: "2.0", Manufacturer: "IFX", Firmware: "7.3", Sources: from},
		DIMMs: []hardware.DIMM{{Slot: "A1", SizeBytes: 64 << 30, SpeedMTs: 65536, ConfiguredMTs: 4800, Type: "DDR5", Module: "RDIMM",
			FormFactor: "DIMM", Ranks: 2, ECC: hardware.Enabled, Bank: "NODE 0", Sources: from}},
		DIMMSlots: []hardware.DIMMSlot{{Name: "A1", Populated: true, Sources: from}},
		PSUs:      []hardware.PSU{{Name: "PWS", Slot: "PSU bay 1", Manufacturer: "Delta", Serial: "D123", Part: "DPS-800", CapacityWatt: 800, Sources: from}},
		Firmware: []hardware.Firmware{{Name: "BMC", Version: "1.44", ID: "id-1", Date: "2025-03-09", Manufacturer: "ACME",
			Updateable: hardware.Enabled, Sources: from}},
	}
	inv.Findings = nil // the entry point
	if d := cmp.Diff(want, inv); d != "" {
		t.Errorf("Decode (-want +got):\n%s", d)
	}
}

// TestWithoutTables reads what is left for a user who is not root.
func TestWithoutTables(t *testing.T) {
	root := t.TempDir()
	for file, content := range map[string]string{"sys_vendor": "ACME\n", "product_name": "Box 1\n", "bios_date": "03/09/2026\n", "chassis_type": "23\n",
		"board_asset_tag": "To be filled by O.E.M.\n"} {
		p := filepath.Join(root, "sys/class/dmi/id", file)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	inv := withoutTables(sysfs.Root(root))
	inv.Normalize()
	if inv.System.Model != "Box 1" || inv.BIOS.Date != "2026-03-09" || inv.Chassis.Type != "Rack Mount Chassis" || inv.Baseboard.AssetTag != "" ||
		len(inv.Findings) != 1 || inv.Findings[0].Code != hardware.CodeNotPermitted {
		t.Errorf("withoutTables = %+v", inv)
	}
}

func TestPlaces(t *testing.T) {
	slot := func(bus, devfn byte) []byte {
		return formatted(0x11, map[int][]byte{0x04: {1}, 0x0d: {0, 0, bus, devfn}})
	}
	tables := slices.Concat(
		table(9, slot(0x3b, 0x00), "PCIe Slot 1"), table(9, slot(0, 0), "empty"), table(9, slot(0xff, 0), "empty too"),
		table(9, formatted(0x0d, nil), "of SMBIOS 2.0"),
		table(41, formatted(0x0b, map[int][]byte{0x04: {1, 0x85, 1, 1, 0, 2, 0x0b}}), "Embedded NIC 2"), end)
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, filepath.Dir(dmi)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, dmi), tables, 0o644); err != nil {
		t.Fatal(err)
	}
	slots, onboard := Places(sysfs.Root(root))
	if d := cmp.Diff(map[hardware.BDF]string{"0000:3b:00.0": "PCIe Slot 1"}, slots); d != "" {
		t.Errorf("slots (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[hardware.BDF]string{"0001:02:01.3": "Embedded NIC 2"}, onboard); d != "" {
		t.Errorf("devices of the board (-want +got):\n%s", d)
	}
	if slots, onboard = Places(sysfs.Root(t.TempDir())); len(slots)+len(onboard) != 0 {
		t.Errorf("Places of nothing = %v, %v", slots, onboard)
	}
}

// TestRecordedTables reads the dumps that u-root's module carries.
func TestRecordedTables(t *testing.T) {
	dir := dumps(t)
	b, err := os.ReadFile(filepath.Join(dir, "smbios_table.bin"))
	if err != nil {
		t.Fatal(err)
	}
	inv, err := Decode(b[:32], b[32:])
	if err != nil {
		t.Fatal(err)
	}
	if inv.System.Manufacturer == "" || inv.BIOS.Date == "" || inv.System.Sources == nil {
		t.Errorf("system %+v, BIOS %+v", inv.System, inv.BIOS)
	}
	if b, err = os.ReadFile(filepath.Join(dir, "satellite_pro_l70_testdata.bin")); err != nil {
		t.Fatal(err)
	}
	if inv, err = Decode(b[:32], b[32:]); err != nil {
		t.Fatal(err)
	}
	if len(inv.CPUs) != 1 || inv.Memory.SizeBytes == 0 || !strings.Contains(strings.ToUpper(inv.System.Manufacturer), "TOSHIBA") {
		t.Errorf("laptop: %+v, %+v, %+v", inv.System, inv.CPUs, inv.Memory)
	}
}

func dumps(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/u-root/u-root").Output()
	if err != nil {
		t.Fatalf("find u-root's module: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "pkg/smbios/testdata")
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"smbios_table.bin", "satellite_pro_l70_testdata.bin"} {
		b, err := os.ReadFile(filepath.Join(dumps(f), name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:32], b[32:])
	}
	f.Add([]byte{}, append(table(17, device(1024, 0, 1, 2), "A1"), end...))
	f.Fuzz(func(t *testing.T, entry, tables []byte) {
		inv, err := Decode(entry, tables)
		if err != nil {
			t.Skip(err) // a panic of the decoder, turned into an error
		}
		if len(inv.DIMMs) > len(inv.DIMMSlots) {
			t.Errorf("%d DIMMs in %d slots", len(inv.DIMMs), len(inv.DIMMSlots))
		}
		if _, err := inv.Encode(); err != nil {
			t.Errorf("Encode: %v", err)
		}
	})
}
