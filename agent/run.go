package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/ingot-metal/ingot/fleet"
)

// onFailure is what the failure of a phase does to the boot.
type onFailure int

const (
	retry onFailure = iota
	degrade
)

// phase is one row of the boot.
type phase struct {
	name string
	// deadline ends one try; zero means that the phase may take for ever (it
	// waits for people, and says so).
	deadline  time.Duration
	onFailure onFailure
	run       func(*server, context.Context) error
}

// refusal is an error that ends the grant and not the boot.
type refusal struct {
	reason fleet.ReasonCode
	// hint is the table's where it is empty.
	hint string
	err  error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// pauses between tries of one phase.
const (
	firstPause = 500 * time.Millisecond
	mostPause  = 30 * time.Second
)

// pause is how long to wait before the next try: doubled each time, with a
// jitter of a quarter so that a thousand servers do not come back at once.
func pause(try int) time.Duration {
	d := min(firstPause<<min(try-1, 16), mostPause)
	return d + time.Duration(rand.Int64N(int64(d)/4))
}

// reporter hears how the boot goes.
type reporter interface {
	// begins says that a try of a phase begins.
	begins(phase string)
	// done says that a phase ended well, or was passed over with err.
	done(phase string, took time.Duration, err error)
	// waits says why a phase is tried again and when.
	waits(phase string, err error, pause time.Duration)
	// refused says that a grant was not carried out.
	refused(phase string, r *refusal)
}

// runPhases carries s through the table. A refusal leads back to the phase
// named restart. It returns only when ctx ends or the last phase returned nil.
func runPhases(ctx context.Context, table []phase, restart string, s *server, rep reporter) error {
	for i, try := 0, 1; i < len(table); {
		p := table[i]
		rep.begins(p.name)
		begin := time.Now()
		err := attempt(ctx, p, s)
		var no *refusal
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil, p.onFailure == degrade:
			rep.done(p.name, time.Since(begin), err)
			i, try = i+1, 1
		case errors.As(err, &no):
			rep.refused(p.name, no)
			i, try = indexOf(table, restart), 1
		default:
			d := pause(try)
			rep.waits(p.name, err, d)
			try++
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(d):
			}
		}
	}
	return nil
}

func indexOf(table []phase, name string) int {
	for i, p := range table {
		if p.name == name {
			return i
		}
	}
	return 0
}

// attempt runs one phase once. A panic is its failure: this is PID 1.
func attempt(ctx context.Context, p phase, s *server) (err error) {
	if p.deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.deadline, fmt.Errorf("%s passed its deadline of %v", p.name, p.deadline))
		defer cancel()
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	err = p.run(s, ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w (%v)", cause, err)
	}
	return err
}
