package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
)

// ledger is what the bus had of each server at some moment, by the server's
// name: what it shows is acknowledged, and may not be gone later.
type ledger map[string]page

// page is what the bus has of one server.
type page struct {
	records []operator.Record
	status  fleet.Status
	// inventory is the digest of the one that the server stored; empty before.
	inventory string
}

func (l *luck) page(ctx context.Context, name string) (page, error) {
	var p page
	t, err := l.client.Find(ctx, name)
	if err != nil {
		return p, err
	}
	if t.Status != nil {
		p.status = *t.Status
		inv, ok, err := l.client.Inventory(ctx, t.Status.Node)
		if err != nil {
			return p, err
		}
		if ok {
			p.inventory = string(inv.Digest())
		}
	}
	p.records, err = l.client.Events(ctx, t)
	return p, err
}

// writeDown notes what the bus has of all servers.
func (l *luck) writeDown(ctx context.Context) error {
	for _, s := range l.status.Servers {
		p, err := l.page(ctx, s.Name)
		if err != nil {
			return err
		}
		l.ledger[s.Name] = p
	}
	return nil
}

// compare says what the bus has lost since it was written down.
func (l *luck) compare(ctx context.Context) error {
	var errs []error
	for name, before := range l.ledger {
		now, err := l.page(ctx, name)
		if err == nil {
			err = before.standsIn(now)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// standsIn checks that nothing of p is lost: no event, no inventory, and of the
// status no step back.
func (p page) standsIn(now page) error {
	var errs []error
	if p.inventory != "" && now.inventory == "" {
		errs = append(errs, errors.New("the inventory is gone"))
	}
	was, is := p.status, now.status
	// What was only seen of a machine is forgotten once it is a node.
	if is.Node == was.Node && (is.Attempt < was.Attempt || is.Applied["stream"] < was.Applied["stream"]) {
		errs = append(errs, fmt.Errorf("the status stood at boot %d and event %d and stands at boot %d and event %d",
			was.Attempt, was.Applied["stream"], is.Attempt, is.Applied["stream"]))
	}
	return errors.Join(append(errs, kept(p.records, now.records))...)
}

// kept checks that the stream begins as it did: no acknowledged event is lost,
// none is changed, and none came in between.
func kept(before, now []operator.Record) error {
	for i, b := range before {
		if i >= len(now) || now[i].ID != b.ID || !now[i].Received.Equal(b.Received) {
			return fmt.Errorf("event %d of %d, %s, which the bus had acknowledged, is not where it was", i+1, len(before), describe(b))
		}
	}
	return nil
}

func describe(r operator.Record) string {
	return fmt.Sprintf("%s %s (boot %d, number %d)", r.Source, r.Kind, r.Attempt, r.Seq)
}

// check says all that is not as it must be after the bad luck of one server.
func (v *victim) check(ctx context.Context) error {
	t, err := v.client.Find(ctx, v.Name)
	if err != nil {
		return err
	}
	if t.Status == nil {
		return errors.New("it has no status")
	}
	records, err := v.client.Events(ctx, t)
	if err != nil {
		return err
	}
	inv, _, err := v.client.Inventory(ctx, t.Status.Node)
	if err != nil {
		return err
	}
	lines := render.Brief(render.Timeline(render.Attempt(operator.Aligned(records), t.Status.Attempt)))
	v.mu.Lock()
	fmt.Fprintf(v.o.Stdout, "\n%s, boot %d\n%s\n", v.Name, t.Status.Attempt, render.Lines(render.Style{}, lines))
	v.mu.Unlock()
	return errors.Join(
		unbroken(records), inOrder(records), once(records), oneStack(records),
		agrees(*t.Status, records), v.ledger[v.Name].standsIn(page{records, *t.Status, string(inv.Digest())}),
	)
}

// inOrder checks that each source of each boot is stored in the order in which
// it spoke.
func inOrder(records []operator.Record) error {
	last := map[string]operator.Record{}
	for _, r := range records {
		if r.BootID == "" {
			continue
		}
		key := r.BootID + "/" + string(r.Source)
		if before, ok := last[key]; ok && r.Seq < before.Seq {
			return fmt.Errorf("%s is stored after %s", describe(r), describe(before))
		}
		last[key] = r
	}
	return nil
}

// once checks what control says once in each boot: who was enrolled and what
// was granted. It says it for every boot that came so far.
func once(records []operator.Record) error {
	said := map[string]int{}
	want := map[string]bool{}
	boots := map[int64]bool{}
	var most int64
	for _, r := range records {
		boots[r.Attempt], most = true, max(most, r.Attempt)
		key := fmt.Sprintf("control %s of boot %d", r.Kind, r.Attempt)
		switch {
		case r.Source == fleet.SourceControl && r.Kind == fleet.KindEnrolled:
			said[key+" as "+read[fleet.EnrolledData](r).Role]++
		case r.Source == fleet.SourceControl && r.Kind == fleet.KindGranted:
			said[key]++
		case r.Source == fleet.SourceAgent && r.Kind == fleet.KindVerified:
			want[fmt.Sprintf("control %s of boot %d", fleet.KindGranted, r.Attempt)] = true
		}
		if r.Source == fleet.SourceAgent || r.Source == fleet.SourceResident {
			want[fmt.Sprintf("control %s of boot %d as %s", fleet.KindEnrolled, r.Attempt, r.Source)] = true
		}
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(said)) {
		if said[key] != 1 {
			errs = append(errs, fmt.Errorf("%s is there %d times, want once", key, said[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if said[key] == 0 {
			errs = append(errs, fmt.Errorf("%s is not there", key))
		}
	}
	for n := int64(1); n <= most; n++ {
		if !boots[n] {
			errs = append(errs, fmt.Errorf("boot %d of %d has no event", n, most))
		}
	}
	return errors.Join(errs...)
}

// oneStack checks that the assignment stood: every grant is by the same rule
// and gives the same stack.
func oneStack(records []operator.Record) error {
	var first fleet.AssignedData
	for _, r := range records {
		if r.Kind != fleet.KindGranted {
			continue
		}
		d := read[fleet.AssignedData](r)
		if first == (fleet.AssignedData{}) {
			first = d
		}
		if d != first {
			return fmt.Errorf("boot %d was granted %s by rule %s, an earlier one %s by rule %s", r.Attempt, d.Stack, d.Rule, first.Stack, first.Rule)
		}
	}
	if first.Digest == "" {
		return errors.New("nothing was granted")
	}
	return nil
}

// agrees checks that a status stands where its events do.
func agrees(st fleet.Status, records []operator.Record) error {
	var most int64
	heard := map[string]uint64{}
	for _, r := range records {
		if r.Attempt > most {
			most, heard = r.Attempt, map[string]uint64{}
		}
		if r.BootID != "" && r.Attempt == most {
			key := r.BootID + "/" + string(r.Source)
			heard[key] = max(heard[key], r.Seq)
		}
	}
	var errs []error
	if st.Attempt != most {
		errs = append(errs, fmt.Errorf("the status is of boot %d, the events go up to %d", st.Attempt, most))
	}
	for key, seq := range heard {
		if st.Applied[key] != seq {
			errs = append(errs, fmt.Errorf("the status has taken %d events of %s, the stream has %d", st.Applied[key], key, seq))
		}
	}
	return errors.Join(errs...)
}

// replayed checks that events of the time when the cable was out came when it
// was back.
func (v *victim) replayed(ctx context.Context, cut, mended time.Time) error {
	p, err := v.page(ctx, v.Name)
	if err != nil {
		return err
	}
	spooled := 0
	for i, e := range operator.Aligned(p.records) {
		if e.BootID != "" && e.Time.After(cut) && e.Time.Before(mended) && p.records[i].Received.After(mended) {
			spooled++
		}
	}
	if spooled == 0 {
		return errors.New("no event of the time without a cable came afterwards")
	}
	v.say("%s: %d events of the time without a cable came when it was back", v.Name, spooled)
	return nil
}

// consoleGivesReasons checks that the server said on its serial line what it
// waited for, while nobody else could.
func (v *victim) consoleGivesReasons() error {
	b, err := os.ReadFile(v.consolePath())
	if err != nil {
		return fmt.Errorf("read the console: %w", err)
	}
	var errs []error
	for _, want := range []string{"bus: waiting: ", "bus: waits: "} {
		if !strings.Contains(string(b), want) {
			errs = append(errs, fmt.Errorf("the console has never said %q", want))
		}
	}
	return errors.Join(errs...)
}

func read[T any](r operator.Record) (v T) {
	if json.Unmarshal(r.Data, &v) != nil {
		var zero T // what is of another shape tells nothing
		return zero
	}
	return v
}
