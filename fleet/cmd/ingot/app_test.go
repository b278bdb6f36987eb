package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/serve"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
)

// try runs one command line in a world without home, lab and context.
func try(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := newApp(&out, &errs, func(k string) string { return env[k] })
	code = a.run(t.Context(), args)
	return code, out.String(), errs.String()
}

func TestWrongCommandLines(t *testing.T) {
	for _, line := range []string{
		"nod", "node lst", "node show", "node show a b", "node power on", "node wait a --for nonsense", "node power on a --via telnet", "node power up a",
		"assign r1u1", "assign r1u1 hello --param nonce", "assign r1u1 hello --param a=1 --param a=2", "assign r1u1 hello --count -1",
		"version -o xml", "version extra", "serve --policy open", "serve --policy none", "serve --nats-listen nowhere", "serve --http-port 0",
		"--context a --lab b node list", "lab up there", "lab up --accel xen", "lab up --servers mainframe", "lab up --port http", "lab doctor now", "stack show", "--nonsense", "node vm stop r1u1", "why", "why a b", "explain a b",
		"hardware diff a", "hardware diff - -", "node diff", "node diff a --boot first", "node findings a --severity bad", "node show a --inventory --readings", "baseline accept", "baseline drop a", "expected import", "expected list a",
	} {
		code, stdout, stderr := try(t, nil, strings.Fields(line)...)
		if code != exitUsage {
			t.Errorf("ingot %s: exit code %d, want %d; stderr %q", line, code, exitUsage, stderr)
		}
		if !strings.Contains(stderr, "--help") || stdout != "" {
			t.Errorf("ingot %s: stderr %q does not lead to the help, or stdout %q is not empty", line, stderr, stdout)
		}
	}
}

func TestCodesOfErrors(t *testing.T) {
	interrupted, stop := context.WithCancel(t.Context())
	stop()
	for _, tt := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{t.Context(), errors.New("any"), exitFailed},
		{t.Context(), usagef("wrong"), exitUsage},
		{t.Context(), fmt.Errorf("node: %w", operator.ErrNotFound), exitNotFound},
		{t.Context(), fmt.Errorf("read: %w", fs.ErrNotExist), exitNotFound},
		{t.Context(), fmt.Errorf("wait: %w", context.DeadlineExceeded), exitTimeout},
		{t.Context(), fmt.Errorf("power: %w", &operator.RefusedError{What: "on"}), exitRefused},
		{t.Context(), fmt.Errorf("connect: %w", operator.ErrUnreachable), exitUnreachable},
		{t.Context(), errNoContext, exitUnreachable},
		{t.Context(), errWrong, exitWrong},
		{t.Context(), fmt.Errorf("lab: %w", lab.ErrNotUp), exitUnreachable},
		{interrupted, fmt.Errorf("wait: %w", context.Canceled), exitInterrupted},
	} {
		if got := exitCode(tt.ctx, tt.err); got != tt.want {
			t.Errorf("exitCode(%v) = %d; want %d", tt.err, got, tt.want)
		}
	}
}

func TestExitCodesAreExplained(t *testing.T) {
	code, stdout, _ := try(t, nil, "help", "exit-codes")
	if code != 0 || !strings.Contains(stdout, "refused") {
		t.Errorf("ingot help exit-codes = %d, %q", code, stdout)
	}
}

func TestVersion(t *testing.T) {
	for _, format := range []string{"json", "yaml", "table"} {
		code, stdout, stderr := try(t, nil, "version", "-o", format)
		if code != 0 || !strings.Contains(stdout, "go1.") {
			t.Errorf("ingot version -o %s = %d, %q, %q", format, code, stdout, stderr)
		}
		if format == "json" && !json.Valid([]byte(stdout)) {
			t.Errorf("ingot version -o json: %q", stdout)
		}
	}
}

