package inventory

import (
	"context"
	"slices"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/partial"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// tables are what one stream runs: late begins when first has answered, or
// when limit, where there is one, has passed.
type tables struct {
	first, late []Reader
	limit       time.Duration
}

// run is one stream at work. Each reader sends exactly one answer, and before
// it what it knows in part.
type run struct {
	begin   time.Time
	readers []Reader
	got     []*answer       // by reader; nil while it reads
	parts   []hardware.View // by reader; what it knew last
	answers chan numbered
}

type numbered struct {
	reader int
	answer answer
	part   bool
}

func stream(ctx context.Context, root string, t tables, told func(Result)) Result {
	all := slices.Concat(t.first, t.late)
	r := &run{begin: time.Now(), readers: all, got: make([]*answer, len(all)),
		parts: make([]hardware.View, len(all)), answers: make(chan numbered, len(all))}
	r.start(ctx, root, 0, len(t.first))
	var due <-chan time.Time
	if t.limit > 0 {
		timer := time.NewTimer(t.limit)
		defer timer.Stop()
		due = timer.C
	}
	for waiting := true; waiting && slices.Contains(r.got[:len(t.first)], nil); {
		select {
		case n := <-r.answers:
			r.take(n)
		case <-due:
			waiting = false
		}
	}
	res := r.result()
	told(res)
	r.start(ctx, root, len(t.first), len(all))
	for slices.Contains(r.got, nil) {
		r.take(<-r.answers)
		for more := len(r.answers); more > 0; more-- { // those that came while told was at work
			r.take(<-r.answers)
		}
		res = r.result()
		told(res)
	}
	return res
}

func (r *run) start(ctx context.Context, root string, from, to int) {
	for i := from; i < to; i++ {
		ctx := partial.With(ctx, func(ctx context.Context, v hardware.View) {
			select {
			case r.answers <- numbered{reader: i, answer: answer{view: v}, part: true}:
			case <-ctx.Done(): // nobody listens to one that was left behind
			}
		})
		go func() { r.answers <- numbered{reader: i, answer: answerOf(ctx, r.readers[i], sysfs.Root(root))} }()
	}
}

func (r *run) take(n numbered) {
	if n.part {
		r.parts[n.reader] = n.answer.view
		return
	}
	r.got[n.reader] = &n.answer
}

// result puts together what has been answered, in the order of the tables,
// and shares nothing with an earlier one.
func (r *run) result() Result {
	var res Result
	for i, a := range r.got {
		name := r.readers[i].Name
		if a == nil {
			res.Pending = append(res.Pending, name)
			merge(&res.Inventory, r.parts[i].Inventory)
			res.Readings.Add(r.parts[i].Readings)
			continue
		}
		took := Duration{Reader: name, Took: a.took}
		merge(&res.Inventory, a.view.Inventory)
		res.Readings.Add(a.view.Readings)
		if a.err != nil {
			took.Err = a.err.Error()
			res.Inventory.Findings = append(res.Inventory.Findings, failure(r.readers[i], *a))
		}
		res.Readers = append(res.Readers, took)
	}
	adapters(&res.Inventory)
	nameControllers(&res.Inventory)
	res.Inventory = res.Inventory.Normalized()
	res.Readings.Add(moving(res.Inventory))
	res.Readings.Normalize()
	res.Took = time.Since(r.begin)
	return res
}
