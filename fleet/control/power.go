package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/nats-io/nats.go/micro"
)

const (
	powerTimeout = 30 * time.Second
	obeyStep     = time.Second
	powersAtOnce = 16
	maxCommand   = 10 * time.Minute
)

var powerActions = []hardware.PowerAction{hardware.ActionOn, hardware.ActionOff, hardware.ActionCycle, hardware.ActionReset}

// openCommand checks who signed a command, and that it is for now and for the
// first time.
func (c *Control) openCommand(ctx context.Context, data []byte, now time.Time) (fleet.Command, *fleet.Problem) {
	var cmd fleet.Command
	refuse := func(reason fleet.ReasonCode, err error) (fleet.Command, *fleet.Problem) {
		p := fleet.NewProblemOf(reason, err)
		return cmd, &p
	}
	var env images.Envelope
	if err := fleet.CheckMessage(data); err != nil {
		return refuse(fleet.ReasonCommandMalformed, err)
	}
	if err := json.Unmarshal(data, &env); err != nil {
		return refuse(fleet.ReasonCommandMalformed, err)
	}
	payload, err := c.cfg.Roots.OpenCommand(c.cfg.Delegations, env, now)
	if err != nil {
		return refuse(fleet.ReasonCode(sign.ReasonSignature), err)
	}
	if err := fleet.CheckMessage(payload); err != nil {
		return refuse(fleet.ReasonCommandMalformed, err)
	}
	if err := json.Unmarshal(payload, &cmd); err != nil {
		return refuse(fleet.ReasonCommandMalformed, err)
	}
	switch {
	case cmd.Schema != fleet.CommandSchema || len(cmd.Nonce) < 8 || len(cmd.Nonce) > 128:
		return refuse(fleet.ReasonCommandMalformed, errors.New("schema or nonce"))
	case now.After(cmd.NotAfter):
		return refuse(fleet.ReasonCommandExpired, fmt.Errorf("it held until %s, here it is %s", stamp(cmd.NotAfter), stamp(now)))
	case cmd.NotAfter.Sub(now) > maxCommand:
		return refuse(fleet.ReasonCommandMalformed, fmt.Errorf("it holds until %s: more than %v", stamp(cmd.NotAfter), maxCommand))
	}
	fresh, err := c.commands.take(ctx, cmd.Nonce, cmd.NotAfter)
	switch {
	case err != nil:
		return refuse(fleet.ReasonControlTrouble, err)
	case !fresh:
		return refuse(fleet.ReasonCommandRepeated, errors.New("this command was carried out before"))
	}
	return cmd, nil
}

func (c *Control) answerPower(m micro.Request) {
	select {
	case c.powers <- struct{}{}:
	default:
		c.respond(m, fleet.CommandReply{Problem: fleet.NewProblem(fleet.ReasonBusy, fmt.Sprintf("%d power commands are under way", powersAtOnce))})
		return
	}
	c.wg.Go(func() {
		defer func() { <-c.powers }()
		c.respond(m, c.power(c.ctx, m.Data(), time.Now()))
	})
}

func (c *Control) respond(m micro.Request, r fleet.CommandReply) {
	r.Schema = fleet.CommandSchema
	if err := m.RespondJSON(r); err != nil {
		c.log.Warn("answer", "subject", m.Subject(), "err", err)
	}
}

// power carries out one signed command.
func (c *Control) power(ctx context.Context, data []byte, now time.Time) fleet.CommandReply {
	cmd, problem := c.openCommand(ctx, data, now)
	if problem != nil {
		c.refused(ctx, "power", data, *problem)
		return c.notOpened(ctx, cmd, *problem)
	}
	r := c.press(ctx, cmd)
	c.answered(ctx, cmd, r)
	return r
}

// notOpened is the answer to a command that was not opened. One that came
// before is told what came of it: its first answer may have been lost.
func (c *Control) notOpened(ctx context.Context, cmd fleet.Command, p fleet.Problem) fleet.CommandReply {
	r := fleet.CommandReply{Problem: p}
	if p.Reason == fleet.ReasonCommandRepeated {
		r.Before = c.commands.answered(ctx, cmd.Nonce)
	}
	return r
}

// answered keeps an answer for as long as the command may come again.
func (c *Control) answered(ctx context.Context, cmd fleet.Command, r fleet.CommandReply) {
	if err := c.commands.answer(ctx, cmd.Nonce, r); err != nil && c.ctx.Err() == nil {
		c.log.Warn("keep the answer to a command", "verb", cmd.Verb, "err", err)
	}
}

