package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Schemas of the wire.
const (
	EventSchema     = "ingot.event/v1"
	StatusSchema    = "ingot.status/v1"
	HeartbeatSchema = "ingot.heartbeat/v1"
	EnrollSchema    = "ingot.enroll/v1"
	TrustSchema     = "ingot.trust/v1"
	HandoffSchema   = "ingot.handoff/v1"
	CommandSchema   = "ingot.command/v1"
	NodeSchema      = "ingot.node/v1"
	MachineSchema   = "ingot.machine/v1"
	AttemptSchema   = "ingot.attempt/v1"
)

// Event is one entry of a node's timeline.
type Event struct {
	Schema string `json:"schema"`
	ID     string `json:"id"`
	Node   NodeID `json:"node"`
	// BootID is the kernel's, or empty where no kernel of the node runs yet.
	BootID  string `json:"boot_id,omitempty"`
	Attempt int64  `json:"attempt,omitempty"`
	Source  Source `json:"source"`
	// Seq counts from 1 for each (boot_id, source).
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	// MonoNS is nanoseconds since the kernel of boot_id started.
	MonoNS int64 `json:"mono_ns,omitempty"`
	// ClockState is "rtc", "floor", "http" or "synced".
	ClockState string          `json:"clock_state,omitempty"`
	Kind       string          `json:"kind"`
	Data       json.RawMessage `json:"data,omitempty"`
}

