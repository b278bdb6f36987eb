package uplink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/boot/netboot"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/fleet/control"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/nats-io/nats.go/jetstream"
)

// house is a bus and a control with keys of their own.
type house struct {
	t    *testing.T
	bus  *bus.Server
	ctl  *control.Control
	ring sign.Keyring
	cfg  control.Config
}

func newHouse(t *testing.T, busConfig bus.Config) *house {
	t.Helper()
	ring, err := sign.OpenOrCreate(t.TempDir(), true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if busConfig.Dir == "" {
		busConfig.Dir = t.TempDir()
	}
	busConfig.Listen = "127.0.0.1:0"
	h := &house{t: t, ring: ring}
	if h.bus, err = bus.Start(t.Context(), busConfig); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.bus.Close() }) // some tests close it before
	h.cfg = control.Config{
		Bus: h.bus, Roots: ring.Roots(), Reconciler: ring.Reconciler, Delegations: ring.Delegations,
		Policy: control.PolicyOpen, BMCEvery: -1, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	h.start()
	return h
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil { // not after the test
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

func (h *house) start() {
	h.t.Helper()
	var err error
	if h.ctl, err = control.Start(context.Background(), h.cfg); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.ctl.Close)
}

func (h *house) kv(bucket string) jetstream.KeyValue {
	h.t.Helper()
	js, err := jetstream.New(h.bus.Conn())
	if err != nil {
		h.t.Fatal(err)
	}
	kv, err := js.KeyValue(h.t.Context(), bucket)
	if err != nil {
		h.t.Fatal(err)
	}
	return kv
}

func (h *house) put(key string, v any) {
	h.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.kv(fleet.BucketConfig).Put(h.t.Context(), key, b); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) status(n fleet.NodeID) (fleet.Status, bool) {
	h.t.Helper()
	var s fleet.Status
	e, err := h.kv(fleet.BucketStatus).Get(h.t.Context(), string(n))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return s, false
	}
	if err == nil {
		err = json.Unmarshal(e.Value(), &s)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return s, true
}

// until waits for a status.
func (h *house) until(n fleet.NodeID, what string, is func(fleet.Status) bool) fleet.Status {
	h.t.Helper()
	var s fleet.Status
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s, _ = h.status(n); is(s) {
			return s
		}
	}
	h.t.Fatalf("%s is not %s: %+v", n, what, s)
	return s
}

func (h *house) phase(n fleet.NodeID, p fleet.Phase) fleet.Status {
	h.t.Helper()
	return h.until(n, string(p), func(s fleet.Status) bool { return s.Phase == p })
}

func manifest() images.Manifest {
	a := func(name string) images.Artifact {
		return images.Artifact{Digest: images.DigestOf([]byte(name)), SizeBytes: 1, MediaType: "x", Name: name}
	}
	return images.Manifest{
		Schema: images.ManifestSchema, Name: "hello", Version: "1", Arch: "amd64",
		Boot: images.Boot{Kernel: a("vmlinuz"), Initrds: []images.Artifact{a("initrd")}}, Deadline: images.Duration(time.Minute),
		Params: map[string]images.Param{"greeting": {Type: "string", Default: "hello"}},
	}
}

func (h *house) stack() images.Digest {
	h.t.Helper()
	env, raw, err := sign.SignJSON(h.ring.Operator, images.ManifestType, manifest())
	if err != nil {
		h.t.Fatal(err)
	}
	d := images.DigestOf(raw)
	h.put(fleet.ConfigStack+d.Hex(), fleet.StackEntry{Ref: "hello:1", Digest: d, Stack: env, Delegations: h.ring.Delegations})
	return d
}

func (h *house) rule(id string, created time.Time, count int, d images.Digest, nodes ...fleet.NodeID) {
	h.t.Helper()
	r := images.Rule{Schema: images.RuleSchema, ID: id, Stacks: []images.Digest{d}, Count: count, Created: created,
		NotBefore: created.Add(-time.Hour), NotAfter: created.Add(time.Hour)}
	for _, n := range nodes {
		r.Selector.Nodes = append(r.Selector.Nodes, string(n))
	}
	env, _, err := sign.SignJSON(h.ring.Operator, images.RuleType, r)
	if err != nil {
		h.t.Fatal(err)
	}
	h.put(fleet.ConfigRule+id, fleet.RuleEntry{Rule: env, Delegations: h.ring.Delegations})
}

