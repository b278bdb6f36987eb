package control

import (
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/fleet"
)

// phaseLaw is what a phase waits for, how long, and what is said when that is
// too long.
type phaseLaw struct {
	waitingFor string
	limit      time.Duration // 0: none; what silences it is the heartbeat
	reason     fleet.ReasonCode
}

// phases is the table of deadlines. A phase that is not in it ends in no time:
// off, degraded, failed, lost and running wait for nothing, and are left by what
// is heard or not heard.
var phases = map[fleet.Phase]phaseLaw{
	fleet.PhaseSeen:       {"an agent", 5 * time.Minute, fleet.ReasonAgentNotSeen},
	fleet.PhaseBooting:    {"an agent", 4 * time.Minute, fleet.ReasonBootStalled},
	fleet.PhaseInspecting: {"the inventory", 4 * time.Minute, fleet.ReasonInspectionStalled},
	fleet.PhasePending:    {"an operator who accepts it", 0, ""},
	fleet.PhaseWaiting:    {"an assignment", 0, ""},
	fleet.PhaseFetching:   {"the stack's files", 5 * time.Minute, fleet.ReasonFetchStalled},
	fleet.PhaseHandingOff: {"the stack's first contact", 5 * time.Minute, fleet.ReasonNoFirstContact},
	fleet.PhaseStarting:   {"all layers", 5 * time.Minute, fleet.ReasonStartStalled},
}

const forFirmware = "the firmware's request for an address"

// enter puts s into a phase; within the same phase it only renews the deadline.
func enter(s *fleet.Status, p fleet.Phase, now time.Time) {
	if s.Phase != p {
		s.Phase, s.Since, s.Step = p, now, ""
		s.Reason, s.Hint, s.Before = "", "", ""
		s.Evidence = nil
	}
	law := phases[p]
	s.WaitingFor = law.waitingFor
	s.Reason, s.Hint = "", ""
	extend(s, now)
	if p == fleet.PhaseWaiting {
		blame(s, fleet.ReasonNoAssignment, now, "")
	}
}

// extend renews the deadline: there is progress.
func extend(s *fleet.Status, now time.Time) {
	s.Deadline = nil
	if limit := phases[s.Phase].limit; limit > 0 {
		at := now.Add(limit)
		s.Deadline = &at
	}
}

// blame says why, what to do by the table of reasons, and what was seen.
func blame(s *fleet.Status, reason fleet.ReasonCode, now time.Time, evidence string) {
	s.Reason, s.Hint = reason, reason.HintFor(s.Node)
	if evidence != "" {
		note(s, now, evidence)
	}
}

func reduceTick(s *fleet.Status, in Input) {
	if s.Deadline != nil && in.Now.After(*s.Deadline) {
		passDeadline(s, in.Now)
		return
	}
	switch s.Phase {
	case fleet.PhaseInspecting, fleet.PhaseWaiting, fleet.PhaseFetching, fleet.PhaseStarting,
		fleet.PhaseRunning, fleet.PhaseDegraded, fleet.PhasePending:
	default:
		return
	}
	if s.Applied[appliedHeartbeat] == 0 {
		return // this boot has no heart yet
	}
	heard := s.LastSeen
	if in.SilenceFrom.After(heard) {
		heard = in.SilenceFrom
	}
	if in.Now.Sub(heard) < silence {
		return
	}
	before, layers, seen := s.Phase, s.Layers, s.LastSeen
	enter(s, fleet.PhaseLost, in.Now)
	s.Before, s.Step = before, "silent since it was "+string(before)
	s.WaitingFor = "a heartbeat"
	blame(s, fleet.ReasonHeartbeatSilent, seen, "last heartbeat")
	if s.Power != "" {
		note(s, in.Now, "the BMC says that power is "+s.Power)
	}
	for _, l := range layers {
		note(s, l.Since, fmt.Sprintf("%s %s was %s", l.Layer, l.Name, l.State))
	}
}

// passDeadline turns a phase that took too long into a reason.
func passDeadline(s *fleet.Status, now time.Time) {
	law, was, step, since, waits := phases[s.Phase], s.Phase, s.Step, s.Since, s.WaitingFor
	old, layers := s.Evidence, s.Layers
	if waits == forFirmware {
		law.reason = fleet.ReasonNoDHCP
	}
	enter(s, fleet.PhaseFailed, now)
	s.Deadline = nil
	s.Evidence = old
	s.Step = fmt.Sprintf("%s, and then nothing", firstOf(step, string(was)))
	s.WaitingFor = waits
	blame(s, law.reason, now, fmt.Sprintf("%s since %s; last step: %s; last seen %s",
		was, since.UTC().Format(time.RFC3339), firstOf(step, "none"), stamp(s.LastSeen)))
	if s.Power != "" {
		note(s, now, "the BMC says that power is "+s.Power)
	}
	if l, bad := fleet.LowestFault(layers); was == fleet.PhaseStarting && bad {
		s.WaitingFor = string(l.Layer) + " " + l.Name
		blame(s, fleet.FaultOf(l.Layer, fleet.LayerStarting), now, layerText(l))
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}
