package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/nats-io/nats.go/micro"
)

const (
	rejectedSeconds = 60
	// maxDenied bounds the revoked keys of one node that are remembered; a node
	// has one session at a time.
	maxDenied = 64
	// maxAskers bounds the pending keys that are woken when an operator speaks;
	// those beyond it ask again by themselves.
	maxAskers = 4096
	askerLife = 2 * time.Minute
	maxNote   = 256
)

// standings are the verbs of operators' words on a server.
var standings = map[string]struct {
	subject  fleet.Subject
	standing fleet.Standing
	kind     string
}{
	fleet.VerbApprove: {fleet.SubjectApprove, fleet.StandingApproved, fleet.KindApproved},
	fleet.VerbReject:  {fleet.SubjectReject, fleet.StandingRejected, fleet.KindRejected},
	fleet.VerbRevoke:  {fleet.SubjectRevoke, fleet.StandingRevoked, fleet.KindRevoked},
}

// standing is how a boot of these aliases stands: what operators said of the
// node, else what the policy says.
func (c *Control) standing(n fleet.Node, aliases []string) (fleet.EnrollState, fleet.Problem) {
	open := c.cfg.Policy == PolicyOpen
	if n.Approval == nil {
		if open {
			return fleet.EnrollAccepted, fleet.Problem{}
		}
		return fleet.EnrollPending, fleet.Problem{Reason: fleet.ReasonNotAccepted}
	}
	word := *n.Approval
	missing, covered := word.Covers(aliases)
	switch {
	case word.Standing == fleet.StandingRevoked:
		return fleet.EnrollPending, fleet.Problem{Reason: fleet.ReasonRevoked, Evidence: word.String()}
	case !covered && open:
		return fleet.EnrollAccepted, fleet.Problem{}
	case !covered:
		return fleet.EnrollPending, fleet.Problem{Reason: fleet.ReasonIdentityChanged, Evidence: fmt.Sprintf("%s; this boot does not say %s", word, missing)}
	case word.Standing == fleet.StandingApproved:
		return fleet.EnrollAccepted, fleet.Problem{}
	}
	return fleet.EnrollRejected, fleet.Problem{Reason: fleet.ReasonRejected, Evidence: word.String()}
}

// hold answers a boot that is not let in, and shows it to the operators: under
// its node, or, where it has none, under the key of its MAC.
func (c *Control) hold(ctx context.Context, n fleet.Node, req fleet.EnrollRequest, aliases []string, state fleet.EnrollState, why fleet.Problem, now time.Time) fleet.EnrollReply {
	key := n.ID
	if key == "" {
		key = c.pendingKey(aliases)
	}
	why.Hint = why.Reason.HintFor(key)
	at := time.Time{}
	if n.Approval != nil {
		at = n.Approval.Time
	}
	c.once(fmt.Sprintf("pending/%s/%s/%s/%d", key, req.Key, why.Reason, at.UnixNano()), func() error {
		return c.publish(ctx, key, fleet.SourceControl, fleet.KindPending, fleet.EnrolledData{
			Role: string(req.Role), Level: "unverified", Policy: string(c.cfg.Policy), Summary: req.Summary, Address: req.Address,
			BootID: req.BootID, Serial: req.Serial, UUID: req.UUID, MACs: req.MACs, Problem: why,
		})
	})
	c.askers.note(req.Key, aliases, now)
	reply := fleet.EnrollReply{State: state, Reason: why.Reason, Hint: why.Hint, RetrySeconds: pendingSeconds}
	if state == fleet.EnrollRejected {
		reply.RetrySeconds = rejectedSeconds
		reply.Hint = why.Evidence + "; " + why.Hint
	}
	return reply
}

// pendingKey is the key under which a server that is no node is shown: that of
// its machine, else the one that the boot server saw it by, else any of its own.
func (c *Control) pendingKey(aliases []string) fleet.NodeID {
	if m, ok := c.reg.machineByAliases(aliases); ok {
		return seenKey(m)
	}
	keys := c.seenAs(aliases)
	for _, k := range keys {
		if _, ok := c.status.of(k); ok {
			return k
		}
	}
	return keys[0]
}

