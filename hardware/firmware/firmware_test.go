package firmware

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// devNode is one node of a device path with its header.
func devNode(kind, sub byte, payload ...byte) []byte {
	return append([]byte{kind, sub, byte(4 + len(payload)), byte((4 + len(payload)) >> 8)}, payload...)
}

func wide(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

var (
	endPath  = devNode(0x7f, 0xff)
	pciRoot  = devNode(2, 1, 0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0)
	pciNode  = devNode(1, 1, 0x00, 0x1d)
	nvmeNode = devNode(3, 23, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	gptNode  = devNode(4, 1, slices.Concat([]byte{1, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0},
		[]byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}, []byte{2, 2})...)
	fileNode = devNode(4, 4, wide(`\EFI\debian\shimx64.efi`)...)
	macNode  = devNode(3, 11, slices.Concat([]byte{0x52, 0x54, 0, 0xab, 0x12, 0xcd}, make([]byte, 26), []byte{1})...)
)

func TestPathText(t *testing.T) {
	for want, nodes := range map[string][][]byte{
		`PciRoot(0x0)/Pci(0x1d,0x0)/NVMe(0x1,08-07-06-05-04-03-02-01)/HD(1,GPT,C12A7328-F81F-11D2-BA4B-00A0C93EC93B,0x800,0x20000)/\EFI\debian\shimx64.efi`: {
			pciRoot, pciNode, nvmeNode, gptNode, fileNode},
		`PciRoot(0x0)/Pci(0x1d,0x0)/MAC(525400ab12cd,0x1)/IPv4(0.0.0.0)/Uri(http://boot/x.efi)`: {
			pciRoot, pciNode, macNode, devNode(3, 12, make([]byte, 23)...), devNode(3, 24, []byte("http://boot/x.efi")...)},
		`Fv(C12A7328-F81F-11D2-BA4B-00A0C93EC93B)/Path(3,200,0102)/Path(1,1,00)`: {
			devNode(4, 7, gptNode[24:40]...), devNode(3, 200, 1, 2), devNode(1, 1, 0)},
		`PcieRoot(0x1)/Acpi(PNP0604,0x0)/Sata(0x2,0xffff,0x0)/BBS(0x2,disk)`: {
			devNode(2, 1, 0xd0, 0x41, 0x08, 0x0a, 1, 0, 0, 0), devNode(2, 1, 0xd0, 0x41, 0x04, 0x06, 0, 0, 0, 0),
			devNode(3, 18, 2, 0, 0xff, 0xff, 0, 0), devNode(5, 1, 2, 0, 0, 0, 'd', 'i', 's', 'k', 0)},
	} {
		if got, err := PathText(append(slices.Concat(nodes...), endPath...)); got != want || err != nil {
			t.Errorf("PathText = %q, %v; want %q", got, err, want)
		}
	}
	for what, b := range map[string][]byte{"cut": pciRoot, "short": append(slices.Clone(pciRoot), 1, 1, 3, 0), "long": append(slices.Clone(pciRoot), 1, 1, 9, 0)} {
		if got, err := PathText(b); err == nil || got != "PciRoot(0x0)" {
			t.Errorf("%s: PathText = %q, %v; want what stands before, and an error", what, got, err)
		}
	}
}

func option(attributes uint32, name string, path []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, attributes)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	return slices.Concat(b, wide(name), path, []byte("optional data"))
}

// efiTree is a root with these global variables.
func efiTree(t *testing.T, variables map[string][]byte) sysfs.Root {
	t.Helper()
	root := sysfs.Root(t.TempDir())
	if err := os.MkdirAll(root.Path(efivars), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range variables {
		if err := os.WriteFile(filepath.Join(root.Path(efivars), name+global), append([]byte{7, 0, 0, 0}, b...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestRead(t *testing.T) {
	got, err := Read(t.Context(), efiTree(t, map[string][]byte{
		"SecureBoot": {1}, "SetupMode": {0}, "BootOrder": {2, 0, 0, 0}, "BootCurrent": {0, 0}, "BootNext": {2, 0},
		"Boot0000": option(1, "debian", slices.Concat(pciRoot, endPath)), "Boot0002": option(0, "PXE", slices.Concat(pciRoot, macNode, endPath)),
		"Boot000A": option(1, "cut", nil)[:9], "BootOptionSupport": {1}, "Boot00zz": {1},
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := hardware.Inventory{
		BIOS: hardware.BIOS{Mode: hardware.ModeUEFI, SecureBoot: hardware.Enabled, SetupMode: hardware.Disabled, Sources: from},
		BootEntries: []hardware.BootEntry{
			{ID: "Boot0000", Name: "debian", Path: "PciRoot(0x0)", Order: 2, Active: hardware.Enabled, Current: true, Sources: from},
			{ID: "Boot0002", Name: "PXE", Path: "PciRoot(0x0)/MAC(525400ab12cd,0x1)", Order: 1, Active: hardware.Disabled, Next: true, Sources: from},
			{ID: "Boot000A", Active: hardware.Enabled, Sources: from},
		},
		Findings: []hardware.Finding{{Code: hardware.CodeSourceMalformed, Severity: hardware.Info, Part: "boot entry Boot000A",
			Evidence: "decode load option: its description does not end", Hint: "delete the entry in the firmware's setup", Source: Source}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Read (-want +got):\n%s", d)
	}
	got, err = Read(t.Context(), efiTree(t, nil))
	if err != nil || got.BIOS.Mode != hardware.ModeUEFI || got.BIOS.SecureBoot != "" || len(got.Findings) != 1 {
		t.Errorf("without efivarfs: %+v, %v; want UEFI, Secure Boot not known, and a finding", got, err)
	}
}

func TestFirmwareWithoutSecureBoot(t *testing.T) {
	got, err := Read(t.Context(), efiTree(t, map[string][]byte{"BootOrder": {}}))
	if err != nil || got.BIOS.SecureBoot != hardware.Disabled || got.BIOS.SetupMode != "" {
		t.Errorf("Read = %+v, %v; want Secure Boot disabled, setup mode not known", got.BIOS, err)
	}
}

func FuzzLoadOption(f *testing.F) {
	f.Add(option(1, "debian", slices.Concat(pciRoot, pciNode, nvmeNode, gptNode, fileNode, endPath)))
	f.Add(option(1, "PXE", slices.Concat(pciRoot, macNode, devNode(3, 31, make([]byte, 33)...), devNode(3, 19, make([]byte, 20)...), endPath)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e hardware.BootEntry
		err := loadOption(b, &e)
		if len(e.Path) > maxPathText || len(e.Name) > 3*len(b) {
			t.Errorf("path of %d bytes, name of %d from %d", len(e.Path), len(e.Name), len(b))
		}
		if err != nil && !strings.HasPrefix(err.Error(), "decode ") {
			t.Errorf("text %q does not say what was tried", err)
		}
		inv := hardware.Inventory{BootEntries: []hardware.BootEntry{e}}
		inv.Normalize()
		if s := inv.BootEntries[0].Path + inv.BootEntries[0].Name; !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\x1b\n") {
			t.Errorf("not fit for a console: %q", s)
		}
	})
}
