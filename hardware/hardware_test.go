package hardware

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample() Inventory {
	return Inventory{
		System: System{Manufacturer: "Ingot Lab", Model: "LS-1", Serial: "X1", UUID: "11223344-5566-4788-99aa-bbccddeeff01", Sources: Sources{"smbios"}},
		Memory: Memory{SizeBytes: 3 << 30},
		BMC:    BMC{MAC: "52:54:00:bb:00:0b"},
		Kernel: Kernel{Release: "6.12"},
		CPUs:   []CPU{{Socket: "CPU 10"}, {Socket: "CPU 2"}},
		DIMMs:  []DIMM{{Slot: "A1", SizeBytes: 1 << 30}, {Slot: "A2", SizeBytes: 2 << 30}},
		Drives: []Drive{{Name: "nvme0n1", Serial: "S1", BDF: "0000:01:00.0"}, {Name: "sda", Serial: "S2", BDF: "0000:02:00.0"}},
		NICs:   []NIC{{Name: "eth0", MAC: "52:54:00:00:00:02", BDF: "0000:03:00.0"}, {Name: "eth1", MAC: "52:54:00:00:00:01", BDF: "0000:04:00.0"}},
		PCI:    []PCIDevice{{BDF: "0000:01:00.0", Driver: "nvme"}},
	}
}

func TestClean(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"  LS-1  \x00", "LS-1"}, {"To Be Filled By O.E.M.", ""}, {"Not Specified", ""}, {"Default string", ""},
		{"XXXXXXXX", ""}, {"N/A", ""}, {"two\n lines", "two lines"}, {"\x1b[31mred", "[31mred"}, {"\xff\xfe", ""},
		{strings.Repeat("é", 300), strings.Repeat("é", 128)},
	} {
		if got := Clean(c.in); got != c.want {
			t.Errorf("Clean(%q) = %q; want %q", c.in, got, c.want)
		}
	}
	for _, c := range []struct{ in, want string }{
		{"00000000", ""}, {"FFFFFFFF", ""}, {"0xffff", ""}, {"0123456789", ""}, {"ABC123", "ABC123"}, {"F00D", "F00D"},
		{"System Serial Number", ""}, {" .", ""}, {"0000123", "0000123"},
	} {
		if got := CleanSerial(c.in); got != c.want {
			t.Errorf("CleanSerial(%q) = %q; want %q", c.in, got, c.want)
		}
	}
}

func TestParseMACAndUUID(t *testing.T) {
	for _, c := range []struct {
		in   string
		want MAC
	}{
		{"52-54-00-AB-12-CD", "52:54:00:ab:12:cd"}, {"525400ab12cd", "52:54:00:ab:12:cd"}, {"00:00:00:00:00:00", ""},
		{"ff:ff:ff:ff:ff:ff", ""}, {"01:00:5e:00:00:01", ""}, {"52:54:00", ""}, {"zz", ""}, {"", ""},
	} {
		if got := ParseMAC(c.in); got != c.want {
			t.Errorf("ParseMAC(%q) = %q; want %q", c.in, got, c.want)
		}
	}
	for _, c := range []struct {
		in   string
		want UUID
	}{
		{"{11223344-5566-4788-99AA-BBCCDDEEFF01}", "11223344-5566-4788-99aa-bbccddeeff01"},
		{"urn:uuid:11223344-5566-4788-99aa-bbccddeeff01", "11223344-5566-4788-99aa-bbccddeeff01"},
		{"03000200-0400-0500-0006-000700080009", ""}, {"00020003-0004-0005-0006-000700080009", ""},
		{"ffffffff-ffff-ffff-ffff-ffffffffffff", ""}, {"Not Settable", ""}, {"", ""},
	} {
		if got := ParseUUID(c.in); got != c.want {
			t.Errorf("ParseUUID(%q) = %q; want %q", c.in, got, c.want)
		}
	}
	for _, p := range placeholderUUIDs {
		if u := formatUUID(mustHex(p)); ParseUUID(string(u)) != "" || ParseUUID(string(u.Swapped())) != "" {
			t.Errorf("placeholder %q is taken for a UUID", p)
		}
	}
	if got := UUID("11223344-5566-4788-99aa-bbccddeeff01").Swapped(); got != "44332211-6655-8847-99aa-bbccddeeff01" {
		t.Errorf("Swapped = %q", got)
	}
}

