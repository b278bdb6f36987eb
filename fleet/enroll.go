package fleet

import (
	"time"

	"github.com/ingot-metal/ingot/images"
)

// Trust is what the boot server hands an agent beside its initramfs, in the
// file [TrustPath]. Under plain PXE it is as good as the network.
type Trust struct {
	Schema string `json:"schema"`
	// Roots are Ed25519 public keys, 32 bytes each.
	Roots [][]byte `json:"roots"`
	// Lab says that lab keys are accepted; an agent refuses it on a machine
	// that is not the lab's.
	Lab bool `json:"lab,omitempty"`
	Bus Bus  `json:"bus"`
	// HTTP is the base URL of the boot server: artifacts are at
	// <http>/blobs/sha256/<hex>.
	HTTP string `json:"http"`
}

// TrustPath is where the agent finds [Trust].
const TrustPath = "/etc/ingot/trust.json"

// LabManufacturer is the SMBIOS manufacturer of the lab's servers.
const LabManufacturer = "Ingot Lab"

// Bus says how to reach NATS.
type Bus struct {
	URLs  []string `json:"urls"`
	CAPEM string   `json:"ca_pem"`
}

// Role says which agent asks to be enrolled.
type Role string

// The roles of a session.
const (
	RoleAgent    Role = "agent"
	RoleResident Role = "resident"
)

// EnrollRequest asks control who this boot is.
type EnrollRequest struct {
	Schema string `json:"schema"`
	Role   Role   `json:"role"`
	// Key is the nkey (public, "U…") that the connection proved.
	Key     string   `json:"key"`
	BootID  string   `json:"boot_id"`
	Nonce   string   `json:"nonce"`
	Aliases []string `json:"aliases,omitempty"`
	Summary string   `json:"summary,omitempty"`
	Serial  string   `json:"serial,omitempty"`
	UUID    string   `json:"uuid,omitempty"`
	MACs    []string `json:"macs,omitempty"`
	// Address is the agent's on the provisioning network.
	Address string `json:"address,omitempty"`
	// Token is the resident's [HandoffToken].
	Token *SignedToken `json:"token,omitempty"`
}

// EnrollState is the answer's gist.
type EnrollState string

// The answers to an enrolment.
const (
	EnrollAccepted EnrollState = "accepted"
	EnrollPending  EnrollState = "pending"
	EnrollRejected EnrollState = "rejected"
)

// EnrollReply is control's answer.
type EnrollReply struct {
	Schema  string      `json:"schema"`
	State   EnrollState `json:"state"`
	Node    NodeID      `json:"node,omitempty"`
	Attempt int64       `json:"attempt,omitempty"`
	Reason  ReasonCode  `json:"reason,omitempty"`
	Hint    string      `json:"hint,omitempty"`
	// RetrySeconds is when to ask again while pending. A rejection that names
	// none is for good: this boot is not enrolled any more.
	RetrySeconds int `json:"retry_seconds,omitempty"`
	// Time is control's clock, for display only.
	Time time.Time `json:"time"`
}

// HandoffToken lets a resident agent take up its agent's timeline, once.
type HandoffToken struct {
	Schema      string        `json:"schema"`
	Node        NodeID        `json:"node"`
	BootID      string        `json:"boot_id"`
	Attempt     int64         `json:"attempt"`
	StackDigest images.Digest `json:"stack_digest"`
	// AgentKey signed the token; ResidentKey is what it is for.
	AgentKey    string    `json:"agent_key"`
	ResidentKey string    `json:"resident_key"`
	Nonce       string    `json:"nonce"`
	NotAfter    time.Time `json:"not_after"`
}

// SignedToken is a [HandoffToken] as JSON with the agent's nkey signature over
// DSSE's pre-authentication encoding of type images.HandoffType.
type SignedToken struct {
	Token     []byte `json:"token"`
	Signature []byte `json:"signature"`
}

// Handoff is the file that an agent leaves for the resident: HandoffPath in the
// initrd, /run/ingot/handoff.json after it, deleted once read.
// The resident keeps what stands in it, in memory, for its own next start.
type Handoff struct {
	Schema string      `json:"schema"`
	Token  SignedToken `json:"token"`
	// ResidentSeed is the secret half of the resident's nkey.
	ResidentSeed string `json:"resident_seed"`
	Trust        Trust  `json:"trust"`
	Node         NodeID `json:"node"`
	Attempt      int64  `json:"attempt"`
	// AgentBootID is the boot that ended with the jump.
	AgentBootID string            `json:"agent_boot_id"`
	JumpTime    time.Time         `json:"jump_time"`
	Manifest    images.Manifest   `json:"manifest"`
	StackDigest images.Digest     `json:"stack_digest"`
	Params      map[string]string `json:"params,omitempty"`
	Placement   images.Placement  `json:"placement,omitzero"`
	MAC         string            `json:"mac,omitempty"`
	// Delegations are those of the grant: operators' commands are checked
	// against them.
	Delegations []images.Envelope `json:"delegations,omitempty"`
}

// HandoffPath is where the handoff lies in the initrd that the agent makes for
// the target, beside boot.RootPath and boot.PayloadDir.
const HandoffPath = "ingot/handoff.json"

// Command is what an operator signs (images.CommandType) to act on a node.
type Command struct {
	Schema   string            `json:"schema"`
	Verb     string            `json:"verb"`
	Node     string            `json:"node"`
	Args     map[string]string `json:"args,omitempty"`
	Nonce    string            `json:"nonce"`
	NotAfter time.Time         `json:"not_after"`
}

