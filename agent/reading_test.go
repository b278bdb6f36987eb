package agent

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/fleet/control"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/inventory"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/nats-io/nats.go/jetstream"
)

func result(serial string, neighbor string) inventory.Result {
	res := inventory.Result{Inventory: hardware.Inventory{System: hardware.System{Serial: serial}}, Readings: hardware.Readings{PowerState: hardware.PowerOn}}
	if neighbor != "" {
		res.Inventory.NICs = []hardware.NIC{{MAC: "52:54:00:00:00:01", Neighbor: hardware.Neighbor{SystemName: neighbor}}}
	}
	res.Inventory.Normalize()
	return res
}

// TestReading: slow readers begin when the report is stored and not before, of
// what they find only the newest is kept for whoever is slow to take it, and the
// jump ends them.
func TestReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReading()
		var ctx context.Context
		ctx, r.stop = context.WithCancel(t.Context())
		began := false
		go r.run(ctx, func(ctx context.Context, told func(inventory.Result)) {
			told(result("first", ""))
			began = true
			told(result("second", ""))
			told(result("third", ""))
			<-ctx.Done() // a reader that heeds its context
		})
		if got := (<-r.first).Inventory.System.Serial; got != "first" {
			t.Errorf("the report has %q", got)
		}
		synctest.Wait()
		if began {
			t.Error("a slow reader began before the report was stored")
		}
		close(r.reported)
		synctest.Wait()
		if got := (<-r.later).Inventory.System.Serial; got != "third" || !began {
			t.Errorf("after the report there is %q; want the newest", got)
		}
		begin := time.Now()
		r.end(time.Second)
		if time.Since(begin) > 0 {
			t.Errorf("the end of readers that heed it took %v", time.Since(begin))
		}
		if _, ok := <-r.later; ok {
			t.Error("something comes after the end")
		}
	})
}

// A reader that hangs does not keep the server from its jump.
func TestReadingThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReading()
		let := make(chan struct{})
		defer close(let)
		var ctx context.Context
		ctx, r.stop = context.WithCancel(t.Context())
		go r.run(ctx, func(context.Context, func(inventory.Result)) { <-let })
		begin := time.Now()
		if r.end(time.Second); time.Since(begin) != time.Second {
			t.Errorf("it took %v", time.Since(begin))
		}
	})
}

// TestKeeper stores on a real bus what differs from before, and nothing else.
func TestKeeper(t *testing.T) {
	ring, err := sign.OpenOrCreate(t.TempDir(), true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := bus.Start(t.Context(), bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() }) //nolint:errcheck // the test is over
	ctl, err := control.Start(context.Background(), control.Config{Bus: s, Roots: ring.Roots(), Reconciler: ring.Reconciler, Delegations: ring.Delegations, Policy: control.PolicyOpen, BMCEvery: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ctl.Close)
	up, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-one"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	reply, err := up.Connect(ctx, uplink.Target{Bus: s.Trust(), Enroll: fleet.EnrollRequest{Serial: "S1", MACs: []string{"52:54:00:00:00:01"}}})
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{up: up, say: t.Logf}
	first := result("S1", "")
	if k.last.inventory, err = first.Inventory.Encode(); err != nil {
		t.Fatal(err)
	}
	k.keep(ctx, first) // the report has stored it
	k.keep(ctx, result("S1", "sw7"))
	warm := result("S1", "sw7")
	warm.Readings.Watts = new(float64)
	k.keep(ctx, warm)
	k.keep(ctx, warm)
	if err := up.PublishAcked(ctx, fleet.SourceAgent, fleet.KindWaiting, nil); err != nil { // all before it is stored
		t.Fatal(err)
	}
	for bucket, want := range map[string]string{fleet.BucketInventory: `"system_name":"sw7"`, fleet.BucketReadings: `"watts":0`} {
		v, err := bus.GetValue(ctx, s.Conn(), bucket, string(reply.Node))
		if err != nil || !strings.Contains(string(v.Data), want) || v.Attempt != reply.Attempt {
			t.Errorf("%s has %.200s of boot %d, %v; want %s of boot %d", bucket, v.Data, v.Attempt, err, want, reply.Attempt)
		}
	}
	if got := kinds(t, s); !slices.Equal(got, []string{fleet.KindInventory, fleet.KindWaiting}) {
		t.Errorf("the timeline has %q; want one word of what was found late", got)
	}
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.Stream(ctx, "KV_"+fleet.BucketReadings)
	if err != nil || st.CachedInfo().State.LastSeq != 2 {
		t.Errorf("readings were written %d times, %v; want twice", st.CachedInfo().State.LastSeq, err)
	}
}

// kinds are those of the agent's events.
func kinds(t *testing.T, s *bus.Server) []string {
	t.Helper()
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	through := errors.New("through")
	tail := bus.Tail{JS: js, Stream: fleet.StreamEvents}
	err = tail.Run(t.Context(), func(m bus.Stored) error {
		var e fleet.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return err
		}
		if e.Source == fleet.SourceAgent {
			out = append(out, e.Kind)
		}
		return nil
	}, func() error { return through })
	if !errors.Is(err, through) {
		t.Fatal(err)
	}
	return out
}
