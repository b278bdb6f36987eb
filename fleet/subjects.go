package fleet

import (
	"fmt"
	"regexp"
	"strings"
)

// MaxMessageBytes bounds every message; larger values travel by digest.
const MaxMessageBytes = 256 << 10

// NodeID is the opaque name of a node ("n-7f3k2m9q"), or the key of a machine
// that was only seen ("mac-525400ab12cd").
type NodeID string

// Subject is a NATS subject.
type Subject string

// Streams, buckets and subjects.
const (
	StreamEvents = "ingot-events"

	BucketInventory = "ingot-inventory"
	BucketReadings  = "ingot-readings"
	BucketStatus    = "ingot-status"
	BucketGrant     = "ingot-grant"
	BucketNodes     = "ingot-nodes"
	BucketAttempts  = "ingot-attempts"
	BucketConfig    = "ingot-config"

	SubjectEnroll  Subject = "ingot.ctl.enroll"
	SubjectApprove Subject = "ingot.ctl.approve"
	SubjectReject  Subject = "ingot.ctl.reject"
	SubjectRevoke  Subject = "ingot.ctl.revoke"
	SubjectPower   Subject = "ingot.bmc.power"
)

// Users that a node connects as; operators use UserOperator.
const (
	UserEnroll   = "enroll"
	UserNode     = "node"
	UserOperator = "operator"
)

// Source says who speaks in an event.
type Source string

// The sources. The first three are a node's, the others are ours alone.
const (
	SourceAgent    Source = "agent"
	SourceResident Source = "resident"
	SourceVM       Source = "vm"
	SourceNetboot  Source = "netboot"
	SourceBMC      Source = "bmc"
	SourceControl  Source = "control"
)

var nodeForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
var kindForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

// ParseNodeID checks the form of s: it becomes a token of subjects.
func ParseNodeID(s string) (NodeID, error) {
	if !nodeForm.MatchString(s) {
		return "", fmt.Errorf("node ID %.80q: want lower-case letters, digits and dashes (63 at most)", s)
	}
	return NodeID(s), nil
}

// MACKey is the node ID of a machine that was only seen: "mac-525400ab12cd"
// for 52:54:00:ab:12:cd.
func MACKey(mac string) (NodeID, error) {
	hex := strings.ToLower(strings.NewReplacer(":", "", "-", "").Replace(mac))
	if len(hex) != 12 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", fmt.Errorf("MAC address %.40q: want six hex bytes", mac)
	}
	return NodeID("mac-" + hex), nil
}

// EventSubject is where an event goes. A kind may have several tokens.
func EventSubject(n NodeID, s Source, kind string) Subject {
	return Subject("ingot.ev." + string(n) + "." + string(s) + "." + kind)
}

// HeartbeatSubject is where a node's heartbeats go.
func HeartbeatSubject(n NodeID) Subject { return Subject("ingot.hb." + string(n)) }

// WakeSubject is where the key of a pending server hears that it may ask again
// at once: an operator has spoken.
func WakeSubject(key string) Subject { return Subject("ingot.wake." + key) }

// GrantedSubject is where the hint of a new grant arrives.
func GrantedSubject(n NodeID) Subject { return Subject("ingot.granted." + string(n)) }

// CommandSubject is where a node hears a command.
func CommandSubject(n NodeID, verb string) Subject {
	return Subject("ingot.cmd." + string(n) + "." + verb)
}

// InboxPrefix is the prefix of a node's, or an enrolling key's, inboxes.
func InboxPrefix(nodeOrKey string) string { return "_INBOX_" + nodeOrKey }

// KVSubject is the subject that writes a bucket's key.
func KVSubject(bucket, key string) Subject { return Subject("$KV." + bucket + "." + key) }

// DirectGetSubject is where the latest value of a bucket's key is asked for.
func DirectGetSubject(bucket, key string) Subject {
	return Subject("$JS.API.DIRECT.GET.KV_" + bucket + ".$KV." + bucket + "." + key)
}

// Keys of the config bucket.
const (
	ConfigStack      = "stack."      // + hex digest: StackEntry
	ConfigRule       = "rule."       // + rule ID: RuleEntry
	ConfigMachine    = "machine."    // + name: Machine
	ConfigDelegation = "delegation." // + role: images.Envelope
	ConfigBaseline   = "baseline."   // + node ID: SignedEntry of a Baseline
	ConfigExpected   = "expected"    // SignedEntry of a hardware.Expected
)

// HeaderAttempt is the header of inventories and readings that says of which
// boot they are.
const HeaderAttempt = "Ingot-Attempt"

// KeyJoined is where the inventory of a node stands as its own readers and its
// BMC see it together, with what differs from what is expected and accepted.
// Nodes write under their own ID alone, control under the others.
func KeyJoined(n NodeID) string { return string(n) + ".bmc" }

// KeyLAN is what the BMC alone says, over its own network.
func KeyLAN(n NodeID) string { return string(n) + ".lan" }

// KeyLast is what stood under [KeyJoined] at the end of the boot before.
func KeyLast(n NodeID) string { return string(n) + ".last" }
