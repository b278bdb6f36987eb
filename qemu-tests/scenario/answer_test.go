package scenario

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
)

func good() Outcome {
	const image, stack = images.Digest("sha256:aa"), images.Digest("sha256:bb")
	return Outcome{
		Server: Server{Name: "r1u1"}, Node: "n-1", Nonce: "fresh", Digest: stack,
		Answer: Answer{Service: "hello", ContainerID: "c1", ImageDigest: string(image), VM: "vm0", VMBootID: "boot-vm", Node: "n-1", Nonce: "fresh", StackDigest: string(stack)},
		Manifest: images.Manifest{
			Containers: []images.Container{{Name: "web", ImageDigest: image}},
			Services:   []images.Service{{Name: "hello", Container: "web"}},
		},
		Status: fleet.Status{Layers: []fleet.Layer{
			{Layer: fleet.LayerHost, Name: "vm0", Facts: map[string]string{"boot_id": "boot-host"}},
			{Layer: fleet.LayerVM, Name: "vm0", Facts: map[string]string{"boot_id": "boot-vm"}},
		}},
	}
}

// Each answer that is wrong in one thing goes red, and says in which.
func TestCheckGoesRed(t *testing.T) {
	if err := good().Check(); err != nil {
		t.Fatalf("a good answer is refused: %v", err)
	}
	for want, spoil := range map[string]func(*Outcome){
		"nonce":                    func(o *Outcome) { o.Answer.Nonce = "stale" },
		"nonce is \"\"":            func(o *Outcome) { o.Answer.Nonce, o.Nonce = "", "" },
		"node is":                  func(o *Outcome) { o.Answer.Node = "n-2" },
		"image_digest":             func(o *Outcome) { o.Answer.ImageDigest = "sha256:cc" },
		"stack_digest":             func(o *Outcome) { o.Answer.StackDigest = "sha256:cc" },
		"container_id":             func(o *Outcome) { o.Answer.ContainerID = "" },
		"vm_boot_id is \"boot-h":   func(o *Outcome) { o.Answer.VMBootID = "boot-host" },
		"without a boot_id":        func(o *Outcome) { o.Status.Layers[1].Facts = nil },
		"reported no VM \"vm1\"":   func(o *Outcome) { o.Answer.VM = "vm1" },
		"not in the manifest":      func(o *Outcome) { o.Answer.Service = "other" },
		"is \"\", the resident re": func(o *Outcome) { o.Answer.VMBootID = "" },
	} {
		o := good()
		spoil(&o)
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check() = %v; want it to say %q", err, want)
		}
	}
}

func TestAskWaitsForAnAnswer(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte(`{"nonce":"fresh"}`)) //nolint:errcheck // the client checks it
	}))
	defer s.Close()
	_, a, err := Ask(t.Context(), s.URL)
	if err != nil || a.Nonce != "fresh" || asked.Load() != 3 {
		t.Errorf("Ask = %+v, %v after %d questions; want the third answer", a, err, asked.Load())
	}
}

func TestSilentIsNotSaidOfAServiceThatAnswers(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := Silent(ctx, s.URL); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Silent of a service that answers = %v; want the deadline", err)
	}
	s.Close()
	if err := Silent(t.Context(), s.URL); err != nil {
		t.Errorf("Silent of a service that is gone = %v", err)
	}
}
