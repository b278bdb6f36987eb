package pci

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// bus makes a root with these functions, each by its path below the host
// bridge and its files.
func bus(t *testing.T, functions map[string]map[string]string) sysfs.Root {
	t.Helper()
	root := sysfs.Root(t.TempDir())
	write := func(path, content string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(root.Path(devices), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, files := range functions {
		dir := root.Path("sys/devices/pci0000:00", path)
		write(dir+"/modalias", "pci:v000015B3d00001017sv000015B3sd00000006bc02sc00i00\n")
		for name, content := range files {
			write(dir+"/"+name, content)
		}
		if err := os.Symlink("../../../devices/pci0000:00/"+path, root.Path(devices, filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func pcie(class, speed, width, maxSpeed, maxWidth string, more ...string) map[string]string {
	m := map[string]string{"class": class, "vendor": "0x15b3", "device": "0x1017", "current_link_speed": speed + " GT/s PCIe\n", "current_link_width": width + "\n",
		"max_link_speed": maxSpeed + " GT/s PCIe\n", "max_link_width": maxWidth + "\n"}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

func TestReducedLinks(t *testing.T) {
	port := func(speed, width string) map[string]string { return pcie("0x060400", speed, width, speed, width) }
	inv, err := Read(t.Context(), bus(t, map[string]map[string]string{
		"0000:00:01.0":              port("16.0", "16"),
		"0000:00:01.0/0000:01:00.0": pcie("0x020000", "8.0", "8", "16.0", "8"), // slow
		"0000:00:01.0/0000:01:00.1": pcie("0x020000", "8.0", "8", "16.0", "8"), // the same card
		"0000:00:02.0":              port("8.0", "4"),
		"0000:00:02.0/0000:02:00.0": pcie("0x010802", "8.0", "4", "16.0", "8"), // the port can no more
		"0000:00:03.0":              port("32.0", "16"),
		"0000:00:03.0/0000:03:00.0": pcie("0x030200", "2.5", "16", "32.0", "16"), // idles
		"0000:00:04.0":              port("32.0", "16"),
		"0000:00:04.0/0000:04:00.0": pcie("0x030200", "2.5", "8", "32.0", "16"), // narrow
		"0000:00:05.0":              port("16.0", "4"),
		"0000:00:05.0/0000:05:00.0": pcie("0x0c0330", "2.5", "1", "16.0", "4"),   // a USB controller
		"0000:00:05.0/0000:05:00.1": pcie("0x010802", "2.5", "255", "16.0", "4"), // a width that is not known
	}))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]hardware.Severity{}
	for _, f := range inv.Findings {
		if f.Code == hardware.CodePCIeLinkReduced {
			got[f.Part] = f.Severity
			if f.Part == "pci 0000:01:00.0" && !strings.Contains(f.Evidence, "runs at 8 GT/s x8; it and its port 0000:00:01.0 can do 16 GT/s x8") {
				t.Errorf("evidence %q", f.Evidence)
			}
		}
	}
	want := map[string]hardware.Severity{"pci 0000:01:00.0": hardware.Warning, "pci 0000:03:00.0": hardware.Info, "pci 0000:04:00.0": hardware.Warning}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
}

// resource is one large resource of VPD.
func resource(tag byte, payload string) string {
	return string([]byte{tag, byte(len(payload)), byte(len(payload) >> 8)}) + payload
}

func keyword(key, value string) string { return key + string([]byte{byte(len(value))}) + value }

var vpdSample = resource(tagProduct, "ConnectX-6 Dx EN adapter card") +
	resource(tagRead, keyword("PN", "MCX623106AN-CDAT ")+keyword("EC", "A8")+keyword("SN", "MT2117X00001")+keyword("V0", "PCIeGen4 x16")+keyword("VB", "\x01\x02")+keyword("RV", "\xa5\x00")) +
	resource(tagWrite, keyword("YA", "tag 7")+keyword("RW", strings.Repeat("\x00", 40))) + "\x78"

func TestDecodeVPD(t *testing.T) {
	want := hardware.VPD{Product: "ConnectX-6 Dx EN adapter card", Part: "MCX623106AN-CDAT", Serial: "MT2117X00001", Revision: "A8",
		Other: map[string]string{"V0": "PCIeGen4 x16", "YA": "tag 7"}}
	got, err := DecodeVPD([]byte(vpdSample))
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("DecodeVPD = %v (-want +got):\n%s", err, d)
	}
	if got, err := DecodeVPD([]byte(vpdSample[:len(vpdSample)-1])); err == nil || got.Serial != want.Serial {
		t.Errorf("without its end: %+v, %v; want what was read, and an error", got, err)
	}
	for _, bad := range []string{"\x82", "\x90\xff\xff", "\x00", "\x37ab"} {
		if _, err := DecodeVPD([]byte(bad)); err == nil {
			t.Errorf("DecodeVPD(%q) = nil; want an error", bad)
		}
	}
}

// TestVPDThatHangs: one device never answers, one has none, one has some.
func TestVPDThatHangs(t *testing.T) {
	root := bus(t, map[string]map[string]string{
		"0000:01:00.0": {"class": "0x020000", "vpd": vpdSample}, "0000:01:00.1": {"class": "0x020000", "vpd": "not read"},
		"0000:02:00.0": {"class": "0x020000", "vpd": strings.Repeat("\xff", 64)}, "0000:03:00.0": {"class": "0x020000"},
	})
	pipe := root.Path(devices, "0000:03:00.0/vpd")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	inv, err := Read(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > vpdDeadline+8*time.Second {
		t.Errorf("Read took %v", took)
	}
	var serials []string
	for _, p := range inv.PCI {
		serials = append(serials, p.VPD.Serial)
	}
	if want := []string{"MT2117X00001", "", "", ""}; !slices.Equal(serials, want) {
		t.Errorf("serials = %q; want %q", serials, want)
	}
	var about []string
	for _, f := range inv.Findings {
		if strings.Contains(f.Evidence, "VPD") {
			about = append(about, f.Part+": "+f.Evidence)
		}
	}
	if want := []string{"pci 0000:03:00.0: read VPD: no answer within 1.5s"}; !slices.Equal(about, want) {
		t.Errorf("findings %q; want %q", about, want)
	}
	if fd, err := syscall.Open(pipe, syscall.O_RDWR|syscall.O_NONBLOCK, 0); err == nil {
		_ = syscall.Close(fd) // lets the read that was left behind go
	}
}

func TestGPUs(t *testing.T) {
	root := bus(t, map[string]map[string]string{"0000:01:00.0": {
		"mem_info_vram_total": "68702699520\n", "vbios_version": "113-D65201-063\n", "serial_number": "692208002241\n", "product_name": "Instinct MI210\n"}})
	info := root.Path("proc/driver/nvidia/gpus/0000:02:00.0/information")
	if err := os.MkdirAll(filepath.Dir(info), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(info, []byte("Model: \t\t NVIDIA H100 PCIe\nGPU UUID: \t GPU-2f3c1a4e-1234-5678-9abc-def012345678\nVideo BIOS: \t ??.??.??.??.??\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := gpus(root, []hardware.PCIDevice{
		{BDF: "0000:01:00.0", VendorID: "1002", DeviceID: "740f", Class: "120000", Vendor: "AMD", Slot: "PCIe 3"},
		{BDF: "0000:02:00.0", VendorID: "10de", DeviceID: "2331", Class: "030200"},
		{BDF: "0000:03:00.0", VendorID: "10ee", DeviceID: "5000", Class: "120000"},
		{BDF: "0000:04:00.0", VendorID: "8086", DeviceID: "37c8", Class: "0b4000"},
		{BDF: "0000:05:00.0", VendorID: "1a03", DeviceID: "2000", Class: "030000"}, // a BMC's
		{BDF: "0000:06:00.0", VendorID: "19e5", DeviceID: "1711", Class: "030000"}, // a BMC's
		{BDF: "0000:07:00.0", VendorID: "15b3", DeviceID: "1017", Class: "020000"},
	})
	var s []string
	for _, g := range got {
		s = append(s, string(g.BDF)+" "+g.Kind)
	}
	if want := []string{"0000:01:00.0 accelerator", "0000:02:00.0 gpu", "0000:03:00.0 fpga", "0000:04:00.0 accelerator"}; !slices.Equal(s, want) {
		t.Fatalf("gpus = %q; want %q", s, want)
	}
	if a := got[0]; a.MemoryBytes != 68702699520 || a.Model != "Instinct MI210" || a.Serial != "692208002241" || a.Slot != "PCIe 3" {
		t.Errorf("amdgpu: %+v", a)
	}
	if n := got[1]; n.Model != "NVIDIA H100 PCIe" || n.UUID == "" || n.Firmware != "" {
		t.Errorf("nvidia: %+v", n)
	}
}

func TestSlots(t *testing.T) {
	root := bus(t, map[string]map[string]string{
		"0000:00:01.0": {}, "0000:00:01.0/0000:01:00.0": {}, "0000:00:01.0/0000:01:00.0/0000:02:00.1": {}, "0000:00:1f.0": {}, "0000:00:02.0/0000:05:00.0": {}})
	s := slots{
		printed: map[hardware.BDF]string{"0000:00:01.0": "Slot 1", "0000:05:00.1": "not this one"},
		onboard: map[hardware.BDF]string{"0000:00:1f.0": "Onboard"}, kernel: map[string]string{"0000:05:00": "7"},
	}
	for address, want := range map[string]string{"0000:02:00.1": "Slot 1", "0000:01:00.0": "Slot 1", "0000:00:1f.0": "Onboard", "0000:05:00.0": ""} {
		if got := s.of(root, address); got != want {
			t.Errorf("slot of %s = %q; want %q", address, got, want)
		}
	}
	s.printed = nil
	if got := s.of(root, "0000:05:00.0"); got != "7" {
		t.Errorf("slot by the kernel = %q; want 7", got)
	}
}

func FuzzDecodeVPD(f *testing.F) {
	f.Add([]byte(vpdSample))
	f.Add([]byte(resource(tagRead, "PN\xffab") + "\x78"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, _ := DecodeVPD(b)
		if len(v.Other) > len(b)/3 || !utf8.ValidString(v.Serial+v.Part+v.Product) || strings.ContainsAny(v.Serial+v.Part+v.Product, "\x00\x1b\n") {
			t.Errorf("DecodeVPD(%q) = %+v", b, v)
		}
	})
}
