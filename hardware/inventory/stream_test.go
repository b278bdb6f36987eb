package inventory

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/partial"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// after is a reader that answers with one temperature after so long.
func after(name string, d time.Duration) Reader {
	return Reader{name, time.Minute, func(ctx context.Context, _ sysfs.Root) (hardware.View, error) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return hardware.View{}, ctx.Err()
		}
		return hardware.View{
			Inventory: hardware.Inventory{USB: []hardware.USBDevice{{Port: name, Sources: hardware.Sources{"z", "a"}}}},
			Readings:  hardware.Readings{Sensors: []hardware.Sensor{{Name: name, States: []string{"b\x00", "a"}}}},
		}, nil
	}}
}

// shape is who had answered when a result was told, and who had not.
func shape(r Result) string {
	var names []string
	for _, d := range r.Readers {
		names = append(names, d.Reader)
	}
	return strings.Join(names, " ") + " | " + strings.Join(r.Pending, " ")
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		hangs := Reader{"hangs", 10 * time.Second, func(context.Context, sysfs.Root) (hardware.View, error) {
			<-release
			return hardware.View{}, nil
		}}
		begin := time.Now()
		var got []string
		var at []time.Duration
		res := stream(t.Context(), "/nowhere", tables{
			first: []Reader{after("quick", time.Millisecond), hangs, after("slow", 5*time.Second)},
			late:  []Reader{after("lldp", 20*time.Second), after("sel", time.Second)},
			limit: 4 * time.Second,
		}, func(r Result) {
			got, at = append(got, shape(r)), append(at, time.Since(begin).Round(time.Second))
			if len(got) == 2 {
				time.Sleep(3 * time.Second) // a bus that is slow to take it
			}
		})
		want := []string{
			"quick | hangs slow lldp sel",
			"quick slow sel | hangs lldp",
			"quick hangs slow sel | lldp",
			"quick hangs slow lldp sel | ",
		}
		if !slices.Equal(got[:1], want[:1]) || !slices.Equal(got[len(got)-2:], want[2:]) {
			t.Errorf("told %q; want %q", got, want)
		}
		if at[0] != 4*time.Second || at[len(at)-1] != 24*time.Second {
			t.Errorf("told at %v; want the first at 4 s and the last at 24 s", at)
		}
		if len(res.Inventory.USB) != 4 || len(res.Readings.Sensors) != 4 || len(res.Inventory.Findings) != 1 || len(res.Pending) != 0 {
			t.Errorf("the last = %+v", res)
		}
	})
}

// TestStreamSharesNothing reads one result while the next ones are made; the
// race detector watches.
func TestStreamSharesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := make(chan Result, 9)
		stream(t.Context(), "/nowhere", tables{first: []Reader{after("a", 1)}, late: []Reader{after("b", 1), after("c", 2)}},
			func(r Result) {
				held <- r
				go func() {
					if _, err := r.Inventory.Encode(); err != nil || r.Readings.Sensors[0].States[0] != "b" {
						t.Errorf("%v, %+v", err, r.Readings)
					}
				}()
			})
		synctest.Wait()
		first, second := <-held, <-held
		first.Inventory.USB[0].Sources[0], first.Readings.Sensors[0].States[0] = "spoilt", "spoilt"
		if second.Inventory.USB[0].Sources[0] == "spoilt" || second.Readings.Sensors[0].States[0] == "spoilt" {
			t.Error("two results share what they hold")
		}
	})
}

// TestStreamTellsParts has a late reader that knows something before it ends,
// and one that is left behind and then speaks.
func TestStreamTellsParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		port := func(name string) hardware.View {
			return hardware.View{Inventory: hardware.Inventory{USB: []hardware.USBDevice{{Port: name}}}}
		}
		var revived atomic.Bool
		var got []string
		res := stream(t.Context(), "/nowhere", tables{late: []Reader{
			{"steps", time.Minute, func(ctx context.Context, _ sysfs.Root) (hardware.View, error) {
				time.Sleep(time.Second)
				partial.Tell(ctx, port("a"))
				time.Sleep(time.Second)
				return port("b"), nil
			}},
			{"hangs", 3 * time.Second, func(ctx context.Context, _ sysfs.Root) (hardware.View, error) {
				time.Sleep(10 * time.Second)
				for range 10 {
					partial.Tell(ctx, port("c"))
				}
				revived.Store(true)
				return hardware.View{}, nil
			}},
		}}, func(r Result) {
			s := ""
			for _, u := range r.Inventory.USB {
				s += u.Port
			}
			got = append(got, s+" "+shape(r))
		})
		want := []string{"  | steps hangs", "a  | steps hangs", "b steps | hangs", "b steps hangs | "}
		if !slices.Equal(got, want) || len(res.Pending) != 0 {
			t.Errorf("told %q; want %q", got, want)
		}
		time.Sleep(10 * time.Second)
		if !revived.Load() {
			t.Error("the reader that was left behind cannot end")
		}
	})
}

// TestStreamEnds cancels while a late reader waits.
func TestStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		res := stream(ctx, "/nowhere", tables{first: []Reader{after("a", 1)}, late: []Reader{after("b", time.Hour)}}, func(Result) {})
		if took := time.Since(begin); took > 2*time.Second || len(res.Pending) != 0 || res.Readers[1].Err == "" {
			t.Errorf("after %v: %+v", took, res)
		}
	})
}

// TestFileThatBlocks puts a pipe where a driver's file belongs: opening it
// hangs in the kernel. That costs the facts of its reader alone, and the first
// result does not wait for it.
func TestFileThatBlocks(t *testing.T) {
	root := plant(t, "../testdata/machines/nx2-200/tree.txt")
	const blocks = "sys/class/watchdog/watchdog0/identity"
	if err := os.Remove(filepath.Join(root, blocks)); err != nil {
		t.Fatal(err)
	}
	plantOne(t, root, blocks, func(p string) error { return syscall.Mkfifo(p, 0o600) })
	readers := Readers()
	i := slices.IndexFunc(readers, func(r Reader) bool { return r.Name == "watchdog" })
	readers[i].Deadline = 4 * time.Second
	var told []Result
	res := stream(t.Context(), root, tables{readers, Late(), 3 * time.Second}, func(r Result) { told = append(told, r) })
	if first := told[0]; first.Took > 5*time.Second || !slices.Contains(first.Pending, "watchdog") ||
		len(first.Inventory.NICs) != 2 || len(first.Inventory.Drives) != 1 || len(first.Inventory.CPUs) != 2 || first.Inventory.System.Serial == "" {
		t.Errorf("first after %v: %s, pending %v", first.Took, first.Inventory.Summary(), first.Pending)
	}
	if n := res.Inventory.NICs[0].Neighbor.SystemName; n != "leaf7a" || res.Took > 15*time.Second {
		t.Errorf("last after %v: neighbor %q", res.Took, n)
	}
	if !slices.ContainsFunc(res.Inventory.Findings, func(f hardware.Finding) bool {
		return f.Code == hardware.CodeReaderDeadline && f.Part == "watchdog"
	}) {
		t.Errorf("findings = %v; want one on the reader that blocks", res.Inventory.Findings)
	}
	if fd, err := syscall.Open(filepath.Join(root, blocks), syscall.O_RDWR|syscall.O_NONBLOCK, 0); err == nil {
		_ = syscall.Close(fd) // lets the one that was left behind go
	}
}
