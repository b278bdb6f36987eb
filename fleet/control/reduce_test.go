package control

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/fleet"
)

var update = flag.Bool("update", false, "write the golden files anew")

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// life is a script of inputs to one node, and what its status was after each.
type life struct {
	t      *testing.T
	status fleet.Status
	now    time.Time
	seq    uint64
	seqs   map[string]uint64
	inputs []Input
	log    strings.Builder
}

func newLife(t *testing.T, key fleet.NodeID) *life {
	return &life{t: t, status: fleet.Status{Node: key}, now: t0, seqs: map[string]uint64{}}
}

func (l *life) do(in Input) {
	in.Now = l.now
	l.inputs = append(l.inputs, in)
	l.status = Reduce(l.status, in)
}

func (l *life) after(d time.Duration) *life {
	l.now = l.now.Add(d)
	return l
}

func (l *life) event(source fleet.Source, bootID string, attempt int64, kind string, data any) *life {
	l.t.Helper()
	raw, err := json.Marshal(data)
	if err != nil {
		l.t.Fatal(err)
	}
	l.seq++
	key := bootID + "/" + string(source)
	l.seqs[key]++
	e := fleet.Event{Schema: fleet.EventSchema, Node: l.status.Node, BootID: bootID, Attempt: attempt, Source: source, Seq: l.seqs[key], Time: l.now, Kind: kind, Data: raw}
	l.do(Input{Event: &e, StreamSeq: l.seq})
	l.say(string(source) + " " + kind)
	return l
}

func (l *life) beat(bootID string, attempt int64, layers ...fleet.Layer) *life {
	src := fleet.SourceAgent
	if layers != nil {
		src = fleet.SourceResident
	}
	l.do(Input{Heartbeat: &fleet.Heartbeat{Node: l.status.Node, BootID: bootID, Attempt: attempt, Source: src, Layers: layers}})
	l.say("heartbeat")
	return l
}

func (l *life) power(state string) *life {
	l.do(Input{Power: state})
	l.say("BMC says " + state)
	return l
}

func (l *life) tick(d time.Duration) *life {
	l.after(d).do(Input{Tick: true})
	l.say("tick")
	return l
}

func (l *life) say(what string) {
	s := l.status
	due := "-"
	if s.Deadline != nil {
		due = "+" + s.Deadline.Sub(l.now).String()
	}
	fmt.Fprintf(&l.log, "%6s  %-20s  %-11s  due %-8s  step %q  waits for %q  reason %q\n", l.now.Sub(t0), what, s.Phase, due, s.Step, s.WaitingFor, s.Reason)
	for _, e := range s.Evidence {
		fmt.Fprintf(&l.log, "        %6s %s\n", e.Time.Sub(t0), e.Text)
	}
}

func stack(states ...fleet.LayerState) []fleet.Layer {
	names := []string{"host", "kvm", "app", "hello", "hello"}
	var out []fleet.Layer
	for i, st := range states {
		out = append(out, fleet.Layer{Layer: order[i], Name: names[i], State: st, Since: t0})
	}
	return out
}

const up, down, starting, unknown = fleet.LayerUp, fleet.LayerDown, fleet.LayerStarting, fleet.LayerUnknown

func toWaiting(l *life) *life {
	l.event(fleet.SourceBMC, "", 1, fleet.KindPower, fleet.PowerData{Action: "on", Via: "redfish"})
	l.after(2*time.Second).event(fleet.SourceNetboot, "", 1, fleet.KindDHCP, fleet.NetbootData{Step: "discover", Firmware: "PXE BIOS"})
	l.after(time.Second).event(fleet.SourceNetboot, "", 1, fleet.KindHTTP, fleet.NetbootData{Step: "get", File: "/boot/vmlinuz"})
	l.after(8*time.Second).event(fleet.SourceControl, "", 1, fleet.KindEnrolled, fleet.EnrolledData{Role: "agent", BootID: "b1", Summary: "a server", Serial: "S"})
	l.event(fleet.SourceAgent, "b1", 1, fleet.KindInit, fleet.StepData{})
	l.event(fleet.SourceAgent, "b1", 1, fleet.KindStep, fleet.StepData{Step: "inventory", State: "done"})
	l.event(fleet.SourceAgent, "b1", 1, fleet.KindReport, fleet.ReportData{Summary: "a server, 2 CPUs"})
	l.event(fleet.SourceAgent, "b1", 1, fleet.KindWaiting, fleet.StepData{Step: "waiting"})
	return l.beat("b1", 1)
}

