package operator

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
)

func file(serials ...string) func(map[string]hardware.SKU) (hardware.Expected, error) {
	return func(map[string]hardware.SKU) (hardware.Expected, error) {
		var e hardware.Expected
		for _, s := range serials {
			e.Machines = append(e.Machines, hardware.ExpectedMachine{Serial: s})
		}
		return e, nil
	}
}

// Operators who import at once lose nothing of each other's files.
func TestImportsAtOnce(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			if _, err := w.c.ImportExpected(t.Context(), false, file(fmt.Sprint("S", i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	e, by, err := w.c.Expected(t.Context())
	if err != nil || len(e.Machines) != 6 || by == "" {
		t.Errorf("expected = %+v by %q, %v; want six machines", e, by, err)
	}
	broken := errors.New("line 1, column 1: no")
	_, err = w.c.ImportExpected(t.Context(), true, func(map[string]hardware.SKU) (hardware.Expected, error) { return hardware.Expected{}, broken })
	if after, _, _ := w.c.Expected(t.Context()); err != broken || !cmp.Equal(e, after) {
		t.Errorf("a file with a mistake: %v; it left %+v", err, after)
	}
}

// A document that no operator of ours signed is nobody's word.
func TestForgedDocuments(t *testing.T) {
	w := newWorld(t)
	stranger, err := sign.OpenOrCreate(t.TempDir(), true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	forge := func(key, typ string, v any) {
		t.Helper()
		packed, err := fleet.Pack(v)
		if err != nil {
			t.Fatal(err)
		}
		env, err := sign.Sign(stranger.Operator, typ, packed)
		if err != nil {
			t.Fatal(err)
		}
		w.put(fleet.BucketConfig, key, fleet.SignedEntry{Document: env, Delegations: stranger.Delegations})
	}
	forge(fleet.ConfigExpected, images.ExpectedType, hardware.Expected{Schema: hardware.ExpectedSchema})
	forge(fleet.ConfigBaseline+"n-1", images.BaselineType, fleet.Baseline{Schema: fleet.BaselineSchema, Node: "n-1"})
	var refused *RefusedError
	if _, _, err := w.c.Expected(t.Context()); !errors.As(err, &refused) {
		t.Errorf("forged expected machines: %v", err)
	}
	if _, err := w.c.ImportExpected(t.Context(), false, file("S1")); !errors.As(err, &refused) {
		t.Errorf("an import on top of forged ones: %v", err)
	}
	if _, err := w.c.ImportExpected(t.Context(), true, file("S1")); err != nil {
		t.Errorf("an import in place of forged ones: %v", err)
	}
	if _, err := w.c.Baseline(t.Context(), "n-1"); !errors.As(err, &refused) {
		t.Errorf("a forged baseline: %v", err)
	}
	inv := hardware.Inventory{System: hardware.System{Serial: "S1"}, Kernel: hardware.Kernel{Release: "6.12"}, Findings: []hardware.Finding{{Code: hardware.CodeReaderFailed}}}
	b, err := inv.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.PutValue(t.Context(), w.js, fleet.BucketInventory, "n-1", 1, b); err != nil {
		t.Fatal(err)
	}
	target := Target{Status: &fleet.Status{Node: "n-1", Attempt: 1}}
	if _, _, err := w.c.AcceptBaseline(t.Context(), target, "ours", false); err != nil {
		t.Fatal(err)
	}
	got, err := w.c.Baseline(t.Context(), "n-1")
	if err != nil || got.Note != "ours" || got.Inventory.System.Serial != "S1" || got.By == "" || got.Inventory.Kernel.Release != "" || len(got.Inventory.Findings) > 0 {
		t.Errorf("baseline = %+v, %v; want the server's parts and no more", got, err)
	}
}

// The view of an earlier boot does not stand before what the node says of the
// present one.
func TestInventoryIsOfTheLastBoot(t *testing.T) {
	w := newWorld(t)
	put := func(key string, attempt int64, serial string) {
		t.Helper()
		b, err := hardware.Inventory{System: hardware.System{Serial: serial}}.Encode()
		if err == nil {
			err = bus.PutValue(t.Context(), w.js, fleet.BucketInventory, key, attempt, b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(serial string) {
		t.Helper()
		if inv, ok, err := w.c.Inventory(t.Context(), "n-1"); err != nil || inv.System.Serial != serial || ok != (serial != "") {
			t.Errorf("inventory = %q, %v, %v; want %q", inv.System.Serial, ok, err, serial)
		}
	}
	want("")
	put("n-1", 1, "OWN1")
	want("OWN1")
	put(fleet.KeyJoined("n-1"), 1, "BOTH1")
	want("BOTH1")
	put("n-1", 2, "OWN2")
	want("OWN2")
	put(fleet.KeyJoined("n-1"), 2, "BOTH2")
	put("n-1", 2, "OWN2-LATE")
	want("BOTH2")
}
