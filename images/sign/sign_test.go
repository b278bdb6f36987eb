package sign

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/images"
)

var now = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func keyring(t *testing.T, lab bool) Keyring {
	t.Helper()
	k, err := OpenOrCreate(t.TempDir(), lab, now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func bundle(t *testing.T, k Keyring) (images.GrantBundle, images.BootIdentity) {
	t.Helper()
	a := images.Artifact{Name: "vmlinuz", Digest: images.DigestOf([]byte("k")), SizeBytes: 1}
	m := images.Manifest{Schema: images.ManifestSchema, Name: "bare", Version: "1", Arch: "amd64", Boot: images.Boot{Kernel: a, Initrds: []images.Artifact{a}}, Deadline: images.Duration(time.Minute)}
	stack, mb, err := SignJSON(k.Operator, images.ManifestType, m)
	must(t, 0, err)
	rule, rb, err := SignJSON(k.Operator, images.RuleType, images.Rule{Schema: images.RuleSchema, ID: "r1", Selector: images.Selector{Nodes: []string{"n-1"}}, Stacks: []images.Digest{images.DigestOf(mb)}, Count: 1, NotBefore: now, NotAfter: now.Add(time.Hour)})
	must(t, 0, err)
	pd, err := images.ParamsDigest(nil)
	must(t, 0, err)
	grant, _, err := SignJSON(k.Reconciler, images.GrantType, images.Grant{Schema: images.GrantSchema, Node: "n-1", BootID: "b", RuleDigest: images.DigestOf(rb), StackDigest: images.DigestOf(mb), ParamsDigest: pd, AgentKey: "U", Nonce: "x", NotAfter: now.Add(time.Hour)})
	must(t, 0, err)
	return images.GrantBundle{Schema: images.BundleSchema, Grant: grant, Rule: rule, Stack: stack, Delegations: k.Delegations},
		images.BootIdentity{Node: "n-1", BootID: "b", AgentKey: "U", Nonce: "x", Now: now}
}

func TestVerifyBundle(t *testing.T) {
	k := keyring(t, true)
	b, me := bundle(t, k)
	v, err := VerifyBundle(k.Roots(), b, me)
	if err != nil || v.Manifest.Name != "bare" {
		t.Fatalf("VerifyBundle = %v, %v", v.Manifest.Name, err)
	}
}

func TestVerifyBundleRefuses(t *testing.T) {
	k, stranger := keyring(t, true), keyring(t, true)
	flip := func(e *images.Envelope) { e.Payload = []byte(strings.Replace(string(e.Payload), "1", "2", 1)) }
	for _, tc := range []struct {
		name   string
		change func(b *images.GrantBundle, r *Roots, me *images.BootIdentity)
		want   Reason
	}{
		{"one byte of the manifest", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { flip(&b.Stack) }, ReasonSignature},
		{"one byte of the rule", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { flip(&b.Rule) }, ReasonSignature},
		{"one byte of the grant", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { flip(&b.Grant) }, ReasonSignature},
		{"stranger's root", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { *r = stranger.Roots() }, ReasonSignature},
		{"stranger's delegations", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { b.Delegations = stranger.Delegations }, ReasonSignature},
		{"no delegations", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { b.Delegations = nil }, ReasonSignature},
		{"no root", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { r.Keys = nil }, ReasonSignature},
		{"lab key outside the lab", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { r.Lab = false }, ReasonSignature},
		{"delegation expired", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { me.Now = now.Add(2 * delegationLife) }, ReasonSignature},
		{"roles exchanged", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) {
			e, _ := Sign(k.Operator, images.GrantType, b.Grant.Payload)
			b.Grant = e
		}, ReasonSignature},
		{"rule in the place of the stack", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { b.Stack = b.Rule }, ReasonSignature},
		{"another boot", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { me.BootID = "c" }, ReasonMismatch},
		{"no signature", func(b *images.GrantBundle, r *Roots, me *images.BootIdentity) { b.Grant.Signatures = nil }, ReasonSignature},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, me := bundle(t, k)
			r := k.Roots()
			tc.change(&b, &r, &me)
			_, err := VerifyBundle(r, b, me)
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Reason != tc.want {
				t.Errorf("VerifyBundle = %v; want a refusal with reason %s", err, tc.want)
			}
		})
	}
}

func TestKeyringIsKept(t *testing.T) {
	dir := t.TempDir()
	a := must2(OpenOrCreate(dir, true, now))(t)
	b := must2(OpenOrCreate(dir, true, now))(t)
	if !a.Root.Equal(b.Root) || !a.Operator.Equal(b.Operator) || !b.Lab {
		t.Error("OpenOrCreate made other keys the second time")
	}
	if st := must2(os.Stat(filepath.Join(dir, "operator.key")))(t); st.Mode().Perm() != 0o600 {
		t.Errorf("operator.key has mode %o; want 600", st.Mode().Perm())
	}
	if err := os.Remove(filepath.Join(dir, "reconciler.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenOrCreate(dir, true, now); err == nil {
		t.Error("OpenOrCreate of half a keyring = nil; want an error")
	}
	other := keyring(t, true)
	if other.Root.Equal(a.Root) {
		t.Error("two keyrings have one root")
	}
}

func must2[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T { t.Helper(); return must(t, v, err) }
}

func TestOpenNamesAKeyLength(t *testing.T) {
	e, err := Sign(keyring(t, false).Operator, images.RuleType, []byte("{}"))
	must(t, 0, err)
	if _, err := Open(e, images.RuleType, ed25519.PublicKey{1, 2}); !errors.Is(err, ErrSignature) {
		t.Errorf("Open with a short key = %v; want ErrSignature", err)
	}
}
