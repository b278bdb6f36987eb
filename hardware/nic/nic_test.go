package nic

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// eeprom is a transceiver's memory with texts and bytes at their offsets.
func eeprom(kind byte, texts map[int]string, bytes map[int]byte) []byte {
	b := make([]byte, 256)
	b[0] = kind
	for at, s := range texts {
		copy(b[at:], s)
	}
	for at, v := range bytes {
		b[at] = v
	}
	return b
}

func TestModule(t *testing.T) {
	for _, tc := range []struct {
		name string
		b    []byte
		want hardware.Transceiver
	}{
		{"SFP+ optic", eeprom(3, map[int]string{20: "FINISAR CORP.   ", 40: "FTLX8571D3BCL   ", 56: "A   ", 68: "AAB1234         "}, map[int]byte{12: 103, 16: 8, 19: 30}),
			hardware.Transceiver{Type: "SFP+", Manufacturer: "FINISAR CORP.", Part: "FTLX8571D3BCL", Revision: "A", Serial: "AAB1234", LengthMeters: 300}},
		{"SFP28 cable", eeprom(3, map[int]string{20: "Mellanox        ", 40: "MCP2M00-A003    "}, map[int]byte{8: 4, 12: 255, 66: 103, 18: 3, 19: 50}),
			hardware.Transceiver{Type: "SFP28", Manufacturer: "Mellanox", Part: "MCP2M00-A003", LengthMeters: 3}},
		{"QSFP28 cable", eeprom(0x11, map[int]string{148: "Amphenol        ", 168: "NDAAFF-0001     ", 184: "B ", 196: "APF1            "}, map[int]byte{146: 2, 147: 0xa0}),
			hardware.Transceiver{Type: "QSFP28", Manufacturer: "Amphenol", Part: "NDAAFF-0001", Revision: "B", Serial: "APF1", LengthMeters: 2}},
		{"QSFP28 optic", eeprom(0x11, map[int]string{148: "Intel"}, map[int]byte{142: 10, 143: 255}),
			hardware.Transceiver{Type: "QSFP28", Manufacturer: "Intel", LengthMeters: 10000}},
		{"QSFP-DD", eeprom(0x18, map[int]string{129: "ACME            ", 148: "QDD-400         ", 164: "01", 166: "S1              "}, map[int]byte{202: 0x40 | 5}),
			hardware.Transceiver{Type: "QSFP-DD", Manufacturer: "ACME", Part: "QDD-400", Revision: "01", Serial: "S1", LengthMeters: 5}},
		{"OSFP of half a metre", eeprom(0x19, nil, map[int]byte{202: 5}), hardware.Transceiver{Type: "OSFP", LengthMeters: 1}},
		{"another kind", eeprom(0x7f, nil, nil), hardware.Transceiver{}},
		{"cut", eeprom(3, nil, nil)[:100], hardware.Transceiver{}},
	} {
		if d := cmp.Diff(tc.want, Module(tc.b)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
}

func FuzzModule(f *testing.F) {
	f.Add(eeprom(3, map[int]string{20: "FINISAR"}, map[int]byte{12: 255, 66: 255, 8: 4, 18: 255}))
	f.Add(eeprom(0x11, nil, map[int]byte{130: noSeparableConnector, 146: 7}))
	f.Add(eeprom(0x18, nil, map[int]byte{202: 255}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := Module(b)
		if m.LengthMeters < 0 || m.LengthMeters > 255000 {
			t.Errorf("%d metres", m.LengthMeters)
		}
		if s := m.Manufacturer + m.Part + m.Serial + m.Revision; !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\x1b\n") {
			t.Errorf("not fit for a console: %q", s)
		}
	})
}

// card makes a root with ports on one PCI card, each with its files.
func card(t *testing.T, ports map[string]map[string]string) sysfs.Root {
	t.Helper()
	root := sysfs.Root(t.TempDir())
	link := func(target, path string) {
		if err := os.MkdirAll(filepath.Dir(root.Path(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, root.Path(path)); err != nil {
			t.Fatal(err)
		}
	}
	for at, files := range ports {
		bdf, name := filepath.Split(at)
		dir := "sys/devices/pci0000:00/" + bdf + "net/" + name
		files["type"] = "1\n"
		for file, content := range files {
			path := root.Path(dir, file)
			if rest, ok := strings.CutPrefix(file, "/"); ok {
				path = root.Path(rest)
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		link("../..", dir+"/device")
		link("../../devices/pci0000:00/"+bdf+"net/"+name, class+"/"+name)
	}
	return root
}

func TestRead(t *testing.T) {
	drvinfo := make([]byte, 196)
	copy(drvinfo[68:], "22.31.1014 (MT_0000000359)")
	link := make([]byte, 48+3*4*4)
	link[15], link[48+4] = 4, 1<<(38-32) // 100000baseCR4/Full
	root := card(t, map[string]map[string]string{
		"0000:3b:00.0/ens1f0": {"address": "0c:42:a1:00:00:10\n", "addr_assign_type": "3\n", "carrier": "1\n", "speed": "100000\n", "duplex": "full\n", "dev_port": "0\n",
			"../../numa_node":                        "1\n",
			"/answers/nic/ens1f0/permaddr":           "\x0c\x42\xa1\x00\x00\x11",
			"/answers/nic/ens1f0/drvinfo":            string(drvinfo),
			"/answers/nic/ens1f0/linksettings":       string(link),
			"/answers/nic/ens1f0/module":             string(eeprom(0x11, map[int]string{148: "Intel"}, nil)),
			"/sys/class/infiniband/mlx5_0/node_type": "1: CA\n", "/sys/class/infiniband/mlx5_0/ports/1/link_layer": "Ethernet\n"},
		"0000:3b:00.1/ens1f1":   {"address": "0c:42:a1:00:00:20\n", "addr_assign_type": "0\n", "dev_port": "0\n", "../../numa_node": "-1\n"},
		"0000:3b:00.2/ens1f0v0": {"address": "0c:42:a1:00:00:30\n", "../../physfn": ""},
	})
	if err := os.Symlink("../../../devices/pci0000:00/0000:3b:00.0", root.Path("sys/class/infiniband/mlx5_0/device")); err != nil {
		t.Fatal(err)
	}
	got, err := Read(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	one := 1
	want := []hardware.NIC{
		{Name: "ens1f0", MAC: "0c:42:a1:00:00:11", Bus: "pci", BDF: "0000:3b:00.0", Port: 1, Firmware: "22.31.1014 (MT_0000000359)", MaxMbps: 100000,
			Modes: []string{"100000baseCR4/Full"}, RDMA: "roce", NUMANode: &one, Transceiver: hardware.Transceiver{Type: "QSFP28", Manufacturer: "Intel"},
			Carrier: hardware.Enabled, LinkMbps: 100000, Duplex: "full", Sources: hardware.Sources{Source}},
		{Name: "ens1f1", MAC: "0c:42:a1:00:00:20", Bus: "pci", BDF: "0000:3b:00.1", Port: 2, Sources: hardware.Sources{Source}},
	}
	if d := cmp.Diff(want, got.NICs); d != "" || len(got.Findings) != 0 {
		t.Errorf("Read, findings %v (-want +got):\n%s", got.Findings, d)
	}
}

// TestDriverThatHangs: one port's driver never answers.
func TestDriverThatHangs(t *testing.T) {
	root := card(t, map[string]map[string]string{
		"0000:01:00.0/eth0": {"address": "0c:42:a1:00:00:10\n", "addr_assign_type": "0\n", "/answers/nic/eth0/x": ""},
		"0000:02:00.0/eth1": {"address": "0c:42:a1:00:00:20\n", "addr_assign_type": "0\n", "/answers/nic/eth1/permaddr": "\x0c\x42\xa1\x00\x00\x21"}})
	pipe := root.Path("answers/nic/eth0/drvinfo")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	got, err := Read(t.Context(), root)
	if took := time.Since(begin); took > portDeadline+time.Second || err != nil {
		t.Errorf("Read took %v, %v", took, err)
	}
	if len(got.NICs) != 2 || got.NICs[0].MAC != "0c:42:a1:00:00:10" || got.NICs[1].MAC != "0c:42:a1:00:00:21" || len(got.Findings) != 1 {
		t.Errorf("got %+v, %v; want both ports, and a finding", got.NICs, got.Findings)
	}
	if fd, err := syscall.Open(pipe, syscall.O_RDWR|syscall.O_NONBLOCK, 0); err == nil {
		_ = syscall.Close(fd) // lets the one that was left behind go
	}
}

func TestPortNumber(t *testing.T) {
	pci := hardware.NIC{Bus: "pci", BDF: "0000:3b:00.1"}
	for _, tc := range []struct {
		phys, dev string
		n         hardware.NIC
		want      int
	}{{"p0", "0", pci, 1}, {"", "0", pci, 2}, {"", "3", pci, 4}, {"pf0vf1", "0", pci, 2}, {"", "", pci, 0}, {"", "0", hardware.NIC{Bus: "usb"}, 1}} {
		if got := portNumber(tc.phys, tc.dev, tc.n); got != tc.want {
			t.Errorf("portNumber(%q, %q, %s) = %d; want %d", tc.phys, tc.dev, tc.n.Bus, got, tc.want)
		}
	}
}