// denied answers a key that was revoked: for good, whatever it says.
func (c *Control) denied(id fleet.NodeID) fleet.EnrollReply {
	n, _ := c.reg.node(id)
	who := "an operator revoked it"
	if n.Approval != nil {
		who = n.Approval.String()
	}
	return fleet.EnrollReply{State: fleet.EnrollRejected, Reason: fleet.ReasonKeyRevoked, RetrySeconds: rejectedSeconds,
		Hint: who + "; " + fleet.ReasonKeyRevoked.HintFor(id)}
}

// answerStanding is the handler of one verb.
func (c *Control) answerStanding(verb string) micro.HandlerFunc {
	return func(m micro.Request) {
		ctx, cancel := context.WithTimeout(c.ctx, enrollTimeout)
		defer cancel()
		c.respond(m, c.setStanding(ctx, verb, m.Data(), time.Now()))
	}
}

// setStanding carries out one signed word on a server.
func (c *Control) setStanding(ctx context.Context, verb string, data []byte, now time.Time) fleet.CommandReply {
	cmd, problem := c.openCommand(ctx, data, now)
	if problem != nil {
		c.refused(ctx, verb, data, *problem)
		return c.notOpened(ctx, cmd, *problem)
	}
	r := c.carryWord(ctx, verb, cmd, data, now)
	c.answered(ctx, cmd, r)
	return r
}

// carryWord carries out a word on a server that was opened.
func (c *Control) carryWord(ctx context.Context, verb string, cmd fleet.Command, data []byte, now time.Time) fleet.CommandReply {
	var problem *fleet.Problem
	if cmd.Verb != verb {
		problem = problemOf(fleet.ReasonCommandOther, "", fmt.Sprintf("it is signed for %.40q, it was sent as %q", cmd.Verb, verb))
	}
	var id fleet.NodeID
	var said identity
	if problem == nil {
		said = identityOf(cmd)
		id, problem = c.subjectOf(ctx, cmd, said)
	}
	if problem == nil {
		id, problem = c.writeStanding(ctx, id, cmd, said, c.signer(data, now), now)
	}
	if problem != nil {
		c.refused(ctx, verb, data, *problem)
		return fleet.CommandReply{Node: id, Problem: *problem}
	}
	return fleet.CommandReply{OK: true, Node: id, Text: string(standings[verb].standing)}
}

// identity is who the operator was shown.
type identity struct {
	serial, uuid, note string
	macs               []string
	aliases            []string
}

func identityOf(cmd fleet.Command) identity {
	x := identity{serial: cmd.Args["serial"], uuid: cmd.Args["uuid"], note: cmd.Args["note"]}
	for m := range strings.SplitSeq(cmd.Args["macs"], ",") {
		if m != "" && len(x.macs) < maxAliases {
			x.macs = append(x.macs, m)
		}
	}
	x.aliases = aliasesOf(x.uuid, x.serial, x.macs, nil)
	return x
}

// subjectOf is the node that a command means; it is allotted where a server
// that only asked is approved or rejected.
func (c *Control) subjectOf(ctx context.Context, cmd fleet.Command, said identity) (fleet.NodeID, *fleet.Problem) {
	key, _, found := c.reg.find(cmd.Node)
	_, isNode := c.reg.node(key)
	if id, err := fleet.ParseNodeID(cmd.Node); !found && err == nil {
		key = id
		_, found = c.status.of(id)
	}
	switch {
	case len(said.note) > maxNote:
		return key, problemOf(fleet.ReasonCommandMalformed, key, fmt.Sprintf("the note has %d bytes, at most %d are kept", len(said.note), maxNote))
	case !found:
		return "", problemOf(fleet.ReasonNodeUnknown, "", fmt.Sprintf("no server %.64q was seen or is expected", cmd.Node))
	case cmd.Verb == fleet.VerbRevoke && !isNode:
		return key, problemOf(fleet.ReasonNotEnrolled, key, "it was never let in")
	case cmd.Verb == fleet.VerbRevoke:
		return key, nil
	case len(said.aliases) == 0:
		return key, problemOf(fleet.ReasonNothingToName, key, "the command names no serial, UUID or MAC address")
	}
	if other, ok := c.reg.nodeByAliases(said.aliases); ok && (isNode && other != key || !isNode && isNodeID(key)) {
		return key, problemOf(fleet.ReasonIdentityChanged, key, fmt.Sprintf("what the command names belongs to %s", other))
	}
	if isNode {
		// Its new names are its own from now on, where nobody else has them.
		key2, conflicts, err := c.reg.claim(ctx, said.aliases)
		if err == nil && key2 != key {
			conflicts = append(conflicts, "the rest belongs to "+string(key2))
		}
		if err == nil && len(conflicts) > 0 {
			return key, problemOf(fleet.ReasonIdentityChanged, key, strings.Join(conflicts, "; "))
		}
		return key, trouble(err)
	}
	id, _, err := c.reg.claim(ctx, said.aliases)
	return id, trouble(err)
}

