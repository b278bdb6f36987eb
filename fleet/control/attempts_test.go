package control

import (
	"context"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/nats-io/nats.go/jetstream"
)

func testStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	s, err := bus.Start(t.Context(), bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// TestAttempts: every event of one boot is counted in it, whoever speaks, and
// the next boot is another.
func TestAttempts(t *testing.T) {
	js := testStream(t)
	type step struct {
		after time.Duration
		do    string // what happens
		arg   string
		want  int64
	}
	const fw, loader, kernel = "firmware", "loader", "kernel"
	for name, steps := range map[string][]step{
		"power, PXE, iPXE, kernel, agent, resident": {
			{0, "power", "on", 1}, {5, fw, "", 1}, {3, fw, "", 1}, {2, loader, "", 1}, {5, kernel, "", 1}, {2, "agent", "a1", 1}, {60, kernel, "", 1}, {1, "resident", "", 1},
		},
		"BIOS whose PXE is iPXE": {{0, loader, "", 1}, {9, kernel, "", 1}, {1, "agent", "a1", 1}, {100, loader, "", 2}, {9, kernel, "", 2}, {1, "agent", "a2", 2}},
		"the system before renews its lease while power goes off": {
			{0, fw, "", 1}, {9, kernel, "", 1}, {1, "agent", "a1", 1}, {60, "power", "cycle", 2}, {1, kernel, "", 2}, {5, fw, "", 2}, {20, kernel, "", 2}, {1, "agent", "a2", 2},
		},
		"reset while in the firmware":               {{0, fw, "", 1}, {10, "power", "reset", 2}, {5, fw, "", 2}},
		"the same agent asks again":                 {{0, "agent", "a1", 1}, {5, "agent", "a1", 1}, {5, "agent", "a2", 2}},
		"power off begins nothing":                  {{0, "agent", "a1", 1}, {5, "power", "off", 1}, {50, "power", "on", 2}, {5, fw, "", 2}},
		"firmware that tries for minutes":           {{0, fw, "", 1}, {60, fw, "", 1}, {60, fw, "", 1}, {60, fw, "", 1}, {60, fw, "", 1}},
		"firmware after a long silence":             {{0, fw, "", 1}, {400, fw, "", 2}},
		"an agent that nothing announced":           {{0, fw, "", 1}, {9, kernel, "", 1}, {1, "agent", "a1", 1}, {60, "agent", "a2", 2}},
		"a machine that came up without our seeing": {{0, kernel, "", 0}, {5, "agent", "a1", 1}},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := newAttempts(t.Context(), js)
			if err != nil {
				t.Fatal(err)
			}
			key := seenKey(fleet.Machine{Name: name})
			now := t0
			for i, s := range steps {
				now = now.Add(s.after * time.Second)
				got, err := happen(t.Context(), a, key, s.do, s.arg, now)
				if err != nil {
					t.Fatal(err)
				}
				if got != s.want {
					t.Fatalf("step %d, %s: attempt %d, want %d", i, s.do, got, s.want)
				}
				if i%2 == 1 { // control is started again
					if a, err = newAttempts(t.Context(), js); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

func happen(ctx context.Context, a *attempts, key fleet.NodeID, what, arg string, now time.Time) (int64, error) {
	switch what {
	case "power":
		v, err := a.power(ctx, key, arg, "test", now)
		return v.Attempt, err
	case "agent":
		v, err := a.agent(ctx, key, nil, arg, now)
		return v.Attempt, err
	case "resident":
		n, err := a.current(ctx, key)
		if err == nil {
			err = a.resident(ctx, key, n)
		}
		return n, err
	}
	stage := map[string]fleet.BootStage{"firmware": fleet.StageFirmware, "loader": fleet.StageLoader, "kernel": fleet.StageKernel}[what]
	v, err := a.firmware(ctx, key, stage, now)
	return v.Attempt, err
}

// TestAttemptInherited: the boot in which a machine was only seen is the one in
// which it is enrolled.
func TestAttemptInherited(t *testing.T) {
	a, err := newAttempts(t.Context(), testStream(t))
	if err != nil {
		t.Fatal(err)
	}
	mac := fleet.NodeID("mac-525400000001")
	for i := range 3 {
		if _, err := a.firmware(t.Context(), mac, fleet.StageFirmware, t0.Add(time.Duration(i)*10*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	at := t0.Add(20*time.Minute + 10*time.Second)
	v, err := a.agent(t.Context(), "n-a", []fleet.NodeID{mac}, "b1", at)
	if err != nil || v.Attempt != 3 {
		t.Errorf("agent's attempt %d, %v; want 3, the machine's", v.Attempt, err)
	}
	v, err = a.agent(t.Context(), "n-b", []fleet.NodeID{mac}, "b1", at.Add(2*time.Hour))
	if err != nil || v.Attempt != 1 {
		t.Errorf("two hours later: attempt %d, %v; want 1", v.Attempt, err)
	}
}

// TestCompareAndSet: writers of one key at once lose nothing.
func TestCompareAndSet(t *testing.T) {
	js := testStream(t)
	tb, err := openTable[fleet.Attempt](t.Context(), js, fleet.BucketAttempts)
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 4, 10
	errs := make(chan error, writers)
	for range writers {
		go func() {
			var err error
			for range each {
				if _, _, e := tb.update(context.Background(), "n-x", func(v *fleet.Attempt, _ bool) error {
					v.Attempt++
					return nil
				}); e != nil {
					err = e
				}
			}
			errs <- err
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if v, _, err := tb.get(t.Context(), "n-x"); err != nil || v.Attempt != writers*each {
		t.Errorf("%d of %d increments stand (%v)", v.Attempt, writers*each, err)
	}
	if _, err := tb.put(t.Context(), "n-x", fleet.Attempt{}, 1); err != errConflict { //nolint:errorlint // it is returned as it is
		t.Errorf("a write over an old revision: %v, want a conflict", err)
	}
}

func TestAliases(t *testing.T) {
	a := aliasesOf("4C4C4544-0031-3510-8030-B4C04F4D4D31", " Ser-1 ", []string{"52-54-00-AB-12-CD", "ff:ff:ff:ff:ff:ff"}, []string{"board-serial:X", "mac:52:54:00:ab:12:cd", "nonsense"})
	b := aliasesOf("44454c4c-3100-1035-8030-b4c04f4d4d31", "", nil, nil) // the other byte order
	if len(a) != 4 || a[0][:5] != "uuid:" || a[2] != "serial:ser-1" || a[3] != "mac:52:54:00:ab:12:cd" {
		t.Errorf("aliases %q", a)
	}
	if len(b) != 2 || b[0] != a[0] || b[1] != a[1] {
		t.Errorf("the UUID in the other byte order is %q, want %q", b, a[:2])
	}
}
