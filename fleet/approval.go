package fleet

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Standing is what operators said of a server.
type Standing string

// The standings. A server of which nobody said anything has none: under the
// policy approve it is pending.
const (
	StandingApproved Standing = "approved"
	StandingRejected Standing = "rejected"
	StandingRevoked  Standing = "revoked"
)

// Approval is an operator's word on a server, in the node's record. It holds
// over boots and over restarts of control until another word is given.
type Approval struct {
	Standing Standing `json:"standing"`
	// Aliases are who the server said it was when the operator looked. The
	// word holds for boots that say the same: see [Approval.Covers].
	Aliases []string `json:"aliases"`
	// By is the ID of the key that signed the command.
	By   string    `json:"by"`
	Time time.Time `json:"time"`
	Note string    `json:"note,omitempty"`
}

// Covers says whether the word was given for a server of these aliases: it
// shares one of each kind (UUID, serial, MAC) that the word names. One MAC
// address alone, typed by somebody else, is not enough. missing is the first
// alias of which no like was found.
func (a Approval) Covers(aliases []string) (missing string, ok bool) {
	met := map[string]bool{}
	for _, x := range a.Aliases {
		kind, _, _ := strings.Cut(x, ":")
		met[kind] = met[kind] || slices.Contains(aliases, x)
	}
	for _, x := range a.Aliases {
		if kind, _, _ := strings.Cut(x, ":"); !met[kind] {
			return x, false
		}
	}
	return "", len(a.Aliases) > 0
}

// String is who said what, when.
func (a Approval) String() string {
	s := fmt.Sprintf("%s by operator %s at %s", a.Standing, ShortKey(a.By), a.Time.UTC().Format(time.RFC3339))
	if a.Note != "" {
		s += ": " + a.Note
	}
	return s
}

// ShortKey is a key ID as people read it.
func ShortKey(id string) string {
	if _, hex, ok := strings.Cut(id, ":"); ok {
		id = hex
	}
	return id[:min(len(id), 12)]
}

// DeniedKey is a key that was a session's when the session was revoked. It is
// never let in again: the server comes back with the key of its next boot.
type DeniedKey struct {
	Key  string    `json:"key"`
	Role Role      `json:"role"`
	Time time.Time `json:"time"`
}

// ApprovalData says what an operator said of a server, and who it was.
type ApprovalData struct {
	// By is the ID of the operator's key; Nonce is the command's.
	By    string `json:"by"`
	Nonce string `json:"nonce"`
	Note  string `json:"note,omitempty"`
	// Ended are the keys of the sessions that ended with it.
	Ended   []string `json:"ended,omitempty"`
	Summary string   `json:"summary,omitempty"`
	Serial  string   `json:"serial,omitempty"`
	UUID    string   `json:"uuid,omitempty"`
	MACs    []string `json:"macs,omitempty"`
	SeenAs  []NodeID `json:"seen_as,omitempty"`
}

// Verbs of the commands to [SubjectApprove], [SubjectReject] and
// [SubjectRevoke]. The arguments "serial", "uuid" and "macs" (with commas) are
// who the operator was shown, "note" is why.
const (
	VerbApprove = "approve"
	VerbReject  = "reject"
	VerbRevoke  = "revoke"
)

// ControlNode is the key under which control writes what it cannot attribute
// to any server. It has no status.
const ControlNode NodeID = "control"
