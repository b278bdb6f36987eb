package render

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

var update = flag.Bool("update", false, "rewrite want.txt")

func TestTable(t *testing.T) {
	machines, err := filepath.Glob("../testdata/machines/*/want.json")
	if err != nil || len(machines) == 0 {
		t.Fatalf("no machines below ../testdata: %v", err)
	}
	for _, m := range machines {
		dir := filepath.Dir(m)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			b, err := os.ReadFile(m)
			if err != nil {
				t.Fatal(err)
			}
			inv, err := hardware.Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			if err := Table(&got, inv); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "want.txt")
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v; make it with -update", err)
			}
			if d := cmp.Diff(string(want), got.String()); d != "" {
				t.Errorf("%s (-want +got):\n%s", file, d)
			}
		})
	}
}

// TestNothingReachesTheTerminal has a hostile node's inventory.
func TestNothingReachesTheTerminal(t *testing.T) {
	bad := "\x1b]0;owned\x07\r\n\tx"
	inv := hardware.Inventory{
		System:   hardware.System{Manufacturer: bad, Model: bad, Serial: bad},
		NICs:     []hardware.NIC{{Name: bad, MAC: hardware.MAC(bad), BDF: hardware.BDF(bad), Driver: bad, Carrier: hardware.Switch(bad)}},
		Drives:   []hardware.Drive{{Transport: hardware.Transport(bad)}},
		BMC:      hardware.BMC{Addresses: []string{bad}},
		BIOS:     hardware.BIOS{Mode: hardware.BootMode(bad), SecureBoot: hardware.Switch(bad)},
		Findings: []hardware.Finding{{Code: hardware.Code(bad), Severity: hardware.Severity(bad), Evidence: bad, Hint: bad, Part: bad, Source: bad}},
	}
	var got strings.Builder
	if err := Table(&got, inv); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(got.String(), "\x1b\x07\r") {
		t.Errorf("control characters reach the terminal: %q", got.String())
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("pipe closed") }

func TestTableReportsItsWriter(t *testing.T) {
	if err := Table(broken{}, hardware.Inventory{}); err == nil {
		t.Error("a write that fails is no error")
	}
}
