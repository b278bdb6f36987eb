package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/fleet"
)

// Input is one thing that bears on a node's status. Exactly one of Event,
// Heartbeat, Power and Tick is set; Now is when control learnt of it.
type Input struct {
	Now time.Time
	// Machine is the expected machine that the node is, where one matches.
	Machine *fleet.Machine

	Event *fleet.Event
	// StreamSeq is the event's place in the stream.
	StreamSeq uint64
	Heartbeat *fleet.Heartbeat
	// Power is what the BMC says, "on" or "off".
	Power string
	// Tick lets deadlines pass. SilenceFrom is when control began to listen:
	// what was said before is not missed.
	Tick        bool
	SilenceFrom time.Time
}

// The keys of Status.Applied beside boot_id/source.
const (
	appliedStream    = "stream"
	appliedHeartbeat = "heartbeat"
)

const (
	// silence is how long a node that beats may be unheard: three beats.
	silence     = 20 * time.Second
	maxEvidence = 8
	maxLayers   = 256
)

// Reduce is the status after in. It is pure: the same inputs give the same
// status, and an event that was applied before changes nothing.
func Reduce(s fleet.Status, in Input) fleet.Status {
	s = clone(s)
	s.Schema = fleet.StatusSchema
	in.Now = in.Now.UTC().Truncate(time.Millisecond)
	if m := in.Machine; m != nil {
		s.Name, s.Rack, s.Unit = m.Name, m.Rack, m.Unit
		if s.Serial == "" {
			s.Serial = m.Serial
		}
		if len(s.MACs) == 0 {
			s.MACs = slices.Clone(m.MACs)
		}
	}
	switch {
	case in.Event != nil:
		reduceEvent(&s, in)
	case in.Heartbeat != nil:
		reduceHeartbeat(&s, *in.Heartbeat, in.Now)
	case in.Power != "":
		reducePower(&s, in.Power, in.Now)
	case in.Tick:
		reduceTick(&s, in)
	}
	return s
}

func clone(s fleet.Status) fleet.Status {
	s.MACs, s.Evidence, s.Layers = slices.Clone(s.MACs), slices.Clone(s.Evidence), slices.Clone(s.Layers)
	s.Applied = maps.Clone(s.Applied)
	if s.Applied == nil {
		s.Applied = map[string]uint64{}
	}
	if s.Deadline != nil {
		d := *s.Deadline
		s.Deadline = &d
	}
	return s
}

func reduceEvent(s *fleet.Status, in Input) {
	e := in.Event
	if in.StreamSeq > 0 && in.StreamSeq <= s.Applied[appliedStream] {
		return
	}
	s.Applied[appliedStream] = max(s.Applied[appliedStream], in.StreamSeq)
	if e.BootID != "" {
		key := e.BootID + "/" + string(e.Source)
		if e.Seq <= s.Applied[key] {
			return
		}
		s.Applied[key] = e.Seq
	}
	switch {
	case e.Attempt != 0 && e.Attempt < s.Attempt:
		return // the last words of an earlier boot
	case e.Attempt > s.Attempt:
		newAttempt(s, e)
	}
	s.LastSeen = in.Now
	if f, ok := reducers[e.Kind]; ok {
		f(s, *e, in.Now)
	}
}

// newAttempt forgets what was of the earlier boot.
func newAttempt(s *fleet.Status, e *fleet.Event) {
	applied := map[string]uint64{appliedStream: s.Applied[appliedStream]}
	if e.BootID != "" {
		applied[e.BootID+"/"+string(e.Source)] = e.Seq
	}
	s.Applied, s.Attempt, s.BootID, s.Before = applied, e.Attempt, "", ""
	s.Layers, s.Stack, s.StackDigest, s.Evidence = nil, "", "", nil
	s.Phase = ""
}

