package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
	"github.com/ingot-metal/ingot/qemu-tests/scenario"
)

// Options say what to test.
type Options struct {
	// Ingot is the operator's binary.
	Ingot string
	// Build is the directory with agent, tools, stacks and keys.
	Build string
	// Stack is the reference of the stack.
	Stack string
	// Out is where result.json, consoles and logs go.
	Out string
	// Deadline bounds the whole.
	Deadline time.Duration
	// Stdout is told what goes on.
	Stdout io.Writer
	// NoBreaking leaves out the second half.
	NoBreaking bool
	// Policy is control's: open, or approve, where an operator lets each server
	// in and throws one out at the end.
	Policy string
	// Cluster runs the job on a bus of three servers, of which one after the
	// other is killed while it goes on.
	Cluster bool
	// BadLuck runs another job: power, bus and cables fail in every phase.
	BadLuck bool
}

// lab names are of this process, so that a lab of a person's goes on beside.
func labName() string { return fmt.Sprintf("e2e-%d", os.Getpid()) }

const endGrace = 20 * time.Second

// Run does the whole. Its error says all that does not hold.
func Run(ctx context.Context, o Options) (err error) {
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", o.Out, err)
	}
	result := filepath.Join(o.Out, "result.json")
	if err := os.Remove(result); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the last result: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Deadline)
	defer cancel()
	r := &run{o: o, start: time.Now()}
	if err := r.up(ctx); err != nil {
		return errors.Join(err, r.down())
	}
	defer func() { err = errors.Join(err, r.down()) }()
	if o.BadLuck {
		err = r.badLuck(ctx)
	} else {
		err = r.test(ctx)
	}
	r.result.Seconds = time.Since(r.start).Seconds()
	r.result.OK = err == nil
	if err != nil {
		r.result.Error = err.Error()
		r.explain()
	}
	return errors.Join(err, r.result.write(result))
}

// run is one run of the test.
type run struct {
	o      Options
	start  time.Time
	cmd    *exec.Cmd
	exited chan error
	status *lab.LabStatus
	client *operator.Client
	// reconciler is the nkey of the controller that will be captured.
	reconciler nkeys.KeyPair
	result     Result

	mu sync.Mutex // guards Stdout
}

func (r *run) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.o.Stdout, "%7.1fs  %s\n", time.Since(r.start).Seconds(), fmt.Sprintf(format, args...))
}

// up starts the lab by the operator's binary and waits until it says that it is
// up.
func (r *run) up(ctx context.Context) error {
	var err error
	if r.reconciler, err = nkeys.CreateUser(); err != nil {
		return fmt.Errorf("make an nkey: %v", err)
	}
	public, err := r.reconciler.PublicKey()
	if err != nil {
		return fmt.Errorf("make an nkey: %v", err)
	}
	r.say("ingot lab up")
	cmd := exec.Command(r.o.Ingot, "lab", "up", "--lab", labName(), "--build", r.o.Build, "--logs", r.o.Out, "--reconciler", public, "--bus", r.o.bus(), "--policy", r.o.Policy, "-o", "json")
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start the lab: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the lab: %w (make build makes the binary)", err)
	}
	r.cmd, r.exited = cmd, make(chan error, 1)
	ready := make(chan error, 1)
	go func() {
		ready <- json.NewDecoder(out).Decode(&r.status)
		io.Copy(io.Discard, out) //nolint:errcheck // it ends with the process
		r.exited <- cmd.Wait()
	}()
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("wait for the lab: %w", err), r.down(), fmt.Errorf("the lab said: %s", strings.TrimSpace(said.String())))
	}
	oc, err := scenario.Context(ctx, labName())
	if err != nil {
		return err
	}
	r.client, err = operator.Connect(oc, nil)
	return err
}

// down ends the lab as Ctrl-C would, and by force when that does not do.
func (r *run) down() error {
	if r.client != nil {
		r.client.Close()
		r.client = nil
	}
	if r.cmd == nil {
		return nil
	}
	cmd := r.cmd
	r.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end the lab: %w", err)
	}
	select {
	case <-r.exited:
	case <-time.After(endGrace):
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("end the lab by force: %w", err)
		}
		<-r.exited
		return fmt.Errorf("end the lab: it did not end within %v of Ctrl-C", endGrace)
	}
	if _, err := lab.Status(context.Background(), labName()); !errors.Is(err, lab.ErrNotUp) {
		return fmt.Errorf("end the lab: something of it still answers: %v", err)
	}
	return nil
}

