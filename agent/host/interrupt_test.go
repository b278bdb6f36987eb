package host

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUninterrupted(t *testing.T) {
	other := errors.New("other")
	for _, want := range []error{nil, other, unix.EAGAIN} {
		answers := []error{unix.EINTR, fmt.Errorf("ioctl: %w", unix.EINTR), want}
		if got := Uninterrupted(func() error { a := answers[0]; answers = answers[1:]; return a }); got != want || len(answers) != 0 {
			t.Errorf("Uninterrupted = %v with %d answers left; want %v", got, len(answers), want)
		}
	}
}
