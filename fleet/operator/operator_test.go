package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
)

// world is a real bus with an operator on it; control's part is played by hand.
type world struct {
	t    *testing.T
	js   jetstream.JetStream
	c    *Client
	keys sign.Keyring
	seq  uint64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := bus.Start(t.Context(), bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() }) //nolint:errcheck // the test is over
	keys, err := sign.OpenOrCreate(t.TempDir(), true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	seed, err := s.OperatorSeed()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect(fleet.OperatorContext{Bus: s.Trust(), Seed: seed, SigningKey: keys.Operator.Seed(), Delegations: keys.Delegations, Roots: [][]byte{keys.Root}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, js: js, c: c, keys: keys}
}

func (w *world) put(bucket, key string, v any) {
	w.t.Helper()
	kv, err := w.js.KeyValue(w.t.Context(), bucket)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := kv.Put(w.t.Context(), key, b); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) event(n fleet.NodeID, kind string) {
	w.t.Helper()
	w.seq++
	b, err := json.Marshal(fleet.Event{Schema: fleet.EventSchema, ID: fmt.Sprint(w.seq), Node: n, Source: fleet.SourceNetboot, Seq: w.seq, Time: time.Now(), Kind: kind})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.js.Publish(w.t.Context(), string(fleet.EventSubject(n, fleet.SourceNetboot, kind)), b); err != nil {
		w.t.Fatal(err)
	}
}

const mac = "52:54:00:01:01:01"

// A machine that is followed while it is only expected is followed on under its
// node ID, and no event is told twice or left out.
func TestFollowThroughEnrolment(t *testing.T) {
	w := newWorld(t)
	machine := fleet.Machine{Schema: fleet.MachineSchema, Name: "r1u1", MACs: []string{mac}}
	w.put(fleet.BucketConfig, fleet.ConfigMachine+"r1u1", machine)
	w.event("mac-525400010101", "dhcp")
	target, err := w.c.Find(t.Context(), "r1u1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := make(chan string, 16)
	done := make(chan error, 1)
	go func() {
		done <- w.c.FollowEvents(ctx, target, func(r Record) error {
			got <- string(r.Node) + " " + r.Kind
			return nil
		})
	}()
	want := func(text string) {
		t.Helper()
		select {
		case s := <-got:
			if s != text {
				t.Errorf("followed %q; want %q", s, text)
			}
		case <-ctx.Done():
			t.Fatalf("waited for %q", text)
		}
	}
	want("mac-525400010101 dhcp")
	w.event("n-1", "enrolled")
	w.put(fleet.BucketStatus, "n-1", fleet.Status{Schema: fleet.StatusSchema, Node: "n-1", Name: "r1u1", MACs: []string{mac}, Phase: fleet.PhaseInspecting})
	want("n-1 enrolled")
	w.event("n-1", "report")
	want("n-1 report")
	w.event("n-2", "report") // another's
	w.event("n-1", "waiting")
	want("n-1 waiting")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("FollowEvents = %v; want the end of its context", err)
	}
}

func TestAssignReplacesTheRuleOfTheSameNodes(t *testing.T) {
	w := newWorld(t)
	m := images.Manifest{Name: "a", Version: "1", Params: map[string]images.Param{"nonce": {Type: "string", Required: true}}}
	st := fleet.Status{Node: "n-1", Name: "r1u1"}
	a := Assignment{Targets: []Target{{Status: &st}}, Stack: images.DigestOf([]byte("a")), Manifest: m}
	if _, err := w.c.Assign(t.Context(), a); err == nil || !strings.Contains(err.Error(), "nonce") {
		t.Errorf("Assign without a required parameter = %v", err)
	}
	for _, nonce := range []string{"one", "two"} {
		a.Params = map[string]string{"nonce": nonce}
		if _, err := w.c.Assign(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	rules, err := w.c.Rules(t.Context())
	if err != nil || len(rules) != 1 || rules[0].Params["nonce"] != "two" || rules[0].Count != 1 {
		t.Fatalf("Rules = %+v, %v; want the second alone", rules, err)
	}
	if _, _, err := w.keys.Roots().OpenRule(w.keys.Delegations, ruleEnvelope(t, w), time.Now()); err != nil {
		t.Errorf("the stored rule does not open: %v", err)
	}
}

// Operators who write the same key at once all come through, and one of their
// words stands.
func TestWritesAtOnce(t *testing.T) {
	w := newWorld(t)
	const operators = 8
	var all sync.WaitGroup
	for i := range operators {
		for _, v := range []string{fmt.Sprint("of ", i), "the same"} {
			all.Go(func() {
				if err := w.c.put(t.Context(), "stack.of-"+v[:2], v); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	kv, err := w.js.KeyValue(t.Context(), fleet.BucketConfig)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"stack.of-th": `"the same"`, "stack.of-of": `"of `} {
		if e, err := kv.Get(t.Context(), key); err != nil || !strings.HasPrefix(string(e.Value()), want) {
			t.Errorf("%s = %v, %v; want %s…", key, e, err, want)
		}
	}
}

func TestUnassign(t *testing.T) {
	w := newWorld(t)
	one := Target{Status: &fleet.Status{Node: "n-1", Name: "r1u1"}}
	two := Target{Status: &fleet.Status{Node: "n-2", Name: "r1u2"}}
	m := images.Manifest{Name: "a", Version: "1"}
	for _, targets := range [][]Target{{one}, {two}} {
		if _, err := w.c.Assign(t.Context(), Assignment{Targets: targets, Stack: images.DigestOf([]byte("a")), Manifest: m}); err != nil {
			t.Fatal(err)
		}
	}
	gone, err := w.c.Unassign(t.Context(), one)
	if err != nil || len(gone) != 1 || gone[0].ID != "n-1" {
		t.Fatalf("Unassign = %+v, %v; want rule n-1", gone, err)
	}
	rules, err := w.c.Rules(t.Context())
	if err != nil || len(rules) != 1 || rules[0].ID != "n-2" {
		t.Errorf("Rules after Unassign = %+v, %v; want n-2 alone", rules, err)
	}
	if _, err := w.c.Unassign(t.Context(), one); !errors.Is(err, ErrNotFound) {
		t.Errorf("Unassign again = %v; want ErrNotFound", err)
	}
	if _, err := w.c.Assign(t.Context(), Assignment{Targets: []Target{one, two}, Stack: images.DigestOf([]byte("a")), Manifest: m}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.c.Unassign(t.Context(), one); err == nil || !strings.Contains(err.Error(), "2 servers") {
		t.Errorf("Unassign of one of a set = %v; want the set named", err)
	}
}

func ruleEnvelope(t *testing.T, w *world) images.Envelope {
	t.Helper()
	all, err := values[fleet.RuleEntry](t.Context(), w.c, fleet.BucketConfig, fleet.ConfigRule)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d rules, %v", len(all), err)
	}
	return all[0].Rule
}

func TestPick(t *testing.T) {
	all := join(
		[]fleet.Status{
			{Node: "n-1", Name: "r1u1", Serial: "S1", MACs: []string{mac}},
			{Node: "mac-525400010101", MACs: []string{mac}}, // what it was before
			{Node: "n-3", Serial: "DUP"}, {Node: "n-4", Serial: "DUP"},
		},
		[]fleet.Machine{{Name: "r1u1", MACs: []string{mac}}, {Name: "r1u2", Serial: "S2", UUID: "1AB0"}},
	)
	for _, tt := range []struct{ name, key, wrong string }{
		{"r1u1", "n-1", ""}, {"n-1", "n-1", ""}, {"s1", "n-1", ""}, {"52-54-00-01-01-01", "n-1", ""},
		{"r1u2", "r1u2", ""}, {"s2", "r1u2", ""}, {"1ab0", "r1u2", ""},
		{"dup", "", "n-3 and n-4"}, {"r9", "", "known:"}, {"", "", "not found"},
	} {
		got, err := pick(all, tt.name)
		key := ""
		if err == nil {
			key = got.Key()
		}
		if key != tt.key || tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)) {
			t.Errorf("pick(%q) = %q, %v; want %q, or an error that says %q", tt.name, key, err, tt.key, tt.wrong)
		}
	}
	if len(all) != 4 {
		t.Errorf("join gives %d servers; want 4: what was only seen is the node", len(all))
	}
}

// The quickest message of a boot tells how far its clock stands beside ours.
func TestAligned(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	rec := func(boot string, told, received int) Record {
		return Record{Event: fleet.Event{BootID: boot, Time: at(told)}, Received: at(received)}
	}
	var got []int64
	for _, e := range Aligned([]Record{rec("slow", 10, 115), rec("slow", 20, 120), rec("", 121, 130), rec("fast", 500, 130)}) {
		got = append(got, e.Time.Unix())
	}
	if d := cmp.Diff([]int64{110, 120, 121, 130}, got); d != "" {
		t.Errorf("times (-want +got):\n%s", d)
	}
}

// An older version of the stack that a server has is given only by who says so;
// another stack, and the same version anew, by anybody.
func TestAssignRefusesADowngrade(t *testing.T) {
	w := newWorld(t)
	one := Target{Status: &fleet.Status{Node: "n-1", Name: "r1u1"}}
	two := Target{Status: &fleet.Status{Node: "n-2", Name: "r1u2"}}
	assign := func(name, version string, downgrade bool, targets ...Target) error {
		t.Helper()
		a := images.Artifact{Name: "k", Digest: images.DigestOf([]byte(version)), SizeBytes: 1}
		m := images.Manifest{Schema: images.ManifestSchema, Name: name, Version: version, Arch: "amd64", Deadline: images.Duration(time.Minute),
			Boot: images.Boot{Kernel: a, Initrds: []images.Artifact{a}}}
		env, b, err := sign.SignJSON(w.keys.Operator, images.ManifestType, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.c.PutStack(t.Context(), fleet.StackEntry{Stack: env, Delegations: w.keys.Delegations}); err != nil {
			t.Fatal(err)
		}
		_, err = w.c.Assign(t.Context(), Assignment{Targets: targets, Stack: images.DigestOf(b), Manifest: m, Downgrade: downgrade})
		return err
	}
	for _, tt := range []struct {
		name, version string
		downgrade     bool
		targets       []Target
		refused       bool
	}{
		{"a", "1.10", false, []Target{one}, false},
		{"a", "1.9", false, []Target{one}, true},
		{"a", "1.9", false, []Target{two, one}, true}, // for one of them
		{"a", "1.10-rc1", false, []Target{one}, true},
		{"a", "1.9", false, []Target{two}, false},
		{"a", "1.10", false, []Target{one}, false},
		{"b", "0.1", false, []Target{one}, false}, // another stack
		{"a", "1.10", false, []Target{one}, false},
		{"a", "1.9", true, []Target{one}, false}, // meant
		{"a", "1.10", false, []Target{one}, false},
	} {
		before, err := w.c.Rules(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = assign(tt.name, tt.version, tt.downgrade, tt.targets...)
		var refused *RefusedError
		switch {
		case !tt.refused && err == nil:
			continue
		case !tt.refused || !errors.As(err, &refused) || refused.Reason != fleet.ReasonDowngrade || !strings.Contains(err.Error(), "gives it a:1.10") || !strings.Contains(err.Error(), "ingot assign r1u1 STACK --allow-downgrade"):
			t.Errorf("%+v: %v", tt, err)
		}
		if after, err := w.c.Rules(t.Context()); err != nil || !cmp.Equal(before, after) {
			t.Errorf("%+v: the rules are now %v, %v; want them as they were", tt, after, err)
		}

	}
}

// A command whose answer does not come is sent again, and what control says
// then is what came of the first: nothing is taken for done that was not.
func TestAnswerThatWasLost(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits 12 s for an answer; -short is given")
	}
	for _, tt := range []struct {
		name    string
		answers []fleet.CommandReply // after the first, which is lost
		want    string
	}{
		{"it was done", []fleet.CommandReply{{Before: &fleet.CommandReply{OK: true, Text: "power is on"}}}, ""},
		{"it was refused", []fleet.CommandReply{{}, {Before: &fleet.CommandReply{Problem: fleet.NewProblem(fleet.ReasonBMCFailed, "it hangs")}}}, "refused: bmc-failed: it hangs"},
		{"nobody knows", []fleet.CommandReply{{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}}, "it was taken and is not done yet"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var asked int
			if _, err := w.js.Conn().Subscribe(string(fleet.SubjectPower), func(m *nats.Msg) {
				if asked++; asked == 1 || asked-2 >= len(tt.answers) {
					return
				}
				r := tt.answers[asked-2]
				r.Reason = fleet.ReasonCommandRepeated
				b, err := json.Marshal(r)
				if err != nil {
					t.Error(err)
				}
				if err := m.Respond(b); err != nil {
					t.Error(err)
				}
			}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 18*time.Second)
			defer cancel()
			reply, err := w.c.Power(ctx, Target{Machine: &fleet.Machine{Name: "r1u1"}}, "on", "")
			if tt.want == "" && (err != nil || reply.Text != "power is on") || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Power = %+v, %v; want %q", reply, err, tt.want)
			}
		})
	}
}

// A stack that is not what it is called, or that nobody of this fleet signed, is
// refused, and the fleet holds nothing of it.
func TestPutStackRefuses(t *testing.T) {
	w := newWorld(t)
	stranger, err := sign.OpenOrCreate(t.TempDir(), true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a := images.Artifact{Name: "k", Digest: images.DigestOf([]byte("k")), SizeBytes: 1}
	m := images.Manifest{Schema: images.ManifestSchema, Name: "a", Version: "1", Arch: "amd64", Deadline: images.Duration(time.Minute),
		Boot: images.Boot{Kernel: a, Initrds: []images.Artifact{a}}}
	signed := func(k sign.Keyring) fleet.StackEntry {
		env, b, err := sign.SignJSON(k.Operator, images.ManifestType, m)
		if err != nil {
			t.Fatal(err)
		}
		return fleet.StackEntry{Ref: "a:1", Digest: images.DigestOf(b), Stack: env, Delegations: k.Delegations}
	}
	wrong, turned := signed(w.keys), signed(w.keys)
	wrong.Digest = images.DigestOf([]byte("another"))
	turned.Stack.Payload = []byte(strings.Replace(string(turned.Stack.Payload), `"version":"1"`, `"version":"2"`, 1))
	for name, tt := range map[string]struct {
		e    fleet.StackEntry
		want fleet.ReasonCode
	}{
		"a wrong digest":         {wrong, fleet.ReasonCode(sign.ReasonMismatch)},
		"a byte that was turned": {turned, fleet.ReasonCode(sign.ReasonSignature)},
		"a stranger's signature": {signed(stranger), fleet.ReasonCode(sign.ReasonSignature)},
	} {
		_, err := w.c.PutStack(t.Context(), tt.e)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Reason != tt.want || refused.Hint == "" || !strings.HasPrefix(err.Error(), "stack a:1: refused: ") {
			t.Errorf("%s: %v; want it refused as %s, with what to do", name, err, tt.want)
		}
	}
	if all, err := w.c.Stacks(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("the fleet holds %v, %v; want nothing", all, err)
	}
}
