package render

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/fleet"
)

// Line is one line of a timeline.
type Line struct {
	Time   time.Time    `json:"time"`
	Source fleet.Source `json:"source"`
	Kind   string       `json:"kind"`
	// Step is what the line is called in figures: "agent.network".
	Step string `json:"step"`
	Text string `json:"text"`
	// Start is when what the line tells began; Seconds how long it took.
	Start   time.Time `json:"start"`
	Seconds float64   `json:"seconds"`
	// Bad marks what went wrong; Reason is its code, where one was given.
	Bad    bool             `json:"bad,omitempty"`
	Reason fleet.ReasonCode `json:"reason,omitempty"`

	quiet bool // it says that a step is done, and no more
	waits bool // it says what is waited for
}

// Attempt returns the events of the attempt-th boot out of all events of a
// server. The boot server and the BMC do not always know the number: what they
// saw belongs to the boot that followed it.
func Attempt(events []fleet.Event, attempt int64) []fleet.Event {
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b fleet.Event) int { return a.Time.Compare(b.Time) })
	first, last := 0, len(sorted)
	for i, e := range sorted {
		if e.Attempt != 0 && e.Attempt < attempt {
			first = i + 1
		}
	}
	for i := first; i < len(sorted); i++ {
		if sorted[i].Attempt > attempt {
			last = i
			break
		}
	}
	own := slices.DeleteFunc(slices.Clone(sorted[first:last]), func(e fleet.Event) bool {
		return e.Attempt != 0 && e.Attempt != attempt
	})
	// The boot begins with its power button, where one was pressed.
	for i := len(own) - 1; i >= 0; i-- {
		if own[i].Attempt == 0 && own[i].Kind == fleet.KindPower && starts(own[i]) && unnumbered(own[:i]) {
			return own[i:]
		}
	}
	return own
}

func starts(e fleet.Event) bool {
	var d fleet.PowerData
	return json.Unmarshal(e.Data, &d) == nil && d.Action != "off"
}

func unnumbered(events []fleet.Event) bool {
	return !slices.ContainsFunc(events, func(e fleet.Event) bool { return e.Attempt != 0 })
}

// Timeline tells the events of one boot in order. What only says that a step
// began or went on is left out once a later line tells its end.
func Timeline(events []fleet.Event) []Line {
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b fleet.Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Seq, b.Seq))
	})
	var out []Line
	var prev time.Time
	for i, e := range sorted {
		key, done := progress(e)
		if key != "" && !done && slices.ContainsFunc(sorted[i+1:], func(l fleet.Event) bool {
			k, _ := progress(l)
			return k == key && l.BootID == e.BootID
		}) {
			continue
		}
		if prev.IsZero() {
			prev = e.Time
		}
		l := tell(e)
		l.Start = prev
		if l.Seconds > 0 {
			l.Start = e.Time.Add(-time.Duration(l.Seconds * float64(time.Second)))
		}
		l.Seconds = float64(e.Time.Sub(l.Start).Milliseconds()) / 1000
		prev = e.Time
		out = append(out, l)
	}
	return out
}

// minor is how short a step is that says nothing and is not shown.
const minor = 0.25

// Brief leaves out of a timeline what tells a person nothing: requests that
// were answered at once, files that the agent says it fetched, steps that took
// no time. What went wrong always stays.
func Brief(lines []Line) []Line {
	var out []Line
	for i, l := range lines {
		var next Line
		if i+1 < len(lines) {
			next = lines[i+1]
		}
		if l.Bad && l.Kind != fleet.KindTFTP || !l.dull(next) {
			out = append(out, l)
		}
	}
	return out
}

func (l Line) dull(next Line) bool {
	switch {
	case l.Kind == fleet.KindDHCP:
		return next.Kind == fleet.KindDHCP && next.Source == l.Source
	case l.Kind == fleet.KindTFTP:
		return l.Step == next.Step // firmware asks for the size first and breaks off
	case l.Kind == fleet.KindHTTP:
		return strings.Contains(l.Text, "/blobs/") || l.Step == "netboot.http."
	case l.Kind == fleet.KindPower:
		return l.Step == "bmc.power.read"
	case l.Kind == fleet.KindStep:
		return l.quiet && (l.Seconds < minor || next.Step == l.Step)
	}
	return false
}

