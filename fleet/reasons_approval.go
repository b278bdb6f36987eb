package fleet

import "strings"

// The codes of operators' words on a server, by control.
const (
	ReasonIdentityChanged  ReasonCode = "identity-changed"
	ReasonRejected         ReasonCode = "rejected"
	ReasonRevoked          ReasonCode = "revoked"
	ReasonAgentAwaited     ReasonCode = "agent-awaited"
	ReasonKeyRevoked       ReasonCode = "key-revoked"
	ReasonMessageMalformed ReasonCode = "message-malformed"
	ReasonForbidden        ReasonCode = "forbidden-on-bus"
	ReasonNodeUnknown      ReasonCode = "node-unknown"
	ReasonNotEnrolled      ReasonCode = "not-enrolled"
	ReasonNothingToName    ReasonCode = "nothing-to-name"
)

// HintFor is the hint with the node's own name in it.
func (c ReasonCode) HintFor(n NodeID) string {
	return strings.ReplaceAll(c.Hint(), "NODE", string(n))
}

func approvalReasons() []Reason {
	return []Reason{
		{ReasonIdentityChanged, ClassWaits, "phase pending",
			"A machine asks under the name of a node and does not say all that the operator's word was given for.",
			[]string{"a board or a NIC was swapped", "another machine uses a MAC, serial or UUID of this node"},
			"compare what it says with the label on the box, and when it is that server: ingot node approve NODE",
			"what was approved, by whom, and the name that is missing, in the evidence"},
		{ReasonRejected, ClassWaits, "phase pending",
			"An operator turned this machine away; it asks on, once a minute.",
			[]string{"it is none of yours", "the wrong one was rejected"},
			"to let it in after all: ingot node approve NODE",
			"who rejected it, when and why, in the evidence"},
		{ReasonRevoked, ClassWaits, "phase pending",
			"An operator ended the sessions of this node, and its next boot waits to be approved.",
			[]string{"it was sent away, stolen or lent"},
			"to let its next boot in: ingot node approve NODE",
			"who revoked it, when and why, in the evidence"},
		{ReasonAgentAwaited, ClassWaits, "phase pending",
			"An operator approved the machine, and its agent has not asked again yet.",
			[]string{"it is off, or boots", "its key was revoked: it needs a new boot"},
			"it asks within a minute; if it does not, boot it: ingot node power cycle NODE",
			"the approved line of the timeline, the power state"},
		{ReasonKeyRevoked, ClassRefused, "enrolment",
			"The key of this boot was a session's that an operator revoked, and is never let in again.",
			[]string{"the node was revoked or rejected while it ran"},
			"when it shall come back: ingot node approve NODE, then ingot node power cycle NODE gives it a new key",
			"the revoked line of the timeline: who and when"},
		{ReasonMessageMalformed, ClassFinding, "messages of a node",
			"A node sent, by its own session, what is no message.",
			[]string{"its agent is of another version", "somebody speaks with its key"},
			"compare the versions; to end its session at once: ingot node revoke NODE",
			"what was wrong with the first one of this boot, in the evidence"},
		{ReasonForbidden, ClassFinding, "messages of a node",
			"Somebody tried on the bus what its laws forbid; it was refused.",
			[]string{"its agent is of another version", "somebody speaks with its key", "a console that writes what it may not"},
			"to end a node's session at once: ingot node revoke NODE; else find the machine by the key in the log of ingot serve",
			"the server's own word for the first try of this boot, in the evidence"},
		{ReasonNodeUnknown, ClassRefused, "commands to control",
			"The command names a server that was never seen and is not expected.",
			[]string{"a typing error", "another fleet's context"},
			"see the servers of this fleet: ingot node list",
			"the name in the evidence"},
		{ReasonNotEnrolled, ClassRefused, "commands to control",
			"The server was never let in, so it has no session to end.",
			[]string{"it is still pending"},
			"to turn it away: ingot node reject NODE",
			"its phase in ingot node show NODE"},
		{ReasonNothingToName, ClassRefused, "commands to control",
			"The command says of a server neither UUID, serial nor MAC address, so nothing could be remembered of it.",
			[]string{"its agent has not asked yet", "a console of another version"},
			"wait until it asks: ingot node wait NODE --for pending",
			"what ingot node show NODE knows of it"},
	}
}