func toStarting(l *life) *life {
	toWaiting(l)
	l.after(time.Second).event(fleet.SourceControl, "", 1, fleet.KindGranted, fleet.AssignedData{Rule: "r", Stack: "hello:1", Digest: "sha256:x"})
	l.event(fleet.SourceAgent, "b1", 1, fleet.KindFetch, fleet.FetchData{Name: "root", DoneBytes: 5, TotalBytes: 10})
	l.event(fleet.SourceAgent, "b1", 1, fleet.KindVerified, fleet.AssignedData{Stack: "hello:1"})
	l.event(fleet.SourceAgent, "b1", 1, fleet.KindHandoff, fleet.HandoffData{Stack: "hello:1", Deadline: l.now.Add(90 * time.Second)})
	return l.after(30*time.Second).event(fleet.SourceControl, "", 1, fleet.KindEnrolled, fleet.EnrolledData{Role: "resident", BootID: "b2"})
}

func toRunning(l *life) *life {
	toStarting(l)
	l.event(fleet.SourceResident, "b2", 1, fleet.KindLayer, fleet.Layer{Layer: fleet.LayerHost, Name: "host", State: up, Since: t0})
	l.after(5*time.Second).beat("b2", 1, stack(up, up, starting, unknown, unknown)...)
	return l.after(20*time.Second).beat("b2", 1, stack(up, up, up, up, up)...)
}

var lives = map[string]func(*life){
	"running": func(l *life) { toRunning(l) },
	"vm-down-and-back": func(l *life) {
		toRunning(l).after(5*time.Second).beat("b2", 1, stack(up, up, down, unknown, unknown)...)
		l.after(5*time.Second).beat("b2", 1, stack(up, up, starting, unknown, unknown)...)
		l.after(20*time.Second).beat("b2", 1, stack(up, up, up, up, up)...)
	},
	"silent-and-heard-again": func(l *life) {
		toRunning(l).tick(19 * time.Second).tick(2 * time.Second).tick(time.Hour)
		l.beat("b2", 1, stack(up, up, up, up, up)...)
	},
	"silent-and-off": func(l *life) { toRunning(l).tick(30 * time.Second).power("off").tick(time.Hour).power("on") },
	"no-dhcp": func(l *life) {
		l.power("off").event(fleet.SourceBMC, "", 1, fleet.KindPower, fleet.PowerData{Action: "on", Via: "ipmi"})
		l.event(fleet.SourceBMC, "", 1, fleet.KindPower, fleet.PowerData{Action: "read", Via: "ipmi", State: "on"})
		l.tick(time.Minute).tick(5 * time.Minute)
	},
	"agent-hangs-in-inventory": func(l *life) {
		l.event(fleet.SourceControl, "", 1, fleet.KindEnrolled, fleet.EnrolledData{Role: "agent", BootID: "b1"})
		l.event(fleet.SourceAgent, "b1", 1, fleet.KindStep, fleet.StepData{Step: "inventory", State: "begin", Text: "ipmi"})
		l.tick(time.Minute).tick(4 * time.Minute)
	},
	"waits-for-ever": func(l *life) {
		toWaiting(l).after(15*time.Second).beat("b1", 1).tick(time.Second).tick(10 * time.Second).tick(15 * time.Second)
	},
	"fetch-stalls": func(l *life) {
		toWaiting(l).event(fleet.SourceControl, "", 1, fleet.KindGranted, fleet.AssignedData{Stack: "hello:1"})
		l.event(fleet.SourceAgent, "b1", 1, fleet.KindFetch, fleet.FetchData{Name: "root", DoneBytes: 7, TotalBytes: 10})
		l.after(4*time.Minute).beat("b1", 1)
		l.after(59*time.Second).beat("b1", 1).tick(2 * time.Second)
	},
	"stack-refused-by-control": func(l *life) {
		toWaiting(l).event(fleet.SourceControl, "", 1, fleet.KindFinding, fleet.Problem{Reason: "signature-invalid", Hint: "h", Evidence: "rule n-1 names stack ab12, which is refused"})
		l.event(fleet.SourceAgent, "b1", 1, fleet.KindWaiting, fleet.StepData{Step: "grant", State: "wait"}) // asked again; the reason stays
	},
	"word-of-the-cmdline-unknown": func(l *life) {
		toWaiting(l).event(fleet.SourceAgent, "b1", 1, fleet.KindFinding, fleet.Problem{Reason: fleet.ReasonCmdlineUnknown, Evidence: "ingot.bootiff"}) // told, and in nobody's way
	},
	"refused-and-granted-again": func(l *life) {
		toWaiting(l).event(fleet.SourceAgent, "b1", 1, fleet.KindRefused, fleet.Problem{Reason: "signature-invalid", Hint: "h", Evidence: "refuse rule"})
		l.event(fleet.SourceAgent, "b1", 1, fleet.KindWaiting, fleet.StepData{Step: "grant"}) // for another; the reason stays
		l.event(fleet.SourceControl, "", 1, fleet.KindGranted, fleet.AssignedData{Stack: "hello:2"})
	},
	"no-first-contact": func(l *life) {
		toWaiting(l).event(fleet.SourceAgent, "b1", 1, fleet.KindHandoff, fleet.HandoffData{Stack: "hello:1", Deadline: l.now.Add(90 * time.Second)})
		l.tick(80 * time.Second).tick(20 * time.Second)
		l.after(time.Minute).event(fleet.SourceControl, "", 1, fleet.KindEnrolled, fleet.EnrolledData{Role: "resident", BootID: "b2"}) // late is better than never
	},
	"container-never-starts": func(l *life) {
		toStarting(l)
		for range 70 {
			l.after(5*time.Second).beat("b2", 1, stack(up, up, up, starting, unknown)...)
			l.do(Input{Tick: true})
		}
		l.say("350 s later")
	},
	"second-boot": func(l *life) {
		toRunning(l).event(fleet.SourceNetboot, "", 2, fleet.KindDHCP, fleet.NetbootData{Step: "discover", Firmware: "PXE UEFI"})
		l.beat("b2", 1, stack(up, up, up, up, up)...) // the last word of the first
		l.event(fleet.SourceResident, "b2", 1, fleet.KindLayer, fleet.Layer{Layer: fleet.LayerVM, Name: "app", State: down})
		l.after(20*time.Second).event(fleet.SourceControl, "", 2, fleet.KindEnrolled, fleet.EnrolledData{Role: "agent", BootID: "b3"})
	},
	"power-fails": func(l *life) {
		toRunning(l).event(fleet.SourceBMC, "", 1, fleet.KindPower, fleet.PowerData{Action: "cycle", Via: "ipmi", Error: "timeout"})
	},
}

