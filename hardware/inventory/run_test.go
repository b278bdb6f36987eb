package inventory

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

func serial(_ context.Context, _ sysfs.Root) (hardware.Inventory, error) {
	return hardware.Inventory{System: hardware.System{Serial: "S1", Sources: hardware.Sources{"good"}}}, nil
}

func TestReadersThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inv hardware.Inventory
		release := make(chan struct{})
		defer close(release)
		readers := []Reader{
			{"hangs", 2 * time.Second, facts(func(context.Context, sysfs.Root) (hardware.Inventory, error) {
				<-release
				return hardware.Inventory{System: hardware.System{Serial: "late"}}, nil
			})},
			{"panics", time.Second, facts(func(context.Context, sysfs.Root) (hardware.Inventory, error) {
				return inv, errors.New(inv.DIMMs[3].Slot)
			})},
			{"errs", time.Second, facts(func(context.Context, sysfs.Root) (hardware.Inventory, error) {
				return hardware.Inventory{Chassis: hardware.Chassis{Serial: "half"}}, errors.New("read X: no")
			})},
			{"heeds", time.Second, facts(func(ctx context.Context, _ sysfs.Root) (hardware.Inventory, error) {
				<-ctx.Done()
				return inv, ctx.Err()
			})},
			{"good", time.Second, facts(serial)},
		}
		res := Run(t.Context(), "/nowhere", readers)
		if res.Took > 2*time.Second+100*time.Millisecond {
			t.Errorf("Run took %v, the longest deadline is 2 s", res.Took)
		}
		if res.Inventory.System.Serial != "S1" || res.Inventory.Chassis.Serial != "half" {
			t.Errorf("inventory = %+v; want what the good one and the half one read", res.Inventory)
		}
		want := map[string]hardware.Code{"hangs": hardware.CodeReaderDeadline, "panics": hardware.CodeReaderPanicked,
			"errs": hardware.CodeReaderFailed, "heeds": hardware.CodeReaderDeadline}
		for _, f := range res.Inventory.Findings {
			if want[f.Source] != f.Code {
				t.Errorf("finding %v; want %q", f, want[f.Source])
			}
			if f.Code == hardware.CodeReaderPanicked && !strings.Contains(f.Evidence, "run_test.go") {
				t.Errorf("the panic does not say where: %q", f.Evidence)
			}
			delete(want, f.Source)
		}
		if len(want) != 0 {
			t.Errorf("no findings of %v", want)
		}
		for i, r := range res.Readers {
			if r.Reader != readers[i].Name || (r.Err == "") != (r.Reader == "good") {
				t.Errorf("reader %d = %+v", i, r)
			}
			if r.Took > 2*time.Second+100*time.Millisecond {
				t.Errorf("%s took %v", r.Reader, r.Took)
			}
		}
	})
}

func TestCancelledRunReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		res := Run(ctx, "/nowhere", []Reader{
			{"good", time.Second, facts(serial)},
			{"hangs", time.Hour, facts(func(context.Context, sysfs.Root) (hardware.Inventory, error) {
				<-release
				return hardware.Inventory{}, nil
			})},
		})
		if res.Took > 2*time.Second || res.Inventory.System.Serial != "S1" || len(res.Inventory.Findings) != 1 {
			t.Errorf("Run = %v, %+v", res.Took, res.Inventory)
		}
	})
}

func TestReadersTable(t *testing.T) {
	var names []string
	for _, r := range Readers() {
		if r.Deadline <= 0 || r.Deadline > 15*time.Second {
			t.Errorf("%s has a deadline of %v", r.Name, r.Deadline)
		}
		if slices.Contains(names, r.Name) {
			t.Errorf("%s stands twice", r.Name)
		}
		names = append(names, r.Name)
	}
	for _, r := range Late() {
		if r.Deadline <= 0 || r.Deadline > time.Minute || slices.Contains(names, r.Name) {
			t.Errorf("late %s has a deadline of %v, or stands twice", r.Name, r.Deadline)
		}
		names = append(names, r.Name)
	}
}

func TestEmptyRoot(t *testing.T) {
	res := Read(t.Context(), t.TempDir())
	for _, f := range res.Inventory.Findings {
		if f.Source != "cpu" { // there is always a /proc/cpuinfo
			t.Errorf("finding on nothing: %v", f)
		}
	}
	if got := res.Inventory.Summary(); got != "unknown server, 0 CPUs, 0 drives, 0 NICs" {
		t.Errorf("Summary = %q", got)
	}
}
