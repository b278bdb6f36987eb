package host

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Uninterrupted repeats a system call that a signal has interrupted. The Go
// runtime sends itself signals to share the processor, and ioctls that wait for
// a lock of the kernel give up at one: without this, one boot of some dozens
// has no KVM.
func Uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
