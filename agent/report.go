package agent

import (
	"cmp"
	"time"

	"github.com/ingot-metal/ingot/fleet"
)

// timeline is the reporter of a real boot: the console and the bus.
type timeline struct {
	s *server
	// last is the wait that was published last: the same one is said once.
	last string
}

func (t *timeline) begins(phase string) { t.s.step.Store(phase) }

func (t *timeline) done(phase string, took time.Duration, err error) {
	data := fleet.StepData{Step: phase, State: "done", Seconds: took.Seconds()}
	if err != nil {
		data.Text = err.Error()
		t.s.say("%s: went on without: %v", phase, err)
	}
	t.publish(fleet.KindStep, data)
}

func (t *timeline) waits(phase string, err error, pause time.Duration) {
	t.s.say("%s: %v; again in %.1f s", phase, err, pause.Seconds())
	if text := err.Error(); phase+text != t.last {
		t.last = phase + text
		t.publish(fleet.KindStep, fleet.StepData{Step: phase, State: "wait", Text: text})
	}
}

func (t *timeline) refused(phase string, r *refusal) {
	t.s.say("REFUSED at %s: %s: %v", phase, r.reason, r.err)
	hint := cmp.Or(r.hint, r.reason.HintFor(t.s.up.Node()))
	t.s.say("  what to do: %s", hint)
	t.publish(fleet.KindRefused, fleet.Problem{Reason: r.reason, Hint: hint, Evidence: r.err.Error()})
	t.s.forget()
}

func (t *timeline) publish(kind string, data any) {
	if err := t.s.up.Publish(fleet.SourceAgent, kind, data); err != nil {
		t.s.say("timeline: %v", err)
	}
}