func TestIdentity(t *testing.T) {
	inv := sample()
	inv.NICs = append(inv.NICs, NIC{MAC: "02:00:00:00:00:01", Bus: "usb"})
	want := []Alias{"bmc-mac:52:54:00:bb:00:0b", "mac:52:54:00:00:00:01", "mac:52:54:00:00:00:02", "serial:X1",
		"uuid:11223344-5566-4788-99aa-bbccddeeff01", "uuid:44332211-6655-8847-99aa-bbccddeeff01"}
	if d := cmp.Diff(want, inv.Aliases()); d != "" {
		t.Errorf("Aliases (-want +got):\n%s", d)
	}
	if a := want[1]; a.Kind() != AliasMAC || a.Value() != "52:54:00:00:00:01" {
		t.Errorf("alias %q = %q, %q", a, a.Kind(), a.Value())
	}
	if got := inv.MachineKey(); got != "mac-525400000001" {
		t.Errorf("MachineKey = %q", got)
	}
	inv.NICs = inv.NICs[2:]
	if got := inv.MachineKey(); got != "mac-020000000001" {
		t.Errorf("MachineKey of a server with only a USB port = %q", got)
	}
	if got := (Inventory{}).MachineKey(); got != "" {
		t.Errorf("MachineKey of nothing = %q", got)
	}
	if got, want := sample().Summary(), "Ingot Lab LS-1 serial X1, 2 CPUs, 3.0 GiB, 2 drives, 2 NICs"; got != want {
		t.Errorf("Summary = %q; want %q", got, want)
	}
}

func TestDigestIsOfWhatStays(t *testing.T) {
	want := sample().Digest()
	same := map[string]func(*Inventory){
		"order": func(i *Inventory) {
			rand.Shuffle(len(i.Drives), func(a, b int) { i.Drives[a], i.Drives[b] = i.Drives[b], i.Drives[a] })
			slices.Reverse(i.NICs)
			slices.Reverse(i.CPUs)
			slices.Reverse(i.DIMMs)
		},
		"names":    func(i *Inventory) { i.NICs[0].Name, i.NICs[1].Name, i.Drives[0].Name = "eth1", "eth0", "sdb" },
		"carrier":  func(i *Inventory) { i.NICs[0].Carrier, i.NICs[0].LinkMbps = Enabled, 1000 },
		"findings": func(i *Inventory) { i.Findings = []Finding{{Code: CodeReaderFailed}} },
		"sources":  func(i *Inventory) { i.System.Sources = Sources{"redfish"}; i.DIMMs[0].Sources = Sources{"x"} },
		"kernel":   func(i *Inventory) { i.Kernel.Release, i.PCI[0].Driver = "6.13", "" },
	}
	for name, change := range same {
		inv := sample()
		change(&inv)
		if got := inv.Digest(); got != want {
			t.Errorf("%s changes the digest", name)
		}
	}
	differs := map[string]func(*Inventory){
		"a DIMM gone":   func(i *Inventory) { i.DIMMs = i.DIMMs[:1] },
		"a drive more":  func(i *Inventory) { i.Drives = append(i.Drives, Drive{Serial: "S3"}) },
		"BIOS version":  func(i *Inventory) { i.BIOS.Version = "2" },
		"another NIC":   func(i *Inventory) { i.NICs[0].MAC = "52:54:00:00:00:03" },
		"system serial": func(i *Inventory) { i.System.Serial = "X2" },
	}
	for name, change := range differs {
		inv := sample()
		change(&inv)
		if inv.Digest() == want {
			t.Errorf("%s does not change the digest", name)
		}
	}
	before := sample()
	before.Digest()
	if d := cmp.Diff(sample(), before); d != "" {
		t.Errorf("Digest changes its inventory:\n%s", d)
	}
}

func TestJoin(t *testing.T) {
	in := sample()
	bmc := Inventory{
		System:  System{Serial: "X2", UUID: in.System.UUID.Swapped(), SKU: "SKU9", Sources: Sources{"redfish"}},
		Chassis: Chassis{Serial: "C1", Sources: Sources{"redfish"}},
		Memory:  Memory{SizeBytes: 4 << 30, Sources: Sources{"redfish"}},
		DIMMs:   []DIMM{{Slot: "A1"}, {Slot: "A2"}, {Slot: "A3"}},
		Drives:  []Drive{{Serial: "S1", Slot: "Bay 0", Sources: Sources{"redfish"}}, {Serial: "S9", Sources: Sources{"redfish"}}},
		NICs:    []NIC{{MAC: "52:54:00:00:00:02", Adapter: "ACME", Sources: Sources{"redfish"}}},
	}
	got := Join(in, bmc)
	var codes []Code
	for _, f := range got.Findings {
		codes = append(codes, f.Code)
	}
	if d := cmp.Diff([]Code{CodeDIMMsDisagree, CodeDrivesDisagree, CodeMemoryDisagrees, CodeSerialDisagrees, CodeUUIDByteOrder}, codes); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
	if got.System.Serial != "X1" || got.System.SKU != "SKU9" || got.Chassis.Serial != "C1" || got.Memory.SizeBytes != 3<<30 {
		t.Errorf("Join took the wrong side: %+v %+v %+v", got.System, got.Chassis, got.Memory)
	}
	if d := cmp.Diff(Sources{"redfish", "smbios"}, got.System.Sources); d != "" {
		t.Errorf("sources (-want +got):\n%s", d)
	}
	if got.Memory.Sources != nil {
		t.Errorf("memory names the source that disagrees: %v", got.Memory.Sources)
	}
	if len(got.Drives) != 3 || got.Drives[1].Slot != "Bay 0" || len(got.NICs) != 2 || got.NICs[0].Adapter != "ACME" || len(got.DIMMs) != 2 {
		t.Errorf("lists: %+v %+v %+v", got.Drives, got.NICs, got.DIMMs)
	}
	bmc.System.UUID = "99223344-5566-4788-99aa-bbccddeeff01"
	if got := Join(in, bmc); !slices.ContainsFunc(got.Findings, func(f Finding) bool { return f.Code == CodeUUIDDisagrees }) {
		t.Errorf("another UUID is no finding: %v", got.Findings)
	}
}

