package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/serve"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/ingot-metal/ingot/images/stack"
	"github.com/ingot-metal/ingot/images/store"
)

// startFleet runs a real serve, without a boot server, that expects r1u1,
// and more: ",{…}".
func startFleet(t *testing.T, more ...string) (contextFile string) {
	t.Helper()
	dir := t.TempDir()
	machines := filepath.Join(dir, "machines.json")
	if err := os.WriteFile(machines, []byte(`{"machines":[{"name":"r1u1","rack":"r1","unit":1,"serial":"S1","macs":["52:54:00:01:01:01"]}`+strings.Join(more, "")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	lines, done := make(chan string, 16), make(chan error, 1)
	go func() {
		done <- serve.Run(ctx, serve.Config{
			Lab: true, Data: filepath.Join(dir, "data"), Keys: filepath.Join(dir, "keys"), Policy: "open",
			Listen: "127.0.0.1:0", Machines: machines, Ready: func(l string) { lines <- l },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve ends: %v", err)
		}
	})
	for {
		select {
		case l := <-lines:
			if path, ok := strings.CutPrefix(l, "context   "); ok {
				return path
			}
		case err := <-done:
			done <- nil
			t.Fatalf("serve ends: %v", err)
		case <-time.After(30 * time.Second):
			t.Fatal("serve is not ready after 30 s")
		}
	}
}

// layout makes an OCI layout with one small stack, signed by new keys.
func layout(t *testing.T, keys string) string {
	t.Helper()
	k, err := sign.OpenOrCreate(keys, true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d, n, err := s.Put(bytes.NewReader([]byte("kernel")))
	if err != nil {
		t.Fatal(err)
	}
	a := images.Artifact{Digest: d, SizeBytes: n, MediaType: "a/b", Name: "k"}
	m := images.Manifest{Schema: images.ManifestSchema, Name: "tiny", Version: "1", Arch: "amd64", Deadline: images.Duration(time.Minute),
		Boot: images.Boot{Kernel: a, Initrds: []images.Artifact{a}}, Params: map[string]images.Param{"nonce": {Type: "string"}}}
	if _, err := stack.Add(s, m, k); err != nil {
		t.Fatal(err)
	}
	return s.Dir()
}

func TestAgainstARealFleet(t *testing.T) {
	env := map[string]string{"INGOT_CONTEXT": startFleet(t)}
	if st, err := os.Stat(env["INGOT_CONTEXT"]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the context file: %v, %v; want mode 0600", st.Mode(), err)
	}
	keys := filepath.Join(filepath.Dir(filepath.Dir(env["INGOT_CONTEXT"])), "keys")
	ours, theirs := layout(t, keys), layout(t, t.TempDir())
	for _, tt := range []struct {
		line string
		code int
		want string // in stdout, or in stderr when the code is not 0
	}{
		{"node list", exitOK, "r1u1"},
		{"why r1u1", exitOK, "never seen"},
		{"why s1 -o json", exitOK, `"verdict": "waits"`},
		{"why hello", exitNotFound, "services: none"},
		{"why r1u1/hello", exitNotFound, "known: none"},
		{"node show 52-54-00-01-01-01", exitOK, "rack r1, unit 1"},
		{"node show s1 -o yaml", exitOK, "name: r1u1"},
		{"node show r9u9", exitNotFound, "known: r1u1"},
		{"node events r1u1", exitOK, ""},
		{"node power on r1u1 --via redfish", exitRefused, "power on r1u1: refused: no-bmc"},
		{"node vm stop r1u1 vm0", exitNotFound, "not seen yet"},
		{"node wait r1u1 --for running --timeout 300ms", exitTimeout, "the time is up"},
		{"stack list --fleet", exitOK, "STACK"},
		{"stack show tiny --stacks " + ours + " --keys " + keys, exitOK, "by an operator of these keys"},
		{"stack show tiny --stacks " + theirs + " --keys " + keys, exitOK, "NO: "},
		{"assign r1u1 other --stacks " + ours, exitNotFound, "known: tiny:1"},
		{"assign r1u1 tiny --stacks " + theirs, exitRefused, "signature-invalid"},
		{"assign r1u1 tiny --stacks " + ours, exitFailed, "power it on"},
		{"stack list --fleet -o json", exitOK, `"ref": "tiny:1"`},
		{"stack sign tiny --stacks " + theirs + " --keys " + keys, exitOK, "just now"},
		{"assign r1u1 tiny --stacks " + theirs, exitFailed, "power it on"},
		{"node approve", exitUsage, "want one NODE"},
		{"node approve r9u9", exitNotFound, "known: r1u1"},
		{"node revoke r1u1", exitRefused, "not-enrolled"},
		{"node approve r1u1 --note " + strings.Repeat("x", 300), exitRefused, "at most 256"},
		{"node reject r1u1 --note wrong-rack", exitOK, "rejected"},
		{"node approve r1u1 --note right-rack -o json", exitOK, `"ok": true`},
		{"node approve s1", exitOK, "approved"},
		{"audit", exitOK, "(wrong-rack)"},
		{"audit", exitOK, "command approve: command-malformed"},
		{"audit -o json", exitOK, `"kind":"approved"`},
	} {
		code, stdout, stderr := try(t, env, strings.Fields(tt.line)...)
		said := stdout
		if tt.code != exitOK {
			said = stderr
		}
		if code != tt.code || !strings.Contains(said, tt.want) {
			t.Errorf("ingot %s = %d, stdout %q, stderr %q; want %d and %q", tt.line, code, stdout, stderr, tt.code, tt.want)
		}
	}
}

func TestNodeListAsJSON(t *testing.T) {
	env := map[string]string{"INGOT_CONTEXT": startFleet(t)}
	_, stdout, _ := try(t, env, "node", "list", "-o", "json")
	var nodes []struct {
		Machine fleet.Machine `json:"machine"`
	}
	if err := json.Unmarshal([]byte(stdout), &nodes); err != nil || len(nodes) != 1 || nodes[0].Machine.Name != "r1u1" {
		t.Errorf("ingot node list -o json = %q, %v; want the one machine", stdout, err)
	}
}

// "ingot why" of a server whose BMC does not answer: all is said on stdout, and
// the exit code says that something is wrong.
func TestWhySaysByItsExitCode(t *testing.T) {
	env := map[string]string{"INGOT_CONTEXT": startFleet(t, `,{"name":"r1u3","serial":"S3","bmc":{"ipmi":"127.0.0.1:1"}}`)}
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		code, stdout, stderr := try(t, env, "why", "r1u3")
		if code == exitWrong && strings.Contains(stdout, "bmc-silent") && strings.Contains(stdout, "What to do") && stderr == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("ingot why r1u3 = %d, stdout %q, stderr %q; want %d and bmc-silent", code, stdout, stderr, exitWrong)
		}
	}
	code, stdout, _ := try(t, env, "why", "r1u3", "-o", "json")
	var w struct {
		Verdict string         `json:"verdict"`
		Reasons []fleet.Reason `json:"reasons"`
	}
	if err := json.Unmarshal([]byte(stdout), &w); err != nil || code != exitWrong || w.Verdict != "wrong" || len(w.Reasons) != 1 || w.Reasons[0].Code != fleet.ReasonBMCSilent {
		t.Errorf("ingot why r1u3 -o json = %d, %v, %s; want wrong for bmc-silent", code, err, stdout)
	}
}
