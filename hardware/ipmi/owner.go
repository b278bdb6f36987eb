package ipmi

import (
	"context"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
)

// owner runs all calls on one client one after the other, in a goroutine of
// its own: a call that hangs inside the kernel hangs that goroutine and not
// the caller.
type owner struct {
	client *client.Client
	calls  chan func()
	stuck  bool // a call passed its deadline; nothing more is asked
}

// own starts the goroutine. It ends at close, or when the call that hangs
// returns.
func own(c *client.Client) *owner {
	o := &owner{client: c, calls: make(chan func(), 1)}
	go func() {
		for f := range o.calls {
			f()
		}
	}()
	return o
}

// errStuck is the error of everything after a call that passed its deadline.
var errStuck = fmt.Errorf("the BMC did not answer an earlier command")

// do runs one step by its own deadline. A panic is an error.
func (o *owner) do(ctx context.Context, limit time.Duration, f func(context.Context, *client.Client) error) error {
	if o.stuck {
		return errStuck
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	done := make(chan error, 1)
	o.calls <- func() {
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v", p)
			}
		}()
		done <- f(ctx, o.client)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(100 * time.Millisecond)
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
		o.stuck = true
		return fmt.Errorf("no answer within %v", limit)
	}
}

// close ends the session and the goroutine. It waits at most limit, and not
// at all behind a call that hangs: then the session is closed when that call
// returns. The context of the work may be over. A BMC that does not take the
// farewell drops the idle session by itself, so there is nobody to tell.
func (o *owner) close(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	done := make(chan struct{})
	o.calls <- func() {
		defer cancel()
		defer close(done)
		defer func() { _ = recover() }() // a client that never connected
		_ = o.client.Close(ctx)
	}
	close(o.calls)
	if o.stuck {
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}
