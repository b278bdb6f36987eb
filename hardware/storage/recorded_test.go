package storage_test

import (
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/snapshot"
	"github.com/ingot-metal/ingot/hardware/storage"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

var update = flag.Bool("update", false, "rewrite testdata/lab.json")

// TestRecorded reads what a guest of the lab had: the drives of
// qemu-tests/drives_test.go, and one of the kernel's scsi_debug, which has log
// pages, an odd page 0x89 and names of its own.
func TestRecorded(t *testing.T) {
	f, err := os.Open("testdata/lab.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	if err := snapshot.Unpack(f, dir, snapshot.Limits{}); err != nil {
		t.Fatal(err)
	}
	v, err := storage.Read(t.Context(), sysfs.Root(dir))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(struct {
		Inventory hardware.Inventory `json:"inventory"`
		Readings  hardware.Readings  `json:"readings"`
	}{v.Inventory, v.Readings}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile("testdata/lab.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("testdata/lab.json")
	if err != nil {
		t.Fatalf("%v; make it with -update", err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("testdata/lab.json (-want +got):\n%s", d)
	}
}
