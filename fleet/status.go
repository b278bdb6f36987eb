package fleet

import "time"

// Phase is where a node is in its life.
type Phase string

// The phases (those that no part of the system enters yet are listed in
// DESIGN and come with that part).
const (
	PhaseOff        Phase = "off"
	PhaseSeen       Phase = "seen"
	PhaseBooting    Phase = "booting"
	PhaseInspecting Phase = "inspecting"
	PhasePending    Phase = "pending"
	PhaseWaiting    Phase = "waiting"
	PhaseFetching   Phase = "fetching"
	PhaseHandingOff Phase = "handing-off"
	PhaseStarting   Phase = "starting"
	PhaseRunning    Phase = "running"
	PhaseDegraded   Phase = "degraded"
	PhaseFailed     Phase = "failed"
	PhaseLost       Phase = "lost"
)

// Phases are all phases, in the order of a life.
func Phases() []Phase {
	return []Phase{PhaseOff, PhaseSeen, PhaseBooting, PhaseInspecting, PhasePending, PhaseWaiting, PhaseFetching,
		PhaseHandingOff, PhaseStarting, PhaseRunning, PhaseDegraded, PhaseFailed, PhaseLost}
}

// Status is what is known of a node. Its one writer is the status reducer.
type Status struct {
	Schema string `json:"schema"`
	Node   NodeID `json:"node"`
	// Name, Rack and Unit are from the expected machine, where one matches.
	Name string `json:"name,omitempty"`
	Rack string `json:"rack,omitempty"`
	Unit int    `json:"unit,omitempty"`
	// Summary, Serial, UUID, MACs and Address say which box this is.
	Summary string   `json:"summary,omitempty"`
	Serial  string   `json:"serial,omitempty"`
	UUID    string   `json:"uuid,omitempty"`
	MACs    []string `json:"macs,omitempty"`
	Address string   `json:"address,omitempty"`

	Phase Phase `json:"phase"`
	// Before is the phase to return to when a node that is lost is heard again.
	Before     Phase      `json:"before,omitempty"`
	Step       string     `json:"step,omitempty"`
	WaitingFor string     `json:"waiting_for,omitempty"`
	Since      time.Time  `json:"since"`
	Deadline   *time.Time `json:"deadline,omitempty"`
	Reason     ReasonCode `json:"reason,omitempty"`
	Hint       string     `json:"hint,omitempty"`
	Evidence   []Evidence `json:"evidence,omitempty"`

	Attempt     int64     `json:"attempt,omitempty"`
	BootID      string    `json:"boot_id,omitempty"`
	LastSeen    time.Time `json:"last_seen,omitzero"`
	Power       string    `json:"power,omitempty"` // on, off
	Stack       string    `json:"stack,omitempty"`
	StackDigest string    `json:"stack_digest,omitempty"`
	Layers      []Layer   `json:"layers,omitempty"`
	// Applied is the highest seq of each boot_id/source that stands in this
	// status: events are applied once.
	Applied map[string]uint64 `json:"applied,omitempty"`
}

// Evidence is what was seen, and when.
type Evidence struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}
