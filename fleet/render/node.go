package render

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
)

// Node is all that a page about one server shows.
type Node struct {
	Status    *fleet.Status       `json:"status,omitempty"`
	Machine   *fleet.Machine      `json:"machine,omitempty"`
	Inventory *hardware.Inventory `json:"inventory,omitempty"`
	// Accepted is the baseline that the inventory is compared with; nil where
	// there is none.
	Accepted *Accepted `json:"accepted,omitempty"`
	Timeline []Line    `json:"timeline,omitempty"`
}

// Accepted says when an operator accepted a server as it was.
type Accepted struct {
	Time time.Time `json:"time,omitzero"`
	By   string    `json:"by,omitempty"` // the ID of the operator's key
	Note string    `json:"note,omitempty"`
	// Refused is why what stands there is no operator's word.
	Refused string `json:"refused,omitempty"`
}

// Name is what people call the server.
func (n Node) Name() string {
	switch {
	case n.Machine != nil:
		return n.Machine.Name
	case n.Status != nil:
		return cmp.Or(n.Status.Name, string(n.Status.Node))
	}
	return ""
}

func phaseColor(p fleet.Phase) color {
	switch p {
	case fleet.PhaseRunning:
		return green
	case fleet.PhaseFailed, fleet.PhaseDegraded, fleet.PhaseLost:
		return red
	case fleet.PhaseOff, "":
		return dim
	case fleet.PhaseWaiting, fleet.PhasePending:
		return yellow
	}
	return cyan
}

// Nodes is a table of servers, one a line.
func Nodes(s Style, nodes []Node, now time.Time) string {
	if len(nodes) == 0 {
		return "No server was seen yet, and none is expected.\n"
	}
	var rows [][]cell
	for _, n := range nodes {
		rows = append(rows, nodeRow(n, now))
	}
	var b strings.Builder
	s.table(&b, "", []string{"NAME", "NODE", "PHASE", "SINCE", "STACK", "SERIAL", "ADDRESS", "WHAT"}, rows)
	s.pending(&b, nodes)
	return b.String()
}

// pending says of each server that waits for an operator which box it is, why
// it waits, and what to do.
func (s Style) pending(b *strings.Builder, nodes []Node) {
	head := "\n" + s.paint(bold, "Waiting for you") + "\n"
	for _, n := range nodes {
		if n.Status == nil || n.Status.Phase != fleet.PhasePending {
			continue
		}
		b.WriteString(head)
		head = ""
		st := n.Status
		what := st.Summary
		if st.Serial != "" && !strings.Contains(what, st.Serial) {
			what = words(what, "serial "+st.Serial)
		}
		what = words(what, "MAC "+strings.Join(st.MACs, " "), paren(place(st.Rack, st.Unit)))
		s.fields(b, []field{{cut(Clean(n.Name()), 16), what, plain}, {"", string(st.Reason), red}, {"", st.Hint, yellow}})
	}
}

func nodeRow(n Node, now time.Time) []cell {
	dash := func(s string) cell { return cell{text: cmp.Or(Clean(s), "-")} }
	if n.Status == nil {
		return []cell{dash(n.Name()), dash(""), {"never seen", dim}, dash(""), dash(""), dash(n.Machine.Serial), dash(""), dash("expected; power it on")}
	}
	st := n.Status
	what := cmp.Or(string(st.Reason), st.WaitingFor, st.Step, st.Summary)
	if st.Reason == "" && st.WaitingFor != "" {
		what = "waits for " + st.WaitingFor
	}
	return []cell{dash(n.Name()), dash(string(st.Node)), {Clean(string(st.Phase)), phaseColor(st.Phase)}, dash(ago(now, st.Since)),
		dash(st.Stack), dash(st.Serial), dash(st.Address), dash(what)}
}

