package e2e

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
)

// The tampered manifest differs in one byte, still reads as a manifest, and is
// refused for its signature and nothing else.
func TestTamper(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	a := func(name string) images.Artifact {
		return images.Artifact{Digest: images.DigestOf([]byte(name)), SizeBytes: 1, MediaType: "a/b", Name: name}
	}
	for _, version := range []string{"1", "9", "0.1.0"} {
		m := images.Manifest{Schema: images.ManifestSchema, Name: "hello", Version: version, Arch: "amd64",
			Boot: images.Boot{Kernel: a("k"), Initrds: []images.Artifact{a("i")}}, Deadline: images.Duration(time.Minute)}
		b, err := m.JSON()
		if err != nil {
			t.Fatal(err)
		}
		e, err := sign.Sign(key, images.ManifestType, b)
		if err != nil {
			t.Fatal(err)
		}
		bad, err := tamper(e)
		if err != nil {
			t.Fatal(err)
		}
		if n := differing(e.Payload, bad.Payload); n != 1 {
			t.Errorf("version %s: %d bytes differ, want 1", version, n)
		}
		if !bytes.Equal(b, e.Payload) {
			t.Errorf("version %s: the good manifest was changed too", version)
		}
		if _, err := images.ParseManifest(bad.Payload); err != nil {
			t.Errorf("version %s: it no longer reads: %v", version, err)
		}
		pub := key.Public().(ed25519.PublicKey)
		if _, err := sign.Open(e, images.ManifestType, pub); err != nil {
			t.Errorf("version %s: the good one does not open: %v", version, err)
		}
		if _, err := sign.Open(bad, images.ManifestType, pub); !errors.Is(err, sign.ErrSignature) {
			t.Errorf("version %s: the tampered one opens with %v, want %v", version, err, sign.ErrSignature)
		}
	}
	if _, err := tamper(images.Envelope{Payload: []byte("{}")}); err == nil {
		t.Error("a manifest without a version was tampered with")
	}
}

func TestDegradedVM(t *testing.T) {
	down := fleet.Layer{Layer: fleet.LayerVM, Name: "vm0", State: fleet.LayerDown}
	for _, tt := range []struct {
		st   fleet.Status
		want bool
	}{
		{fleet.Status{Phase: fleet.PhaseDegraded, Layers: []fleet.Layer{down}}, true},
		{fleet.Status{Phase: fleet.PhaseRunning, Layers: []fleet.Layer{down}}, false},
		{fleet.Status{Phase: fleet.PhaseDegraded, Layers: []fleet.Layer{{Layer: fleet.LayerContainer, State: fleet.LayerDown}}}, false},
		{fleet.Status{Phase: fleet.PhaseDegraded, Layers: []fleet.Layer{{Layer: fleet.LayerVM, State: fleet.LayerUp}}}, false},
	} {
		if got := degradedVM(tt.st); got != tt.want {
			t.Errorf("degradedVM(%+v) = %v; want %v", tt.st, got, tt.want)
		}
	}
}
