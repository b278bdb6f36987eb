package uplink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestBadCommands: what no operator of this fleet signed, for this, now and for
// the first time, changes nothing, and stands in the timeline.
func TestBadCommands(t *testing.T) {
	h, c := strictHouse(t)
	k := h.knock(one, "boot-one")
	h.phase("mac-525400000001", fleet.PhasePending)
	forged, err := sign.OpenOrCreate(t.TempDir(), true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	seed, err := h.bus.OperatorSeed()
	if err != nil {
		t.Fatal(err)
	}
	nc, err := h.dialAs(fleet.UserOperator, seed, make(chan error, 64))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	command := func(change func(*fleet.Command)) fleet.Command {
		n++
		cmd := fleet.Command{Schema: fleet.CommandSchema, Verb: fleet.VerbApprove, Node: "mac-525400000001", Nonce: fmt.Sprintf("nonce-%08d", n),
			NotAfter: time.Now().Add(time.Minute), Args: map[string]string{"serial": one.serial, "uuid": one.uuid, "macs": one.mac}}
		change(&cmd)
		return cmd
	}
	as := func(ring sign.Keyring, cmd fleet.Command) []byte {
		env, _, err := sign.SignJSON(ring.Operator, images.CommandType, cmd)
		if err != nil {
			t.Fatal(err)
		}
		return must(t, env)
	}
	same := func(*fleet.Command) {}
	unsigned := func(cmd fleet.Command) []byte {
		return must(t, images.Envelope{PayloadType: images.CommandType, Payload: must(t, cmd)})
	}
	env, _, err := sign.SignJSON(h.ring.Operator, images.RuleType, command(same))
	if err != nil {
		t.Fatal(err)
	}
	deep := []byte(strings.Repeat(`{"payload_type":`, 10000) + "1" + strings.Repeat("}", 10000))
	reject := as(h.ring, command(func(c *fleet.Command) { c.Verb = fleet.VerbReject; c.Args["serial"] = "S-9999" }))
	const mac, nobody = fleet.NodeID("mac-525400000001"), fleet.ControlNode
	for _, tt := range []struct {
		name    string
		reason  fleet.ReasonCode
		audited fleet.NodeID
		data    []byte
	}{
		{"nothing", "command-malformed", nobody, nil},
		{"no JSON", "command-malformed", nobody, []byte("approve everything")},
		{"not signed", "signature-invalid", mac, unsigned(command(same))},
		{"a bare command", "signature-invalid", nobody, must(t, command(same))},
		{"a stranger's signature", "signature-invalid", mac, as(forged, command(same))},
		{"the reconciler's signature", "signature-invalid", mac, as(sign.Keyring{Operator: h.ring.Reconciler}, command(same))},
		{"signed as something else", "signature-invalid", mac, must(t, env)},
		{"for another verb", "command-for-another", mac, reject},
		{"replayed", "command-repeated", mac, reject},
		{"expired", "command-expired", mac, as(h.ring, command(func(c *fleet.Command) { c.NotAfter = time.Now().Add(-time.Second) }))},
		{"good for ever", "command-malformed", mac, as(h.ring, command(func(c *fleet.Command) { c.NotAfter = time.Now().Add(time.Hour) }))},
		{"without a nonce", "command-malformed", mac, as(h.ring, command(func(c *fleet.Command) { c.Nonce = "" }))},
		{"for a server that nobody saw", "node-unknown", nobody, as(h.ring, command(func(c *fleet.Command) { c.Node = "mac-5254000000ff" }))},
		{"for a name that is none", "node-unknown", nobody, as(h.ring, command(func(c *fleet.Command) { c.Node = "../*.>" }))},
		{"for nobody in particular", "nothing-to-name", mac, as(h.ring, command(func(c *fleet.Command) { c.Args = nil }))},
		{"with a long note", "command-malformed", mac, as(h.ring, command(func(c *fleet.Command) { c.Args["note"] = strings.Repeat("x", 300) }))},
		{"bad UTF-8", "command-malformed", nobody, []byte("{\"payload_type\":\"\xff\xfe\"}")},
		{"bad UTF-8, signed", "command-malformed", nobody, func() []byte {
			e, err := sign.Sign(h.ring.Operator, images.CommandType, []byte("{\"verb\":\"\xff\"}"))
			if err != nil {
				t.Fatal(err)
			}
			return must(t, e)
		}()},
		{"ten thousand deep", "command-malformed", nobody, deep},
		{"ten thousand deep, signed", "command-malformed", nobody, func() []byte {
			e, err := sign.Sign(h.ring.Operator, images.CommandType, []byte(strings.Repeat("[", 10000)+strings.Repeat("]", 10000)))
			if err != nil {
				t.Fatal(err)
			}
			return must(t, e)
		}()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(h.said(tt.audited, fleet.KindCommand))
			m, err := nc.Request(string(fleet.SubjectApprove), tt.data, 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			var r fleet.CommandReply
			if err := json.Unmarshal(m.Data, &r); err != nil || r.OK || r.Reason != tt.reason {
				t.Errorf("answer %s, %v; want refused as %s", m.Data, err, tt.reason)
			}
			audit := h.said(tt.audited, fleet.KindCommand)
			var d fleet.CommandData
			if len(audit) != before+1 || json.Unmarshal(audit[len(audit)-1].Data, &d) != nil || d.OK || d.Verb != fleet.VerbApprove || d.Reason != tt.reason {
				t.Errorf("%d audits before, now %+v", before, audit)
			}
		})
	}
	if _, err := c.Revoke(t.Context(), find(t, c, one.serial), ""); err == nil || !strings.Contains(err.Error(), "not-enrolled") {
		t.Errorf("revoke of a server that is not in: %v", err)
	}
	k.isOut(t)
	if _, ok := h.status(fleet.ControlNode); ok {
		t.Error("what is nobody's made a server")
	}
	if keys, err := h.kv(fleet.BucketNodes).ListKeys(t.Context()); err == nil {
		for key := range keys.Keys() {
			t.Errorf("a refused command wrote %s", key)
		}
	}
	// The same that was refused for its signature, signed: it was not refused
	// for anything else. Sent twice, it holds once.
	good := as(h.ring, command(same))
	for i, want := range []fleet.ReasonCode{"", fleet.ReasonCommandRepeated} {
		m, err := nc.Request(string(fleet.SubjectApprove), good, 5*time.Second)
		var r fleet.CommandReply
		if err != nil || json.Unmarshal(m.Data, &r) != nil || r.OK != (i == 0) || r.Reason != want {
			t.Errorf("the good command, time %d: %+v, %v", i+1, r, err)
		}
		h.restart()
	}
	k.comes(t, 15*time.Second)
}

func must(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHostileEnrolment: what is no request is refused and control lives on.
func TestHostileEnrolment(t *testing.T) {
	h, _ := strictHouse(t)
	seed, pub, err := uplink.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	nc, err := h.dialAs(fleet.UserEnroll, seed, make(chan error, 64))
	if err != nil {
		t.Fatal(err)
	}
	good := one.request()
	good.Schema, good.Role, good.Key, good.BootID, good.Nonce = fleet.EnrollSchema, fleet.RoleAgent, pub, "boot-one", strings.Repeat("n", 16)
	text := string(must(t, good))
	ask := func(data string) fleet.EnrollReply {
		m, err := nc.Request(string(fleet.SubjectEnroll), []byte(data), 5*time.Second)
		var r fleet.EnrollReply
		if err == nil {
			err = json.Unmarshal(m.Data, &r)
		}
		if err != nil {
			t.Errorf("ask: %v", err)
		}
		return r
	}
	for name, data := range map[string]string{
		"bad UTF-8":               strings.Replace(text, "S-0001", "S-\xff\xfe", 1),
		"ten thousand deep":       strings.Replace(text, `{`, `{"x":`+strings.Repeat("[", 10000)+strings.Repeat("]", 10000)+`,`, 1),
		"deep and unfinished":     strings.Repeat(`{"a":`, 10000),
		"as large as fits":        strings.Repeat(" ", fleet.MaxMessageBytes-100) + text[:50],
		"a thousand addresses":    strings.Replace(text, `"macs":[`, `"macs":[`+strings.Repeat(`"52:54:00:00:00:01",`, 1000), 1),
		"a line break as summary": strings.Replace(text, "Ingot Lab", `Ingot\nLab`, 1),
	} {
		if r := ask(data); r.State != fleet.EnrollRejected || r.Reason != "request-malformed" || r.Hint == "" {
			t.Errorf("%s: answer %+v", name, r)
		}
	}
	if err := nc.Publish(string(fleet.SubjectEnroll), make([]byte, 1<<20)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("1 MB: %v", err)
	}
	if r := ask(text); r.State != fleet.EnrollPending {
		t.Errorf("a good request after them: %+v", r)
	}
}

// TestHostileEvents: a node that writes what is no event into its own timeline
// changes no status, stops nobody's, and it is told, once.
func TestHostileEvents(t *testing.T) {
	h := newHouse(t, bus.Config{})
	seed, _, err := uplink.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-one", Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	reply, err := u.Connect(t.Context(), uplink.Target{Bus: h.bus.Trust(), Enroll: one.request()})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := h.dialAs(fleet.UserNode, seed, make(chan error, 64))
	if err != nil {
		t.Fatal(err)
	}
	n := string(reply.Node)
	event := func(data string) string {
		return fmt.Sprintf(`{"schema":"ingot.event/v1","id":"x","node":"%s","boot_id":"boot-one","attempt":1,"source":"agent","seq":9000,"time":"2026-11-22T00:00:00Z","kind":"failed","data":%s}`, n, data)
	}
	for _, data := range []string{
		event(`{"reason":"` + "\xff\xfe" + `"}`),
		event(strings.Repeat("[", 10000) + strings.Repeat("]", 10000)),
		event(strings.Repeat("[", 100) + strings.Repeat("]", 100)),
		strings.Replace(event("{}"), n, "n-other", 1),
		strings.Replace(event("{}"), `"agent"`, `"control"`, 1),
		strings.Repeat("{", 10000), "", "null", "\x00",
	} {
		if err := nc.Publish("ingot.ev."+n+".agent.failed", []byte(data)); err != nil {
			t.Fatal(err)
		}
		if err := nc.Publish("ingot.hb."+n, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := u.PublishAcked(t.Context(), fleet.SourceAgent, fleet.KindWaiting, fleet.StepData{}); err != nil {
		t.Fatal(err)
	}
	s := h.phase(reply.Node, fleet.PhaseWaiting)
	if s.Reason != "no-assignment" {
		t.Errorf("they made it %+v", s)
	}
	h.until(reply.Node, "told of", func(fleet.Status) bool { return len(h.findings(reply.Node)) == 2 })
	time.Sleep(200 * time.Millisecond)
	if got := h.findings(reply.Node); len(got) != 2 {
		t.Errorf("%d findings; want one of its events and one of its heartbeats", len(got))
	}
}

func (h *house) findings(n fleet.NodeID) []fleet.Problem {
	h.t.Helper()
	js, err := jetstream.New(h.bus.Conn())
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := js.OrderedConsumer(h.t.Context(), fleet.StreamEvents, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"ingot.ev." + string(n) + ".control.finding"}})
	if err != nil {
		h.t.Fatal(err)
	}
	batch, err := c.FetchNoWait(100)
	if err != nil {
		h.t.Fatal(err)
	}
	var out []fleet.Problem
	for m := range batch.Messages() {
		var e fleet.Event
		var p fleet.Problem
		if json.Unmarshal(m.Data(), &e) == nil && json.Unmarshal(e.Data, &p) == nil && p.Reason == "message-malformed" {
			out = append(out, p)
		}
	}
	return out
}

// TestForbiddenIsAudited: a try that the laws of the bus refuse stands in the
// timeline of the node whose session it was, once a boot, and changes nothing;
// that of a key that is no node's stands under control.
func TestForbiddenIsAudited(t *testing.T) {
	h, c := strictHouse(t)
	k := h.knock(one, "boot-one")
	h.phase("mac-525400000001", fleet.PhasePending)
	if _, err := c.Approve(t.Context(), find(t, c, one.serial), ""); err != nil {
		t.Fatal(err)
	}
	n := k.comes(t, wakeLimit).Node
	if err := k.PublishAcked(t.Context(), fleet.SourceAgent, fleet.KindWaiting, fleet.StepData{}); err != nil {
		t.Fatal(err)
	}
	h.phase(n, fleet.PhaseWaiting)
	node, err := h.dialAs(fleet.UserNode, k.seed, make(chan error, 64))
	if err != nil {
		t.Fatal(err)
	}
	seed, pub, err := uplink.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := h.dialAs(fleet.UserEnroll, seed, make(chan error, 64))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"ingot.ev.n-other.agent.init", "ingot.cmd.n-other.reboot", "$JS.API.CONSUMER.CREATE.ingot-events"} {
		for _, nc := range []*nats.Conn{node, stranger} {
			if err := errors.Join(nc.Publish(s, nil), nc.Flush()); err != nil {
				t.Fatal(err)
			}
		}
	}
	found := func(n fleet.NodeID) []fleet.Problem {
		var out []fleet.Problem
		for _, e := range h.said(n, fleet.KindFinding) {
			var p fleet.Problem
			if json.Unmarshal(e.Data, &p) == nil && p.Reason == fleet.ReasonForbidden {
				out = append(out, p)
			}
		}
		return out
	}
	h.until(n, "told of", func(fleet.Status) bool { return len(found(n)) == 1 && len(found(fleet.ControlNode)) == 3 })
	if p := found(n)[0]; !strings.Contains(p.Evidence, "n-other") || !strings.Contains(p.Hint, "ingot node revoke "+string(n)) {
		t.Errorf("the node's try is told as %+v", p)
	}
	if p := found(fleet.ControlNode)[0]; !strings.Contains(p.Evidence, pub) {
		t.Errorf("the stranger's try is told as %+v", p)
	}
	if s, _ := h.status(n); s.Phase != fleet.PhaseWaiting || s.Reason != fleet.ReasonNoAssignment {
		t.Errorf("its tries made it %+v", s)
	}
}

// TestErasingIsAudited: a node that orders the bucket of inventories to forget
// is refused by the bucket, and stands in its own timeline, once for each way.
func TestErasingIsAudited(t *testing.T) {
	h := newHouse(t, bus.Config{})
	seed, _, err := uplink.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-one", Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	reply, err := u.Connect(t.Context(), uplink.Target{Bus: h.bus.Trust(), Enroll: one.request()})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.PutInventory(t.Context(), []byte(`{"schema":"ingot.inventory/v1"}`)); err != nil {
		t.Fatal(err)
	}
	nc, err := h.dialAs(fleet.UserNode, seed, make(chan error, 64))
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range [][2]string{{"Nats-Rollup", "all"}, {"Nats-Rollup", "sub"}, {"Nats-TTL", "1s"}, {"KV-Operation", "PURGE"}} {
		m := nats.NewMsg("$KV.ingot-inventory." + string(reply.Node))
		m.Header.Set(header[0], header[1])
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	told := func() (out []string) {
		for _, e := range h.said(reply.Node, fleet.KindFinding) {
			var p fleet.Problem
			if json.Unmarshal(e.Data, &p) == nil && p.Reason == fleet.ReasonForbidden && strings.Contains(p.Hint, "ingot node revoke "+string(reply.Node)) {
				out = append(out, p.Evidence)
			}
		}
		return out
	}
	h.until(reply.Node, "told of", func(fleet.Status) bool { return len(told()) >= 3 })
	time.Sleep(200 * time.Millisecond)
	if got := told(); len(got) != 3 || !strings.Contains(got[0], "Nats-Rollup") {
		t.Errorf("its timeline says %q; want each header once", got)
	}
}

// TestReplyIsNoCommand: JetStream answers a write to whatever reply subject it
// names. Where that is another node's command, what comes there is signed by
// nobody: that node refuses it and says so.
func TestReplyIsNoCommand(t *testing.T) {
	h := newHouse(t, bus.Config{})
	victim := machine{"52:54:00:00:00:02", "S-0002", "4c4c4544-0031-3510-8030-b4c04f4d4d32"}
	vu, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-two"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vu.Close)
	obeyed := make(chan string, 8)
	vu.Serve(&uplink.Commands{Roots: h.ring.Roots(), Delegations: h.ring.Delegations, Verbs: map[string]func(context.Context, fleet.Command) (string, error){
		"vm-stop": func(context.Context, fleet.Command) (string, error) { obeyed <- "vm-stop"; return "", nil },
	}})
	v, err := vu.Connect(t.Context(), uplink.Target{Bus: h.bus.Trust(), Enroll: victim.request()})
	if err != nil {
		t.Fatal(err)
	}
	seed, _, err := uplink.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	au, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-one", Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(au.Close)
	a, err := au.Connect(t.Context(), uplink.Target{Bus: h.bus.Trust(), Enroll: one.request()})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := h.dialAs(fleet.UserNode, seed, make(chan error, 64))
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("$KV.ingot-inventory."+string(a.Node), "ingot.cmd."+string(v.Node)+".vm-stop", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	refusals := func() (out []fleet.Event) { // the victim's own word
		for _, e := range events(t, h.bus.Conn()) {
			if e.Node == v.Node && e.Kind == fleet.KindCommand {
				out = append(out, e)
			}
		}
		return out
	}
	h.until(v.Node, "told of", func(fleet.Status) bool { return len(refusals()) > 0 })
	said := refusals()
	var d fleet.CommandData
	if len(said) != 1 || json.Unmarshal(said[0].Data, &d) != nil || d.OK || d.Verb != "vm-stop" || d.Reason != fleet.ReasonCommandSignature {
		t.Errorf("the victim's timeline says %+v; want one command refused as %s", said, fleet.ReasonCommandSignature)
	}
	select {
	case verb := <-obeyed:
		t.Errorf("it carried out %s", verb)
	default:
	}
}