// Page is what an operator reads about one server: where it is in its life,
// what the box is, its layers and its timeline.
func Page(s Style, n Node, now time.Time) string {
	var b strings.Builder
	if n.Status == nil {
		fmt.Fprintf(&b, "%s  never seen\n\n", s.paint(bold, Clean(n.Name())))
		s.fields(&b, machineFields(n.Machine))
		fmt.Fprintf(&b, "\nNo DHCP request and no agent of it was seen. Try: ingot node power on %s\n", Clean(n.Name()))
		return b.String()
	}
	st := n.Status
	head := s.paint(bold, Clean(n.Name()))
	if n.Name() != string(st.Node) {
		head += "  " + Clean(string(st.Node))
	}
	fmt.Fprintf(&b, "%s  %s for %s\n", head, s.paint(phaseColor(st.Phase), strings.ToUpper(Clean(string(st.Phase)))), ago(now, st.Since))
	s.fields(&b, lifeFields(*st, now))
	b.WriteString("\n")
	s.fields(&b, append(boxFields(n), placeFields(*st, now)...))
	if len(st.Layers) > 0 {
		fmt.Fprintf(&b, "\n%s\n", s.paint(bold, "Layers"))
		s.layers(&b, st.Layers, now)
	}
	if len(n.Timeline) > 0 {
		fmt.Fprintf(&b, "\n%s\n", s.paint(bold, fmt.Sprintf("Timeline of boot %d, from %s", st.Attempt, n.Timeline[0].Time.Local().Format("2006-01-02 15:04:05"))))
		b.WriteString(Lines(s, Brief(n.Timeline)))
	}
	return b.String()
}

// field is a name and its value; the value may be long and is wrapped.
type field struct {
	name, value string
	color       color
}

const fieldName = 13

func (s Style) fields(b *strings.Builder, fs []field) {
	for _, f := range fs {
		if f.value == "" {
			continue
		}
		room := 0
		if s.Width > 0 {
			room = max(s.Width-fieldName-2, 20)
		}
		for i, line := range wrap(Clean(f.value), room) {
			name := ""
			if i == 0 {
				name = f.name
			}
			fmt.Fprintf(b, "  %s%s\n", s.paint(dim, fmt.Sprintf("%-*s", fieldName, name)), s.paint(f.color, line))
		}
	}
}

// wrap breaks text at spaces into lines of at most n columns; a word that is
// longer is broken where the line ends.
func wrap(text string, n int) []string {
	if n <= 0 {
		return []string{text}
	}
	var out []string
	line := ""
	for _, w := range strings.Fields(text) {
		for r := []rune(w); len(r) > n; r = []rune(w) {
			if line != "" {
				out = append(out, line)
				line = ""
			}
			out = append(out, string(r[:n]))
			w = string(r[n:])
		}
		switch {
		case line == "":
			line = w
		case len([]rune(line))+1+len([]rune(w)) <= n:
			line += " " + w
		default:
			out = append(out, line)
			line = w
		}
	}
	return append(out, line)
}

func lifeFields(st fleet.Status, now time.Time) []field {
	fs := []field{{"step", st.Step, plain}, {"waits for", st.WaitingFor, plain}}
	if st.Deadline != nil {
		text, c := "in "+Took(st.Deadline.Sub(now))+", at "+clock(*st.Deadline), plain
		if now.After(*st.Deadline) {
			text, c = Took(now.Sub(*st.Deadline))+" ago, at "+clock(*st.Deadline), red
		}
		fs = append(fs, field{"deadline", text, c})
	}
	fs = append(fs, field{"reason", string(st.Reason), red}, field{"hint", st.Hint, yellow})
	for i, e := range st.Evidence {
		name := ""
		if i == 0 {
			name = "evidence"
		}
		fs = append(fs, field{name, clock(e.Time) + "  " + e.Text, plain})
	}
	if st.Stack != "" {
		fs = append(fs, field{"stack", words(st.Stack, paren(short(st.StackDigest))), plain})
	}
	return fs
}