// press carries out a power command that was opened.
func (c *Control) press(ctx context.Context, cmd fleet.Command) fleet.CommandReply {
	action, via := hardware.PowerAction(cmd.Verb), cmd.Args["via"]
	if a := cmd.Args["action"]; a != "" {
		action = hardware.PowerAction(a)
	}
	if !slices.Contains(powerActions, action) {
		return fleet.CommandReply{Problem: fleet.NewProblem(fleet.ReasonActionUnknown, string(action))}
	}
	key, _, known := c.reg.find(cmd.Node)
	t, ok := c.bmcs.target(ctx, key)
	if !known || !ok {
		return fleet.CommandReply{Node: key, Problem: fleet.NewProblem(fleet.ReasonNoBMC, fmt.Sprintf("no BMC of %.64q is known", cmd.Node))}
	}
	if via == "" {
		via = ways(t.bmc)[len(ways(t.bmc))-1]
	}
	if via != viaIPMI && via != viaRedfish {
		return fleet.CommandReply{Node: key, Problem: fleet.NewProblem(fleet.ReasonWayUnknown, via)}
	}
	c.log.Info("power", "node", key, "machine", t.name, "action", action, "via", via)
	text, err := c.act(ctx, t, via, action)
	if err != nil {
		reason := fleet.ReasonBMCFailed
		if denied(err) {
			reason = fleet.ReasonBMCDenied
		}
		c.event(ctx, key, fleet.SourceBMC, fleet.KindPower, fleet.PowerData{Action: string(action), Via: via, By: "operator", Error: err.Error(), Reason: reason})
		return fleet.CommandReply{Node: key, Problem: fleet.NewProblemOf(reason, err)}
	}
	return fleet.CommandReply{OK: true, Node: key, Text: text}
}

// act does one power action while nobody else speaks to the BMC: read, write
// the intent down, act, and read back until it is as asked.
func (c *Control) act(ctx context.Context, t target, via string, action hardware.PowerAction) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, powerTimeout+c.cfg.ObeyLimit)
	defer cancel()
	err = c.bmcs.owner(t.bmc).with(ctx, func() error {
		was, err := c.bmcs.power(ctx, t.bmc, via)
		if err != nil {
			return err
		}
		want := hardware.PowerOn
		if action == hardware.ActionOff {
			want = hardware.PowerOff
		}
		if was == want && (action == hardware.ActionOn || action == hardware.ActionOff) {
			text = "power is " + string(was) + " already"
			return nil
		}
		// A server that is off has nothing to cycle or reset: it is sent on.
		doing := action
		if was == hardware.PowerOff && want == hardware.PowerOn {
			doing = hardware.ActionOn
		}
		if _, err := c.att.power(ctx, t.key, string(action), "operator", time.Now()); err != nil {
			return err
		}
		if err := c.bmcs.setPower(ctx, t.bmc, via, doing); err != nil {
			return err
		}
		c.event(ctx, t.key, fleet.SourceBMC, fleet.KindPower, fleet.PowerData{Action: string(action), Via: via, By: "operator"})
		state, err := c.obeyed(ctx, t, via, want)
		if err != nil {
			return err
		}
		c.event(ctx, t.key, fleet.SourceBMC, fleet.KindPower, fleet.PowerData{Action: "read", Via: via, State: string(state)})
		text = fmt.Sprintf("power %s over %s: the BMC says that power is %s", action, via, state)
		return nil
	})
	return text, err
}

// obeyed reads power back until it is as asked: a BMC that says yes may do
// nothing.
func (c *Control) obeyed(ctx context.Context, t target, via string, want hardware.PowerState) (hardware.PowerState, error) {
	var state hardware.PowerState
	var err error
	for end := time.Now().Add(c.cfg.ObeyLimit); time.Now().Before(end); {
		if state, err = c.bmcs.power(ctx, t.bmc, via); err == nil && state == want {
			return state, nil
		}
		select {
		case <-ctx.Done():
			return state, fmt.Errorf("read power back: %w", ctx.Err())
		case <-time.After(obeyStep):
		}
	}
	if err != nil {
		return state, fmt.Errorf("the BMC took the command; read power back: %w", err)
	}
	return state, fmt.Errorf("the BMC took the command and power is still %s after %v", state, c.cfg.ObeyLimit)
}