// progress names what an event is a step on the way of; done says that it is
// the end.
func progress(e fleet.Event) (key string, done bool) {
	switch e.Kind {
	case fleet.KindStep:
		var d fleet.StepData
		if json.Unmarshal(e.Data, &d) != nil {
			return "", true
		}
		return "step/" + string(e.Source) + "/" + d.Step, d.State == "done"
	case fleet.KindFetch:
		var d fleet.FetchData
		if json.Unmarshal(e.Data, &d) != nil {
			return "", true
		}
		return "fetch/" + d.Digest, d.DoneBytes == d.TotalBytes
	case fleet.KindLayer:
		var d fleet.Layer
		if json.Unmarshal(e.Data, &d) != nil {
			return "", true
		}
		return "layer/" + string(d.Layer) + "/" + d.Name, d.State != fleet.LayerStarting && d.State != fleet.LayerUnknown
	}
	return "", true
}

func read[T any](e fleet.Event) (v T) {
	if len(e.Data) > 0 && json.Unmarshal(e.Data, &v) != nil {
		var zero T
		return zero
	}
	return v
}

// tellers say what each kind of event means, in a line.
var tellers = map[string]func(fleet.Event) Line{
	fleet.KindDHCP: tellNetboot, fleet.KindTFTP: tellNetboot, fleet.KindHTTP: tellNetboot,
	fleet.KindPower: tellPower,
	fleet.KindEnrolled: func(e fleet.Event) Line {
		d := read[fleet.EnrolledData](e)
		return Line{Step: "enrolled." + d.Role, Text: words(d.Role+" enrolled as "+d.Level, "by policy "+d.Policy, paren(d.Address))}
	},
	fleet.KindPending: func(e fleet.Event) Line {
		d := read[fleet.EnrolledData](e)
		return Line{Text: words("asks to be let in:", d.Summary, paren(d.Address)+":", string(d.Reason)), Bad: d.Reason != "" && d.Reason != fleet.ReasonNotAccepted}
	},
	fleet.KindApproved: tellWord("approved", false),
	fleet.KindRejected: tellWord("rejected", true),
	fleet.KindRevoked:  tellWord("revoked", true),
	fleet.KindAssigned: func(e fleet.Event) Line {
		d := read[fleet.AssignedData](e)
		return Line{Text: words("assigned", d.Stack, paren(short(d.Digest)), "by rule "+d.Rule)}
	},
	fleet.KindGranted: func(e fleet.Event) Line {
		d := read[fleet.AssignedData](e)
		return Line{Text: words("granted", d.Stack, paren(short(d.Digest)))}
	},
	fleet.KindVerified: func(e fleet.Event) Line {
		d := read[fleet.AssignedData](e)
		return Line{Text: words("verified grant, rule, manifest and files of", d.Stack, paren(short(d.Digest)))}
	},
	fleet.KindInit:    tellStep,
	fleet.KindStep:    tellStep,
	fleet.KindWaiting: tellStep,
	fleet.KindReport: func(e fleet.Event) Line {
		d := read[fleet.ReportData](e)
		return Line{Text: words("reported:", d.Summary), Seconds: d.Seconds}
	},
	fleet.KindInventory: func(e fleet.Event) Line {
		d := read[fleet.ReportData](e)
		return Line{Text: words("read more of the hardware:", d.Summary), Seconds: d.Seconds}
	},
	fleet.KindFetch: func(e fleet.Event) Line {
		d := read[fleet.FetchData](e)
		l := Line{Step: "fetch." + d.Name, Text: words("fetched", d.Name, Size(d.DoneBytes)), Seconds: d.Seconds}
		if d.DoneBytes < d.TotalBytes {
			l.Text = fmt.Sprintf("fetches %s: %s of %s", d.Name, Size(d.DoneBytes), Size(d.TotalBytes))
		}
		return l
	},
	fleet.KindHandoff: func(e fleet.Event) Line {
		d := read[fleet.HandoffData](e)
		return Line{Text: words("jumps into", d.Stack, "; first contact is due by "+clock(d.Deadline))}
	},
	fleet.KindRefused:   tellProblem("refused"),
	fleet.KindFailed:    tellProblem("failed"),
	fleet.KindBMCFailed: tellProblem("BMC"),
	fleet.KindLayer:     tellLayer,
	fleet.KindResumed: func(e fleet.Event) Line {
		return Line{Text: words("resumed:", read[fleet.StepData](e).Text)}
	},
	fleet.KindFinding: tellProblem("found"),
	fleet.KindRedfish: func(e fleet.Event) Line {
		d := read[fleet.ReportData](e)
		return Line{Text: words("read over Redfish:", d.Summary), Seconds: d.Seconds}
	},
	fleet.KindCommand: func(e fleet.Event) Line {
		d := read[fleet.CommandData](e)
		l := Line{Step: "command." + d.Verb, Text: words("command", d.Verb+":", d.Text, string(d.Reason)), Bad: !d.OK}
		if d.Evidence != "" {
			l.Text += ": " + d.Evidence
		}
		return l
	},
}

