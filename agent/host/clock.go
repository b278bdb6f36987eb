package host

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ClockState says where the time of day comes from.
type ClockState string

const (
	ClockRTC   ClockState = "rtc"   // the machine's own clock, not before the floor
	ClockFloor ClockState = "floor" // the image's build time: the machine's clock was behind it
	ClockHTTP  ClockState = "http"  // moved forward by the boot server's word
)

// maxAdvance is how far an unsigned date may move the clock in one boot.
const maxAdvance = 365 * 24 * time.Hour

// ErrClock is a date that the clock does not follow.
var ErrClock = errors.New("date refused")

// Clock is the machine's time of day. A certificate that is not yet valid must
// not stop a server whose battery is flat, and whoever answers on the network
// must not make an expired one valid again: so the clock has a floor and goes
// forward only.
type Clock struct {
	mu    sync.Mutex
	state ClockState
	limit time.Time // no unsigned date moves it beyond
	now   func() time.Time
	set   func(time.Time) error
}

// OpenClock sets the time to the image's build time where the machine's clock
// (which the kernel has read) is behind it.
func OpenClock() (*Clock, error) {
	b, err := os.ReadFile(builtPath)
	if err != nil {
		return nil, fmt.Errorf("clock: floor: %w", err)
	}
	floor, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("clock: floor: %w", err)
	}
	return openClock(floor, time.Now, setTime)
}

func openClock(floor time.Time, now func() time.Time, set func(time.Time) error) (*Clock, error) {
	c := &Clock{state: ClockRTC, now: now, set: set}
	if now().Before(floor) {
		if err := set(floor); err != nil {
			return nil, fmt.Errorf("clock: set to the floor: %w", err)
		}
		c.state = ClockFloor
	}
	c.limit = now().Add(maxAdvance)
	return c, nil
}

// State tells where the time comes from.
func (c *Clock) State() ClockState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Advance moves the clock forward to an unsigned date. A date in the past, or
// within two seconds, changes nothing. One that lies more than a year beyond
// the clock as it was opened is refused with ErrClock.
func (c *Clock) Advance(date time.Time) (ClockState, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if date.Sub(c.now()) < 2*time.Second {
		return c.state, nil
	}
	if date.After(c.limit) {
		return c.state, fmt.Errorf("clock: move to %s: %w: more than a year ahead", date.UTC().Format(time.RFC3339), ErrClock)
	}
	if err := c.set(date); err != nil {
		return c.state, fmt.Errorf("clock: move to %s: %w", date.UTC().Format(time.RFC3339), err)
	}
	c.state = ClockHTTP
	return c.state, nil
}

func setTime(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	return unix.Settimeofday(&tv)
}