// VerbStopVM ends the VM named by the argument "vm" of a running stack.
const VerbStopVM = "vm-stop"

// CommandReply is the answer to a command.
type CommandReply struct {
	Schema string `json:"schema"`
	OK     bool   `json:"ok"`
	Node   NodeID `json:"node,omitempty"`
	Text   string `json:"text,omitempty"`
	Problem
	// Before is what the same command was answered, in the answer to one that
	// came a second time; nil while it is under way.
	Before *CommandReply `json:"before,omitempty"`
}

// Machine is a server that an operator expects, before it was ever seen.
type Machine struct {
	Schema string   `json:"schema"`
	Name   string   `json:"name"`
	Rack   string   `json:"rack,omitempty"`
	Unit   int      `json:"unit,omitempty"`
	Serial string   `json:"serial,omitempty"`
	UUID   string   `json:"uuid,omitempty"`
	MACs   []string `json:"macs,omitempty"`
	BMC    *BMC     `json:"bmc,omitempty"`
	// SKU names the bill of materials that it was bought by.
	SKU string `json:"sku,omitempty"`
}

// BMC says where a machine's BMC answers. Credentials are not kept here.
type BMC struct {
	Address string `json:"address,omitempty"`
	Redfish string `json:"redfish,omitempty"`
	IPMI    string `json:"ipmi,omitempty"`
	// CAPEM is what the BMC's certificate must be, or chain to; the system's
	// roots when empty. Most BMCs have one of their own making: pin it here.
	CAPEM string `json:"ca_pem,omitempty"`
}

// StackEntry is a signed manifest in the config bucket.
type StackEntry struct {
	Schema      string            `json:"schema"`
	Ref         string            `json:"ref"`
	Digest      images.Digest     `json:"digest"`
	Stack       images.Envelope   `json:"stack"`
	Delegations []images.Envelope `json:"delegations"`
}

// RuleEntry is a signed rule in the config bucket.
type RuleEntry struct {
	Schema      string            `json:"schema"`
	Rule        images.Envelope   `json:"rule"`
	Delegations []images.Envelope `json:"delegations"`
}

// Node is control's record of who a node is, in the bucket of nodes.
type Node struct {
	Schema   string    `json:"schema"`
	ID       NodeID    `json:"id"`
	Aliases  []string  `json:"aliases"`
	Enrolled time.Time `json:"enrolled"`
	Machine  string    `json:"machine,omitempty"`
	// Approval is the operators' last word on it; nil while there is none.
	Approval *Approval `json:"approval,omitempty"`
	// Denied are keys of revoked sessions, the newest last.
	Denied []DeniedKey `json:"denied,omitempty"`
	// Sessions are the keys that may speak as this node.
	Sessions []Session `json:"sessions,omitempty"`
	// SeenAs are the keys under which events of this server stand from before
	// it was enrolled.
	SeenAs []NodeID `json:"seen_as,omitempty"`
	// Serial, UUID, MACs, Summary and Address are as the last boot told them.
	Serial  string   `json:"serial,omitempty"`
	UUID    string   `json:"uuid,omitempty"`
	MACs    []string `json:"macs,omitempty"`
	Summary string   `json:"summary,omitempty"`
	Address string   `json:"address,omitempty"`
}

// Session is one key that may speak as a node.
type Session struct {
	Key     string    `json:"key"`
	Role    Role      `json:"role"`
	BootID  string    `json:"boot_id"`
	Attempt int64     `json:"attempt"`
	Nonce   string    `json:"nonce"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// TokenNonce is the handoff token that this session used up.
	TokenNonce string `json:"token_nonce,omitempty"`
}

// Attempt counts the boots and power actions of one node.
type Attempt struct {
	Schema string `json:"schema"`
	Node   NodeID `json:"node"`
	// Attempt is the number of the present, or last, boot.
	Attempt int64     `json:"attempt"`
	Started time.Time `json:"started"`
	// Intent is the power action that is under way or was the last.
	Intent string `json:"intent,omitempty"`
	By     string `json:"by,omitempty"`
	// Reached is the furthest stage of this boot that was seen, BootID the
	// kernel's of the agent that it led to, Firmware the last time that
	// firmware asked for an address.
	Reached  BootStage `json:"reached,omitempty"`
	BootID   string    `json:"boot_id,omitempty"`
	Firmware time.Time `json:"firmware,omitzero"`
}

// BootStage is how far a boot has come.
type BootStage int

// The stages of a boot, in order.
const (
	StageNone     BootStage = iota
	StageFirmware           // PXE or HTTP boot asks for an address
	StageLoader             // iPXE does
	StageKernel             // a kernel does
	StageAgent              // the agent is enrolled
	StageResident           // the resident agent is
)

// OperatorContext is what a console needs to speak to a fleet. It holds
// secrets: files of it are 0600.
type OperatorContext struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	Bus    Bus    `json:"bus"`
	// Seed is the operator's nkey; SigningKey an Ed25519 seed, for rules and
	// commands.
	Seed        string            `json:"seed"`
	SigningKey  []byte            `json:"signing_key"`
	Delegations []images.Envelope `json:"delegations"`
	Roots       [][]byte          `json:"roots"`
	HTTP        string            `json:"http,omitempty"`
	// Stacks is the OCI layout that serve reads, when it runs on this machine.
	Stacks string `json:"stacks,omitempty"`
}
