package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Detach runs a command line that brings a lab up and holds it, apart from this
// process and its terminal, and returns once the lab is ready. What the command
// says goes to the file at log.
func Detach(ctx context.Context, name string, argv []string, log string) error {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("detach lab: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("detach lab: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // ends with the command, or with us
	for {
		st, err := Status(ctx, name)
		if err == nil && st.Ready && st.PID == cmd.Process.Pid {
			return nil
		}
		select {
		case err := <-exited:
			return fmt.Errorf("lab %q did not come up: %v: %s", name, err, lastWords(log))
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for lab %q: %w", name, ctx.Err()), cmd.Process.Kill())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tail keeps the end of what init says, for the error that tells of its death.
type tail struct {
	mu   sync.Mutex
	kept []byte
	also io.Writer
}

const tailBytes = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - tailBytes; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	if t.also != nil {
		return t.also.Write(p)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(bytes.TrimSpace(t.kept)) == 0 {
		return ""
	}
	return "(" + strings.TrimSpace(string(t.kept)) + ")"
}