func trouble(err error) *fleet.Problem {
	if err == nil {
		return nil
	}
	return problemOf(fleet.ReasonControlTrouble, "", err.Error())
}

// problemOf is a problem with the table's hint, for one node.
func problemOf(code fleet.ReasonCode, n fleet.NodeID, evidence string) *fleet.Problem {
	p := fleet.NewProblem(code, evidence)
	if n != "" {
		p.Hint = code.HintFor(n)
	}
	return &p
}

// writeStanding puts the word into the node's record, ends sessions where it is
// no good one, and tells it.
func (c *Control) writeStanding(ctx context.Context, id fleet.NodeID, cmd fleet.Command, said identity, by string, now time.Time) (fleet.NodeID, *fleet.Problem) {
	st := standings[cmd.Verb]
	word := fleet.Approval{Standing: st.standing, Aliases: said.aliases, By: by, Time: now.UTC().Truncate(time.Millisecond), Note: said.note}
	seen := c.seenAs(said.aliases)
	var ended []string
	n, err := c.reg.change(ctx, id, func(n *fleet.Node) error {
		ended = nil
		if cmd.Verb == fleet.VerbRevoke {
			word.Aliases = n.Aliases
			if n.Approval != nil {
				word.Aliases = n.Approval.Aliases
			}
		}
		n.Approval = &word
		n.Aliases, n.SeenAs = union(n.Aliases, said.aliases), union(n.SeenAs, seen)
		if said.serial != "" || said.uuid != "" || len(said.macs) > 0 {
			n.Serial, n.UUID, n.MACs = said.serial, said.uuid, said.macs
		}
		if m, ok := c.reg.machineByAliases(n.Aliases); ok {
			n.Machine = m.Name
		}
		if st.standing == fleet.StandingApproved {
			return nil
		}
		for _, s := range n.Sessions {
			ended = append(ended, s.Key)
			n.Denied = append(n.Denied, fleet.DeniedKey{Key: s.Key, Role: s.Role, Time: word.Time})
		}
		n.Sessions = nil
		n.Denied = n.Denied[max(0, len(n.Denied)-maxDenied):]
		return nil
	})
	if err != nil {
		return id, trouble(err)
	}
	c.banish(ended)
	if err := c.att.inherit(ctx, id, seen, now); err != nil {
		c.log.Error("approval", "node", id, "err", err)
	}
	c.log.Info("approval", "node", id, "standing", word.Standing, "by", by, "ended", ended)
	c.event(ctx, id, fleet.SourceControl, st.kind, fleet.ApprovalData{
		By: by, Nonce: cmd.Nonce, Note: said.note, Ended: ended, Summary: n.Summary,
		Serial: n.Serial, UUID: n.UUID, MACs: n.MACs, SeenAs: n.SeenAs,
	})
	c.wake(union(said.aliases, n.Aliases))
	return id, nil
}

// kickAgain are the times after which keys that were denied are looked for
// again: a connection that was let in just before was not listed yet.
var kickAgain = []time.Duration{time.Second, 9 * time.Second}

// banish ends the connections of keys.
func (c *Control) banish(keys []string) {
	if len(keys) == 0 {
		return
	}
	kick := func() {
		for _, k := range keys {
			c.kick(k)
		}
	}
	kick()
	c.wg.Go(func() {
		for _, after := range kickAgain {
			select {
			case <-c.ctx.Done():
				return
			case <-time.After(after):
				kick()
			}
		}
	})
}

// signer is the ID of the operator's key that signed a command which was
// opened before: the envelope's own word for it is only a hint.
func (c *Control) signer(data []byte, now time.Time) string {
	var env images.Envelope
	keys, err := c.cfg.Roots.Delegated(c.cfg.Delegations, images.RoleOperator, now)
	if err != nil || json.Unmarshal(data, &env) != nil {
		return ""
	}
	for _, k := range keys {
		if _, err := sign.Open(env, images.CommandType, k); err == nil {
			id, err := sign.KeyID(k)
			if err == nil {
				return id
			}
		}
	}
	return ""
}

