package fleet

import (
	"regexp"
	"slices"
)

// ReasonCode names why something is as it is: a word of the wire, in kebab
// case, that never changes its meaning. [Reasons] explains them all.
type ReasonCode string

// ReasonClass says what a reason asks of whoever reads it.
type ReasonClass string

// The classes of reasons.
const (
	ClassFault   ReasonClass = "fault"   // something is broken
	ClassRefused ReasonClass = "refused" // something was asked for and not done; nothing was changed
	ClassWaits   ReasonClass = "waits"   // nothing is wrong: a person has to decide
	ClassFinding ReasonClass = "finding" // noticed on the way; the node goes on
)

// Reason explains one code.
type Reason struct {
	Code  ReasonCode  `json:"code"`
	Class ReasonClass `json:"class"`
	// Where is what it is about: a phase, a layer, or who says it.
	Where string `json:"where"`
	// Meaning is one sentence.
	Meaning string   `json:"meaning"`
	Causes  []string `json:"causes"`
	// Hint is what to do; NODE, STACK, VM and RULE stand for the one at hand.
	Hint string `json:"hint"`
	// Evidence is what to look at.
	Evidence string `json:"evidence"`
}

// The codes of a node's life, by the status reducer.
const (
	ReasonNotAnswered       ReasonCode = "not-answered"
	ReasonAgentNotSeen      ReasonCode = "agent-not-seen"
	ReasonNotBootedByUs     ReasonCode = "not-booted-by-us"
	ReasonNoDHCP            ReasonCode = "no-dhcp"
	ReasonBootStalled       ReasonCode = "boot-stalled"
	ReasonInspectionStalled ReasonCode = "inspection-stalled"
	ReasonNotAccepted       ReasonCode = "not-accepted"
	ReasonNoAssignment      ReasonCode = "no-assignment"
	ReasonFetchStalled      ReasonCode = "fetch-stalled"
	ReasonNoFirstContact    ReasonCode = "no-first-contact"
	ReasonStartStalled      ReasonCode = "start-stalled"
	ReasonHeartbeatSilent   ReasonCode = "heartbeat-silent"
	ReasonUnexplained       ReasonCode = "unexplained"
)

// The codes of a node's lowest layer that is at fault, by the status reducer.
const (
	ReasonHostDown        ReasonCode = "host-down"
	ReasonHypervisorDown  ReasonCode = "hypervisor-down"
	ReasonVMDown          ReasonCode = "vm-down"
	ReasonContainerDown   ReasonCode = "container-down"
	ReasonServiceDown     ReasonCode = "service-down"
	ReasonHostNotUp       ReasonCode = "host-not-up"
	ReasonHypervisorNotUp ReasonCode = "hypervisor-not-up"
	ReasonVMNotUp         ReasonCode = "vm-not-up"
	ReasonContainerNotUp  ReasonCode = "container-not-up"
	ReasonServiceNotUp    ReasonCode = "service-not-up"
)

// The codes of a layer, by the resident agent and the VM.
const (
	ReasonShutdown            ReasonCode = "shutdown"
	ReasonUnitsFailed         ReasonCode = "units-failed"
	ReasonResidentPanic       ReasonCode = "resident-panic"
	ReasonModulesMissing      ReasonCode = "modules-missing"
	ReasonKVMMissing          ReasonCode = "kvm-missing"
	ReasonVMNetwork           ReasonCode = "vm-network"
	ReasonQEMUStart           ReasonCode = "qemu-start"
	ReasonQEMUExited          ReasonCode = "qemu-exited"
	ReasonVMNoHello           ReasonCode = "vm-no-hello"
	ReasonVMSilent            ReasonCode = "vm-silent"
	ReasonVMRebooted          ReasonCode = "vm-rebooted"
	ReasonLayerBelow          ReasonCode = "layer-below"
	ReasonContainerd          ReasonCode = "containerd-down"
	ReasonImageImport         ReasonCode = "image-import"
	ReasonImageDigestMismatch ReasonCode = "image-digest-mismatch"
	ReasonContainerStart      ReasonCode = "container-start"
	ReasonContainerExited     ReasonCode = "container-exited"
	ReasonHealthCheck         ReasonCode = "health-check"
	ReasonContainerUnclear    ReasonCode = "container-unclear"
	ReasonNoAnswer            ReasonCode = "no-answer"
)

// The codes of grants and of stacks, by control and by the agent. Those of
// packages boot and images/sign stand in the table beside them.
const (
	ReasonSeveralRules   ReasonCode = "several-rules"
	ReasonRuleFull       ReasonCode = "rule-full"
	ReasonParamsRefused  ReasonCode = "params-refused"
	ReasonStackMissing   ReasonCode = "stack-missing"
	ReasonStackRefused   ReasonCode = "stack-refused"
	ReasonDowngrade      ReasonCode = "stack-downgrade"
	ReasonDigestMismatch ReasonCode = "digest-mismatch"
	ReasonCmdlineUnknown ReasonCode = "cmdline-unknown"
	ReasonArtifactAbsent ReasonCode = "artifact-absent"
)

