package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
	"github.com/ingot-metal/ingot/qemu-tests/scenario"
)

// The moments of a boot at which bad luck strikes, in the order in which a
// server passes them. The lab expects its machines, so that "seen" is the first
// request for an address and "booting" the first file.
const (
	atSeen = iota
	atBooting
	atInspecting
	atWaiting
	atFetching
	atHandingOff
	atStarting
	atRunning
)

var moments = []string{"seen", "booting", "inspecting", "waiting", "fetching", "handing-off", "starting", "running"}

// momentOf is where a status stands in the boot; -1 is nowhere in it.
func momentOf(st fleet.Status) int {
	switch st.Phase {
	case fleet.PhaseBooting:
	case fleet.PhaseFetching:
		if !strings.HasPrefix(st.Step, "fetched ") {
			return -1 // it is granted; its first file is not there yet
		}
		fallthrough
	default:
		return slices.Index(moments, string(st.Phase))
	}
	switch kind, _, _ := strings.Cut(st.Step, " "); kind {
	case fleet.KindDHCP, fleet.KindTFTP:
		// UEFI firmware whose TFTP transfer breaks off may try IPv6 for a minute
		// before it comes back: nothing is struck there for the sake of it.
		return atSeen
	case fleet.KindHTTP:
		return atBooting
	}
	return -1
}

const (
	// dark is how long the mains stay away, and gone how long `ingot serve` does.
	dark = time.Second
	gone = 2 * time.Second
	// reachLimit bounds the way from one moment to another; it is for a machine
	// that does much beside.
	reachLimit = 7 * time.Minute
	// strikes is how often a moment is tried that was over before it was seen.
	strikes = 3
)

// luck is a fleet that has bad luck, and what must be true of it all the same.
type luck struct {
	*run
	// house is held for reading by who needs `ingot serve`, and for writing
	// while it is dead.
	house sync.RWMutex
	// ledger is what stood in the stream before serve was killed.
	ledger ledger
}

// victim is one server of it.
type victim struct {
	*luck
	scenario.Server
	nonce string
	// since is when its present life began, and before the kernel of the life
	// before: what is said of either is not of this one.
	since  time.Time
	before string
	last   fleet.Status
	// seen is how much the console had said then.
	seen int64
	// service is the one that answered.
	service string
}