// refused writes down a command that was not carried out: in the timeline of
// the server that it names, where there is one, else under the key of control.
func (c *Control) refused(ctx context.Context, verb string, data []byte, p fleet.Problem) {
	key := c.named(data)
	c.log.Warn("command refused", "verb", verb, "node", key, "reason", p.Reason, "evidence", p.Evidence)
	if !c.audits.allow(time.Now()) {
		return // the log has it; a flood does not fill the stream
	}
	c.event(ctx, key, fleet.SourceControl, fleet.KindCommand, fleet.CommandData{Verb: verb, Problem: p})
}

// named is the server that an unproven command says it is for.
func (c *Control) named(data []byte) fleet.NodeID {
	var env images.Envelope
	var cmd fleet.Command
	if fleet.CheckMessage(data) != nil || json.Unmarshal(data, &env) != nil ||
		fleet.CheckMessage(env.Payload) != nil || json.Unmarshal(env.Payload, &cmd) != nil {
		return fleet.ControlNode
	}
	if key, _, ok := c.reg.find(cmd.Node); ok {
		return key
	}
	if _, ok := c.status.of(fleet.NodeID(cmd.Node)); ok {
		return fleet.NodeID(cmd.Node)
	}
	return fleet.ControlNode
}

// malformed tells in a node's timeline, once a boot, that it sent what is no
// message. Only a node's own session can write under its subjects.
func (c *Control) malformed(ctx context.Context, n fleet.NodeID, what string, err error) {
	c.tell(ctx, n, "malformed/"+what, *problemOf(fleet.ReasonMessageMalformed, n, what+": "+err.Error()))
}

// violated tells what somebody tried on the bus and may not: in the timeline of
// the node whose session it was, once a boot for each way, else under control.
func (c *Control) violated(v bus.Violation) {
	way, _, _ := strings.Cut(v.Text, " - ")
	id, s, ok := c.reg.session(v.Key, time.Now())
	if !ok {
		if c.strangers.allow(time.Now()) {
			c.event(c.ctx, fleet.ControlNode, fleet.SourceControl, fleet.KindFinding, problemOf(fleet.ReasonForbidden, "", "key "+v.Key+": "+v.Text))
		}
		return
	}
	c.once(fmt.Sprintf("forbidden/%s/%s/%s", id, s.BootID, firstWord(way)), func() error {
		return c.publish(c.ctx, id, fleet.SourceControl, fleet.KindFinding, problemOf(fleet.ReasonForbidden, id, string(s.Role)+": "+v.Text))
	})
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(s, " ")
	return w
}

// askers are the keys that lately asked and wait for an operator.
type askers struct {
	mu sync.Mutex
	m  map[string]asker
}

type asker struct {
	aliases []string
	at      time.Time
}

func (a *askers) note(key string, aliases []string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.m == nil {
		a.m = map[string]asker{}
	}
	if _, ok := a.m[key]; !ok && len(a.m) >= maxAskers {
		for k, v := range a.m {
			if now.Sub(v.at) > askerLife {
				delete(a.m, k)
			}
		}
		if len(a.m) >= maxAskers {
			return
		}
	}
	a.m[key] = asker{aliases, now}
}

func (a *askers) take(aliases []string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for k, v := range a.m {
		if slices.ContainsFunc(v.aliases, func(x string) bool { return slices.Contains(aliases, x) }) {
			out = append(out, k)
			delete(a.m, k)
		}
	}
	return out
}

// wake tells those that wait and share one of the aliases to ask again.
func (c *Control) wake(aliases []string) {
	var errs []error
	for _, k := range c.askers.take(aliases) {
		errs = append(errs, c.nc.Publish(string(fleet.WakeSubject(k)), nil))
	}
	if err := errors.Join(errs...); err != nil {
		c.log.Warn("wake", "err", err) // they ask again by themselves
	}
}

// limiter lets bursts through and then one a second.
type limiter struct {
	mu    sync.Mutex
	spent float64
	last  time.Time
}

const auditBurst = 200

func (l *limiter) allow(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spent = max(0, l.spent-now.Sub(l.last).Seconds())
	l.last = now
	if l.spent >= auditBurst {
		return false
	}
	l.spent++
	return true
}
