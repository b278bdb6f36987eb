package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/nats-io/nats.go"
)

// Commands are what a node does for operators. A command without an operator's
// signature, for another node, too old, or seen before, is refused, and the
// refusal is an event.
type Commands struct {
	Roots       sign.Roots
	Delegations []images.Envelope
	// Verbs are carried out one at a time; the text is the operator's answer.
	Verbs map[string]func(context.Context, fleet.Command) (string, error)

	mu   sync.Mutex
	seen map[string]time.Time // nonces, until they are too old to be taken
}

// maxCommandLife is how far ahead a command may say it holds.
const maxCommandLife = 10 * time.Minute

// maxNonces bounds what is remembered; beyond it every command is refused until
// some have grown old.
const maxNonces = 10_000

// check says who signed what, or why it is nothing.
func (c *Commands) check(node fleet.NodeID, verb string, data []byte, now time.Time) (fleet.Command, *fleet.Problem) {
	var cmd fleet.Command
	refuse := func(reason fleet.ReasonCode, err error) (fleet.Command, *fleet.Problem) {
		p := fleet.NewProblemOf(reason, err)
		return cmd, &p
	}
	var e images.Envelope
	if err := fleet.CheckMessage(data); err != nil {
		return refuse(fleet.ReasonCommandSignature, fmt.Errorf("read envelope: %w", err))
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return refuse(fleet.ReasonCommandSignature, fmt.Errorf("read envelope: %v", err))
	}
	b, err := c.Roots.OpenCommand(c.Delegations, e, now)
	if err != nil {
		return refuse(fleet.ReasonCommandSignature, err)
	}
	if err := fleet.CheckMessage(b); err != nil {
		return refuse(fleet.ReasonCommandSignature, fmt.Errorf("read command: %w", err))
	}
	if err := json.Unmarshal(b, &cmd); err != nil || cmd.Schema != fleet.CommandSchema {
		return refuse(fleet.ReasonCommandSignature, fmt.Errorf("read command of schema %.40q: %v", cmd.Schema, err))
	}
	if cmd.Node != string(node) || cmd.Verb != verb {
		return refuse(fleet.ReasonCommandOther, fmt.Errorf("signed for %.80q on node %.80q, sent as %.80q to %s", cmd.Verb, cmd.Node, verb, node))
	}
	if now.After(cmd.NotAfter) || cmd.NotAfter.After(now.Add(maxCommandLife)) {
		return refuse(fleet.ReasonCommandStale, fmt.Errorf("holds until %s, it is %s", cmd.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339)))
	}
	if !c.remember(cmd.Nonce, cmd.NotAfter, now) {
		return refuse(fleet.ReasonCommandReplayed, errors.New("its nonce was used before, or too many are remembered"))
	}
	return cmd, nil
}

func (c *Commands) remember(nonce string, until, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, t := range c.seen {
		if now.After(t) {
			delete(c.seen, n)
		}
	}
	if _, used := c.seen[nonce]; used || nonce == "" || len(nonce) > 128 || len(c.seen) >= maxNonces {
		return false
	}
	if c.seen == nil {
		c.seen = map[string]time.Time{}
	}
	c.seen[nonce] = until
	return true
}

// Serve makes the uplink hear commands from its next connection on; it is
// called once, before Connect.
func (u *Uplink) Serve(c *Commands) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.commands = c
}

// listenForCommands subscribes on a connection.
func (u *Uplink) listenForCommands(nc *nats.Conn, node fleet.NodeID) error {
	u.mu.Lock()
	c := u.commands
	u.mu.Unlock()
	if c == nil {
		return nil
	}
	_, err := nc.Subscribe(string(fleet.CommandSubject(node, "*")), func(m *nats.Msg) { u.answer(c, node, m) })
	if err != nil {
		return fmt.Errorf("listen for commands: %w", err)
	}
	return nil
}

// carryOut runs a command that was checked.
func (c *Commands) carryOut(ctx context.Context, verb string, cmd fleet.Command) (bool, string, fleet.Problem) {
	run, ok := c.Verbs[verb]
	if !ok {
		return false, "", fleet.NewProblem(fleet.ReasonCommandUnknown, fmt.Sprintf("verb %.80q is not known here", verb))
	}
	text, err := run(ctx, cmd)
	if err != nil {
		return false, "", fleet.NewProblemOf(fleet.ReasonCommandFailed, err)
	}
	return true, text, fleet.Problem{}
}

// answer carries out one command. What was done, or refused, is an event before
// it is an answer.
func (u *Uplink) answer(c *Commands, node fleet.NodeID, m *nats.Msg) {
	verb := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	reply := fleet.CommandReply{Schema: fleet.CommandSchema, Node: node}
	cmd, problem := c.check(node, verb, m.Data, time.Now())
	if problem == nil {
		reply.OK, reply.Text, reply.Problem = c.carryOut(u.ctx, verb, cmd)
	} else {
		reply.Problem = *problem
	}
	source := fleet.SourceAgent
	if u.cfg.Role == fleet.RoleResident {
		source = fleet.SourceResident
	}
	if err := u.Publish(source, fleet.KindCommand, fleet.CommandData{Verb: verb, OK: reply.OK, Text: reply.Text, Problem: reply.Problem}); err != nil {
		u.log.Warn("audit command", "verb", verb, "err", err)
	}
	b, err := json.Marshal(reply)
	if err == nil && m.Reply != "" {
		err = m.Respond(b)
	}
	if err != nil {
		u.log.Warn("answer command", "verb", verb, "err", err)
	}
}