// reducers are what each kind of event does to a status.
var reducers = map[string]func(*fleet.Status, fleet.Event, time.Time){
	fleet.KindDHCP: reduceNetboot, fleet.KindTFTP: reduceNetboot, fleet.KindHTTP: reduceNetboot,
	fleet.KindPower:    reducePowerEvent,
	fleet.KindEnrolled: reduceEnrolled,
	fleet.KindPending:  reducePending,
	fleet.KindApproved: reduceApproved,
	fleet.KindRejected: reduceTurnedAway,
	fleet.KindRevoked:  reduceTurnedAway,
	fleet.KindAssigned: reduceAssigned, fleet.KindGranted: reduceAssigned, fleet.KindVerified: reduceAssigned,
	fleet.KindInit: reduceStep, fleet.KindStep: reduceStep,
	fleet.KindReport: reduceReport,
	fleet.KindInventory: func(s *fleet.Status, e fleet.Event, _ time.Time) {
		s.Summary = firstOf(read[fleet.ReportData](e).Summary, s.Summary) // what came late changes no phase
	},
	fleet.KindWaiting: reduceWaiting,
	fleet.KindFetch:   reduceFetch,
	fleet.KindRefused: reduceProblem,
	fleet.KindFailed:  reduceProblem,
	fleet.KindHandoff: reduceHandoff,
	fleet.KindLayer:   reduceLayer,
	fleet.KindFinding: reduceFinding,
	fleet.KindBMCFailed: func(s *fleet.Status, e fleet.Event, now time.Time) {
		note(s, now, "BMC: "+read[fleet.Problem](e).Evidence)
	},
}

func read[T any](e fleet.Event) (v T) {
	if json.Unmarshal(e.Data, &v) != nil {
		var zero T // foreign data of another shape tells nothing
		return zero
	}
	return v
}

func note(s *fleet.Status, at time.Time, text string) {
	if len(text) > 300 {
		text = text[:300]
	}
	s.Evidence = append(s.Evidence, fleet.Evidence{Time: at, Text: text})
	if n := len(s.Evidence) - maxEvidence; n > 0 {
		s.Evidence = slices.Delete(s.Evidence, 0, n)
	}
}

func reduceNetboot(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.NetbootData](e)
	if s.Address == "" || d.Address != "" {
		s.Address = d.Address
	}
	if d.MAC != "" && !slices.Contains(s.MACs, d.MAC) && len(s.MACs) < 16 {
		s.MACs = append(s.MACs, d.MAC)
	}
	switch s.Phase {
	case "", fleet.PhaseOff, fleet.PhaseSeen, fleet.PhaseBooting, fleet.PhaseFailed:
	default:
		return // the agent or the stack asks for an address
	}
	if e.Kind == fleet.KindDHCP && d.Step == "ignore" {
		enter(s, fleet.PhaseSeen, now)
		s.Step = "asks for an address, is not answered"
		blame(s, fleet.ReasonNotAnswered, now, d.Error)
		return
	}
	phase := fleet.PhaseBooting
	if s.Name == "" && !isNodeID(s.Node) {
		phase = fleet.PhaseSeen
	}
	enter(s, phase, now)
	s.Step = fmt.Sprintf("%s %s", e.Kind, firstOf(d.File, d.Step))
	if d.Firmware != "" {
		s.Step += " (" + d.Firmware + ")"
	}
	if d.Error != "" {
		note(s, now, s.Step+": "+d.Error)
	}
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

func isNodeID(n fleet.NodeID) bool { return len(n) > 2 && n[:2] == "n-" }

func reducePowerEvent(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.PowerData](e)
	if d.Error != "" {
		note(s, now, fmt.Sprintf("power %s over %s: %s", d.Action, d.Via, d.Error))
		return
	}
	switch {
	case d.State != "":
		reducePower(s, d.State, now)
	case d.Action == "on" || d.Action == "cycle" || d.Action == "reset":
		enter(s, fleet.PhaseBooting, now)
		s.Step = "power " + d.Action + " over " + d.Via
		s.WaitingFor = forFirmware
	}
}