func TestWhichFleetIsMeant(t *testing.T) {
	dir := t.TempDir()
	write := func(name, schema string) string {
		path := filepath.Join(dir, name, "ingot", "context.json")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(fleet.OperatorContext{Schema: schema, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flagged, fromEnv := write("flag", serve.ContextSchema), write("env", serve.ContextSchema)
	write("xdg", serve.ContextSchema)
	stale := write("stale", "ingot.context/v0")
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(filepath.Join(home, ".config"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Dir(write("homed", serve.ContextSchema)), filepath.Join(home, ".config", "ingot")); err != nil {
		t.Fatal(err)
	}
	if _, err := lab.Status(t.Context(), "default"); !errors.Is(err, lab.ErrNotUp) {
		t.Skip("a lab named default is up on this machine and would be meant")
	}
	for _, tt := range []struct {
		name, file string
		env        map[string]string
		want       string
		code       int
	}{
		{"the flag goes first", flagged, map[string]string{"INGOT_CONTEXT": fromEnv, "XDG_CONFIG_HOME": filepath.Join(dir, "xdg")}, "flag", 0},
		{"then the variable", "", map[string]string{"INGOT_CONTEXT": fromEnv, "XDG_CONFIG_HOME": filepath.Join(dir, "xdg")}, "env", 0},
		{"then the user's file", "", map[string]string{"XDG_CONFIG_HOME": filepath.Join(dir, "xdg"), "HOME": home}, "xdg", 0},
		{"or the one at home", "", map[string]string{"HOME": home}, "homed", 0},
		{"none", "", map[string]string{"HOME": dir}, "", exitUnreachable},
		{"a file that is not there", filepath.Join(dir, "no"), nil, "", exitNotFound},
		{"a variable that leads nowhere is not passed over", "", map[string]string{"INGOT_CONTEXT": filepath.Join(dir, "no"), "HOME": home}, "", exitNotFound},
		{"a file of another version", stale, nil, "", exitFailed},
	} {
		a := newApp(nil, nil, func(k string) string { return tt.env[k] })
		a.contextFile = tt.file
		oc, err := a.fleetContext(t.Context())
		if code := codeOf(t, err); code != tt.code || code == 0 && oc.Name != tt.want {
			t.Errorf("%s: context %q, %v; want %q and code %d", tt.name, oc.Name, err, tt.want, tt.code)
		}
	}
}

func codeOf(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	return exitCode(t.Context(), err)
}

func TestPickStack(t *testing.T) {
	entry := func(ref, payload string) fleet.StackEntry {
		return fleet.StackEntry{Ref: ref, Stack: images.Envelope{Payload: []byte(payload)}}
	}
	one, two, other := entry("hello:1", "a"), entry("hello:2", "b"), entry("db:1", "c")
	all := []fleet.StackEntry{one, two, other, other}
	for _, tt := range []struct {
		ref, want string
		code      int
	}{
		{"hello:2", "hello:2", 0}, {"db", "db:1", 0}, {string(images.DigestOf([]byte("a"))), "hello:1", 0},
		{images.DigestOf([]byte("b")).Short(), "hello:2", 0},
		{"hello", "", exitUsage}, {"web", "", exitNotFound}, {"", "", exitNotFound},
	} {
		e, err := pickStack(all, tt.ref)
		if code := codeOf(t, err); code != tt.code || e.Ref != tt.want {
			t.Errorf("pickStack(%q) = %q, %v; want %q and code %d", tt.ref, e.Ref, err, tt.want, tt.code)
		}
	}
}

func TestParams(t *testing.T) {
	got, err := parseParams([]string{"nonce=a=b", "empty="})
	if d := cmp.Diff(map[string]string{"nonce": "a=b", "empty": ""}, got); d != "" || err != nil {
		t.Errorf("parseParams (-want +got), %v:\n%s", err, d)
	}
}

// A bad start says in one line what is wrong and what makes it right.
func TestBadStarts(t *testing.T) {
	dir := t.TempDir()
	files, typo := t.TempDir(), filepath.Join(t.TempDir(), "context.json")
	for _, f := range []string{"agent/" + kernelFile, "agent/" + initramfsFile, "tools/usr/lib/ipxe/undionly.kpxe", "tools/usr/lib/ipxe/snponly.efi"} {
		path := filepath.Join(files, f)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(typo, []byte("{\n\"schema\": \""+serve.ContextSchema+"\",\n\"sead\": \"x\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ line, want string }{
		{"serve --data " + dir + "/d --interface lo --boot-files " + dir, "make image"},
		{"serve --data " + dir + "/d --machines " + dir + "/none.json", "none.json"},
		{"serve --data " + dir + "/d --stacks " + dir + "/none", "make stack"},
		{"serve --data /proc/none", "data directory"},
		{"lab up --build " + dir, "make"},
		{"serve --data /etc/hostname", "name another with --data"},
		{"serve --data " + dir + "/d --interface none0 --boot-files " + files, "this machine has lo"},
		{"node list --context " + typo, typo + ` line 3: key "sead" is not known here: want schema, name, bus, seed`},
		{"stack list --stacks " + dir + "/none", "make stack"},
		{"stack show hello --stacks " + dir, dir + " is none"},
	} {
		code, _, stderr := try(t, nil, strings.Fields(tt.line)...)
		if code == 0 || !strings.Contains(stderr, tt.want) {
			t.Errorf("ingot %s = %d, %q; want it to say %q", tt.line, code, stderr, tt.want)
		}
		if said := strings.TrimSpace(stderr); strings.Contains(said, "\n") && !strings.HasPrefix(tt.line, "lab up") {
			t.Errorf("ingot %s says %q; want one sentence", tt.line, said)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 1 { // serve's data, with its keys
		t.Errorf("bad starts left %v, %v", left, err)
	}
}