// machine is one server of these tests.
type machine struct {
	mac    string
	serial string
	uuid   string
}

func (m machine) request() fleet.EnrollRequest {
	return fleet.EnrollRequest{Serial: m.serial, UUID: m.uuid, MACs: []string{m.mac}, Summary: "Ingot Lab LS-1 serial " + m.serial}
}

func (h *house) firmware(m machine, stage netboot.Stage) {
	h.t.Helper()
	mac, err := net.ParseMAC(m.mac)
	if err != nil {
		h.t.Fatal(err)
	}
	h.ctl.Observe(netboot.Event{Kind: netboot.KindDiscover, Time: time.Now(), Stage: stage, MAC: netboot.MAC(mac), UUID: m.uuid})
}

func (h *house) boot(m machine, bootID string) (*uplink.Uplink, fleet.EnrollReply) {
	h.t.Helper()
	u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: bootID})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(u.Close)
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	reply, err := u.Connect(ctx, uplink.Target{Bus: h.bus.Trust(), Enroll: m.request()})
	if err != nil {
		h.t.Fatal(err)
	}
	return u, reply
}

var one = machine{"52:54:00:00:00:01", "S-0001", "4c4c4544-0031-3510-8030-b4c04f4d4d31"}

func layers(state fleet.LayerState, at time.Time) []fleet.Layer {
	return []fleet.Layer{
		{Layer: fleet.LayerHost, Name: "host", State: fleet.LayerUp, Since: at},
		{Layer: fleet.LayerHypervisor, Name: "kvm", State: fleet.LayerUp, Since: at},
		{Layer: fleet.LayerVM, Name: "app", State: state, Since: at},
		{Layer: fleet.LayerContainer, Name: "hello", State: fleet.LayerUp, Since: at},
		{Layer: fleet.LayerService, Name: "hello", State: fleet.LayerUp, Since: at},
	}
}

// TestLife is a server's whole life on a real bus: seen, enrolled, waiting,
// granted, over the jump, running, degraded, lost, and a second boot.
func TestLife(t *testing.T) {
	h := newHouse(t, bus.Config{})
	ctx := t.Context()
	h.firmware(one, netboot.StagePXE)
	seen := h.phase("mac-525400000001", fleet.PhaseSeen)
	if seen.Deadline == nil || seen.Attempt != 1 {
		t.Errorf("seen without deadline or attempt: %+v", seen)
	}
	u, reply := h.boot(one, "boot-one")
	n := reply.Node
	if reply.Attempt != 1 || !strings.HasPrefix(string(n), "n-") {
		t.Fatalf("enrolled as %+v", reply)
	}
	h.phase(n, fleet.PhaseInspecting)
	if err := u.PutInventory(ctx, []byte(`{"schema":"ingot.inventory/v1"}`)); err != nil {
		t.Fatal(err)
	}
	if err := u.Publish(fleet.SourceAgent, fleet.KindReport, fleet.ReportData{Summary: "one"}); err != nil {
		t.Fatal(err)
	}
	if err := u.PublishAcked(ctx, fleet.SourceAgent, fleet.KindWaiting, fleet.StepData{Step: "waiting"}); err != nil {
		t.Fatal(err)
	}
	waiting := h.phase(n, fleet.PhaseWaiting)
	if waiting.Reason != "no-assignment" || waiting.WaitingFor == "" || waiting.Serial != one.serial {
		t.Errorf("waiting: %+v", waiting)
	}
	if s, ok := h.status("mac-525400000001"); ok {
		t.Errorf("the machine has two statuses: %+v", s)
	}
	d := h.stack()
	h.rule("r1", time.Now(), 1, d, n)
	v := h.granted(u)
	if v.StackDigest != d || v.Grant.Params["greeting"] != "hello" {
		t.Errorf("granted %+v", v.Grant)
	}
	h.phase(n, fleet.PhaseFetching)
	r := h.jump(u, d, "boot-one-stack")
	// control is started again in the middle: sessions and status stand.
	h.ctl.Close()
	h.start()
	h.beat(r, fleet.LayerStarting)
	h.phase(n, fleet.PhaseStarting)
	h.beat(r, fleet.LayerUp)
	running := h.phase(n, fleet.PhaseRunning)
	if running.Attempt != 1 || running.Stack != "hello:1" {
		t.Errorf("running: %+v", running)
	}
	h.beat(r, fleet.LayerDown)
	bad := h.phase(n, fleet.PhaseDegraded)
	if bad.Reason != "vm-down" || bad.WaitingFor != "vm app" || len(bad.Evidence) == 0 {
		t.Errorf("degraded: %+v", bad)
	}
	// The agent's session ended with the jump.
	if _, err := u.Grant(ctx); err == nil {
		t.Error("the agent's key is still let in after the resident came")
	}
	r.Close()
	h.firmware(one, netboot.StageIPXE)
	second := h.until(n, "in its second attempt", func(s fleet.Status) bool { return s.Attempt == 2 && s.Phase == fleet.PhaseBooting })
	if len(second.Layers) != 0 || second.Reason != "" {
		t.Errorf("the second boot remembers the first: %+v", second)
	}
}

