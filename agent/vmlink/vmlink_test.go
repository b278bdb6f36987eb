package vmlink

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/fleet"
)

func TestRoundTrip(t *testing.T) {
	want := []Message{
		{Hello: &Hello{BootID: "a", Kernel: "6.12", UptimeSeconds: 3.5}},
		{Config: &Config{VM: "vm0", Containers: []Container{{Name: "hello", ImageDigest: "sha256:00", Drive: "ingot-oci-0", Env: map[string]string{"A": "line\nbreak"}}}}},
		{Layer: &fleet.Layer{Layer: fleet.LayerContainer, Name: "hello", State: fleet.LayerUp}},
		{Log: &Log{Text: "containerd is up"}},
		{Heartbeat: &Heartbeat{BootID: "a"}},
	}
	var wire bytes.Buffer
	w := NewWriter(&wire)
	for _, m := range want {
		if err := w.Write(m); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(&wire)
	for i := range want {
		got, err := r.Read()
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if d := cmp.Diff(want[i], got); d != "" {
			t.Errorf("message %d (-want +got):\n%s", i, d)
		}
	}
	if _, err := r.Read(); err != io.EOF {
		t.Errorf("after the last message: %v; want EOF", err)
	}
}

// A line that is no message costs that line and nothing else.
func TestMalformedLineIsDropped(t *testing.T) {
	for name, bad := range map[string]string{
		"noise":     "[    0.000000] Linux version",
		"empty":     "",
		"no kind":   "{}",
		"two kinds": `{"log":{"text":"a"},"hello":{"boot_id":"b"}}`,
		"too long":  `{"log":{"text":"` + strings.Repeat("x", 3*MaxLineBytes) + `"}}`,
		"deep":      strings.Repeat("[", MaxLineBytes/2),
	} {
		r := NewReader(strings.NewReader(bad + "\n" + `{"log":{"text":"good"}}` + "\n"))
		if _, err := r.Read(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v; want ErrMalformed", name, err)
		}
		m, err := r.Read()
		if err != nil || m.Log == nil || m.Log.Text != "good" {
			t.Errorf("%s: the line after it: %+v, %v", name, m, err)
		}
	}
}

func TestHalfALineIsNoMessage(t *testing.T) {
	if m, err := NewReader(strings.NewReader(`{"log":{"text":"cut"}}`)).Read(); err != io.ErrUnexpectedEOF {
		t.Errorf("got %+v, %v; want unexpected EOF", m, err)
	}
}

func TestWriterRefusesWhatNoReaderTakes(t *testing.T) {
	var wire bytes.Buffer
	err := NewWriter(&wire).Write(Message{Log: &Log{Text: strings.Repeat("x", MaxLineBytes)}})
	if err == nil || wire.Len() != 0 {
		t.Errorf("got %v and %d bytes on the wire; want a refusal and none", err, wire.Len())
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"hello":{"boot_id":"a"}}` + "\n"))
	f.Add([]byte("{\n\n}\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		for range bytes.Count(in, []byte("\n")) + 2 {
			m, err := r.Read()
			if errors.Is(err, ErrMalformed) {
				continue
			}
			if err != nil {
				return
			}
			var wire bytes.Buffer
			if err := NewWriter(&wire).Write(m); err != nil {
				continue // escapes may make it longer than what came
			}
			again, err := NewReader(&wire).Read()
			if err != nil {
				t.Fatalf("own bytes are not read: %v", err)
			}
			if d := cmp.Diff(m, again); d != "" {
				t.Fatalf("round trip (-want +got):\n%s", d)
			}
		}
		t.Fatal("more messages than lines")
	})
}
