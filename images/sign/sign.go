// Package sign makes and checks the signatures of package images: DSSE
// envelopes over Ed25519, keys on disk, and the chain from a root key through a
// delegation to a document.
package sign

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/ingot-metal/ingot/images"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// MaxEnvelopeBytes bounds the payload of an envelope that is looked at.
const MaxEnvelopeBytes = 256 << 10

// KeyID names a public key in signatures: the SHA-256 of its PKIX form.
func KeyID(pub ed25519.PublicKey) (string, error) { return dsse.SHA256KeyID(pub) }

// Sign wraps payload in an envelope of the given type.
func Sign(key ed25519.PrivateKey, payloadType string, payload []byte) (images.Envelope, error) {
	s, err := dsse.NewEnvelopeSigner(signer{key})
	if err != nil {
		return images.Envelope{}, fmt.Errorf("sign %s: %v", payloadType, err)
	}
	e, err := s.SignPayload(context.Background(), payloadType, payload)
	if err != nil {
		return images.Envelope{}, fmt.Errorf("sign %s: %v", payloadType, err)
	}
	out := images.Envelope{PayloadType: e.PayloadType, Payload: payload}
	for _, sig := range e.Signatures {
		raw, err := base64.StdEncoding.DecodeString(sig.Sig)
		if err != nil {
			return images.Envelope{}, fmt.Errorf("sign %s: %v", payloadType, err)
		}
		out.Signatures = append(out.Signatures, images.Signature{KeyID: sig.KeyID, Sig: raw})
	}
	return out, nil
}

// ErrSignature says that no signature of an envelope is by an accepted key.
var ErrSignature = errors.New("no valid signature by an accepted key")

// Open checks that e is of the given type and signed by one of keys, and
// returns its payload.
func Open(e images.Envelope, payloadType string, keys ...ed25519.PublicKey) ([]byte, error) {
	if e.PayloadType != payloadType {
		return nil, fmt.Errorf("envelope: type is %.80q, want %q", e.PayloadType, payloadType)
	}
	if len(e.Payload) > MaxEnvelopeBytes || len(e.Signatures) > 16 {
		return nil, fmt.Errorf("envelope %s: %d bytes and %d signatures are over the limits", payloadType, len(e.Payload), len(e.Signatures))
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("envelope %s: %w: no key is accepted", payloadType, ErrSignature)
	}
	var vs []dsse.Verifier
	for _, k := range keys {
		vs = append(vs, verifier{k})
	}
	v, err := dsse.NewEnvelopeVerifier(vs...)
	if err != nil {
		return nil, fmt.Errorf("envelope %s: %v", payloadType, err)
	}
	de := &dsse.Envelope{PayloadType: e.PayloadType, Payload: base64.StdEncoding.EncodeToString(e.Payload)}
	for _, s := range e.Signatures {
		de.Signatures = append(de.Signatures, dsse.Signature{KeyID: s.KeyID, Sig: base64.StdEncoding.EncodeToString(s.Sig)})
	}
	if _, err := v.Verify(context.Background(), de); err != nil {
		return nil, fmt.Errorf("envelope %s: %w", payloadType, ErrSignature)
	}
	return e.Payload, nil
}

type signer struct{ key ed25519.PrivateKey }

func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(s.key, data), nil
}

func (s signer) KeyID() (string, error) { return KeyID(s.key.Public().(ed25519.PublicKey)) }

type verifier struct{ key ed25519.PublicKey }

func (v verifier) Verify(_ context.Context, data, sig []byte) error {
	if len(v.key) != ed25519.PublicKeySize || !ed25519.Verify(v.key, data, sig) {
		return ErrSignature
	}
	return nil
}

func (v verifier) KeyID() (string, error)   { return KeyID(v.key) }
func (v verifier) Public() crypto.PublicKey { return v.key }
