package render

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
)

// Verdict is the gist of a [Why].
type Verdict string

// The verdicts.
const (
	Fine  Verdict = "fine"  // it does what it should, or gets along in time
	Waits Verdict = "waits" // nothing is wrong; a person has to decide
	Wrong Verdict = "wrong" // somebody has to look
)

// Why is the answer to the question why a node, or a service on it, is as it is.
type Why struct {
	Name    string       `json:"name"`
	Node    fleet.NodeID `json:"node,omitempty"`
	Service string       `json:"service,omitempty"`
	Verdict Verdict      `json:"verdict"`
	// Answer is one sentence.
	Answer     string      `json:"answer"`
	Phase      fleet.Phase `json:"phase,omitempty"`
	Step       string      `json:"step,omitempty"`
	WaitingFor string      `json:"waiting_for,omitempty"`
	Since      time.Time   `json:"since,omitzero"`
	Deadline   *time.Time  `json:"deadline,omitempty"`
	// Reasons explain: that of the lowest layer at fault first, then the node's.
	Reasons []fleet.Reason `json:"reasons,omitempty"`
	// Layers stand from the lowest up; Lowest is the lowest at fault.
	Layers   []fleet.Layer    `json:"layers,omitempty"`
	Lowest   *fleet.Layer     `json:"lowest,omitempty"`
	Evidence []fleet.Evidence `json:"evidence,omitempty"`
	// Hardware are the findings that somebody has to look at: what is not as it
	// was accepted or bought, and whatever is critical.
	Hardware []hardware.Finding `json:"hardware,omitempty"`
	// Events are the last that bear on it.
	Events []Line   `json:"events,omitempty"`
	Do     []string `json:"do,omitempty"`

	byHardware bool // nothing but its hardware is wrong
}

const (
	// judgeLate is how long after a deadline control must have said a reason.
	judgeLate = 30 * time.Second
	// silentLate is after which silence a node that beats is not lost only
	// because nobody writes it down.
	silentLate = 3 * time.Minute
	whyEvents  = 6
)

// Explain answers why a server, or the service on it when one is named, is as
// it is.
func Explain(n Node, service string, now time.Time) Why {
	w := Why{Name: n.Name(), Service: service}
	if n.Status == nil {
		w.Verdict, w.Answer = Waits, "Nothing is known to be wrong: it is expected and was never seen; no DHCP request and no agent of it came."
		w.Do = []string{"power it on: ingot node power on " + w.Name, "when it is on: does it boot from the network first, and is its cable in the provisioning network?"}
		return w
	}
	st := *n.Status
	w.Node, w.Phase, w.Step, w.WaitingFor, w.Since, w.Deadline = st.Node, st.Phase, st.Step, st.WaitingFor, st.Since, st.Deadline
	w.Layers, w.Evidence = st.Layers, st.Evidence
	if l, bad := fleet.LowestFault(st.Layers); bad {
		w.Lowest = &l
	}
	if st.Phase == "" {
		w.neverBooted(&st, n.Timeline)
	} else {
		w.judge(st, now)
	}
	w.judgeHardware(n.Inventory, st)
	if service != "" {
		w.judgeService(st)
	}
	w.explain(st)
	if w.Verdict != Fine || st.Phase != fleet.PhaseRunning {
		w.Events = relevant(n.Timeline)
	}
	return w
}

// neverBooted answers for a machine of which only the BMC was asked: its last
// word is the reason, where that was none.
func (w *Why) neverBooted(st *fleet.Status, timeline []Line) {
	w.Verdict, w.Answer = Waits, "Nothing is known to be wrong: it was never seen to boot."
	for _, l := range timeline {
		switch {
		case l.Reason != "" && l.Bad:
			w.Verdict, w.Answer = Wrong, "It was never seen to boot, and something is wrong with its BMC."
			st.Reason = l.Reason
		case l.Kind == fleet.KindPower && !l.Bad:
			w.Verdict, w.Answer, st.Reason = Waits, "Nothing is known to be wrong: it was never seen to boot.", ""
		}
	}
	if w.Verdict == Waits {
		w.Do = []string{"power it on: ingot node power on " + w.Name}
	}
}

