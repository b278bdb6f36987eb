package pci

import (
	"strings"
	"testing"
)

const ids = `# comment
8086  Intel Corporation
	29c0  DRAM Controller
		1af4 1100  a subsystem
		1af4 1101  another
	ffff  not wanted
15b3  Mellanox Technologies
	1017  MT27800
C 02  Network controller
	00  Ethernet controller
		01  an interface
	80  Network controller, other
C 06  Bridge
	00  Host bridge
`

func TestParseNames(t *testing.T) {
	w := wanted{}
	w.add("0x8086", "0x29c0", "0x060000")
	w.add("0x15b3", "0x1017", "0x020000")
	w.addSubsystem("0x8086", "0x29c0", "0x1af4", "0x1100")
	db, err := parseNames(strings.NewReader(ids), w)
	if err != nil {
		t.Fatal(err)
	}
	if len(db.Vendors) != 2 || len(db.Products) != 2 || db.Products["15b31017"].Name != "MT27800" || db.Vendors["8086"].Name != "Intel Corporation" {
		t.Errorf("vendors %v, products %v", db.Vendors, db.Products)
	}
	if s := db.Products["808629c0"].Subsystems; len(s) != 1 || s[0].Name != "a subsystem" || s[0].VendorID != "1af4" || s[0].ID != "1100" {
		t.Errorf("subsystems = %v", s)
	}
	if c := db.Classes["02"]; len(db.Classes) != 2 || len(c.Subclasses) != 1 || c.Subclasses[0].Name != "Ethernet controller" {
		t.Errorf("classes = %v", db.Classes)
	}
}

func FuzzParseNames(f *testing.F) {
	f.Add(ids)
	f.Add("\t\nC\nC \t\t\n8086")
	w := wanted{}
	w.add("0x8086", "0x29c0", "0x060000")
	w.addSubsystem("0x8086", "0x29c0", "0x8086", "0x1100")
	f.Fuzz(func(t *testing.T, s string) {
		db, err := parseNames(strings.NewReader(s), w)
		if err != nil {
			t.Fatal(err)
		}
		if len(db.Vendors) > 1 || len(db.Products) > 1 || len(db.Classes) > 1 {
			t.Errorf("more than was wanted: %v %v %v", db.Vendors, db.Products, db.Classes)
		}
	})
}