func reducePower(s *fleet.Status, power string, now time.Time) {
	if s.Power == power {
		return
	}
	was := s.Power
	s.Power = power
	switch {
	case power == "off":
		enter(s, fleet.PhaseOff, now)
		if was != "" {
			note(s, now, "the BMC says that power is off")
		}
	case s.Phase == "":
		// It was on before anybody looked, and nothing of ours runs on it.
		enter(s, fleet.PhaseSeen, now)
		s.Deadline, s.Step, s.WaitingFor = nil, "power is on", "a boot from the network"
		blame(s, fleet.ReasonNotBootedByUs, now, "")
	case s.Phase == fleet.PhaseOff:
		enter(s, fleet.PhaseBooting, now)
		s.Step = "power is on"
		s.WaitingFor = forFirmware
	}
}

func reducePending(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.EnrolledData](e)
	describe(s, d)
	hold(s, now, "asks to be enrolled")
	if d.Reason == "" {
		d.Reason = fleet.ReasonNotAccepted
	}
	blameBy(s, d.Problem, now)
	s.Hint = firstOf(d.Hint, d.Reason.HintFor(s.Node))
}

// hold puts a server among those that wait for an operator: it has no session,
// so no heartbeat is missed.
func hold(s *fleet.Status, now time.Time, step string) {
	enter(s, fleet.PhasePending, now)
	s.Step = step
	delete(s.Applied, appliedHeartbeat)
}

func reduceApproved(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.ApprovalData](e)
	describe(s, fleet.EnrolledData{Summary: d.Summary, Serial: d.Serial, UUID: d.UUID, MACs: d.MACs})
	if s.Phase != fleet.PhasePending && s.Phase != "" {
		return // it is in, off, or on its way
	}
	hold(s, now, wordOf(e.Kind, d))
	s.WaitingFor = "its agent to ask again"
	blame(s, fleet.ReasonAgentAwaited, now, "")
	s.Hint = fleet.ReasonAgentAwaited.HintFor(s.Node)
}

// reduceTurnedAway is a server that operators refused. It is off where it was.
func reduceTurnedAway(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.ApprovalData](e)
	if s.Phase == fleet.PhaseOff {
		note(s, now, wordOf(e.Kind, d))
		return
	}
	describe(s, fleet.EnrolledData{Summary: d.Summary, Serial: d.Serial, UUID: d.UUID, MACs: d.MACs})
	hold(s, now, e.Kind)
	s.Layers = nil
	reason := fleet.ReasonRejected
	if e.Kind == fleet.KindRevoked {
		reason = fleet.ReasonRevoked
	}
	blame(s, reason, now, wordOf(e.Kind, d))
	s.Hint = reason.HintFor(s.Node)
}

func wordOf(kind string, d fleet.ApprovalData) string {
	text := kind + " by operator " + fleet.ShortKey(d.By)
	if d.Note != "" {
		text += ": " + d.Note
	}
	return text
}

// describe takes over who the server says that it is.
func describe(s *fleet.Status, d fleet.EnrolledData) {
	for to, from := range map[*string]string{&s.Summary: d.Summary, &s.Serial: d.Serial, &s.UUID: d.UUID, &s.Address: d.Address} {
		if from != "" {
			*to = from
		}
	}
	if len(d.MACs) > 0 {
		s.MACs = slices.Clone(d.MACs)
	}
}

func reduceEnrolled(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.EnrolledData](e)
	describe(s, d)
	s.BootID = d.BootID
	delete(s.Applied, appliedHeartbeat)
	if d.Role == string(fleet.RoleResident) {
		enter(s, fleet.PhaseStarting, now)
		s.Step = "the stack's first contact"
		s.Layers = nil
		return
	}
	enter(s, fleet.PhaseInspecting, now)
	s.Step = "enrolled"
}