// judge finds the verdict and says it in a sentence.
func (w *Why) judge(st fleet.Status, now time.Time) {
	r, known := fleet.Explain(st.Reason)
	broken := st.Phase == fleet.PhaseFailed || st.Phase == fleet.PhaseDegraded || st.Phase == fleet.PhaseLost
	beats := st.Phase == fleet.PhaseRunning || st.Phase == fleet.PhaseDegraded
	switch {
	case !broken && st.Deadline != nil && now.Sub(*st.Deadline) > judgeLate:
		w.Verdict, w.Answer = Wrong, fmt.Sprintf("Its deadline passed %s ago and nobody said so: control does not run, or its clock differs from this one.", Took(now.Sub(*st.Deadline)))
		w.Do = []string{"is ingot serve running, and what does its log say?"}
	case beats && !st.LastSeen.IsZero() && now.Sub(st.LastSeen) > silentLate:
		w.Verdict, w.Answer = Wrong, fmt.Sprintf("What is known is %s old: control does not run, or its clock differs from this one.", Took(now.Sub(st.LastSeen)))
		w.Do = []string{"is ingot serve running, and what does its log say?"}
	case broken && w.Lowest != nil && st.Phase != fleet.PhaseLost:
		w.Verdict, w.Answer = Wrong, fmt.Sprintf("The lowest layer at fault is %s: it is %s since %s.", layerName(*w.Lowest), w.Lowest.State, clock(w.Lowest.Since))
	case broken || known && (r.Class == fleet.ClassFault || r.Class == fleet.ClassRefused) || st.Reason != "" && !known:
		w.Verdict, w.Answer = Wrong, r.Meaning
		if !known {
			w.Answer = unexplained(st)
		}
	case known && r.Class == fleet.ClassWaits:
		w.Verdict, w.Answer = Waits, "Nothing is wrong: it waits for a person. "+r.Meaning
	default:
		w.Verdict, w.Answer = Fine, "Nothing is wrong: "+w.getsAlong(st, now)
	}
}

func unexplained(st fleet.Status) string {
	if st.Reason == "" {
		return fmt.Sprintf("It is in phase %s, and no reason was given.", st.Phase)
	}
	return fmt.Sprintf("It is in phase %s, for a reason that this version of Ingot does not know: %s.", st.Phase, st.Reason)
}

// getsAlong says what a node that nothing is wrong with does.
func (w *Why) getsAlong(st fleet.Status, now time.Time) string {
	switch {
	case st.Phase == fleet.PhaseRunning:
		return fmt.Sprintf("it runs %s, and all %d layers are up.", cmp.Or(st.Stack, "its stack"), len(st.Layers))
	case st.Phase == fleet.PhaseOff:
		w.Do = []string{"power it on: ingot node power on " + w.Name}
		return "it is off, its BMC says so."
	case st.Deadline != nil && now.Before(*st.Deadline):
		return fmt.Sprintf("it is in phase %s and has %s left for it.", st.Phase, Took(st.Deadline.Sub(now)))
	}
	return fmt.Sprintf("it is in phase %s.", cmp.Or(string(st.Phase), "none"))
}

// judgeService narrows the verdict to one service: where that is up, what else
// is wrong with the node is said, and is not the service's.
func (w *Why) judgeService(st fleet.Status) {
	i := slices.IndexFunc(st.Layers, func(l fleet.Layer) bool { return l.Layer == fleet.LayerService && l.Name == w.Service })
	if i < 0 || st.Layers[i].State != fleet.LayerUp || st.Phase == fleet.PhaseLost {
		return
	}
	answer := fmt.Sprintf("Nothing is wrong with %s: it is up since %s.", layerName(st.Layers[i]), clock(st.Layers[i].Since))
	if w.Verdict == Wrong {
		answer += " But of the node: " + w.Answer
	}
	w.Verdict, w.Answer = Fine, answer
}

