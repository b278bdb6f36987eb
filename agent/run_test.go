package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// diary is a reporter that keeps what it heard.
type diary struct{ lines []string }

func (d *diary) begins(string) {}
func (d *diary) done(phase string, _ time.Duration, err error) {
	d.lines = append(d.lines, fmt.Sprintf("done %s %v", phase, err))
}
func (d *diary) waits(phase string, err error, _ time.Duration) {
	first, _, _ := strings.Cut(err.Error(), "\n")
	d.lines = append(d.lines, fmt.Sprintf("waits %s: %s", phase, first))
}
func (d *diary) refused(phase string, r *refusal) {
	d.lines = append(d.lines, fmt.Sprintf("refused %s: %s", phase, r.reason))
}

// times returns a phase that fails with each error in turn and then succeeds.
func times(name string, on onFailure, deadline time.Duration, errs ...func(context.Context) error) phase {
	i := 0
	return phase{name, deadline, on, func(_ *server, ctx context.Context) error {
		if i++; i <= len(errs) {
			return errs[i-1](ctx)
		}
		return nil
	}}
}

func fails(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

func TestRunPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		panics := func(context.Context) error { panic("boom") }
		table := []phase{
			times("modules", degrade, 0, fails(errors.New("no such module"))),
			times("network", retry, 0, fails(errors.New("no carrier")), fails(errors.New("no DHCP answer"))),
			times("grant", retry, 0),
			times("fetch", retry, time.Minute, hang, panics),
			times("verify", retry, 0, fails(fmt.Errorf("check: %w", &refusal{"signature-invalid", "", errors.New("x")}))),
			times("jump", retry, 0),
		}
		var d diary
		begin := time.Now()
		if err := runPhases(t.Context(), table, "grant", nil, &d); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"done modules no such module",
			"waits network: no carrier",
			"waits network: no DHCP answer",
			"done network <nil>",
			"done grant <nil>",
			"waits fetch: fetch passed its deadline of 1m0s (context deadline exceeded)",
			"waits fetch: panic: boom",
			"done fetch <nil>",
			"refused verify: signature-invalid",
			"done grant <nil>",
			"done fetch <nil>",
			"done verify <nil>",
			"done jump <nil>",
		}
		if diff := cmp.Diff(want, d.lines); diff != "" {
			t.Errorf("runPhases (-want +got):\n%s", diff)
		}
		if took := time.Since(begin); took < time.Minute+2*time.Second {
			t.Errorf("runPhases took %v; want pauses and the deadline to be kept", took)
		}
	})
}

func TestRunPhasesEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		always := phase{"network", 0, retry, func(*server, context.Context) error { return errors.New("no carrier") }}
		var d diary
		if err := runPhases(ctx, []phase{always}, "network", nil, &d); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("runPhases = %v; want the context's end", err)
		}
		if n := len(d.lines); n < 100 || n > 200 {
			t.Errorf("%d tries in an hour; want between 100 and 200: pauses grow to about 30 s", n)
		}
	})
}

func TestPause(t *testing.T) {
	for _, try := range []int{1, 2, 7, 100, 1 << 20} {
		if d := pause(try); d < firstPause || d > mostPause*5/4 {
			t.Errorf("pause(%d) = %v; want between %v and %v", try, d, firstPause, mostPause*5/4)
		}
	}
}
