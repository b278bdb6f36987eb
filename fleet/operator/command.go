package operator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
)

// commandLife is how long a signed command may be carried out.
const commandLife = 2 * time.Minute

// Power asks control to press a server's power button: action is on, off or
// cycle, via is redfish, ipmi, or empty for control's choice.
func (c *Client) Power(ctx context.Context, t Target, action, via string) (fleet.CommandReply, error) {
	args := map[string]string{}
	if via != "" {
		args["via"] = via
	}
	return c.ask(ctx, fleet.SubjectPower, t, fleet.Command{Verb: action, Args: args})
}

// Approve lets a server in, now and at its later boots. What is approved is the
// identity that t shows: a boot that says otherwise waits again.
func (c *Client) Approve(ctx context.Context, t Target, note string) (fleet.CommandReply, error) {
	return c.word(ctx, fleet.SubjectApprove, fleet.VerbApprove, t, note)
}

// Reject turns a server away, now and at its later boots.
func (c *Client) Reject(ctx context.Context, t Target, note string) (fleet.CommandReply, error) {
	return c.word(ctx, fleet.SubjectReject, fleet.VerbReject, t, note)
}

// Revoke ends the sessions of a node at once. Their keys are never let in
// again; its next boot is pending.
func (c *Client) Revoke(ctx context.Context, t Target, note string) (fleet.CommandReply, error) {
	return c.word(ctx, fleet.SubjectRevoke, fleet.VerbRevoke, t, note)
}

func (c *Client) word(ctx context.Context, subject fleet.Subject, verb string, t Target, note string) (fleet.CommandReply, error) {
	args := map[string]string{}
	serial, uuid, macs := t.identity()
	for k, v := range map[string]string{"serial": serial, "uuid": uuid, "macs": strings.Join(macs, ","), "note": note} {
		if v != "" {
			args[k] = v
		}
	}
	return c.ask(ctx, subject, t, fleet.Command{Verb: verb, Args: args})
}

// identity is who a server is: what it said itself, else what is expected.
func (t Target) identity() (serial, uuid string, macs []string) {
	if s := t.Status; s != nil && s.Serial+s.UUID+strings.Join(s.MACs, "") != "" {
		return s.Serial, s.UUID, s.MACs
	}
	if m := t.Machine; m != nil {
		return m.Serial, m.UUID, m.MACs
	}
	return "", "", nil
}

// Command asks the agent that runs on a node. Control signs nothing here: the
// agent checks the operator's signature itself.
func (c *Client) Command(ctx context.Context, t Target, verb string, args map[string]string) (fleet.CommandReply, error) {
	if t.Status == nil {
		return fleet.CommandReply{}, fmt.Errorf("%s %s: it was not seen yet, so nobody there hears a command: %w", verb, t.Name(), ErrNotFound)
	}
	return c.ask(ctx, fleet.CommandSubject(t.Status.Node, verb), t, fleet.Command{Verb: verb, Args: args})
}

func (c *Client) ask(ctx context.Context, subject fleet.Subject, t Target, cmd fleet.Command) (fleet.CommandReply, error) {
	var reply fleet.CommandReply
	what := cmd.Verb + " " + t.Name()
	if subject == fleet.SubjectPower {
		what = "power " + what
	}
	if c.key == nil {
		return reply, fmt.Errorf("%s: the context holds no signing key", what)
	}
	nonce, err := newNonce()
	if err != nil {
		return reply, err
	}
	cmd.Schema, cmd.Node, cmd.Nonce = fleet.CommandSchema, t.Key(), nonce
	cmd.NotAfter = time.Now().Add(commandLife).UTC().Truncate(time.Second)
	env, _, err := sign.SignJSON(c.key, images.CommandType, cmd)
	if err != nil {
		return reply, err
	}
	b, err := json.Marshal(env)
	if err != nil {
		return reply, fmt.Errorf("%s: %v", what, err)
	}
	if reply, err = c.answer(ctx, what, subject, b); err != nil {
		return reply, err
	}
	if !reply.OK {
		return reply, &RefusedError{What: what, Problem: reply.Problem}
	}
	return reply, nil
}

// answer sends a command until it is known what came of it. One that was sent
// again because no answer came is told of the first.
func (c *Client) answer(ctx context.Context, what string, subject fleet.Subject, b []byte) (fleet.CommandReply, error) {
	for sent := false; ; sent = true {
		var reply fleet.CommandReply
		m, again, err := c.request(ctx, subject, b)
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return reply, fmt.Errorf("%s: nobody listens on %s", what, subject)
		case ctx.Err() != nil && (sent || again):
			return reply, fmt.Errorf("%s: it was taken and is not done yet; its events say what comes of it: %w", what, ctx.Err())
		case err != nil:
			return reply, c.explain(fmt.Errorf("%s: %w", what, err))
		}
		if err := json.Unmarshal(m.Data, &reply); err != nil {
			return reply, fmt.Errorf("%s: read the answer: %v", what, err)
		}
		switch {
		case !sent && !again || reply.Reason != fleet.ReasonCommandRepeated:
			return reply, nil
		case reply.Before != nil:
			return *reply.Before, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// request sends a command until it is answered; again says that it was sent
// more than once. A moment of nobody listening is a server of the bus that was
// lost.
func (c *Client) request(ctx context.Context, subject fleet.Subject, b []byte) (m *nats.Msg, again bool, err error) {
	begin, sent := time.Now(), 0
	for {
		m, err = steady(ctx, 4*oneTry, func(ctx context.Context) (*nats.Msg, error) {
			m, err := c.nc.RequestWithContext(ctx, string(subject), b)
			if errors.Is(err, nats.ErrNoResponders) {
				return nil, errNobody
			}
			sent++
			return m, err
		})
		if !errors.Is(err, errNobody) {
			return m, sent > 1, err
		}
		if time.Since(begin) > oneTry || ctx.Err() != nil {
			return nil, false, nats.ErrNoResponders
		}
		time.Sleep(200 * time.Millisecond)
	}
}

var errNobody = errors.New("nobody listens")

func newNonce() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make a nonce: %v", err)
	}
	return hex.EncodeToString(b[:]), nil
}
