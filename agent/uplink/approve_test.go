package uplink_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/boot/netboot"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/fleet/control"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// strictHouse is a house where an operator accepts each server.
func strictHouse(t *testing.T) (*house, *operator.Client) {
	t.Helper()
	h := newHouse(t, bus.Config{})
	h.cfg.Policy = control.PolicyApprove
	h.restart()
	seed, err := h.bus.OperatorSeed()
	if err != nil {
		t.Fatal(err)
	}
	c, err := operator.Connect(fleet.OperatorContext{Bus: h.bus.Trust(), Seed: seed, SigningKey: h.ring.Operator.Seed(),
		Delegations: h.ring.Delegations, Roots: [][]byte{h.ring.Root}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return h, c
}

func (h *house) restart() {
	h.t.Helper()
	h.ctl.Close()
	h.start()
}

// knocker is an agent that asks to be let in.
type knocker struct {
	*uplink.Uplink
	seed string
	in   chan fleet.EnrollReply

	mu    sync.Mutex
	waits []string
}

func (h *house) knock(m machine, bootID string) *knocker {
	h.t.Helper()
	seed, _, err := uplink.NewSeed()
	if err != nil {
		h.t.Fatal(err)
	}
	k := &knocker{seed: seed, in: make(chan fleet.EnrollReply, 1)}
	if k.Uplink, err = uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: bootID, Seed: seed}); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(k.Close)
	go func() {
		reply, err := k.Connect(h.t.Context(), uplink.Target{Bus: h.bus.Trust(), Enroll: m.request(), Waits: func(w string) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.waits = append(k.waits, w)
		}})
		if err == nil {
			k.in <- reply
		}
	}()
	return k
}

// comes waits until it is in.
func (k *knocker) comes(t *testing.T, within time.Duration) fleet.EnrollReply {
	t.Helper()
	select {
	case r := <-k.in:
		return r
	case <-time.After(within):
		t.Fatalf("it is not in after %v; it waits for %q", within, k.Waiting())
		return fleet.EnrollReply{}
	}
}

func (k *knocker) isOut(t *testing.T) {
	t.Helper()
	select {
	case r := <-k.in:
		t.Fatalf("it was let in as %+v", r)
	default:
	}
}

// told waits until the agent was told all of words.
func (k *knocker) told(t *testing.T, words ...string) {
	t.Helper()
	var all []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		k.mu.Lock()
		all = append([]string{}, k.waits...)
		k.mu.Unlock()
		for _, w := range append(all, k.Waiting()) {
			found := true
			for _, x := range words {
				found = found && strings.Contains(w, x)
			}
			if found {
				return
			}
		}
	}
	t.Fatalf("the agent was told %q; want one with all of %q", all, words)
}

// dialAs connects with a seed, past the agent's own code.
func (h *house) dialAs(user, seed string, errs chan error) (*nats.Conn, error) {
	h.t.Helper()
	kp, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		h.t.Fatal(err)
	}
	pub, err := kp.PublicKey()
	if err != nil {
		h.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(h.bus.Trust().CAPEM))
	o := nats.GetDefaultOptions()
	o.Servers, o.User, o.Nkey, o.SignatureCB = h.bus.Trust().URLs, user, pub, kp.Sign
	o.TLSConfig, o.Secure = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, true
	o.AllowReconnect, o.InboxPrefix = false, fleet.InboxPrefix(pub)
	o.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }
	nc, err := o.Connect()
	if err == nil {
		h.t.Cleanup(nc.Close)
	}
	return nc, err
}

// said are the events of one kind that control wrote about a server.
func (h *house) said(n fleet.NodeID, kind string) []fleet.Event {
	h.t.Helper()
	var out []fleet.Event
	for _, e := range events(h.t, h.bus.Conn()) {
		if e.Node == n && e.Kind == kind && e.Source == fleet.SourceControl {
			out = append(out, e)
		}
	}
	return out
}

