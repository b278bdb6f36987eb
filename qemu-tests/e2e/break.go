package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/opencontainers/go-digest"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/ingot-metal/ingot/images/stack"
	"github.com/ingot-metal/ingot/images/store"
	"github.com/ingot-metal/ingot/qemu-tests/scenario"
)

const reasonSignature = fleet.ReasonCode(sign.ReasonSignature)

// breakThings proves the chain by breaking it, on the first server. The second
// must not notice.
func (r *run) breakThings(ctx context.Context, outcomes []scenario.Outcome) error {
	victim, witness := outcomes[0], outcomes[1]
	for _, p := range []struct {
		name string
		do   func(context.Context, scenario.Outcome) (string, error)
	}{
		{"the VM is killed: the service falls silent, the status names the layer", r.killVM},
		{"one byte of the manifest changed: the console refuses it", r.consoleRefuses},
		{"one byte changed, forced into the fleet: control grants nothing", r.controlRefuses},
		{"one byte changed, granted by a captured controller: the agent refuses and does not boot it", r.agentRefuses},
	} {
		start := time.Now()
		evidence, err := p.do(ctx, victim)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		r.say("holds: %s: %s", p.name, evidence)
		r.result.Proofs = append(r.result.Proofs, Proof{Name: p.name, Evidence: evidence, Seconds: time.Since(start).Seconds()})
	}
	_, a, err := scenario.Ask(ctx, witness.URL)
	if err == nil && a.Nonce != witness.Nonce {
		err = fmt.Errorf("nonce is %q, want %q", a.Nonce, witness.Nonce)
	}
	if err != nil {
		return fmt.Errorf("%s, which nobody touched: %w", witness.Name, err)
	}
	return nil
}

func (r *run) killVM(ctx context.Context, o scenario.Outcome) (string, error) {
	if err := r.ingot(ctx, "node", "vm", "stop", o.Name, o.Answer.VM); err != nil {
		return "", err
	}
	if err := scenario.Silent(ctx, o.URL); err != nil {
		return "", err
	}
	st, err := r.job().Await(ctx, o.Name, "degraded with the layer vm", degradedVM)
	if err != nil {
		return "", err
	}
	return render.StatusLine(st), r.why(ctx, o.Name, "vm "+o.Answer.VM)
}

// why asks the operator's command what is wrong, which must name the layer.
func (r *run) why(ctx context.Context, name, layer string) error {
	err := r.ingot(ctx, "why", name)
	var said *scenario.CommandError
	if !errors.As(err, &said) || said.Code() != wrongCode || !strings.Contains(said.Said, layer) {
		return fmt.Errorf("ingot why %s: want exit code %d and %q: %w", name, wrongCode, layer, err)
	}
	return nil
}

// degradedVM says that a status is degraded and names the VM as the layer.
func degradedVM(st fleet.Status) bool {
	return st.Phase == fleet.PhaseDegraded && slices.ContainsFunc(st.Layers, func(l fleet.Layer) bool {
		return l.Layer == fleet.LayerVM && l.State == fleet.LayerDown
	})
}

// tamper changes one byte of a signed manifest, so that it still reads as a
// manifest.
func tamper(e images.Envelope) (images.Envelope, error) {
	const key = `"version":"`
	out := e
	out.Payload = slices.Clone(e.Payload)
	i := strings.Index(string(out.Payload), key)
	if i < 0 {
		return out, errors.New("tamper with the manifest: it has no version")
	}
	b := &out.Payload[i+len(key)]
	if *b == '9' {
		*b = '8'
	} else {
		*b = '9'
	}
	if _, err := images.ParseManifest(out.Payload); err != nil {
		return out, fmt.Errorf("tamper with the manifest: %w", err)
	}
	return out, nil
}

// tampered is the stack that a server ran, with one byte changed.
func (r *run) tampered(ctx context.Context, o scenario.Outcome) (fleet.StackEntry, error) {
	all, err := r.client.Stacks(ctx)
	if err != nil {
		return fleet.StackEntry{}, err
	}
	i := slices.IndexFunc(all, func(e fleet.StackEntry) bool { return e.Digest == o.Digest })
	if i < 0 {
		return fleet.StackEntry{}, fmt.Errorf("the fleet does not hold stack %s", o.Digest.Short())
	}
	e := all[i]
	if e.Stack, err = tamper(e.Stack); err != nil {
		return e, err
	}
	e.Digest = images.DigestOf(e.Stack.Payload)
	e.Ref += "-tampered"
	return e, nil
}

