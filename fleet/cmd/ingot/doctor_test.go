package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/ingot-metal/ingot/qemu-tests/lab"
)

func TestMain(m *testing.M) {
	lab.MaybeInit() // the doctor tries namespaces with this very program
	os.Exit(m.Run())
}

// The doctor of a clean clone names what is not built, each with its line, and
// fails; `lab up` says the same without what is in order.
func TestDoctorOfACleanClone(t *testing.T) {
	build := t.TempDir()
	code, stdout, stderr := try(t, nil, "lab", "doctor", "--accel", "tcg", "--build", build, "-o", "json")
	var d diagnosis
	if err := json.Unmarshal([]byte(stdout), &d); err != nil {
		t.Fatalf("lab doctor -o json: %v: %q", err, stdout)
	}
	if code != exitFailed || d.OK || !strings.Contains(stderr, "tools, image, stack") {
		t.Errorf("lab doctor = %d, ok %v, %q; want 1 and what is missing", code, d.OK, stderr)
	}
	states := map[string]lab.Check{}
	for _, c := range d.Checks {
		states[c.Name] = c
		if c.State == lab.StateMissing && c.Mend == "" {
			t.Errorf("%v: no line mends it", c)
		}
	}
	for name, mend := range map[string]string{"tools": "make build/tools/.stamp", "image": "make image", "stack": "make stack"} {
		if c := states[name]; c.State != lab.StateMissing || c.Mend != mend {
			t.Errorf("%s: %v; want it missing, and %q", name, c, mend)
		}
	}
	_, page, _ := try(t, nil, "lab", "doctor", "--accel", "tcg", "--build", build)
	if !strings.Contains(page, "What mends it:") || !strings.Contains(page, "make image") || !strings.Contains(page, "platform") {
		t.Errorf("lab doctor = %s; want all checks and what mends them", page)
	}
	code, _, stderr = try(t, nil, "lab", "up", "--build", build)
	if code == exitOK || !strings.Contains(stderr, "make stack") || strings.Contains(stderr, "platform") {
		t.Errorf("lab up = %d, %q; want what is missing alone", code, stderr)
	}
}

// What the kernel says of a bad start is followed by what to do about it.
func TestExplainServe(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{syscall.EADDRINUSE, "choose another with --nats-listen or --http-port"},
		{syscall.EADDRNOTAVAIL, "no interface of this machine"},
		{syscall.ENOSPC, "make room there"},
		{syscall.EROFS, "a disk that can be written"},
		{syscall.EACCES, "--data"},
	} {
		err := explainServe(fmt.Errorf("start: %w", tt.err))
		if !strings.Contains(err.Error(), "start: ") || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %q; want it to say %q", tt.err, err, tt.want)
		}
	}
}
