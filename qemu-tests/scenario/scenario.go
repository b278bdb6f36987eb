package scenario

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
)

// Server is one server of the job.
type Server struct {
	Name string
	// Via is how its power button is pressed: redfish or ipmi.
	Via string
	// URL is where its service answers to a client outside the lab.
	URL string
}

// Servers are the lab's: the first is powered on over Redfish, the next over
// IPMI, and so on in turn.
func Servers(st *lab.LabStatus) []Server {
	var out []Server
	for i, s := range st.Servers {
		out = append(out, Server{Name: s.Name, Via: []string{"redfish", "ipmi"}[i%2], URL: s.Service})
	}
	return out
}

// Job is the main job.
type Job struct {
	Client  *operator.Client
	Servers []Server
	// Stack is its reference, name or name:version.
	Stack string
	// Approve lets each server in by an operator's word, which it waits for.
	Approve bool
	// Ingot runs one command of the operator's.
	Ingot func(ctx context.Context, args ...string) error
	// Say is told, line by line, what goes on.
	Say func(line string)
}

// Outcome is what came of one server.
type Outcome struct {
	Server
	Node     fleet.NodeID
	Serial   string
	Nonce    string
	Started  time.Time
	Took     time.Duration // from the power button to the first answer
	Answered time.Time
	Raw      []byte
	Answer   Answer
	Status   fleet.Status
	Manifest images.Manifest
	Digest   images.Digest
}

// Ingot runs the program at path against a lab. What it says stands in the
// error, when it fails.
func Ingot(path, labName string) func(context.Context, ...string) error {
	return func(ctx context.Context, args ...string) error {
		cmd := exec.CommandContext(ctx, path, append([]string{"--lab", labName}, args...)...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Run(); err != nil {
			return &CommandError{Args: args, Said: strings.TrimSpace(said.String()), Err: err}
		}
		return nil
	}
}

// CommandError is a command of the operator's that ended with an error.
type CommandError struct {
	Args []string
	Said string
	Err  error
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("ingot %s: %v: %s", strings.Join(e.Args, " "), e.Err, e.Said)
}

func (e *CommandError) Unwrap() error { return e.Err }

// Code is the exit code, or -1.
func (e *CommandError) Code() int {
	var exit *exec.ExitError
	if errors.As(e.Err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// Run does the job on all servers at once. It ends with the first that fails.
func (j Job) Run(ctx context.Context) ([]Outcome, error) {
	say := j.Say
	var mu sync.Mutex
	j.Say = func(line string) {
		mu.Lock()
		defer mu.Unlock()
		say(line)
	}
	out := make([]Outcome, len(j.Servers))
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range j.Servers {
		g.Go(func() error {
			var err error
			if out[i], err = j.carry(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			return nil
		})
	}
	return out, g.Wait()
}

// approve waits until a server asks to be let in, and lets it in.
func (j Job) approve(ctx context.Context, s Server) error {
	st, err := j.Await(ctx, s.Name, "pending", func(st fleet.Status) bool { return st.Phase == fleet.PhasePending })
	if err != nil {
		return err
	}
	if st.Serial == "" || len(st.MACs) == 0 || st.Summary == "" {
		return fmt.Errorf("a server that waits is shown by serial %q, MACs %v and summary %q: want all three", st.Serial, st.MACs, st.Summary)
	}
	return j.Ingot(ctx, "node", "approve", s.Name)
}

// carry brings one server from its power button to its service's answer.
func (j Job) carry(ctx context.Context, s Server) (Outcome, error) {
	o := Outcome{Server: s, Nonce: rand.Text(), Started: time.Now()}
	if err := j.Ingot(ctx, "node", "power", "on", s.Name, "--via", s.Via); err != nil {
		return o, err
	}
	if j.Approve {
		if err := j.approve(ctx, s); err != nil {
			return o, err
		}
	}
	st, err := j.Await(ctx, s.Name, "inventoried", Waiting)
	if err != nil {
		return o, err
	}
	o.Node, o.Serial = st.Node, st.Serial
	if err := j.Ingot(ctx, "assign", s.Name, j.Stack, "--param", "nonce="+o.Nonce); err != nil {
		return o, err
	}
	if o.Status, err = j.Await(ctx, s.Name, "running", Running); err != nil {
		return o, err
	}
	if o.Raw, o.Answer, err = Ask(ctx, s.URL); err != nil {
		return o, err
	}
	o.Answered = time.Now()
	o.Took = o.Answered.Sub(o.Started)
	o.Manifest, o.Digest, err = j.manifest(ctx, o.Status.StackDigest)
	return o, err
}

// Waiting says that a server is inventoried and has no stack.
func Waiting(st fleet.Status) bool { return st.Phase == fleet.PhaseWaiting }

// Running says that a server's stack runs, to the last service.
func Running(st fleet.Status) bool { return st.Phase == fleet.PhaseRunning }

// ErrLost says that a server came into a phase that has no way on.
var ErrLost = errors.New("has no way on")

// Await waits until the named server's status is as wanted.
func (j Job) Await(ctx context.Context, name, what string, want func(fleet.Status) bool) (fleet.Status, error) {
	t, err := j.Client.Find(ctx, name)
	if err != nil {
		return fleet.Status{}, err
	}
	start := time.Now()
	var last fleet.Status
	var said fleet.Phase
	err = j.Client.WatchStatus(ctx, func(st fleet.Status) (bool, error) {
		if !t.Same(st) {
			return false, nil
		}
		last = st
		if st.Phase != said {
			said = st.Phase
			j.Say(fmt.Sprintf("%7.1fs  %s: %s", time.Since(start).Seconds(), name, render.StatusLine(st)))
		}
		if want(st) {
			return true, nil
		}
		if st.Phase == fleet.PhaseFailed || st.Phase == fleet.PhaseLost {
			return true, ErrLost
		}
		return false, nil
	})
	if err != nil {
		err = fmt.Errorf("wait until it is %s: %w: it is %s", what, err, render.StatusLine(last))
	}
	return last, err
}

// manifest is the stack that a server says it runs, as the fleet holds it.
func (j Job) manifest(ctx context.Context, digest string) (images.Manifest, images.Digest, error) {
	all, err := j.Client.Stacks(ctx)
	if err != nil {
		return images.Manifest{}, "", err
	}
	for _, e := range all {
		if string(e.Digest) == digest {
			return j.Client.Roots().OpenManifest(e.Delegations, e.Stack, time.Now())
		}
	}
	return images.Manifest{}, "", fmt.Errorf("find stack %.80q in the fleet: %w", digest, operator.ErrNotFound)
}

func decode(b []byte) (Answer, error) {
	var a Answer
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("read the service's answer: %v: %.200q", err, b)
	}
	return a, nil
}
