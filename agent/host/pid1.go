package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"
)

const oNoCTTY = unix.O_NOCTTY | unix.O_NONBLOCK

// PanicError is a panic that was caught.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Guard calls f and turns a panic into a *PanicError. It stands around every
// decoder of foreign bytes and around whole phases.
func Guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// Init runs body as the first process and never returns, since the kernel
// panics when PID 1 ends. It reaps orphans all the while. When body has
// returned or panicked, end is told and decides: reboot, power off, or return,
// which leaves the machine standing with its consoles.
func Init(body func(context.Context) error, end func(error)) {
	var wg sync.WaitGroup
	wg.Go(func() { Reap(context.Background()) })
	err := Guard(func() error { return body(context.Background()) })
	if again := Guard(func() error { end(err); return nil }); again != nil {
		fmt.Fprintln(os.Stderr, "ingot: init:", again)
	}
	wg.Wait() // never: Reap ends with its context
}

// Reap collects processes whose parents have died, until ctx ends. It takes
// every child: a program that starts processes with os/exec must not call it.
func Reap(ctx context.Context) {
	child := make(chan os.Signal, 1)
	signal.Notify(child, unix.SIGCHLD)
	defer signal.Stop(child)
	for {
		reapAll()
		select {
		case <-ctx.Done():
			return
		case <-child:
		}
	}
}

// reapAll collects those that have ended and tells how many.
func reapAll() int {
	n := 0
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid <= 0:
			return n
		default:
			n++
		}
	}
}