// consoleRefuses assigns the tampered stack from a layout, as an operator would
// who was given one.
func (r *run) consoleRefuses(ctx context.Context, o scenario.Outcome) (string, error) {
	e, err := r.tampered(ctx, o)
	if err != nil {
		return "", err
	}
	layout, err := os.MkdirTemp(r.o.Out, "tampered-*")
	if err != nil {
		return "", fmt.Errorf("make a layout: %w", err)
	}
	defer os.RemoveAll(layout)
	if err := tamperedLayout(filepath.Join(r.o.Build, "stacks"), layout, e); err != nil {
		return "", err
	}
	err = r.ingot(ctx, "assign", o.Name, string(e.Digest), "--stacks", layout, "--param", "nonce="+o.Nonce)
	var said *scenario.CommandError
	switch {
	case err == nil:
		return "", errors.New("it was taken")
	case !errors.As(err, &said) || said.Code() != refusedCode || !strings.Contains(said.Said, string(reasonSignature)):
		return "", fmt.Errorf("it was refused, but not with exit code %d for the reason %s: %w", refusedCode, reasonSignature, err)
	}
	return said.Said, nil
}

// wrongCode is the exit code of `ingot why` where something is wrong.
const wrongCode = 7

// refusedCode is the exit code of `ingot` for what was refused.
const refusedCode = 5

// tamperedLayout makes an OCI layout at to with the stacks of from, in which e
// stands for the manifest that it was made of.
func tamperedLayout(from, to string, e fleet.StackEntry) error {
	in, err := store.Open(from)
	if err != nil {
		return err
	}
	out, err := store.Create(to)
	if err != nil {
		return err
	}
	all, err := in.Artifacts(stack.ArtifactType)
	if err != nil {
		return err
	}
	changed := false
	for _, a := range all {
		// The first two layers are the signed manifest and its delegations.
		for i := range a.Layers[:2] {
			b, err := in.Read(images.Digest(a.Layers[i].Digest), 1<<20)
			if err != nil {
				return err
			}
			var env images.Envelope
			if i == 0 && json.Unmarshal(b, &env) == nil && differing(env.Payload, e.Stack.Payload) == 1 {
				changed = true
				if b, err = json.Marshal(e.Stack); err != nil {
					return fmt.Errorf("write the tampered manifest: %v", err)
				}
			}
			d, n, err := out.Put(bytes.NewReader(b))
			if err != nil {
				return err
			}
			a.Layers[i].Digest, a.Layers[i].Size = digest.Digest(d), n
		}
		if _, err := out.PutArtifact(a); err != nil {
			return err
		}
	}
	if !changed {
		return fmt.Errorf("make a tampered layout: %s does not hold the manifest", from)
	}
	return nil
}

