package fleet

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

func TestBaselineIsPacked(t *testing.T) {
	b := Baseline{Schema: BaselineSchema, Node: "n-1", Accepted: time.Unix(1, 0).UTC(), Note: "as delivered",
		Inventory: hardware.Inventory{System: hardware.System{Model: "<LS-1>"}, DIMMs: []hardware.DIMM{{Slot: "A1", SizeBytes: 1}}}}
	b.Inventory.Normalize()
	packed, err := Pack(b)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Pack(b); err != nil || !bytes.Equal(packed, again) {
		t.Errorf("packing twice gives other bytes, %v", err)
	}
	got, err := ParseBaseline(packed, "n-1")
	if d := cmp.Diff(b, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if _, err := ParseBaseline(packed, "n-2"); err == nil || !strings.Contains(err.Error(), "n-1") {
		t.Errorf("the baseline of another node: %v", err)
	}
	if _, err := ParseExpected(packed); err == nil {
		t.Error("a baseline is taken for the expected machines")
	}
}

func TestUnpackIsBounded(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(append([]byte(`"`), make([]byte, maxUnpacked)...)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var v any
	for what, b := range map[string][]byte{"a bomb": bomb.Bytes(), "nothing": nil, "no gzip": []byte("{}"), "cut": bomb.Bytes()[:20]} {
		if err := Unpack(b, &v); err == nil {
			t.Errorf("%s is unpacked", what)
		}
	}
}

func TestExpectedMachine(t *testing.T) {
	got := ExpectedMachine(hardware.ExpectedMachine{Serial: "S1", MACs: []hardware.MAC{"52:54:00:00:00:01"}, Rack: "r1", Unit: 3, SKU: "A"})
	want := Machine{Schema: MachineSchema, Name: "S1", Rack: "r1", Unit: 3, Serial: "S1", MACs: []string{"52:54:00:00:00:01"}, SKU: "A"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