// ingot runs one command of the operator's, and tells which.
func (r *run) ingot(ctx context.Context, args ...string) error {
	r.say("$ ingot %s", strings.Join(args, " "))
	return scenario.Ingot(r.o.Ingot, labName())(ctx, args...)
}

func (r *run) job() scenario.Job {
	return scenario.Job{
		Client: r.client, Servers: scenario.Servers(r.status), Stack: r.o.Stack, Ingot: r.ingot, Approve: r.o.Policy == "approve",
		Say: func(line string) { r.say("%s", strings.TrimSpace(line)) },
	}
}

// bus is the kind of the bus as `ingot lab up` calls it.
func (o Options) bus() string {
	if o.Cluster {
		return "cluster"
	}
	return "embedded"
}

// work does the job; on a cluster while its servers are lost.
func (r *run) work(ctx context.Context) ([]scenario.Outcome, error) {
	if !r.o.Cluster {
		return r.job().Run(ctx)
	}
	losing, stop := context.WithCancel(ctx)
	defer stop()
	type lost struct {
		times int
		err   error
	}
	done := make(chan lost, 1)
	go func() {
		n, err := r.loseServers(losing)
		done <- lost{n, err}
	}()
	outcomes, err := r.job().Run(ctx)
	stop()
	l := <-done
	if l.err == nil && l.times < 3 {
		l.err = fmt.Errorf("the bus lost a server %d times, want each of the three at least once", l.times)
	}
	r.say("the bus lost a server %d times", l.times)
	return outcomes, errors.Join(err, l.err)
}

func (r *run) test(ctx context.Context) error {
	outcomes, err := r.work(ctx)
	var errs []error
	for _, o := range outcomes {
		n, nerr := r.node(ctx, o)
		errs = append(errs, nerr)
		r.result.Nodes = append(r.result.Nodes, n)
	}
	r.result.JobSeconds = time.Since(r.start).Seconds()
	if err != nil {
		return errors.Join(append([]error{err}, errs...)...)
	}
	for _, o := range outcomes {
		errs = append(errs, o.Check())
	}
	errs = append(errs, r.unbrokenNodes(ctx))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.say("both services answer, and each answer holds")
	if err := r.ingot(ctx, "why", outcomes[0].Name); err != nil {
		return fmt.Errorf("ask why of a server that runs: %w", err)
	}
	if r.o.Policy == "approve" {
		if err := r.throwOut(ctx, outcomes[1]); err != nil {
			return err
		}
	}
	if r.o.NoBreaking {
		return nil
	}
	return r.breakThings(ctx, outcomes)
}

// node prints a server's timeline and returns its part of the result.
func (r *run) node(ctx context.Context, o scenario.Outcome) (Node, error) {
	n := Node{Name: o.Name, ID: string(o.Node), Serial: o.Serial, Via: o.Via, Nonce: o.Nonce, Seconds: o.Took.Seconds()}
	if json.Valid(o.Raw) {
		n.Answer = json.RawMessage(o.Raw)
	}
	// What the bus keeps is read even where the deadline has passed.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	t, err := r.client.Find(ctx, o.Name)
	if err != nil {
		return n, err
	}
	records, err := r.client.Events(ctx, t)
	if err != nil {
		return n, err
	}
	var attempt int64
	if t.Status != nil {
		attempt = t.Status.Attempt
	}
	lines := render.Timeline(render.Attempt(operator.Aligned(records), attempt))
	for _, l := range lines {
		n.Steps = append(n.Steps, Step{Step: l.Step, Start: l.Start, Seconds: l.Seconds, Text: l.Text})
	}
	if !o.Answered.IsZero() && len(lines) > 0 {
		last := lines[len(lines)-1].Time
		n.Steps = append(n.Steps, Step{Step: "client.answer", Start: last, Seconds: o.Answered.Sub(last).Seconds(), Text: "the service answered " + o.URL})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.o.Stdout, "\n%s, node %s, serial %s, powered on over %s\n%s\n", o.Name, o.Node, o.Serial, o.Via, render.Lines(render.Style{}, render.Brief(lines)))
	return n, nil
}

// explain prints what helps to see why it went wrong. The consoles stand in the
// output directory already.
func (r *run) explain() {
	logs, err := filepath.Glob(filepath.Join(r.o.Out, "*.log"))
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, path := range logs {
		b, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintf(r.o.Stdout, "\n--- %v\n", err)
			continue
		}
		const tail = 4000
		fmt.Fprintf(r.o.Stdout, "\n--- the end of %s\n%s\n", path, b[max(0, len(b)-tail):])
	}
}
