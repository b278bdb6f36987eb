package e2e

import (
	"testing"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
)

func TestUnbroken(t *testing.T) {
	event := func(source fleet.Source, attempt int64, seq uint64) operator.Record {
		return operator.Record{Event: fleet.Event{BootID: "b", Source: source, Attempt: attempt, Seq: seq}}
	}
	agent := func(seqs ...uint64) (out []operator.Record) {
		for _, s := range seqs {
			out = append(out, event(fleet.SourceAgent, 1, s))
		}
		return out
	}
	control := operator.Record{Event: fleet.Event{Source: fleet.SourceControl, Seq: 99}}
	for _, c := range []struct {
		name    string
		records []operator.Record
		good    bool
	}{
		{"nothing", nil, true},
		{"in another order", agent(2, 1, 3), true},
		{"two sources, two boots", append(agent(1, 2), event(fleet.SourceResident, 1, 1), event(fleet.SourceAgent, 2, 1), control), true},
		{"a hole", agent(1, 3), false},
		{"a double", agent(1, 2, 2), false},
		{"the first is lost", agent(2, 3), false},
	} {
		if err := unbroken(c.records); (err == nil) != c.good {
			t.Errorf("%s: %v; want good = %v", c.name, err, c.good)
		}
	}
}
