package sign

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/images"
)

// Roots are the keys that a server trusts, from its trust roots.
type Roots struct {
	Keys []ed25519.PublicKey
	// Lab says that delegations marked as the lab's are accepted.
	Lab bool
}

// Delegated returns the keys that the roots gave the role, at the given time.
// Delegations that do not hold are passed over; the last reason is returned so
// that an empty answer can be explained.
func (r Roots) Delegated(envelopes []images.Envelope, role images.Role, now time.Time) ([]ed25519.PublicKey, error) {
	if len(envelopes) > 16 {
		return nil, fmt.Errorf("%d delegations, at most 16 are looked at", len(envelopes))
	}
	var keys []ed25519.PublicKey
	why := fmt.Errorf("no delegation of the role %s", role)
	for _, e := range envelopes {
		d, err := r.delegation(e, now)
		switch {
		case err != nil:
			why = err
		case d.Role == role:
			keys = append(keys, ed25519.PublicKey(d.PublicKey))
		}
	}
	if len(keys) == 0 {
		return nil, why
	}
	return keys, nil
}

func (r Roots) delegation(e images.Envelope, now time.Time) (images.Delegation, error) {
	b, err := Open(e, images.DelegationType, r.Keys...)
	if err != nil {
		return images.Delegation{}, err
	}
	d, err := images.ParseDelegation(b)
	switch {
	case err != nil:
		return d, err
	case len(d.PublicKey) != ed25519.PublicKeySize:
		return d, fmt.Errorf("delegation: public key is %d bytes, want %d", len(d.PublicKey), ed25519.PublicKeySize)
	case d.Lab && !r.Lab:
		return d, fmt.Errorf("delegation of role %s: a lab key is not accepted outside the lab", d.Role)
	case now.After(d.NotAfter):
		return d, fmt.Errorf("delegation of role %s: expired at %s", d.Role, d.NotAfter.Format(time.RFC3339))
	}
	return d, nil
}

// Verified is a grant bundle of which every signature and every tie holds.
type Verified struct {
	Grant       images.Grant
	Rule        images.Rule
	Manifest    images.Manifest
	StackDigest images.Digest
}

// Reason is why a bundle was refused, as a code of the status.
type Reason string

// The reasons of a [RefusedError].
const (
	ReasonSignature Reason = "signature-invalid"
	ReasonMalformed Reason = "document-malformed"
	ReasonMismatch  Reason = "grant-mismatch"
)

// RefusedError says which document of a bundle was refused and why.
type RefusedError struct {
	Reason   Reason
	Document string
	Err      error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refuse %s: %v", e.Document, e.Err) }
func (e *RefusedError) Unwrap() error { return e.Err }

// VerifyBundle checks a grant bundle for this boot: delegations by the roots,
// grant by a reconciler, rule and manifest by an operator, and that they belong
// together.
func VerifyBundle(roots Roots, b images.GrantBundle, me images.BootIdentity) (Verified, error) {
	var v Verified
	if b.Schema != images.BundleSchema {
		return v, &RefusedError{ReasonMalformed, "bundle", fmt.Errorf("schema is %.40q, want %q", b.Schema, images.BundleSchema)}
	}
	grant, err := roots.open(b.Delegations, images.RoleReconciler, b.Grant, images.GrantType, me.Now)
	if err != nil {
		return v, &RefusedError{ReasonSignature, "grant", err}
	}
	rule, err := roots.open(b.Delegations, images.RoleOperator, b.Rule, images.RuleType, me.Now)
	if err != nil {
		return v, &RefusedError{ReasonSignature, "rule", err}
	}
	stack, err := roots.open(b.Delegations, images.RoleOperator, b.Stack, images.ManifestType, me.Now)
	if err != nil {
		return v, &RefusedError{ReasonSignature, "stack manifest", err}
	}
	if v.Grant, err = images.ParseGrant(grant); err != nil {
		return v, &RefusedError{ReasonMalformed, "grant", err}
	}
	if v.Rule, err = images.ParseRule(rule); err != nil {
		return v, &RefusedError{ReasonMalformed, "rule", err}
	}
	if v.Manifest, err = images.ParseManifest(stack); err != nil {
		return v, &RefusedError{ReasonMalformed, "stack manifest", err}
	}
	v.StackDigest = images.DigestOf(stack)
	if err := v.Grant.Check(me, v.Rule, images.DigestOf(rule), v.Manifest, v.StackDigest); err != nil {
		return v, &RefusedError{ReasonMismatch, "grant", err}
	}
	return v, nil
}

func (r Roots) open(ds []images.Envelope, role images.Role, e images.Envelope, typ string, now time.Time) ([]byte, error) {
	keys, err := r.Delegated(ds, role, now)
	if err != nil {
		return nil, err
	}
	return Open(e, typ, keys...)
}

// OpenManifest checks the signature of a stack's envelope and reads it.
func (r Roots) OpenManifest(ds []images.Envelope, e images.Envelope, now time.Time) (images.Manifest, images.Digest, error) {
	b, err := r.open(ds, images.RoleOperator, e, images.ManifestType, now)
	if err != nil {
		return images.Manifest{}, "", err
	}
	m, err := images.ParseManifest(b)
	return m, images.DigestOf(b), err
}

// OpenRule checks the signature of a rule's envelope and reads it.
func (r Roots) OpenRule(ds []images.Envelope, e images.Envelope, now time.Time) (images.Rule, images.Digest, error) {
	b, err := r.open(ds, images.RoleOperator, e, images.RuleType, now)
	if err != nil {
		return images.Rule{}, "", err
	}
	rule, err := images.ParseRule(b)
	return rule, images.DigestOf(b), err
}

// OpenCommand checks that an operator signed a command and returns its bytes.
func (r Roots) OpenCommand(ds []images.Envelope, e images.Envelope, now time.Time) ([]byte, error) {
	return r.open(ds, images.RoleOperator, e, images.CommandType, now)
}

// OpenBy checks that an operator signed a document of the given type, and
// returns its bytes and the ID of the operator's key.
func (r Roots) OpenBy(ds []images.Envelope, e images.Envelope, typ string, now time.Time) (payload []byte, by string, err error) {
	keys, err := r.Delegated(ds, images.RoleOperator, now)
	if err != nil {
		return nil, "", err
	}
	for _, k := range keys {
		if payload, err = Open(e, typ, k); err == nil {
			by, err = KeyID(k)
			return payload, by, err
		}
	}
	return nil, "", err
}

// SignJSON marshals v and signs the bytes.
func SignJSON(key ed25519.PrivateKey, payloadType string, v any) (images.Envelope, []byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return images.Envelope{}, nil, fmt.Errorf("write %s as JSON: %v", payloadType, err)
	}
	e, err := Sign(key, payloadType, b)
	return e, b, err
}
