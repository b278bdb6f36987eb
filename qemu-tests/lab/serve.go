package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	serveReady = 60 * time.Second
	serveGrace = 5 * time.Second
	lastBytes  = 2048
)

// child is `ingot serve`, an ordinary process of the lab.
type child struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
	err    error // valid once exited is closed
}

// startServe starts `ingot serve`, if the lab has one, and waits until it
// answers.
func (r *room) startServe(ctx context.Context) error {
	argv := r.setup.Options.Serve
	if len(argv) == 0 {
		return nil
	}
	c := &child{log: r.logPath(serveLogName), exited: make(chan struct{})}
	how := os.O_CREATE | os.O_APPEND | os.O_WRONLY
	if r.served() == nil {
		how |= os.O_TRUNC
	}
	out, err := os.OpenFile(c.log, how, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of ingot serve: %w", err)
	}
	defer out.Close()
	c.cmd = exec.Command(argv[0], argv[1:]...)
	c.cmd.Stdout, c.cmd.Stderr = out, out
	c.cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(stateDir, "tmp"))
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start ingot serve: %w", err)
	}
	go func() { c.err = c.cmd.Wait(); close(c.exited) }()
	r.serveMu.Lock()
	r.serve = c
	r.serveMu.Unlock()
	return c.ready(ctx)
}

// served is `ingot serve` as it was started last; nil where there is none.
func (r *room) served() *child {
	r.serveMu.Lock()
	defer r.serveMu.Unlock()
	return r.serve
}

// switchServe kills `ingot serve`, as a power cut does, or starts it again over
// the data that it left, and waits until it answers.
func (r *room) switchServe(ctx context.Context, kill bool) *answer {
	c := r.served()
	if c == nil {
		return &answer{Error: "this lab has no ingot serve"}
	}
	runs := c.status().Running
	var err error
	switch {
	case kill && runs:
		err = c.cmd.Process.Kill()
		<-c.exited
		// It is written anew once the next one is ready.
		err = errors.Join(err, os.Remove(ContextFile))
	case !kill && !runs:
		err = r.startServe(ctx)
	}
	r.log.Info("serve", "killed", kill, "err", err)
	if err != nil {
		return &answer{Error: err.Error()}
	}
	return &answer{}
}

// SwitchServe kills a lab's `ingot serve`, or starts it again.
func SwitchServe(ctx context.Context, name string, kill bool) error {
	conn, _, _, err := ask(ctx, name, request{Do: "serve", Cut: kill})
	if err != nil {
		return err
	}
	return conn.Close()
}

// ready waits until serve listens and has written its context file.
func (c *child) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, serveReady)
	defer cancel()
	for {
		err := answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.exited:
			return fmt.Errorf("ingot serve has ended: %v\n%s", c.err, lastWords(c.log))
		case <-ctx.Done():
			return fmt.Errorf("wait for ingot serve: %v after %s: %v\n%s", ctx.Err(), serveReady, err, lastWords(c.log))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func answers(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", serveAddress, httpPort))
	if err != nil {
		return err
	}
	_ = conn.Close()
	_, err = os.Stat(ContextFile) // written once the bus is ready
	return err
}

// lastWords is the end of a log.
func lastWords(log string) string {
	content, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-lastBytes):])
}

func (c *child) status() ServeStatus {
	st := ServeStatus{Running: true, Log: c.log}
	select {
	case <-c.exited:
		st.Running, st.Exit = false, fmt.Sprint(c.err)
	default:
	}
	return st
}

// stop asks serve to end, and ends it.
func (c *child) stop() {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return
	}
	select {
	case <-c.exited:
	case <-time.After(serveGrace):
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}