func find(t *testing.T, c *operator.Client, name string) operator.Target {
	t.Helper()
	tg, err := c.Find(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

const wakeLimit = 4 * time.Second // less than the shortest pause between two asks

// TestApprove: a server waits in view, an operator's word lets it in at once
// without a reboot, and holds over later boots and restarts of control, for
// that server alone.
func TestApprove(t *testing.T) {
	h, c := strictHouse(t)
	h.firmware(one, netboot.StagePXE)
	h.phase("mac-525400000001", fleet.PhaseSeen)
	k := h.knock(one, "boot-one")
	k.told(t, "not-accepted", "ingot node approve mac-525400000001")
	s := h.phase("mac-525400000001", fleet.PhasePending)
	if s.Serial != one.serial || s.Summary == "" || len(s.MACs) != 1 || s.Reason != "not-accepted" || !strings.Contains(s.Hint, "ingot node approve mac-525400000001") {
		t.Errorf("pending is shown as %+v", s)
	}
	h.restart()
	k.isOut(t)
	// Before it has asked the new control: the operator's word needs no memory.
	r, err := c.Approve(t.Context(), find(t, c, one.serial), "checked the label")
	if err != nil || !r.OK || !strings.HasPrefix(string(r.Node), "n-") {
		t.Fatalf("approve: %+v, %v", r, err)
	}
	reply := k.comes(t, 15*time.Second)
	if reply.Node != r.Node || reply.Attempt != 1 {
		t.Errorf("it came in as %+v; approved was %s, its first boot", reply, r.Node)
	}
	h.phase(r.Node, fleet.PhaseInspecting)
	if _, still := h.status("mac-525400000001"); still {
		t.Error("the approved server has two statuses")
	}
	word := h.said(r.Node, fleet.KindApproved)
	var d fleet.ApprovalData
	if len(word) != 1 || json.Unmarshal(word[0].Data, &d) != nil || d.Note != "checked the label" || len(d.Nonce) < 8 || word[0].Time.IsZero() {
		t.Fatalf("approved is told by %+v", word)
	}
	if id, err := sign.KeyID(h.ring.Operator.Public().(ed25519.PublicKey)); err != nil || d.By != id {
		t.Errorf("approved by %q, the operator's key is %q (%v)", d.By, id, err)
	}
	k.Close()
	h.restart()
	again := h.knock(one, "boot-two")
	if reply := again.comes(t, 10*time.Second); reply.Node != r.Node || reply.Attempt != 2 {
		t.Errorf("the next boot is %+v; want %s again, its second", reply, r.Node)
	}
	again.Close()
	// One MAC address, typed by somebody else.
	imp := h.knock(machine{one.mac, "S-EVIL", "4c4c4544-0031-3510-8030-b4c04f4d4dff"}, "boot-imp")
	imp.told(t, "identity-changed")
	if s := h.until(r.Node, "pending", func(s fleet.Status) bool { return s.Phase == fleet.PhasePending }); s.Reason != "identity-changed" || len(s.Evidence) == 0 {
		t.Errorf("the impostor is shown as %+v", s)
	}
	imp.isOut(t)
}

// TestApproveWakes: nobody waits for the next ask.
func TestApproveWakes(t *testing.T) {
	h, c := strictHouse(t)
	k := h.knock(one, "boot-one")
	k.told(t, "not-accepted")
	h.phase("mac-525400000001", fleet.PhasePending)
	start := time.Now()
	if _, err := c.Approve(t.Context(), find(t, c, one.mac), ""); err != nil {
		t.Fatal(err)
	}
	k.comes(t, wakeLimit)
	t.Logf("in %v after the operator's word", time.Since(start))
}

// TestPendingHasNoRights: an agent that was never approved may ask, and no more.
func TestPendingHasNoRights(t *testing.T) {
	h, _ := strictHouse(t)
	k := h.knock(one, "boot-one")
	k.told(t, "not-accepted")
	errs := make(chan error, 64)
	for _, user := range []string{fleet.UserNode, fleet.UserOperator, bus.UserReconciler, "control", ""} {
		if _, err := h.dialAs(user, k.seed, errs); err == nil {
			t.Errorf("a pending key is let in as %q", user)
		}
	}
	nc, err := h.dialAs(fleet.UserEnroll, k.seed, errs)
	if err != nil {
		t.Fatal(err)
	}
	forbidden := func(what string, err error) {
		t.Helper()
		if err == nil {
			err = nc.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-errs:
			if !strings.Contains(strings.ToLower(err.Error()), "permissions violation") {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(3 * time.Second):
			t.Errorf("a pending key may %s", what)
		}
	}
	for _, s := range []string{"ingot.ev.mac-525400000001.agent.init", "ingot.hb.mac-525400000001", "$KV.ingot-inventory.mac-525400000001", "$KV.ingot-readings.mac-525400000001",
		"ingot.ctl.approve", "ingot.ctl.reject", "ingot.ctl.revoke", "ingot.bmc.power", "ingot.wake." + k.Key(), "$JS.API.INFO", "$SRV.PING"} {
		forbidden("publish "+s, nc.Publish(s, nil))
	}
	for _, s := range []string{">", "ingot.wake.*", "ingot.wake.UOTHER", "ingot.cmd.n-x.*", "ingot.granted.n-x", "ingot.ctl.enroll"} {
		_, err := nc.Subscribe(s, func(*nats.Msg) {})
		forbidden("subscribe to "+s, err)
	}
	k.isOut(t)
}

// TestReject: the agent is told, with the reason, asks on slowly, and comes in
// when it is approved after all.
func TestReject(t *testing.T) {
	h, c := strictHouse(t)
	k := h.knock(one, "boot-one")
	h.phase("mac-525400000001", fleet.PhasePending)
	r, err := c.Reject(t.Context(), find(t, c, one.serial), "not ours")
	if err != nil {
		t.Fatal(err)
	}
	k.told(t, "rejected", "not ours", "ingot node approve "+string(r.Node))
	s := h.until(r.Node, "rejected", func(s fleet.Status) bool { return s.Reason == "rejected" })
	if s.Phase != fleet.PhasePending || s.Serial != one.serial || s.Hint == "" || len(s.Evidence) == 0 {
		t.Errorf("rejected is shown as %+v", s)
	}
	h.restart()
	next := h.knock(one, "boot-two")
	next.told(t, "rejected", "not ours")
	next.isOut(t)
	if _, err := c.Approve(t.Context(), find(t, c, one.serial), ""); err != nil {
		t.Fatal(err)
	}
	if reply := next.comes(t, wakeLimit); reply.Node != r.Node {
		t.Errorf("it is %s, rejected was %s", reply.Node, r.Node)
	}
}

// TestRevoke: the session ends at once, its key is never let in again, also not
// by another control, and the next boot waits for an operator.
func TestRevoke(t *testing.T) {
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
	errs := make(chan error, 64)
	closed := make(chan struct{})
	spy, err := h.dialAs(fleet.UserNode, k.seed, errs)
	if err != nil {
		t.Fatal(err)
	}
	spy.SetClosedHandler(func(*nats.Conn) { close(closed) })
	start := time.Now()
	if _, err := c.Revoke(t.Context(), find(t, c, one.serial), "stolen"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
		t.Logf("out %v after the operator's word", time.Since(start))
	case <-time.After(2 * time.Second):
		t.Error("the revoked session is still in")
	}
	s := h.until(n, "revoked", func(s fleet.Status) bool { return s.Reason == "revoked" })
	if s.Phase != fleet.PhasePending || !strings.Contains(s.Hint, "ingot node approve "+string(n)) || len(s.Evidence) == 0 {
		t.Errorf("revoked is shown as %+v", s)
	}
	for _, how := range []string{"at once", "after a restart of control"} {
		if _, err := h.dialAs(fleet.UserNode, k.seed, errs); err == nil {
			t.Errorf("the revoked key is let in %s", how)
		}
		h.restart()
	}
	k.told(t, "rejected", "key-revoked", "stolen")
	if err := k.Heartbeat(fleet.Heartbeat{Source: fleet.SourceAgent}); err == nil {
		t.Error("the revoked agent still beats")
	}
	// Even approved anew, the key that was revoked stays out; the next boot is in.
	next := h.knock(one, "boot-two")
	next.told(t, "revoked")
	next.isOut(t)
	if _, err := c.Approve(t.Context(), find(t, c, one.serial), ""); err != nil {
		t.Fatal(err)
	}
	if reply := next.comes(t, wakeLimit); reply.Node != n {
		t.Errorf("its next boot is %s, want %s", reply.Node, n)
	}
	if _, err := h.dialAs(fleet.UserNode, k.seed, errs); err == nil {
		t.Error("the revoked key is let in once its node is approved again")
	}
	if got := len(h.said(n, fleet.KindRevoked)); got != 1 {
		t.Errorf("revoked is told %d times", got)
	}
}

// TestRevokeResident: what holds for the agent holds for the stack.
func TestRevokeResident(t *testing.T) {
	h, c := strictHouse(t)
	k := h.knock(one, "boot-one")
	h.phase("mac-525400000001", fleet.PhasePending)
	if _, err := c.Approve(t.Context(), find(t, c, one.serial), ""); err != nil {
		t.Fatal(err)
	}
	n := k.comes(t, wakeLimit).Node
	r := h.jump(k.Uplink, h.stack(), "boot-one-stack")
	h.phase(n, fleet.PhaseStarting) // a heartbeat that overtakes that word is taken for an earlier boot's
	h.beat(r, fleet.LayerUp)
	h.phase(n, fleet.PhaseRunning)
	if _, err := c.Revoke(t.Context(), find(t, c, string(n)), ""); err != nil {
		t.Fatal(err)
	}
	h.until(n, "revoked", func(s fleet.Status) bool { return s.Reason == "revoked" && len(s.Layers) == 0 })
	for end := time.Now().Add(10 * time.Second); !strings.Contains(r.Waiting(), "key-revoked"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the resident waits for %q", r.Waiting())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := r.PublishAcked(ctx, fleet.SourceResident, fleet.KindLayer, fleet.Layer{}); err == nil {
		t.Error("the revoked resident still speaks")
	}
}