// explain adds what the table of reasons knows, and what to do.
func (w *Why) explain(st fleet.Status) {
	codes := []fleet.ReasonCode{st.Reason}
	if w.byLayer() {
		codes = []fleet.ReasonCode{w.Lowest.Reason, st.Reason}
	}
	if w.byHardware {
		codes = append([]fleet.ReasonCode{fleet.ReasonCode(w.Hardware[0].Code)}, codes...)
	}
	var hints []string
	for _, c := range slices.Compact(codes) {
		if c == "" {
			continue
		}
		r, known := fleet.Explain(c)
		if !known {
			r = fleet.Reason{Code: c, Meaning: "The table of reasons of this version lacks it; another version of Ingot gave it."}
		}
		hints = append(hints, r.Hint)
		r.Hint, r.Evidence = w.fill(r.Hint, st), w.fill(r.Evidence, st)
		w.Reasons = append(w.Reasons, r)
	}
	own := st.Hint
	if st.Node != "" {
		own = strings.ReplaceAll(own, string(st.Node), "NODE")
	}
	if own != "" && !slices.Contains(hints, own) {
		hints = append([]string{own}, hints...)
	}
	for _, h := range hints {
		if h = w.fill(h, st); h != "" && !slices.Contains(w.Do, h) && !strings.Contains(h, "ingot why "+w.Name) {
			w.Do = append(w.Do, h)
		}
	}
}

var placeholder = regexp.MustCompile(`\b(NODE|STACK|VM)\b`)

// fill puts the names at hand into a hint.
func (w *Why) fill(hint string, st fleet.Status) string {
	return placeholder.ReplaceAllStringFunc(hint, func(word string) string {
		switch {
		case word == "NODE":
			return w.Name
		case word == "STACK":
			return cmp.Or(st.Stack, word)
		}
		return word
	})
}

// byLayer says whether a layer explains what is wrong. That of a node which is
// silent is only the last that was heard.
func (w *Why) byLayer() bool {
	return w.Lowest != nil && w.Verdict == Wrong && w.Phase != fleet.PhaseLost
}

func layerName(l fleet.Layer) string {
	if l.Name == string(l.Layer) {
		return l.Name
	}
	return string(l.Layer) + " " + l.Name
}

// relevant are the last lines that say what went wrong or what is waited for;
// where there are none, the last ones.
func relevant(timeline []Line) []Line {
	brief := Brief(timeline)
	var out []Line
	went := 0 // what was waited for before came
	for i, l := range brief {
		if l.Kind == fleet.KindGranted || l.Kind == fleet.KindHandoff {
			went = i
		}
	}
	for i, l := range brief {
		done := l.Kind == fleet.KindCommand || l.Kind == fleet.KindPower // by somebody
		if l.Bad && l.Kind != fleet.KindTFTP || (l.waits || done) && i > went || i == len(brief)-1 {
			out = append(out, l)
		}
	}
	if len(out) < 2 {
		return brief[max(0, len(brief)-3):]
	}
	return out[max(0, len(out)-whyEvents):]
}

// Page is the answer as a person reads it.
func (w Why) Page(s Style, now time.Time) string {
	var b strings.Builder
	head := s.paint(bold, Clean(w.Name))
	if w.Service != "" {
		head = s.paint(bold, Clean(w.Service)) + " on " + head
	}
	if w.Name != string(w.Node) {
		head = words(head, "", Clean(string(w.Node)))
	}
	if w.Phase == "" {
		fmt.Fprintf(&b, "%s: never seen\n", head)
	} else {
		fmt.Fprintf(&b, "%s: %s for %s\n", head, s.paint(phaseColor(w.Phase), strings.ToUpper(Clean(string(w.Phase)))), ago(now, w.Since))
	}
	c := map[Verdict]color{Fine: green, Waits: yellow, Wrong: red}[w.Verdict]
	for _, line := range wrap(Clean(w.Answer), s.Width) {
		b.WriteString(s.paint(c, line) + "\n")
	}
	if fs := w.fields(now); len(fs) > 0 {
		b.WriteString("\n")
		s.fields(&b, fs)
	}
	if len(w.Layers) > 0 {
		title := "Layers, from the lowest up"
		if w.Phase == fleet.PhaseLost {
			title += ", as they were last heard"
		}
		fmt.Fprintf(&b, "\n%s\n", s.paint(bold, title))
		s.whyLayers(&b, w, now)
	}
	if len(w.Events) > 0 {
		fmt.Fprintf(&b, "\n%s\n", s.paint(bold, "Last events that bear on it"))
		s.whyLines(&b, w.Events)
	}
	s.whatToDo(&b, w)
	return b.String()
}