// differing counts the bytes in which two texts of one length differ; -1 says
// that their lengths do.
func differing(a, b []byte) int {
	if len(a) != len(b) {
		return -1
	}
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// controlRefuses writes the tampered stack past the console's check, assigns
// it, and boots the server again: control must find it out.
func (r *run) controlRefuses(ctx context.Context, o scenario.Outcome) (string, error) {
	e, err := r.tampered(ctx, o)
	if err != nil {
		return "", err
	}
	nc, err := bus.DialOperator(r.client.Context())
	if err != nil {
		return "", err
	}
	defer nc.Close()
	if err := putJSON(ctx, nc, fleet.BucketConfig, fleet.ConfigStack+e.Digest.Hex(), e); err != nil {
		return "", err
	}
	t, err := r.client.Find(ctx, o.Name)
	if err != nil {
		return "", err
	}
	m, err := images.ParseManifest(e.Stack.Payload)
	if err != nil {
		return "", err
	}
	if _, err := r.client.Assign(ctx, operator.Assignment{
		Targets: []operator.Target{t}, Stack: e.Digest, Manifest: m, Params: map[string]string{"nonce": o.Nonce},
	}); err != nil {
		return "", err
	}
	if err := r.ingot(ctx, "node", "power", "cycle", o.Name, "--via", o.Via); err != nil {
		return "", err
	}
	st, err := r.job().Await(ctx, o.Name, "refused by control", func(st fleet.Status) bool {
		return st.Attempt > o.Status.Attempt && st.Phase == fleet.PhaseWaiting && st.Reason == reasonSignature
	})
	if err != nil {
		return "", err
	}
	return render.StatusLine(st), r.noEvent(ctx, o.Name, st.Attempt, fleet.KindGranted)
}

// agentRefuses plays a controller in other hands: it has the reconciler's key
// and full rights over grants, and grants the tampered stack.
func (r *run) agentRefuses(ctx context.Context, o scenario.Outcome) (string, error) {
	e, err := r.tampered(ctx, o)
	if err != nil {
		return "", err
	}
	nc, err := r.captured()
	if err != nil {
		return "", err
	}
	defer nc.Close()
	before, err := r.client.Status(ctx, o.Node)
	if err != nil {
		return "", err
	}
	b, err := r.forge(ctx, nc, o, e)
	if err != nil {
		return "", err
	}
	if err := putJSON(ctx, nc, fleet.BucketGrant, string(o.Node), b); err != nil {
		return "", err
	}
	problem, err := r.refused(ctx, o.Name, before.Attempt)
	if err != nil {
		return "", err
	}
	if problem.Reason != reasonSignature {
		return "", fmt.Errorf("the agent refused it, but for the reason %q: %s", problem.Reason, problem.Evidence)
	}
	st, err := r.job().Await(ctx, o.Name, "refused by its agent", func(st fleet.Status) bool {
		return st.Attempt == before.Attempt && st.Reason == reasonSignature
	})
	if err != nil && !errors.Is(err, scenario.ErrLost) {
		return "", err
	}
	if err := r.stays(ctx, o, st); err != nil {
		return "", err
	}
	return render.StatusLine(st), nil
}

// captured connects as the reconciler whose key this test holds.
func (r *run) captured() (*nats.Conn, error) {
	seed, err := r.reconciler.Seed()
	if err != nil {
		return nil, fmt.Errorf("read the reconciler's nkey: %v", err)
	}
	oc := r.client.Context()
	oc.Seed = string(seed)
	return bus.DialReconciler(oc)
}

// forge makes a grant that fits the server's present boot in every way, but for
// the manifest, of which one byte is another than its operator signed.
func (r *run) forge(ctx context.Context, nc *nats.Conn, o scenario.Outcome, e fleet.StackEntry) (images.GrantBundle, error) {
	var b images.GrantBundle
	keys, err := sign.Load(filepath.Join(r.o.Build, "keys"))
	if err != nil {
		return b, err
	}
	s, err := session(ctx, nc, o.Node)
	if err != nil {
		return b, err
	}
	var entry fleet.RuleEntry
	if err := readJSON(ctx, nc, fleet.BucketConfig, fleet.ConfigRule+string(o.Node), &entry); err != nil {
		return b, err
	}
	params, err := images.ParamsDigest(map[string]string{"nonce": o.Nonce})
	if err != nil {
		return b, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	grant, _, err := sign.SignJSON(keys.Reconciler, images.GrantType, images.Grant{
		Schema: images.GrantSchema, Node: string(o.Node), BootID: s.BootID, Attempt: s.Attempt,
		RuleDigest: images.DigestOf(entry.Rule.Payload), StackDigest: e.Digest,
		Params: map[string]string{"nonce": o.Nonce}, ParamsDigest: params, AgentKey: s.Key, Nonce: s.Nonce, Issued: now, NotAfter: now.Add(time.Hour),
	})
	if err != nil {
		return b, err
	}
	return images.GrantBundle{Schema: images.BundleSchema, Grant: grant, Rule: entry.Rule, Stack: e.Stack, Delegations: keys.Delegations}, nil
}

// session is the present boot's agent, as control enrolled it.
func session(ctx context.Context, nc *nats.Conn, n fleet.NodeID) (fleet.Session, error) {
	var node fleet.Node
	if err := readJSON(ctx, nc, fleet.BucketNodes, "node."+string(n), &node); err != nil {
		return fleet.Session{}, err
	}
	var last fleet.Session
	for _, s := range node.Sessions {
		if s.Role == fleet.RoleAgent && s.Created.After(last.Created) {
			last = s
		}
	}
	if last.Key == "" {
		return last, fmt.Errorf("node %s has no session of an agent", n)
	}
	return last, nil
}

// refused waits for the agent's word that it refused.
func (r *run) refused(ctx context.Context, name string, attempt int64) (fleet.Problem, error) {
	t, err := r.client.Find(ctx, name)
	if err != nil {
		return fleet.Problem{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var p fleet.Problem
	found := errors.New("found")
	err = r.client.FollowEvents(ctx, t, func(rec operator.Record) error {
		switch {
		case rec.Attempt != attempt || rec.Source != fleet.SourceAgent:
			return nil
		case rec.Kind == fleet.KindHandoff:
			return errors.New("the agent boots it")
		case rec.Kind != fleet.KindRefused:
			return nil
		}
		if err := json.Unmarshal(rec.Data, &p); err != nil {
			return fmt.Errorf("read the agent's refusal: %v", err)
		}
		return found
	})
	if !errors.Is(err, found) {
		return p, fmt.Errorf("wait until the agent refuses it: %w", err)
	}
	return p, nil
}

// stays watches the server for three more signs of life: the same agent in the
// same boot, and no jump.
func (r *run) stays(ctx context.Context, o scenario.Outcome, st fleet.Status) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	nc, err := bus.DialOperator(r.client.Context())
	if err != nil {
		return err
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync(string(fleet.HeartbeatSubject(o.Node)))
	if err != nil {
		return fmt.Errorf("listen to its heartbeats: %w", err)
	}
	for range 3 {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return fmt.Errorf("wait for a sign of life of its agent: %w", err)
		}
		var hb fleet.Heartbeat
		if err := json.Unmarshal(m.Data, &hb); err != nil {
			return fmt.Errorf("read its heartbeat: %v", err)
		}
		if hb.Source != fleet.SourceAgent || hb.Attempt != st.Attempt {
			return fmt.Errorf("a heartbeat comes from the %s of boot %d, want the agent of boot %d: it was booted", hb.Source, hb.Attempt, st.Attempt)
		}
	}
	return r.noEvent(ctx, o.Name, st.Attempt, fleet.KindHandoff)
}

// noEvent checks that a boot has no event of a kind.
func (r *run) noEvent(ctx context.Context, name string, attempt int64, kind string) error {
	t, err := r.client.Find(ctx, name)
	if err != nil {
		return err
	}
	records, err := r.client.Events(ctx, t)
	if err != nil {
		return err
	}
	for _, e := range records {
		if e.Attempt == attempt && e.Kind == kind {
			return fmt.Errorf("boot %d has an event %q of %s: %s", attempt, kind, e.Time.Format(time.RFC3339), e.Data)
		}
	}
	return nil
}

func putJSON(ctx context.Context, nc *nats.Conn, bucket, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %v", key, err)
	}
	kv, err := open(ctx, nc, bucket)
	if err != nil {
		return err
	}
	if _, err := kv.Put(ctx, key, b); err != nil {
		return fmt.Errorf("write %s of bucket %s: %w", key, bucket, err)
	}
	return nil
}

func readJSON(ctx context.Context, nc *nats.Conn, bucket, key string, v any) error {
	kv, err := open(ctx, nc, bucket)
	if err != nil {
		return err
	}
	e, err := kv.Get(ctx, key)
	if err == nil {
		err = json.Unmarshal(e.Value(), v)
	}
	if err != nil {
		return fmt.Errorf("read %s of bucket %s: %w", key, bucket, err)
	}
	return nil
}

func open(ctx context.Context, nc *nats.Conn, bucket string) (jetstream.KeyValue, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %v", err)
	}
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	return kv, nil
}