func placeFields(st fleet.Status, now time.Time) []field {
	power := st.Power
	if power != "" && !st.LastSeen.IsZero() {
		power += ", last heard of " + ago(now, st.LastSeen) + " ago"
	} else if !st.LastSeen.IsZero() {
		power = "last heard of " + ago(now, st.LastSeen) + " ago"
	}
	return []field{{"place", place(st.Rack, st.Unit), plain}, {"address", words(st.Address, strings.Join(st.MACs, " ")), plain}, {"power", power, plain}}
}

func place(rack string, unit int) string {
	if rack == "" {
		return ""
	}
	return fmt.Sprintf("rack %s, unit %d", rack, unit)
}

func machineFields(m *fleet.Machine) []field {
	bmc := ""
	if m.BMC != nil {
		bmc = words(m.BMC.Address, m.BMC.Redfish, m.BMC.IPMI)
	}
	return []field{{"serial", m.Serial, plain}, {"place", place(m.Rack, m.Unit), plain}, {"MAC", strings.Join(m.MACs, " "), plain}, {"BMC", bmc, plain}}
}

// boxFields say what the box is.
func boxFields(n Node) []field {
	if n.Inventory == nil {
		serial := n.Status.Serial
		if strings.Contains(n.Status.Summary, serial) {
			serial = ""
		}
		return []field{{"box", words(n.Status.Summary, serial), plain}}
	}
	inv := n.Inventory
	sys := inv.System
	box := words(sys.Manufacturer, sys.Model)
	if sys.Serial != "" {
		box += ", serial " + sys.Serial
	}
	fs := []field{{"box", strings.TrimPrefix(box, ", "), plain}, {"", string(sys.UUID), plain},
		{"firmware", words(inv.BIOS.Vendor, inv.BIOS.Version, paren(string(inv.BIOS.Mode))), plain},
		{"CPUs", cpus(inv.CPUs), plain}, {"memory", memory(*inv), plain}}
	list := func(name string, values []string) {
		const most = 8
		for i, v := range values[:min(most, len(values))] {
			if i > 0 {
				name = ""
			}
			fs = append(fs, field{name, v, plain})
		}
		if more := len(values) - most; more > 0 {
			fs = append(fs, field{"", fmt.Sprintf("and %d more", more), plain})
		}
	}
	list("drives", drives(inv.Drives))
	list("NICs", nics(inv.NICs))
	list("BMC", compact(words(inv.BMC.Manufacturer, inv.BMC.Model, inv.BMC.Firmware, strings.Join(inv.BMC.Addresses, " "))))
	if n.Machine != nil {
		fs = append(fs, field{"bought as", n.Machine.SKU, plain})
	}
	fs = append(fs, acceptedField(n))
	all := slices.Clone(inv.Findings)
	slices.SortStableFunc(all, func(a, b hardware.Finding) int { return b.Severity.Rank() - a.Severity.Rank() })
	var findings []string
	for _, f := range all {
		findings = append(findings, f.String())
	}
	list("findings", findings)
	return fs
}

func acceptedField(n Node) field {
	a := n.Accepted
	switch {
	case a == nil:
		return field{"accepted", "no baseline; as it is now: ingot baseline accept " + n.Name(), dim}
	case a.Refused != "":
		return field{"accepted", "the baseline is passed over: " + a.Refused, red}
	}
	text := a.Time.Local().Format("2006-01-02 15:04") + " by operator " + fleet.ShortKey(a.By)
	if a.Note != "" {
		text += ": " + a.Note
	}
	return field{"accepted", text, plain}
}