func (w Why) fields(now time.Time) []field {
	var fs []field
	if w.Phase != "" {
		fs = []field{{"step", w.step(), plain}, {"waits for", w.WaitingFor, plain}}
	}
	if !w.Since.IsZero() {
		fs = append(fs, field{"since", clock(w.Since) + ", " + ago(now, w.Since) + " ago", plain})
	}
	if w.Deadline != nil {
		text, c := clock(*w.Deadline)+", in "+Took(w.Deadline.Sub(now)), plain
		if now.After(*w.Deadline) {
			text, c = clock(*w.Deadline)+", "+ago(now, *w.Deadline)+" ago", red
		}
		fs = append(fs, field{"deadline", text, c})
	}
	for i, r := range w.Reasons {
		text := string(r.Code)
		if !strings.Contains(w.Answer, r.Meaning) {
			text += ": " + r.Meaning
		}
		fs = append(fs, field{first(i, "reason"), text, classColor(r.Class)})
	}
	if w.Verdict == Wrong && len(w.Reasons) > 0 {
		for i, c := range w.Reasons[0].Causes {
			fs = append(fs, field{first(i, "may be"), c, plain})
		}
		fs = append(fs, field{"look at", w.Reasons[0].Evidence, plain})
	}
	for i, h := range w.Hardware[:min(len(w.Hardware), whyEvents)] {
		fs = append(fs, field{first(i, "hardware"), h.String(), red})
	}
	if more := len(w.Hardware) - whyEvents; more > 0 {
		fs = append(fs, field{"", fmt.Sprintf("and %d more: ingot node findings %s", more, w.Name), plain})
	}
	for i, e := range w.seen() {
		fs = append(fs, field{first(i, "evidence"), clock(e.Time) + "  " + e.Text, plain})
	}
	return fs
}

// step is the step of the status, where that says more than the layers.
func (w Why) step() string {
	if w.Lowest != nil && strings.HasPrefix(w.Step, layerName(*w.Lowest)+" is ") {
		return ""
	}
	return w.Step
}

// seen is the evidence: of the lowest layer at fault in full, then what the
// status holds beside it.
func (w Why) seen() []fleet.Evidence {
	if !w.byLayer() || w.Lowest.Evidence == "" {
		return w.Evidence
	}
	name := layerName(*w.Lowest)
	out := []fleet.Evidence{{Time: w.Lowest.Since, Text: strings.TrimSpace(name + ": " + w.Lowest.Evidence)}}
	for _, e := range w.Evidence {
		if !strings.HasPrefix(e.Text, name+" is ") && e.Text != w.Lowest.Evidence {
			out = append(out, e)
		}
	}
	return out
}

// briefText is how much of a text stands in a row; the evidence has it in full.
const briefText = 100

// whyLayers is the table of layers with a mark at the lowest at fault.
func (s Style) whyLayers(b *strings.Builder, w Why, now time.Time) {
	var rows [][]cell
	marked := false
	for _, l := range w.Layers {
		mark, c := " ", green
		if l.State != fleet.LayerUp {
			c = yellow
		}
		if l.State == fleet.LayerDown {
			c = red
		}
		if w.Lowest != nil && !marked && l.Layer == w.Lowest.Layer && l.Name == w.Lowest.Name {
			mark, marked = ">", true
		}
		rows = append(rows, []cell{{mark, red}, {text: Clean(string(l.Layer))}, {text: Clean(l.Name)}, {Clean(string(l.State)), c},
			{text: clock(l.Since)}, {text: ago(now, l.Since)}, {text: cut(Clean(words(string(l.Reason), paren(l.Evidence))), briefText)}})
	}
	s.table(b, "", []string{" ", "LAYER", "NAME", "STATE", "SINCE", "FOR", ""}, rows)
}

func (s Style) whyLines(b *strings.Builder, lines []Line) {
	var rows [][]cell
	for _, l := range lines {
		c := plain
		if l.Bad {
			c = red
		}
		rows = append(rows, []cell{{text: clock(l.Time)}, {string(l.Source), cyan}, {cut(l.Text, briefText), c}})
	}
	s.table(b, "  ", []string{"TIME", "FROM", "WHAT"}, rows)
}

func (s Style) whatToDo(b *strings.Builder, w Why) {
	if len(w.Do) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", s.paint(bold, "What to do"))
	for _, d := range w.Do {
		room := 0
		if s.Width > 0 {
			room = max(s.Width-4, 20)
		}
		for i, line := range wrap(Clean(d), room) {
			bullet := "  "
			if i == 0 {
				bullet = "- "
			}
			fmt.Fprintf(b, "  %s%s\n", bullet, line)
		}
	}
}