// badLuck carries two servers to their stack through all that goes wrong: the
// power of the first is cut in every phase, `ingot serve` is killed in every
// phase of the second, and cables are pulled.
func (r *run) badLuck(ctx context.Context) error {
	l := &luck{run: r, ledger: ledger{}}
	var all []*victim
	for _, s := range scenario.Servers(r.status) {
		all = append(all, &victim{luck: l, Server: s, nonce: rand.Text()})
	}
	g, life := errgroup.WithContext(ctx)
	for i, f := range []func(*victim, context.Context) error{(*victim).powerCuts, (*victim).serveKills} {
		g.Go(func() error {
			if err := f(all[i], life); err != nil {
				return fmt.Errorf("%s: %w", all[i].Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var errs []error
	for _, v := range all {
		if err := v.check(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", v.Name, err))
		}
	}
	return errors.Join(errs...)
}

// powerCuts is the life of the first server: its power fails in every phase but
// the last, and the assignment that is made in between stands.
func (v *victim) powerCuts(ctx context.Context) error {
	if err := v.powerOn(ctx); err != nil {
		return err
	}
	for _, at := range []int{atSeen, atBooting} {
		if err := v.strike(ctx, at, v.cutPower); err != nil {
			return err
		}
	}
	if err := v.strike(ctx, atBooting, v.noLease); err != nil {
		return err
	}
	for _, at := range []int{atInspecting, atWaiting} {
		if err := v.strike(ctx, at, v.cutPower); err != nil {
			return err
		}
	}
	if err := v.assign(ctx); err != nil {
		return err
	}
	for _, at := range []int{atFetching, atHandingOff, atStarting} {
		if err := v.strike(ctx, at, v.cutPower); err != nil {
			return err
		}
	}
	return v.strike(ctx, atRunning, v.answers)
}

// serveKills is the life of the second server: `ingot serve` is killed in every
// phase of its first boot; its power is cut when it runs; its cable is pulled in
// the second.
func (v *victim) serveKills(ctx context.Context) error {
	if err := v.powerOn(ctx); err != nil {
		return err
	}
	for at := range moments {
		if err := v.strike(ctx, at, v.killServe); err != nil {
			return err
		}
		if at == atWaiting {
			if err := v.assign(ctx); err != nil {
				return err
			}
		}
	}
	for _, blow := range []func(context.Context) error{v.answers, v.cutPower} {
		if err := v.strike(ctx, atRunning, blow); err != nil {
			return err
		}
	}
	if err := v.strike(ctx, atFetching, v.cutCable); err != nil {
		return err
	}
	if err := v.strike(ctx, atStarting, v.alone); err != nil {
		return err
	}
	if err := v.strike(ctx, atRunning, v.answers); err != nil {
		return err
	}
	return v.consoleGivesReasons()
}

// strike waits for a moment and does what it is told. A server that has passed
// the moment before that was seen, or whose emulator ended, is sent there once
// more.
func (v *victim) strike(ctx context.Context, at int, blow func(context.Context) error) error {
	for range strikes {
		st, err := v.reachOn(ctx, at)
		if errors.Is(err, errPassed) || errors.Is(err, errOff) {
			v.say("%s: %v; once more", v.Name, err)
			if err := v.cutPower(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		v.say("%s, boot %d, %s: %s", v.Name, st.Attempt, moments[at], render.StatusLine(st))
		if err := blow(ctx); err != nil {
			return fmt.Errorf("while it was %s: %w", moments[at], err)
		}
		return nil
	}
	return fmt.Errorf("reach %s: it was over, or the server off, %d times", moments[at], strikes)
}

var (
	errPassed = errors.New("it is further already")
	errOff    = errors.New("it went off by itself: its emulator ended, lab.log says of what")
)

// reachOn is reach for as long as the server has power: an emulator that ends by
// itself is one power cut more.
func (v *victim) reachOn(ctx context.Context, at int) (fleet.Status, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for ; ctx.Err() == nil; pause(ctx, time.Second) {
			st, err := lab.Status(ctx, labName())
			if err == nil && slices.ContainsFunc(st.Servers, func(s lab.ServerStatus) bool { return s.Name == v.Name && s.Power == "off" }) {
				cancel(errOff)
			}
		}
	})
	st, err := v.reach(ctx, at)
	if err != nil && errors.Is(context.Cause(ctx), errOff) {
		err = errOff
	}
	cancel(nil)
	watch.Wait()
	return st, err
}

// reach waits until the server's present life has come to a moment.
func (v *victim) reach(ctx context.Context, at int) (fleet.Status, error) {
	if at == atInspecting {
		// The bus hears of it at its end, when the agent has enrolled; on the
		// console it begins with the lease.
		return v.last, v.says(ctx, v.seen, " by DHCP from ")
	}
	return v.await(ctx, moments[at], func(st fleet.Status) (bool, error) {
		switch now := momentOf(st); {
		case now > at:
			return false, errPassed
		case now == at:
			return true, nil
		}
		return false, nil
	})
}

// await waits for a status of the server's present life. It may be bad
// meanwhile: what matters is that it goes on.
func (v *victim) await(ctx context.Context, what string, is func(fleet.Status) (bool, error)) (fleet.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	t, err := v.client.Find(ctx, v.Name)
	if err != nil {
		return fleet.Status{}, err
	}
	v.last = fleet.Status{}
	err = v.client.WatchStatus(ctx, func(st fleet.Status) (bool, error) {
		if !t.Same(st) || !st.LastSeen.After(v.since) || st.BootID != "" && st.BootID == v.before {
			return false, nil
		}
		v.last = st
		return is(st)
	})
	if err != nil {
		err = fmt.Errorf("wait until it is %s: %w: it is %s", what, err, render.StatusLine(v.last))
	}
	return v.last, err
}

// command runs a command of the operator's while `ingot serve` is there.
func (v *victim) command(ctx context.Context, args ...string) error {
	v.house.RLock()
	defer v.house.RUnlock()
	return v.ingot(ctx, args...)
}

func (v *victim) powerOn(ctx context.Context) error {
	v.since = time.Now()
	return v.command(ctx, "node", "power", "on", v.Name, "--via", v.Via)
}

func (v *victim) assign(ctx context.Context) error {
	return v.command(ctx, "assign", v.Name, v.o.Stack, "--param", "nonce="+v.nonce)
}

// cutPower takes the mains away, of which nobody is told, and gives them back.
func (v *victim) cutPower(ctx context.Context) error {
	v.say("%s: the power is cut", v.Name)
	if err := lab.SwitchMains(ctx, labName(), v.Name, true); err != nil {
		return err
	}
	pause(ctx, dark)
	if v.last.BootID != "" {
		v.before = v.last.BootID
	}
	var err error
	if v.seen, err = v.console(); err != nil {
		return err
	}
	v.since = time.Now()
	return lab.SwitchMains(ctx, labName(), v.Name, false)
}

// killServe kills the process of bus, control and boot server, and starts it
// again over what it left. What stood in the stream is written down before.
func (v *victim) killServe(ctx context.Context) error {
	v.house.Lock()
	defer v.house.Unlock()
	if err := v.writeDown(ctx); err != nil {
		return err
	}
	v.say("ingot serve is killed")
	if err := lab.SwitchServe(ctx, labName(), true); err != nil {
		return err
	}
	pause(ctx, gone)
	if err := lab.SwitchServe(ctx, labName(), false); err != nil {
		return err
	}
	v.say("ingot serve is back")
	return v.compare(ctx)
}

// cutCable pulls the server's cable for a while; it goes on by itself.
func (v *victim) cutCable(ctx context.Context) error {
	v.say("%s: the cable is pulled", v.Name)
	if err := lab.Cut(ctx, labName(), v.Name, true); err != nil {
		return err
	}
	pause(ctx, 8*time.Second)
	v.say("%s: the cable is back", v.Name)
	return lab.Cut(ctx, labName(), v.Name, false)
}

// noLease pulls the cable when the agent is loaded: its kernel has a link and
// no answer, and it says so where a person looks. With the cable it goes on.
func (v *victim) noLease(ctx context.Context) error {
	if err := v.says(ctx, v.seen, "ingot: starting the agent"); err != nil {
		return err
	}
	if err := lab.Cut(ctx, labName(), v.Name, true); err != nil {
		return err
	}
	v.say("%s: the agent is loaded and the cable is pulled", v.Name)
	err := v.says(ctx, v.seen, "network: waiting for a DHCP answer on eth0 ")
	return errors.Join(err, lab.Cut(context.WithoutCancel(ctx), labName(), v.Name, false))
}

// alone pulls the cable while the stack starts and leaves it out until the stack
// runs, which nobody but the console is told: the server is lost, with the
// reason. With the cable, what it had to say comes, and the server runs.
func (v *victim) alone(ctx context.Context) error {
	// Silence is of a heart that has beaten: before that it is the phase's
	// deadline that passes, after minutes.
	if _, err := v.await(ctx, "heard", func(st fleet.Status) (bool, error) { return st.Applied["heartbeat"] > 0, nil }); err != nil {
		return err
	}
	if err := lab.Cut(ctx, labName(), v.Name, true); err != nil {
		return err
	}
	cut := time.Now()
	v.say("%s: the cable is pulled", v.Name)
	if err := v.says(ctx, v.seen, "service "+v.service+": up"); err != nil {
		return err
	}
	st, err := v.await(ctx, "lost", func(st fleet.Status) (bool, error) {
		return st.Phase == fleet.PhaseLost && st.Reason == fleet.ReasonHeartbeatSilent, nil
	})
	if err != nil {
		return err
	}
	v.say("%s: the console says that it runs; the status: %s", v.Name, render.StatusLine(st))
	mended := time.Now()
	if err := lab.Cut(ctx, labName(), v.Name, false); err != nil {
		return err
	}
	if _, err := v.reach(ctx, atRunning); err != nil {
		return err
	}
	return v.replayed(ctx, cut, mended)
}

// answers asks the server's service: it must be the one that was assigned.
func (v *victim) answers(ctx context.Context) error {
	_, a, err := scenario.Ask(ctx, v.URL)
	if err == nil && a.Nonce != v.nonce {
		err = fmt.Errorf("nonce is %q, want %q", a.Nonce, v.nonce)
	}
	if err != nil {
		return fmt.Errorf("ask its service: %w", err)
	}
	v.service = a.Service
	return nil
}

// console is how much the server has said on its serial line.
func (v *victim) console() (int64, error) {
	st, err := os.Stat(v.consolePath())
	if err != nil {
		return 0, fmt.Errorf("look at the console: %w", err)
	}
	return st.Size(), nil
}

func (v *victim) consolePath() string {
	return filepath.Join(v.o.Out, v.Name+".console.log")
}

// says waits until the server's serial line holds text, after what was seen.
func (v *victim) says(ctx context.Context, seen int64, text string) error {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	for ctx.Err() == nil {
		b, err := os.ReadFile(v.consolePath())
		if err != nil {
			return fmt.Errorf("read the console: %w", err)
		}
		if strings.Contains(string(b[min(seen, int64(len(b))):]), text) {
			return nil
		}
		pause(ctx, 50*time.Millisecond)
	}
	return fmt.Errorf("wait until the console says %q: %w", text, ctx.Err())
}