// TestLives compares whole lives with what was agreed to be right.
func TestLives(t *testing.T) {
	for name, script := range lives {
		t.Run(name, func(t *testing.T) {
			l := newLife(t, "n-test")
			script(l)
			path := filepath.Join("testdata", "lives", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(l.log.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), l.log.String()); diff != "" {
				t.Errorf("the life is another (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNeverSilent: whatever the life, time alone leads to a phase that waits for
// nothing, or to a reason.
func TestNeverSilent(t *testing.T) {
	for name, script := range lives {
		l := newLife(t, "n-test")
		script(l)
		for i := range l.inputs {
			var s fleet.Status
			s.Node = "n-test"
			for _, in := range l.inputs[:i+1] {
				s = Reduce(s, in)
			}
			now := l.inputs[i].Now
			for range 100 {
				now = now.Add(time.Minute)
				s = Reduce(s, Input{Now: now, Tick: true})
			}
			if s.Reason == "" && s.Phase != fleet.PhaseOff && s.Phase != fleet.PhaseRunning && s.Phase != "" {
				t.Errorf("%s, after input %d and 100 minutes: %s waits for %q without a reason", name, i, s.Phase, s.WaitingFor)
			}
			if s.Reason != "" && s.Phase == fleet.PhaseFailed && (s.Hint == "" || len(s.Evidence) == 0) {
				t.Errorf("%s, after input %d: %s has no hint or no evidence", name, i, s.Reason)
			}
			if _, known := fleet.Explain(s.Reason); s.Reason != "" && !known {
				t.Errorf("%s, after input %d: the table of reasons lacks %s", name, i, s.Reason)
			}
			if strings.Contains(s.Hint, "NODE") {
				t.Errorf("%s, after input %d: the hint %q does not name the node", name, i, s.Hint)
			}
		}
	}
}

// TestDuplicates: events that come twice change nothing, in whatever order the
// second ones come.
func TestDuplicates(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, script := range lives {
		l := newLife(t, "n-test")
		script(l)
		s := fleet.Status{Node: "n-test"}
		var seen []Input
		next := l.seq
		for _, in := range l.inputs {
			s = Reduce(s, in)
			if in.Event == nil {
				continue
			}
			seen = append(seen, in)
			for _, i := range r.Perm(len(seen)) {
				again := seen[i]
				again.Now = in.Now
				if again.Event.BootID != "" {
					// Stored twice: the stream gave it a new number.
					next++
				}
				before := s
				s = Reduce(s, again)
				if diff := cmp.Diff(before, s); diff != "" {
					t.Fatalf("%s: %s of seq %d again:\n%s", name, again.Event.Kind, again.Event.Seq, diff)
				}
			}
		}
		if diff := cmp.Diff(l.status, s); diff != "" {
			t.Errorf("%s ends otherwise:\n%s", name, diff)
		}
	}
}

// TestStoredTwice: the same event of a node under another stream sequence, as
// after the window of deduplication.
func TestStoredTwice(t *testing.T) {
	l := newLife(t, "n-test")
	toRunning(l)
	want := l.status
	for i, in := range slices.Clone(l.inputs) {
		if in.Event == nil || in.Event.BootID == "" {
			continue
		}
		in.StreamSeq = l.seq + uint64(i) + 1
		in.Now = l.now
		got := Reduce(l.status, in)
		got.Applied, got.LastSeen = want.Applied, want.LastSeen
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s came again:\n%s", in.Event.Kind, diff)
		}
	}
}

func TestReduceIsPure(t *testing.T) {
	l := newLife(t, "n-test")
	toRunning(l)
	before, err := json.Marshal(l.status)
	if err != nil {
		t.Fatal(err)
	}
	Reduce(l.status, Input{Now: l.now.Add(time.Hour), Tick: true})
	Reduce(l.status, Input{Now: l.now, Heartbeat: &fleet.Heartbeat{BootID: "b2", Attempt: 1, Source: fleet.SourceResident, Layers: stack(up, down, down, down, down)}})
	after, err := json.Marshal(l.status)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Errorf("Reduce changed what it was given:\n%s\n%s", before, after)
	}
}

func FuzzReduce(f *testing.F) {
	f.Add([]byte(`{"schema":"ingot.event/v1","node":"n-a","seq":1,"kind":"layer","source":"resident","data":{"layer":"vm","state":"down"}}`))
	f.Add([]byte(`{"schema":"ingot.event/v1","node":"n-a","seq":1,"kind":"fetch","data":{"done_bytes":9223372036854775807,"total_bytes":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := fleet.ParseEvent(b)
		if err != nil {
			return
		}
		l := newLife(t, e.Node)
		toRunning(l)
		s := Reduce(l.status, Input{Now: l.now, Event: &e, StreamSeq: 1000})
		s = Reduce(s, Input{Now: l.now.Add(time.Hour), Tick: true})
		if len(s.Layers) > maxLayers || len(s.Evidence) > maxEvidence {
			t.Errorf("%d layers, %d pieces of evidence", len(s.Layers), len(s.Evidence))
		}
		if _, err := json.Marshal(s); err != nil {
			t.Error(err)
		}
	})
}

func FuzzParseEnrollRequest(f *testing.F) {
	f.Add([]byte(`{"schema":"ingot.enroll/v1","role":"agent","key":"UABC","boot_id":"x","nonce":"0123456789abcdef"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseEnrollRequest(b)
		if err != nil {
			return
		}
		for _, a := range aliasesOf(r.UUID, r.Serial, r.MACs, r.Aliases) {
			if len(a) > 128 {
				t.Errorf("alias of %d characters", len(a))
			}
		}
	})
}

// TestLateLayerEvent: a heartbeat that says up overtakes the event that said
// starting; the node stays running.
func TestLateLayerEvent(t *testing.T) {
	begin := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	vm := func(state fleet.LayerState, since time.Duration) fleet.Layer {
		return fleet.Layer{Layer: fleet.LayerVM, Name: "app", State: state, Since: begin.Add(since)}
	}
	s := fleet.Status{Phase: fleet.PhaseStarting, BootID: "b", Attempt: 1, Layers: []fleet.Layer{vm(fleet.LayerStarting, 0)}, Applied: map[string]uint64{}}
	reduceHeartbeat(&s, fleet.Heartbeat{BootID: "b", Attempt: 1, Source: fleet.SourceResident, Layers: []fleet.Layer{vm(fleet.LayerUp, 2*time.Second)}}, begin)
	event := func(l fleet.Layer) {
		raw, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		reduceLayer(&s, fleet.Event{Kind: fleet.KindLayer, Data: raw}, begin.Add(3*time.Second))
	}
	event(vm(fleet.LayerStarting, time.Second))
	if s.Phase != fleet.PhaseRunning {
		t.Errorf("after a late event the phase is %s; want running", s.Phase)
	}
	event(vm(fleet.LayerDown, 3*time.Second))
	if s.Phase != fleet.PhaseDegraded {
		t.Errorf("after a new event the phase is %s; want degraded", s.Phase)
	}
}