func tell(e fleet.Event) Line {
	l := Line{}
	if f, ok := tellers[e.Kind]; ok {
		l = f(e)
	} else {
		l.Text = words(e.Kind, digest(e.Data))
	}
	l.Time, l.Source, l.Kind, l.Text = e.Time, e.Source, e.Kind, Clean(l.Text)
	l.Step = Clean(string(e.Source) + "." + cmp.Or(l.Step, e.Kind))
	return l
}

// digest shows the data of an event of an unknown kind.
func digest(data json.RawMessage) string {
	var m map[string]any
	if json.Unmarshal(data, &m) != nil {
		return ""
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s=%v", k, m[k]))
	}
	return cut(strings.Join(out, " "), 160)
}

func tellNetboot(e fleet.Event) Line {
	d := read[fleet.NetbootData](e)
	l := Line{Step: e.Kind, Seconds: d.Seconds, Bad: d.Error != "" && d.File != "/"}
	size := ""
	if d.SizeBytes > 0 {
		size = Size(d.SizeBytes)
	}
	if d.File != "" {
		name := d.File[strings.LastIndex(d.File, "/")+1:]
		if strings.Contains(d.File, "/blobs/") {
			name = "blob-" + short(name)
		}
		l.Step += "." + name
	} else if d.Step != "" {
		l.Step += "." + d.Step
	}
	l.Text = words(strings.ToUpper(e.Kind), d.Step, d.File, size, d.Address, paren(d.Firmware), d.Error)
	return l
}

func tellPower(e fleet.Event) Line {
	d := read[fleet.PowerData](e)
	l := Line{Step: "power." + d.Action, Text: words("power", d.Action), Bad: d.Error != ""}
	if d.Via != "" {
		l.Text += " over " + d.Via
	}
	if d.By != "" {
		l.Text += " by " + d.By
	}
	if d.State != "" {
		l.Text += ": BMC says " + d.State
	}
	if d.Error != "" {
		l.Text += ": " + d.Error
		l.Reason = cmp.Or(d.Reason, fleet.ReasonBMCFailed)
	}
	return l
}

func tellStep(e fleet.Event) Line {
	d := read[fleet.StepData](e)
	l := Line{Step: cmp.Or(d.Step, e.Kind), Seconds: d.Seconds}
	switch {
	case e.Kind == fleet.KindWaiting:
		l.Step, l.Text, l.Seconds = "waiting", words("waits", cmp.Or(d.Text, "for an assignment")), 0
		l.waits = true
	case e.Kind == fleet.KindInit:
		l.Step, l.Text = "init", words("/init runs", d.Text)
	case d.State == "begin":
		l.Text = words(d.Step, "began", d.Text)
	case d.State == "wait":
		l.Text, l.waits = words(d.Step, "waits:", d.Text), true
	default:
		l.quiet = d.Text == ""
		l.Text = words(d.Step+":", cmp.Or(d.Text, "done"))
	}
	return l
}

func tellWord(what string, bad bool) func(fleet.Event) Line {
	return func(e fleet.Event) Line {
		d := read[fleet.ApprovalData](e)
		l := Line{Text: words(what, "by operator", fleet.ShortKey(d.By), paren(d.Note)), Bad: bad}
		if len(d.Ended) > 0 {
			l.Text += "; its session ended"
		}
		return l
	}
}

func tellProblem(what string) func(fleet.Event) Line {
	return func(e fleet.Event) Line {
		d := read[fleet.Problem](e)
		l := Line{Step: e.Kind, Text: words(what+":", string(d.Reason)), Bad: true, Reason: d.Reason}
		if d.Evidence != "" {
			l.Text += ": " + d.Evidence
		}
		return l
	}
}

func tellLayer(e fleet.Event) Line {
	d := read[fleet.Layer](e)
	l := Line{Step: string(d.Layer) + "." + string(d.State), Bad: d.State == fleet.LayerDown}
	name := d.Name
	if name == string(d.Layer) {
		name = ""
	}
	l.Text = words(string(d.Layer), name, string(d.State))
	if d.Reason != "" {
		l.Text += ": " + string(d.Reason)
	}
	if d.Evidence != "" {
		l.Text += " (" + d.Evidence + ")"
	}
	return l
}

// words joins what is not empty.
func words(w ...string) string {
	w = slices.DeleteFunc(w, func(s string) bool { return strings.TrimSpace(s) == "" })
	return strings.ReplaceAll(strings.Join(w, " "), " ;", ";")
}

func paren(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

func clock(t time.Time) string { return t.Local().Format("15:04:05") }
