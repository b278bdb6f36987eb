package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/images"
)

func TestImageRefWantsTheDigest(t *testing.T) {
	good, other := images.DigestOf([]byte("good")), images.DigestOf([]byte("other"))
	output := "unpacking ingot.local/other:1 (" + string(other) + ")...done\nunpacking ingot.local/hello:1 (" + string(good) + ")...done\n"
	if ref, err := imageRef(output, good); err != nil || ref != "ingot.local/hello:1" {
		t.Errorf("imageRef = %q, %v", ref, err)
	}
	want := images.DigestOf([]byte("absent"))
	_, err := imageRef(output, want)
	if err == nil || !strings.Contains(err.Error(), string(good)) || !strings.Contains(err.Error(), string(want)) {
		t.Errorf("%v; want an error with the digest that is wanted and those that are there", err)
	}
	if _, err := imageRef("", good); err == nil {
		t.Error("no image at all was taken")
	}
}

// PID 1 reaps what others left and leaves its own children to who waits.
func TestReapLeavesOwnChildren(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatalf("become the reaper of orphans: %v", err)
	}
	defer func() {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
			t.Error(err)
		}
	}()
	p := newProcs()
	own := exec.Command("sh", "-c", "exit 7")
	if err := p.start(own); err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	parent := exec.Command("sh", "-c", `sh -c 'echo $$ > "$0.new"; mv "$0.new" "$0"; exit 3' "$0" & exit 0`, pidFile)
	if err := parent.Run(); err != nil {
		t.Fatal(err)
	}
	var orphan int
	for end := time.Now().Add(10 * time.Second); orphan == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(pidFile); err == nil {
			orphan, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		}
	}
	gone := func() bool { return unix.Kill(orphan, 0) == unix.ESRCH }
	for end := time.Now().Add(10 * time.Second); !gone() && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		p.reap()
	}
	if orphan == 0 || !gone() {
		t.Errorf("orphan %d is there still", orphan)
	}
	var exit *exec.ExitError
	if err := p.wait(own); err == nil || !asExit(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("own child ended with %v; want status 7", err)
	}
}

func asExit(err error, e **exec.ExitError) bool {
	var ok bool
	*e, ok = err.(*exec.ExitError)
	return ok
}

func TestTailBufferKeepsTheEnd(t *testing.T) {
	var b tailBuffer
	for range 1000 {
		if _, err := b.Write([]byte("some line of output\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Write([]byte("the cause")); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); len(s) > 3*tailBytes || !strings.HasSuffix(s, "the cause") {
		t.Errorf("%d bytes that end with %q", len(s), s[max(0, len(s)-20):])
	}
}