func compact(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func cpus(all []hardware.CPU) string {
	if len(all) == 0 {
		return ""
	}
	cores, threads := 0, 0
	for _, c := range all {
		cores += c.Cores
		threads += c.Threads
	}
	return fmt.Sprintf("%d × %s, %d cores, %d threads", len(all), cmp.Or(all[0].Model, "CPU"), cores, threads)
}

func memory(inv hardware.Inventory) string {
	if inv.Memory.SizeBytes == 0 {
		return ""
	}
	s := Size(int64(inv.Memory.SizeBytes))
	if len(inv.DIMMs) > 0 {
		d := inv.DIMMs[0]
		s += fmt.Sprintf(" in %d DIMMs", len(inv.DIMMs))
		if kind := words(d.Manufacturer, d.Type, d.Part); kind != "" {
			s += " (" + kind + ")"
		}
	}
	return s
}

func drives(all []hardware.Drive) []string {
	var out []string
	for _, d := range all {
		out = append(out, words(d.Name, d.Model, Size(int64(d.SizeBytes)), string(d.Transport), "serial "+cmp.Or(d.Serial, "unknown")))
	}
	return out
}

func nics(all []hardware.NIC) []string {
	var out []string
	for _, d := range all {
		link := ""
		if d.LinkMbps > 0 {
			link = fmt.Sprintf("%d Mb/s", d.LinkMbps)
		}
		out = append(out, words(d.Name, string(d.MAC), d.Driver, link))
	}
	return out
}

func (s Style) layers(b *strings.Builder, layers []fleet.Layer, now time.Time) {
	var rows [][]cell
	for _, l := range layers {
		c := green
		switch l.State {
		case fleet.LayerDown:
			c = red
		case fleet.LayerStarting, fleet.LayerUnknown:
			c = yellow
		}
		rows = append(rows, []cell{{text: Clean(string(l.Layer))}, {text: Clean(l.Name)}, {Clean(string(l.State)), c},
			{text: ago(now, l.Since)}, {text: Clean(cmp.Or(words(string(l.Reason), paren(l.Evidence)), facts(l.Facts)))}})
	}
	s.table(b, "  ", []string{"LAYER", "NAME", "STATE", "SINCE", ""}, rows)
}

func facts(f map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(f)) {
		v := f[k]
		if strings.HasPrefix(v, "sha256:") || len(v) == 64 {
			v = short(v)
		}
		out = append(out, k+"="+v)
	}
	return strings.Join(out, " ")
}

// Lines draws a timeline: when, how long after the line before, who says so,
// and what happened.
func Lines(s Style, lines []Line) string {
	if len(lines) == 0 {
		return "  nothing happened yet\n"
	}
	var b strings.Builder
	var rows [][]cell
	start, prev := lines[0].Time, lines[0].Time
	for _, l := range lines {
		c := plain
		if l.Bad {
			c = red
		}
		gap := l.Time.Sub(prev)
		long := dim
		if gap >= 5*time.Second {
			long = yellow
		}
		rows = append(rows, []cell{{text: "+" + Took(l.Time.Sub(start))}, {Took(gap), long}, {string(l.Source), cyan}, {l.Text, c}})
		prev = l.Time
	}
	s.table(&b, "  ", []string{"AT", "AFTER", "FROM", "WHAT"}, rows)
	return b.String()
}

// StatusLine is a status in a few words.
func StatusLine(st fleet.Status) string {
	s := cmp.Or(string(st.Phase), "unknown")
	if st.Step != "" {
		s += ", " + cut(st.Step, 120)
	}
	if st.WaitingFor != "" {
		s += ", waits for " + st.WaitingFor
	}
	if st.Reason != "" {
		s += ", reason " + string(st.Reason)
	}
	if st.Reason != "" && len(st.Evidence) > 0 {
		s += ": " + cut(st.Evidence[len(st.Evidence)-1].Text, 160)
	}
	if st.Hint != "" {
		s += " (" + st.Hint + ")"
	}
	return cut(Clean(s), 400)
}

// EventLine is one event on one line.
func EventLine(s Style, e fleet.Event) string {
	l := tell(e)
	c := plain
	if l.Bad {
		c = red
	}
	boot := fmt.Sprintf("%d", e.Attempt)
	if e.Attempt == 0 {
		boot = "-"
	}
	head := fmt.Sprintf("%s  %-3s %-9s %-10s ", e.Time.Local().Format("15:04:05.000"), boot, e.Source, Clean(e.Kind))
	text := l.Text
	if s.Width > 0 {
		text = cut(text, max(s.Width-len([]rune(head)), 8))
	}
	return head + s.paint(c, text)
}