// MessageID is the deduplication ID of the seq-th event of a boot. It is a hash
// of the boot's key, which no other node knows, so that none can silence
// another by guessing it.
func MessageID(bootKey []byte, source Source, seq uint64) string {
	h := sha256.New()
	fmt.Fprintf(h, "%x/%s/%d", bootKey, source, seq)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// ParseEvent reads and checks an event; unknown fields are let pass.
func ParseEvent(b []byte) (Event, error) {
	var e Event
	if err := CheckMessage(b); err != nil {
		return e, fmt.Errorf("event: %w", err)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("event: %v", err)
	}
	if e.Schema != EventSchema {
		return e, fmt.Errorf("event: schema is %.40q, want %q", e.Schema, EventSchema)
	}
	if !nodeForm.MatchString(string(e.Node)) || !kindForm.MatchString(e.Kind) || e.Seq == 0 {
		return e, fmt.Errorf("event: node %.80q, kind %.80q or seq %d is malformed", e.Node, e.Kind, e.Seq)
	}
	return e, nil
}

// Kinds of events. The first word is the layer that speaks.
const (
	KindDHCP      = "dhcp"      // netboot: NetbootData
	KindTFTP      = "tftp"      // netboot: NetbootData
	KindHTTP      = "http"      // netboot: NetbootData
	KindPower     = "power"     // bmc: PowerData
	KindEnrolled  = "enrolled"  // control: EnrolledData
	KindPending   = "pending"   // control: EnrolledData; an operator has to accept it
	KindApproved  = "approved"  // control: ApprovalData; an operator accepted it
	KindRejected  = "rejected"  // control: ApprovalData
	KindRevoked   = "revoked"   // control: ApprovalData; its sessions ended
	KindAssigned  = "assigned"  // control: AssignedData
	KindGranted   = "granted"   // control: AssignedData
	KindInit      = "init"      // agent: StepData; /init runs
	KindStep      = "step"      // agent: StepData; a phase began, ended or waits
	KindReport    = "report"    // agent: ReportData; inventory is stored
	KindInventory = "inventory" // agent: ReportData; what slower readers found is stored too
	KindWaiting   = "waiting"   // agent: StepData; waits for a grant
	KindFetch     = "fetch"     // agent: FetchData
	KindVerified  = "verified"  // agent: AssignedData
	KindRefused   = "refused"   // agent: Problem
	KindHandoff   = "handoff"   // agent: HandoffData; the last word before kexec
	KindFailed    = "failed"    // agent: Problem
	KindLayer     = "layer"     // resident, vm: Layer; a layer changed its state
	KindResumed   = "resumed"   // resident: StepData; it was ended and started again
	KindCommand   = "command"   // agent, resident: CommandData; control: one that it refused
	KindFinding   = "finding"   // agent, control
	KindRedfish   = "redfish"   // control: Redfish crawl joined
	KindBMCFailed = "bmc.error" // control: Problem
)

// NetbootData is what the boot server saw.
type NetbootData struct {
	MAC       string  `json:"mac,omitempty"`
	UUID      string  `json:"uuid,omitempty"`
	Address   string  `json:"address,omitempty"`
	Firmware  string  `json:"firmware,omitempty"`
	Step      string  `json:"step,omitempty"`
	File      string  `json:"file,omitempty"`
	SizeBytes int64   `json:"size_bytes,omitempty"`
	Seconds   float64 `json:"seconds,omitempty"`
	Error     string  `json:"error,omitempty"`
}

// PowerData is a power action and what the BMC said of it.
type PowerData struct {
	Action string `json:"action"`
	Via    string `json:"via"`
	State  string `json:"state,omitempty"`
	By     string `json:"by,omitempty"`
	Error  string `json:"error,omitempty"`
	// Reason is the code of Error.
	Reason ReasonCode `json:"reason,omitempty"`
}

// EnrolledData says who a boot was taken for.
type EnrolledData struct {
	Role    string `json:"role"`
	Level   string `json:"level"`
	Policy  string `json:"policy"`
	Summary string `json:"summary,omitempty"`
	Address string `json:"address,omitempty"`
	// What the boot says of itself; SeenAs are the keys that its machine's
	// events stand under from before it had a node ID.
	BootID string   `json:"boot_id,omitempty"`
	Serial string   `json:"serial,omitempty"`
	UUID   string   `json:"uuid,omitempty"`
	MACs   []string `json:"macs,omitempty"`
	SeenAs []NodeID `json:"seen_as,omitempty"`
	// Problem is why it waits, where it is pending.
	Problem
}

// AssignedData names a rule and its stack.
type AssignedData struct {
	Rule   string `json:"rule"`
	Stack  string `json:"stack"`
	Digest string `json:"digest"`
}

// StepData is a step of the agent.
type StepData struct {
	Step    string  `json:"step"`
	State   string  `json:"state,omitempty"` // begin, done, wait
	Seconds float64 `json:"seconds,omitempty"`
	Text    string  `json:"text,omitempty"`
}

// ReportData says that the inventory is stored.
type ReportData struct {
	Digest  string             `json:"digest"`
	Summary string             `json:"summary"`
	Seconds float64            `json:"seconds"`
	Readers map[string]float64 `json:"readers,omitempty"` // seconds each
	Pending []string           `json:"pending,omitempty"` // readers that are still at work
}

// FetchData is the progress of fetching.
type FetchData struct {
	Name       string  `json:"name"`
	Digest     string  `json:"digest"`
	DoneBytes  int64   `json:"done_bytes"`
	TotalBytes int64   `json:"total_bytes"`
	Seconds    float64 `json:"seconds,omitempty"`
}

// HandoffData announces the jump.
type HandoffData struct {
	Stack       string    `json:"stack"`
	StackDigest string    `json:"stack_digest"`
	ResidentKey string    `json:"resident_key,omitempty"`
	Deadline    time.Time `json:"deadline"`
}

// Problem is why something did not go on.
type Problem struct {
	Reason   ReasonCode `json:"reason,omitempty"`
	Hint     string     `json:"hint,omitempty"`
	Evidence string     `json:"evidence,omitempty"`
}

// CommandData is a command that a node heard, and what came of it.
type CommandData struct {
	Verb string `json:"verb"`
	OK   bool   `json:"ok"`
	Text string `json:"text,omitempty"`
	Problem
}

// LayerName is a layer of the running stack.
type LayerName string

// The layers, from the lowest up.
const (
	LayerHost       LayerName = "host"
	LayerHypervisor LayerName = "hypervisor"
	LayerVM         LayerName = "vm"
	LayerContainer  LayerName = "container"
	LayerService    LayerName = "service"
)

// LayerState is how a layer is.
type LayerState string

// The states of a layer. Unknown is said where the layer below is down.
const (
	LayerStarting LayerState = "starting"
	LayerUp       LayerState = "up"
	LayerDown     LayerState = "down"
	LayerUnknown  LayerState = "unknown"
)

// Layer is one part of the running stack: the host, the hypervisor, one VM,
// one container or one service.
type Layer struct {
	Layer LayerName  `json:"layer"`
	Name  string     `json:"name"`
	State LayerState `json:"state"`
	Since time.Time  `json:"since"`
	// Reason and Evidence say why it is not up.
	Reason   ReasonCode `json:"reason,omitempty"`
	Evidence string     `json:"evidence,omitempty"`
	// Facts are identities: boot_id, container_id, image_digest, url.
	Facts map[string]string `json:"facts,omitempty"`
}

// Heartbeat is a node's sign of life. It is never stored.
type Heartbeat struct {
	Schema  string    `json:"schema"`
	Node    NodeID    `json:"node"`
	BootID  string    `json:"boot_id"`
	Attempt int64     `json:"attempt"`
	Source  Source    `json:"source"`
	Time    time.Time `json:"time"`
	// Step is what an agent does or waits for.
	Step   string  `json:"step,omitempty"`
	Layers []Layer `json:"layers,omitempty"`
}