func reduceStep(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.StepData](e)
	switch s.Phase {
	case "", fleet.PhaseSeen, fleet.PhaseBooting, fleet.PhaseOff, fleet.PhaseLost:
		if e.Source == fleet.SourceAgent {
			enter(s, fleet.PhaseInspecting, now)
		}
	case fleet.PhaseInspecting, fleet.PhaseFetching:
		extend(s, now)
	}
	step := firstOf(d.Step, e.Kind)
	if d.Text != "" {
		step += ": " + d.Text
	}
	s.Step = step
}

func reduceReport(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.ReportData](e)
	if d.Summary != "" {
		s.Summary = d.Summary
	}
	enter(s, fleet.PhaseInspecting, now)
	s.Step, s.WaitingFor = "inventory is stored", "the agent to ask for a stack"
}

// reduceWaiting takes an agent that waits for a grant, and keeps what was said of
// why it has none: that the agent refused one, or what control found.
func reduceWaiting(s *fleet.Status, _ fleet.Event, now time.Time) {
	if s.Phase == fleet.PhaseFailed && s.Step == fleet.KindRefused {
		// The agent waits for another grant; why it did not take this one
		// stays said until it does.
		return
	}
	if s.Phase != fleet.PhaseWaiting || s.Reason == "" {
		enter(s, fleet.PhaseWaiting, now)
	}
	s.Step = "waits"
}

// reduceFinding takes what control found: where a node waits for a grant, it is
// why none comes, unless it is about the hardware.
func reduceFinding(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.Problem](e)
	switch {
	case d.Reason == "":
	case e.Source != fleet.SourceControl: // its own word of itself blames nothing
		note(s, now, string(d.Reason)+": "+d.Evidence)
	case s.Phase == fleet.PhaseWaiting && d.Reason != fleet.ReasonMessageMalformed && d.Reason != fleet.ReasonForbidden && !d.Reason.OfHardware():
		blameBy(s, d, now)
	default:
		note(s, now, string(d.Reason)+": "+d.Evidence)
	}
}

// blameBy takes over what somebody said was wrong; its own hint goes first.
func blameBy(s *fleet.Status, d fleet.Problem, now time.Time) {
	blame(s, d.Reason, now, d.Evidence)
	if d.Hint != "" && d.Hint != d.Reason.Hint() {
		s.Hint = d.Hint
	}
}

func reduceAssigned(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.AssignedData](e)
	s.Stack, s.StackDigest = d.Stack, d.Digest
	if e.Kind == fleet.KindAssigned {
		return
	}
	enter(s, fleet.PhaseFetching, now)
	s.Step = e.Kind + " " + d.Stack
	if e.Kind == fleet.KindGranted {
		s.WaitingFor = "the agent to take the grant"
	}
}

func reduceFetch(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.FetchData](e)
	enter(s, fleet.PhaseFetching, now)
	extend(s, now)
	s.Step = "fetched " + d.Name
	if d.TotalBytes > 0 && d.DoneBytes < d.TotalBytes {
		s.Step = fmt.Sprintf("fetches %s: %d %%", d.Name, 100*d.DoneBytes/d.TotalBytes)
	}
}

func reduceProblem(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.Problem](e)
	enter(s, fleet.PhaseFailed, now)
	s.Step = e.Kind
	if !d.Reason.WellFormed() {
		d.Evidence = strings.TrimSpace(string(d.Reason) + " " + d.Evidence)
		d.Reason = fleet.ReasonUnexplained
	}
	blameBy(s, d, now)
}

func reduceHandoff(s *fleet.Status, e fleet.Event, now time.Time) {
	d := read[fleet.HandoffData](e)
	enter(s, fleet.PhaseHandingOff, now)
	s.Stack, s.StackDigest, s.Step = d.Stack, d.StackDigest, "kexec into "+d.Stack
	// The deadline is the node's clock's; its length is what counts.
	if left := d.Deadline.Sub(e.Time); left > 0 && left < 24*time.Hour {
		at := now.Add(left)
		s.Deadline = &at
	}
	delete(s.Applied, appliedHeartbeat)
}
