package agent

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
)

// TestRefusals: a stack that this server does not boot is refused once, with
// the reason that the status will carry; nothing of it is left, and the agent
// waits for another grant instead of trying again.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *server, b blobs)
		want   fleet.ReasonCode
	}{
		{"an image with one bit turned", func(s *server, b blobs) {
			d := s.verified.Manifest.Boot.Initrds[0].Digest
			b[d] = bytes.Clone(b[d])
			b[d][len(b[d])/2] ^= 1
		}, fleet.ReasonDigestMismatch},
		{"an image cut short", func(s *server, b blobs) {
			d := s.verified.Manifest.Boot.Initrds[0].Digest
			b[d] = b[d][:len(b[d])-1]
		}, fleet.ReasonDigestMismatch},
		{"an image that is not there", func(s *server, b blobs) {
			delete(b, s.verified.Manifest.Boot.Initrds[0].Digest)
		}, fleet.ReasonArtifactAbsent},
		{"another architecture", func(s *server, _ blobs) { s.inventory.Kernel.Arch = "arm64" }, "arch-mismatch"},
		{"too big for the memory", func(s *server, _ blobs) { s.inventory.Memory.SizeBytes = 128 << 20 }, "memory-too-small"},
		{"bigger than the memory by its own word", func(s *server, _ blobs) { s.verified.Manifest.MemoryBytes = 16 << 30 }, "memory-too-small"},
		{"a parameter that nobody knows", func(s *server, _ blobs) { s.verified.Grant.Params = map[string]string{"colour": "red"} }, "params-invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, b := grantedServer(t)
			tt.change(s, b)
			srv := httptest.NewServer(b)
			defer srv.Close()
			s.trust.HTTP = srv.URL
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			grants := 0
			table := []phase{
				{"grant", 0, retry, func(_ *server, ctx context.Context) error {
					if grants++; grants > 1 {
						cancel() // it waits for another one
						<-ctx.Done()
					}
					return nil
				}},
				{"plan", 0, retry, (*server).makePlan},
				{"fetch", 0, retry, (*server).fetch},
				{"jump", 0, retry, func(*server, context.Context) error { return errors.New("it boots") }},
			}
			var heard told
			if err := runPhases(ctx, table, "grant", s, &heard); !errors.Is(err, context.Canceled) {
				t.Errorf("runPhases = %v; want it to wait for another grant", err)
			}
			if d := cmp.Diff([]fleet.ReasonCode{tt.want}, heard.reasons); d != "" || len(heard.waited) > 0 {
				t.Errorf("refusals (-want +got):\n%s\nit tried again for %q", d, heard.waited)
			}
			if fleet.ReasonCode.Hint(tt.want) == "" {
				t.Errorf("nothing says what to do about %s", tt.want)
			}
			if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s stands there after a refusal (%v); want it gone", s.dir, err)
			}
		})
	}
	s, b := grantedServer(t)
	srv := httptest.NewServer(b)
	defer srv.Close()
	s.trust.HTTP = srv.URL
	if err := errors.Join(s.makePlan(t.Context()), s.fetch(t.Context())); err != nil {
		t.Errorf("a sound stack: %v", err)
	}
}

// told is a reporter that keeps the reasons of refusals, and what was tried
// again.
type told struct {
	reasons []fleet.ReasonCode
	waited  []string
}

func (*told) begins(string)                                {}
func (*told) done(string, time.Duration, error)            {}
func (h *told) waits(_ string, err error, _ time.Duration) { h.waited = append(h.waited, err.Error()) }
func (h *told) refused(_ string, r *refusal)               { h.reasons = append(h.reasons, r.reason) }

// grantedServer has verified a grant of a small stack, whose files b has.
func grantedServer(t *testing.T) (*server, blobs) {
	t.Helper()
	seed, _, err := uplink.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	up, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-one", Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	b := blobs{}
	m := images.Manifest{
		Schema: images.ManifestSchema, Name: "small", Version: "1", Arch: "amd64", Deadline: images.Duration(time.Minute),
		Boot: images.Boot{Kernel: b.add("vmlinuz", []byte("kernel")), Initrds: []images.Artifact{b.add("initrd", bytes.Repeat([]byte("initrd"), 1000))}},
	}
	s := &server{host: &host.Host{Console: &host.Console{}}, up: up, dir: filepath.Join(t.TempDir(), "stack")}
	s.inventory = hardware.Inventory{Schema: hardware.InventorySchema, Memory: hardware.Memory{SizeBytes: 2 << 30}, Kernel: hardware.Kernel{Arch: "amd64"}}
	s.verified.Manifest = m
	return s, b
}