// TestJoinOfARecordedServer has both views of one machine, which agree.
func TestJoinOfARecordedServer(t *testing.T) {
	read := func(name string) Inventory {
		b, err := os.ReadFile("testdata/machines/ingot-ls1/" + name)
		if err != nil {
			t.Fatal(err)
		}
		inv, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	got := Join(read("want.json"), read("want-redfish.json"))
	if len(got.Findings) != 0 || len(got.NICs) != 1 || got.BMC.MAC == "" || len(got.Drives) != 2 {
		t.Errorf("Join = %s, findings %v", got.Summary(), got.Findings)
	}
	if s := got.System.Sources; !slices.Equal(s, Sources{"redfish", "smbios"}) {
		t.Errorf("sources = %v", s)
	}
}

func TestEncodeStaysBelowTheLimit(t *testing.T) {
	inv := sample()
	long := strings.Repeat("x1", 200)
	for i := range 3000 {
		inv.PCI = append(inv.PCI, PCIDevice{BDF: BDF(fmt.Sprintf("0000:%02x:%02x.0", i/32, i%32)), Vendor: long, Device: long})
	}
	for range 1000 {
		inv.Findings = append(inv.Findings, Finding{Code: "x", Evidence: strings.Repeat(long, 10), Hint: long, Part: long})
	}
	b, err := inv.Encode()
	if err != nil || len(b) > MaxInventoryBytes {
		t.Fatalf("Encode = %d bytes, %v", len(b), err)
	}
	back, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(back.DIMMs) != 2 || !slices.ContainsFunc(back.Findings, func(f Finding) bool { return f.Code == CodeInventoryTruncated }) {
		t.Errorf("after cutting: %d DIMMs, findings %v", len(back.DIMMs), back.Findings)
	}
	small := sample()
	small.Normalize()
	if b, err = small.Encode(); err != nil {
		t.Fatal(err)
	}
	if back, err = Decode(b); err != nil || cmp.Diff(small, back) != "" {
		t.Errorf("round trip: %v\n%s", err, cmp.Diff(small, back))
	}
	for _, bad := range []string{"", "[]", `{"schema":"ingot.inventory/v2"}`, strings.Repeat("[", 1<<20)} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("Decode(%.20q) is taken", bad)
		}
	}
}

func TestAbsentFactsAreOmitted(t *testing.T) {
	inv := Inventory{System: System{Manufacturer: "To Be Filled By O.E.M.", Serial: "FFFFFFFF"}, Drives: []Drive{{Name: "sda", Serial: "0000"}}}
	b, err := inv.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"drives":[{"name":"sda"}],"schema":"ingot.inventory/v1"}`; string(b) != want {
		t.Errorf("Encode = %s; want %s", b, want)
	}
}

func TestSecretIsRedacted(t *testing.T) {
	s := Secret("hunter2")
	j, err := json.Marshal(map[string]any{"p": s})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "p", s)
	for _, got := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %q %s", s, s, s, s, s), fmt.Sprintf("%+v", struct{ P Secret }{s}), string(j), log.String()} {
		if strings.Contains(got, "hunter2") || !strings.Contains(got, redacted) {
			t.Errorf("a secret prints as %q", got)
		}
	}
	if s.Reveal() != "hunter2" {
		t.Errorf("Reveal = %q", s.Reveal())
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", " LS-1 ", "To Be Filled By O.E.M.", "\x00\xff", "FFFF"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := Clean(s)
		if len(c) > maxText || Clean(c) != c {
			t.Errorf("Clean(%q) = %q, again %q", s, c, Clean(c))
		}
		u := ParseUUID(s)
		if u != "" && (ParseUUID(string(u)) != u || u.Swapped().Swapped() != u) {
			t.Errorf("ParseUUID(%q) = %q does not last", s, u)
		}
		if m := ParseMAC(s); ParseMAC(string(m)) != m {
			t.Errorf("ParseMAC(%q) = %q does not last", s, m)
		}
	})
}

func TestDigestsAreWhole(t *testing.T) {
	ek := Digest("sha256:" + strings.Repeat("0a", 32))
	inv := Inventory{TPM: TPM{EKPublic: ek, EKCertificate: ek[:70]}}
	inv.Normalize()
	if inv.TPM.EKPublic != ek || inv.TPM.EKCertificate != "" {
		t.Errorf("TPM = %+v; want the whole digest, and none for a part of one", inv.TPM)
	}
	for _, bad := range []string{"", string(ek) + "00", "sha1:" + strings.Repeat("0", 40), strings.Repeat("0", 71), "sha256:" + strings.Repeat("g", 64)} {
		if got := ParseDigest(bad); got != "" {
			t.Errorf("ParseDigest(%q) = %q; want none", bad, got)
		}
	}
}