// granted waits for the grant and checks it as the agent does.
func (h *house) granted(u *uplink.Uplink) sign.Verified {
	h.t.Helper()
	for end := time.After(10 * time.Second); ; {
		b, err := u.Grant(h.t.Context())
		if err != nil {
			h.t.Fatal(err)
		}
		if b != nil {
			v, err := sign.VerifyBundle(h.ring.Roots(), *b, images.BootIdentity{Node: string(u.Node()), BootID: "boot-one", AgentKey: u.Key(), Nonce: u.Nonce(), Now: time.Now()})
			if err != nil {
				h.t.Fatal(err)
			}
			return v
		}
		select {
		case <-u.Granted():
		case <-end:
			h.t.Fatal("no grant")
		}
	}
}

func (h *house) token(u *uplink.Uplink, d images.Digest, key string) fleet.SignedToken {
	h.t.Helper()
	st, err := u.SignHandoff(fleet.HandoffToken{
		Schema: fleet.HandoffSchema, Node: u.Node(), BootID: "boot-one", Attempt: u.Attempt(), StackDigest: d,
		AgentKey: u.Key(), ResidentKey: key, Nonce: "nonce", NotAfter: time.Now().Add(time.Minute),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return st
}

// jump announces the handoff and comes up as the resident.
func (h *house) jump(u *uplink.Uplink, d images.Digest, bootID string) *uplink.Uplink {
	h.t.Helper()
	seed, pub, err := uplink.NewSeed()
	if err != nil {
		h.t.Fatal(err)
	}
	st := h.token(u, d, pub)
	if err := u.PublishAcked(h.t.Context(), fleet.SourceAgent, fleet.KindHandoff,
		fleet.HandoffData{Stack: "hello:1", StackDigest: string(d), ResidentKey: pub, Deadline: time.Now().Add(time.Minute)}); err != nil {
		h.t.Fatal(err)
	}
	h.phase(u.Node(), fleet.PhaseHandingOff)
	r, err := uplink.New(uplink.Config{Role: fleet.RoleResident, BootID: bootID, Seed: seed})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(r.Close)
	reply, err := r.Connect(h.t.Context(), uplink.Target{Bus: h.bus.Trust(), Enroll: fleet.EnrollRequest{Token: &st}})
	if err != nil {
		h.t.Fatal(err)
	}
	if reply.Node != u.Node() || reply.Attempt != u.Attempt() {
		h.t.Fatalf("the resident is %+v, its agent was %s of attempt %d", reply, u.Node(), u.Attempt())
	}
	return r
}

func (h *house) beat(u *uplink.Uplink, vm fleet.LayerState) {
	h.t.Helper()
	if err := u.Heartbeat(fleet.Heartbeat{Source: fleet.SourceResident, Layers: layers(vm, time.Now())}); err != nil {
		h.t.Fatal(err)
	}
}

// TestToken: each way to misuse a handoff token is refused.
func TestToken(t *testing.T) {
	h := newHouse(t, bus.Config{})
	u, _ := h.boot(one, "boot-one")
	other, _ := h.boot(machine{"52:54:00:00:00:02", "S-0002", "4c4c4544-0031-3510-8030-b4c04f4d4d32"}, "boot-two")
	d := images.DigestOf(nil)
	attempt := func(st fleet.SignedToken, seed string) error {
		r, err := uplink.New(uplink.Config{Role: fleet.RoleResident, BootID: "boot-r", Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, err = r.Connect(t.Context(), uplink.Target{Bus: h.bus.Trust(), Enroll: fleet.EnrollRequest{Token: &st}})
		return err
	}
	seed, pub, err := uplink.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	good := fleet.HandoffToken{Schema: fleet.HandoffSchema, Node: u.Node(), BootID: "boot-one", Attempt: u.Attempt(), StackDigest: d,
		AgentKey: u.Key(), ResidentKey: pub, Nonce: "n", NotAfter: time.Now().Add(time.Minute)}
	signBy := func(u *uplink.Uplink, change func(*fleet.HandoffToken)) fleet.SignedToken {
		tok := good
		change(&tok)
		st, err := u.SignHandoff(tok)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	bad := map[string]fleet.SignedToken{
		"another agent's signature": signBy(other, func(*fleet.HandoffToken) {}),
		"another node":              signBy(other, func(k *fleet.HandoffToken) { k.AgentKey = other.Key() }),
		"another boot":              signBy(u, func(k *fleet.HandoffToken) { k.BootID = "boot-x" }),
		"another attempt":           signBy(u, func(k *fleet.HandoffToken) { k.Attempt++ }),
		"another resident":          signBy(u, func(k *fleet.HandoffToken) { k.ResidentKey = other.Key() }),
		"expired":                   signBy(u, func(k *fleet.HandoffToken) { k.NotAfter = time.Now().Add(-time.Second) }),
		"no nonce":                  signBy(u, func(k *fleet.HandoffToken) { k.Nonce = "" }),
		"garbage":                   {Token: []byte("{"), Signature: []byte("x")},
	}
	for name, st := range bad {
		var rejected *uplink.RejectedError
		if err := attempt(st, seed); !errors.As(err, &rejected) {
			t.Errorf("%s: %v, want a rejection", name, err)
		}
	}
	st := signBy(u, func(*fleet.HandoffToken) {})
	if err := attempt(st, seed); err != nil {
		t.Fatalf("the good token: %v", err)
	}
	if err := attempt(st, seed); err != nil {
		t.Errorf("the same key again, its answer was lost: %v", err)
	}
	var rejected *uplink.RejectedError
	if err := attempt(st, ""); !errors.As(err, &rejected) {
		t.Errorf("the token with another key: %v, want a rejection", err)
	}
}

// TestEnrollTwice: many enrolments of one machine at once are one node, and
// machines that share nothing are several.
func TestEnrollRace(t *testing.T) {
	h := newHouse(t, bus.Config{})
	second := h.cfg
	ctl2, err := control.Start(context.Background(), second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ctl2.Close)
	const tries, machines = 6, 4
	var mu sync.Mutex
	ids := map[int]map[fleet.NodeID]int{}
	var wg sync.WaitGroup
	for i := range tries * machines {
		wg.Go(func() {
			k := i % machines
			m := machine{fmt.Sprintf("52:54:00:00:01:%02x", k), fmt.Sprintf("R-%d", k), ""}
			u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: fmt.Sprintf("boot-%d", k)})
			if err != nil {
				t.Error(err)
				return
			}
			defer u.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			req := m.request()
			reply, err := u.Connect(ctx, uplink.Target{Bus: h.bus.Trust(), Enroll: req})
			if err != nil && reply.Node == "" {
				// A later one of the same boot may have taken the session.
				t.Logf("machine %d: %v", k, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if ids[k] == nil {
				ids[k] = map[fleet.NodeID]int{}
			}
			ids[k][reply.Node]++
		})
	}
	wg.Wait()
	all := map[fleet.NodeID]bool{}
	for k, m := range ids {
		if len(m) != 1 {
			t.Errorf("machine %d is %v", k, m)
		}
		for id := range m {
			all[id] = true
		}
	}
	if len(ids) != machines || len(all) != machines {
		t.Errorf("%d machines became %v", machines, ids)
	}
}

// TestProvenKeyOnly: a request in another's key is refused, whatever it says.
func TestProvenKeyOnly(t *testing.T) {
	h := newHouse(t, bus.Config{})
	u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-x"})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	req := one.request()
	req.Schema, req.Role, req.Key, req.BootID, req.Nonce = fleet.EnrollSchema, fleet.RoleAgent, u.Key(), "boot-x", strings.Repeat("n", 16)
	b, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	// Control's own connection has every right, and no proven key.
	m, err := h.bus.Conn().Request(string(fleet.SubjectEnroll), b, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var r fleet.EnrollReply
	if err := json.Unmarshal(m.Data, &r); err != nil || r.State != fleet.EnrollRejected || r.Reason != "key-not-proven" {
		t.Errorf("answer %s, %v", m.Data, err)
	}
}

// TestNewcomerWaits: who claims the identity of a node that runs does not get
// it, and the one that runs keeps running.
func TestNewcomerWaits(t *testing.T) {
	h := newHouse(t, bus.Config{})
	u, reply := h.boot(one, "boot-one")
	h.until(reply.Node, "heard", func(s fleet.Status) bool {
		if err := u.Heartbeat(fleet.Heartbeat{Source: fleet.SourceAgent}); err != nil {
			t.Fatal(err)
		}
		return s.Applied["heartbeat"] > 0
	})
	imp, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-imp"})
	if err != nil {
		t.Fatal(err)
	}
	defer imp.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := imp.Connect(ctx, uplink.Target{Bus: h.bus.Trust(), Enroll: one.request()}); err == nil {
		t.Error("the newcomer was let in while the node was heard")
	}
	if err := u.PublishAcked(t.Context(), fleet.SourceAgent, fleet.KindWaiting, fleet.StepData{}); err != nil {
		t.Errorf("the one that ran was thrown out: %v", err)
	}
}

// TestRules: what is not signed is nothing; the newest rule goes; the count is
// obeyed.
func TestRules(t *testing.T) {
	h := newHouse(t, bus.Config{})
	d := h.stack()
	u, r := h.boot(one, "boot-one")
	two := machine{"52:54:00:00:00:02", "S-0002", "4c4c4544-0031-3510-8030-b4c04f4d4d32"}
	u2, r2 := h.boot(two, "boot-two")
	for _, x := range []*uplink.Uplink{u, u2} {
		if err := x.PublishAcked(t.Context(), fleet.SourceAgent, fleet.KindWaiting, fleet.StepData{}); err != nil {
			t.Fatal(err)
		}
	}
	h.phase(r.Node, fleet.PhaseWaiting)
	h.phase(r2.Node, fleet.PhaseWaiting)
	forged, err := sign.OpenOrCreate(t.TempDir(), true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	own := h.ring
	h.ring = forged
	h.rule("forged", time.Now(), 2, d, r.Node, r2.Node)
	h.ring = own
	time.Sleep(300 * time.Millisecond)
	if b, err := u.Grant(t.Context()); b != nil || err != nil {
		t.Fatalf("a forged rule led to %v, %v", b, err)
	}
	h.rule("one-of-two", time.Now().Add(-time.Minute), 1, d, r.Node, r2.Node)
	h.until(r.Node, "granted, or the other is", func(s fleet.Status) bool {
		o, _ := h.status(r2.Node)
		return s.Phase == fleet.PhaseFetching || o.Phase == fleet.PhaseFetching
	})
	time.Sleep(300 * time.Millisecond)
	a, errA := u.Grant(t.Context())
	b, errB := u2.Grant(t.Context())
	if errA != nil || errB != nil || (a == nil) == (b == nil) {
		t.Fatalf("a rule for one gave %v and %v (%v, %v)", a != nil, b != nil, errA, errB)
	}
	loser := r.Node
	if a != nil {
		loser = r2.Node
	}
	h.rule("newer", time.Now(), 2, d, r.Node, r2.Node)
	h.phase(loser, fleet.PhaseFetching)
}