// The codes of enrolment, by control.
const (
	ReasonRequestMalformed ReasonCode = "request-malformed"
	ReasonKeyNotProven     ReasonCode = "key-not-proven"
	ReasonNoIdentity       ReasonCode = "no-identity"
	ReasonNodeAlive        ReasonCode = "node-alive"
	ReasonAliasConflict    ReasonCode = "alias-conflict"
	ReasonBootIsOver       ReasonCode = "boot-is-over"
	ReasonTokenUsed        ReasonCode = "token-used"
	ReasonTokenRefused     ReasonCode = "token-refused"
	ReasonControlTrouble   ReasonCode = "control-trouble"
)

// The codes of commands: the first by control, those with "command-" by the
// node too.
const (
	ReasonCommandMalformed ReasonCode = "command-malformed"
	ReasonCommandExpired   ReasonCode = "command-expired"
	ReasonCommandRepeated  ReasonCode = "command-repeated"
	ReasonBusy             ReasonCode = "busy"
	ReasonActionUnknown    ReasonCode = "action-unknown"
	ReasonWayUnknown       ReasonCode = "way-unknown"
	ReasonCommandSignature ReasonCode = "command-signature"
	ReasonCommandStale     ReasonCode = "command-stale"
	ReasonCommandReplayed  ReasonCode = "command-replayed"
	ReasonCommandOther     ReasonCode = "command-for-another"
	ReasonCommandUnknown   ReasonCode = "command-unknown"
	ReasonCommandFailed    ReasonCode = "command-failed"
)

// The codes of BMCs, by control.
const (
	ReasonNoBMC         ReasonCode = "no-bmc"
	ReasonBMCFailed     ReasonCode = "bmc-failed"
	ReasonBMCDenied     ReasonCode = "bmc-denied"
	ReasonBMCSilent     ReasonCode = "bmc-silent"
	ReasonBMCUnreadable ReasonCode = "bmc-unreadable"
)

// Reasons are all codes that any part of Ingot gives, in the order of a node's
// life and then by who is asked. The slice is the caller's.
func Reasons() []Reason {
	all := slices.Concat(phaseReasons(), faultReasons(), layerReasons(), containerReasons(), stackReasons(), refusals(),
		enrollReasons(), approvalReasons(), commandReasons(), bmcReasons(), bmcFindings(), inventoryReasons(), driveReasons())
	first := map[string]int{} // what is about the same stands together
	for i, r := range all {
		if _, ok := first[r.Where]; !ok {
			first[r.Where] = i
		}
	}
	slices.SortStableFunc(all, func(a, b Reason) int { return first[a.Where] - first[b.Where] })
	return all
}

// Explain returns what stands in the table of reasons about a code.
func Explain(code ReasonCode) (Reason, bool) {
	all := Reasons()
	i := slices.IndexFunc(all, func(r Reason) bool { return r.Code == code })
	if i < 0 {
		return Reason{}, false
	}
	return all[i], true
}

// Hint is what to do about a code; empty for one that the table lacks.
func (c ReasonCode) Hint() string {
	r, _ := Explain(c)
	return r.Hint
}

var codeForm = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// WellFormed says whether a code that came from outside looks like one; it may
// be of a version with another table.
func (c ReasonCode) WellFormed() bool { return len(c) <= 64 && codeForm.MatchString(string(c)) }

// OfHardware says whether a code is a finding of the inventory.
func (c ReasonCode) OfHardware() bool {
	r, known := Explain(c)
	return known && r.Where == "inventory"
}

// NewProblem is a problem with the table's hint.
func NewProblem(code ReasonCode, evidence string) Problem {
	return Problem{Reason: code, Hint: code.Hint(), Evidence: evidence}
}

// NewProblemOf is a problem whose evidence is an error.
func NewProblemOf(code ReasonCode, err error) Problem { return NewProblem(code, err.Error()) }

// FaultOf is the code of a node of which a layer is at fault.
func FaultOf(l LayerName, s LayerState) ReasonCode {
	down := map[LayerName]ReasonCode{LayerHost: ReasonHostDown, LayerHypervisor: ReasonHypervisorDown, LayerVM: ReasonVMDown,
		LayerContainer: ReasonContainerDown, LayerService: ReasonServiceDown}
	notUp := map[LayerName]ReasonCode{LayerHost: ReasonHostNotUp, LayerHypervisor: ReasonHypervisorNotUp, LayerVM: ReasonVMNotUp,
		LayerContainer: ReasonContainerNotUp, LayerService: ReasonServiceNotUp}
	if s == LayerDown {
		return down[l]
	}
	return notUp[l]
}
