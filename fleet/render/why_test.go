package render

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
)

// TestWhyPages answers for every recorded server.
func TestWhyPages(t *testing.T) {
	t.Setenv("TZ", "UTC")
	time.Local = time.UTC
	cases, err := filepath.Glob("testdata/*.json")
	if err != nil || len(cases) < 6 {
		t.Fatalf("testdata holds %d recorded servers, want at least 6 (%v)", len(cases), err)
	}
	for _, path := range cases {
		n, r := load(t, path)
		w := Explain(n, "", r.Now)
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		golden(t, name+".why.txt", w.Page(Style{}, r.Now))
		narrow := w.Page(Style{Width: 80}, r.Now)
		golden(t, name+".why.80.txt", narrow)
		for _, line := range strings.Split(narrow, "\n") {
			if len([]rune(line)) > 80 {
				t.Errorf("%s: a line of %d columns: %q", path, len([]rune(line)), line)
			}
		}
	}
	golden(t, "reason.golden", Reason(Style{Width: 80}, fleet.Reasons()[0])+"\n"+Reasons(Style{Width: 100}, fleet.Reasons()[:5]))
}

func layersOf(states ...fleet.LayerState) []fleet.Layer {
	all := []fleet.Layer{{Layer: fleet.LayerHost, Name: "host"}, {Layer: fleet.LayerHypervisor, Name: "kvm"}, {Layer: fleet.LayerVM, Name: "vm0"},
		{Layer: fleet.LayerContainer, Name: "hello"}, {Layer: fleet.LayerService, Name: "hello"}}
	for i, s := range states {
		all[i].State = s
		if s == fleet.LayerDown {
			all[i].Reason = fleet.ReasonQEMUExited
		}
	}
	return all[:len(states)]
}

func TestVerdicts(t *testing.T) {
	const up, down, starting, unknown = fleet.LayerUp, fleet.LayerDown, fleet.LayerStarting, fleet.LayerUnknown
	now := time.Date(2026, 11, 22, 22, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *time.Time { x := now.Add(d); return &x }
	for name, tt := range map[string]struct {
		st      fleet.Status
		service string
		verdict Verdict
		answer  string // part of it
		lowest  fleet.LayerName
		do      string // part of the first
	}{
		"runs":                   {fleet.Status{Phase: fleet.PhaseRunning, Stack: "hello:1", LastSeen: now, Layers: layersOf(up, up, up, up, up)}, "", Fine, "it runs hello:1, and all 5 layers are up", "", ""},
		"only its BMC was asked": {fleet.Status{}, "", Waits, "never seen to boot", "", "ingot node power on r1u1"},
		"off":                    {fleet.Status{Phase: fleet.PhaseOff}, "", Fine, "it is off", "", "ingot node power on r1u1"},
		"in time":                {fleet.Status{Phase: fleet.PhaseBooting, Deadline: at(time.Minute)}, "", Fine, "has 1m00s left", "", ""},
		"starts in time": {fleet.Status{Phase: fleet.PhaseStarting, Deadline: at(time.Minute), Layers: layersOf(up, up, starting, unknown, unknown)}, "", Fine,
			"it is in phase starting and has", fleet.LayerVM, ""},
		"overdue, and control is silent": {fleet.Status{Phase: fleet.PhaseBooting, Deadline: at(-time.Minute)}, "", Wrong, "nobody said so", "", "ingot serve"},
		"runs, and control is silent":    {fleet.Status{Phase: fleet.PhaseRunning, LastSeen: *at(-time.Hour), Layers: layersOf(up)}, "", Wrong, "is 1h00m old", "", "ingot serve"},
		"no assignment":                  {fleet.Status{Phase: fleet.PhaseWaiting, Reason: fleet.ReasonNoAssignment}, "", Waits, "waits for a person", "", "ingot assign r1u1 STACK"},
		"refused while it waits":         {fleet.Status{Phase: fleet.PhaseWaiting, Reason: "signature-invalid"}, "", Wrong, "no valid signature", "", "ingot stack sign STACK"},
		"several rules":                  {fleet.Status{Phase: fleet.PhaseWaiting, Reason: fleet.ReasonSeveralRules}, "", Fine, "it is in phase waiting", "", "ingot assign r1u1"},
		"a code of another version":      {fleet.Status{Phase: fleet.PhaseWaiting, Reason: "from-the-future", Hint: "wait for NODE"}, "", Wrong, "does not know", "", "wait for r1u1"},
		"failed without a reason":        {fleet.Status{Phase: fleet.PhaseFailed}, "", Wrong, "no reason was given", "", ""},
		"lost goes before its layers":    {fleet.Status{Phase: fleet.PhaseLost, Reason: fleet.ReasonHeartbeatSilent, Layers: layersOf(up, up, down)}, "", Wrong, "not heard for three heartbeats", fleet.LayerVM, ""},
		"a hint that names the node":     {fleet.Status{Phase: fleet.PhasePending, Reason: fleet.ReasonNotAccepted, Hint: fleet.ReasonNotAccepted.HintFor("n-1")}, "", Waits, "waits for a person", "", "ingot node approve r1u1"},
		"degraded": {fleet.Status{Phase: fleet.PhaseDegraded, Reason: fleet.ReasonVMDown, Hint: fleet.ReasonVMDown.Hint(), Stack: "hello:1", LastSeen: now,
			Layers: layersOf(up, up, down, unknown, unknown)}, "", Wrong, "lowest layer at fault is vm vm0: it is down since", fleet.LayerVM, "read QEMU's last words; ingot node power cycle r1u1"},
		"a service that is down with its VM": {fleet.Status{Phase: fleet.PhaseDegraded, Reason: fleet.ReasonVMDown, LastSeen: now, Layers: layersOf(up, up, down, unknown, unknown)},
			"hello", Wrong, "lowest layer at fault is vm vm0", fleet.LayerVM, "read QEMU's"},
		"a service that is up on a degraded node": {fleet.Status{Phase: fleet.PhaseDegraded, Reason: fleet.ReasonVMDown, LastSeen: now, Layers: layersOf(up, up, down, up, up)},
			"hello", Fine, "Nothing is wrong with service hello", fleet.LayerVM, ""},
		"a service on a lost node": {fleet.Status{Phase: fleet.PhaseLost, Reason: fleet.ReasonHeartbeatSilent, Layers: layersOf(up, up, up, up, up)}, "hello", Wrong, "not heard", "", "is it powered"},
	} {
		tt.st.Node, tt.st.Name = "n-1", "r1u1"
		w := Explain(Node{Status: &tt.st}, tt.service, now)
		if w.Verdict != tt.verdict || !strings.Contains(w.Answer, tt.answer) {
			t.Errorf("%s: %s, %q; want %s and %q", name, w.Verdict, w.Answer, tt.verdict, tt.answer)
		}
		switch {
		case tt.lowest == "" && w.Lowest != nil, tt.lowest != "" && (w.Lowest == nil || w.Lowest.Layer != tt.lowest):
			t.Errorf("%s: lowest is %+v; want %q", name, w.Lowest, tt.lowest)
		}
		if tt.do != "" && (len(w.Do) == 0 || !strings.Contains(strings.Join(w.Do, "\n"), tt.do)) {
			t.Errorf("%s: do %q; want %q", name, w.Do, tt.do)
		}
		if tt.st.Hint != "" && len(w.Do) != len(w.Reasons) {
			t.Errorf("%s: do %q says a thing twice", name, w.Do)
		}
		if w.Verdict == Wrong && len(w.Do) == 0 && tt.st.Reason != "" {
			t.Errorf("%s: something is wrong and nothing is to be done", name)
		}
	}
}

// Every reason that a status may carry gets a page with what to do about it.
func TestWhyOfEveryReason(t *testing.T) {
	now := time.Date(2026, 11, 22, 22, 0, 0, 0, time.UTC)
	for _, r := range fleet.Reasons() {
		st := fleet.Status{Node: "n-1", Name: "r1u1", Phase: fleet.PhaseFailed, Reason: r.Code, Hint: r.Hint}
		page := Explain(Node{Status: &st}, "", now).Page(Style{}, now)
		for _, want := range []string{r.Meaning, string(r.Code), r.Causes[0], strings.ReplaceAll(r.Evidence, "NODE", "r1u1"), "What to do"} {
			if !strings.Contains(page, want) && !strings.Contains(r.Hint, "ingot why") {
				t.Errorf("%s: the page lacks %q:\n%s", r.Code, want, page)
			}
		}
		if strings.Contains(page, "NODE") {
			t.Errorf("%s: the page does not name the node:\n%s", r.Code, page)
		}
	}
}

func TestWhyDisarmsHostileText(t *testing.T) {
	evil := "\x1b]0;owned\x07\x1b[2Jrm\r\n\u202e"
	st := &fleet.Status{Node: "n-1", Name: evil, Phase: fleet.Phase(evil), Reason: fleet.ReasonCode(evil), Hint: evil, Step: evil, WaitingFor: evil, Stack: evil,
		Evidence: []fleet.Evidence{{Text: evil}}, Layers: []fleet.Layer{{Layer: fleet.LayerName(evil), Name: evil, State: fleet.LayerState(evil), Reason: fleet.ReasonCode(evil), Evidence: evil}}}
	page := Explain(Node{Status: st}, evil, time.Time{}).Page(Style{}, time.Time{})
	if i := strings.IndexAny(page, "\x1b\x07\r\u202e"); i >= 0 {
		t.Errorf("a control character is let through: %q", page[max(0, i-20):i+1])
	}
}

// A machine of which only the BMC was heard: its last word counts.
func TestWhyOfABMC(t *testing.T) {
	now := time.Date(2026, 11, 22, 22, 0, 0, 0, time.UTC)
	silent := Line{Kind: fleet.KindBMCFailed, Bad: true, Reason: fleet.ReasonBMCSilent, Text: "BMC: bmc-silent: refused"}
	failed := tellPower(fleet.Event{Kind: fleet.KindPower, Data: []byte(`{"action":"on","via":"ipmi","error":"it hangs"}`)})
	failed.Kind = fleet.KindPower
	answers := Line{Kind: fleet.KindPower, Text: "power read: BMC says off"}
	for name, tt := range map[string]struct {
		timeline []Line
		want     Verdict
		do       string
	}{
		"silent":           {[]Line{silent}, Wrong, "--bmc-credentials"},
		"does not obey":    {[]Line{answers, failed}, Wrong, "--via redfish or ipmi"},
		"heard again":      {[]Line{silent, answers}, Waits, "power it on"},
		"silent once more": {[]Line{answers, silent}, Wrong, "--bmc-credentials"},
	} {
		w := Explain(Node{Status: &fleet.Status{Node: "seen-r1u1", Name: "r1u1"}, Timeline: tt.timeline}, "", now)
		if w.Verdict != tt.want || len(w.Do) == 0 || !strings.Contains(w.Do[0], tt.do) {
			t.Errorf("%s: %s, %q, do %q; want %s and %q", name, w.Verdict, w.Answer, w.Do, tt.want, tt.do)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    int
		want string
	}{
		{"a b c", 3, "a b/c"}, {"abcdefgh", 3, "abc/def/gh"}, {"a abcdef b", 3, "a/abc/def/b"}, {"abcdefg h", 3, "abc/def/g h"}, {"", 3, ""}, {"a  b", 0, "a  b"}, {"äöüß", 2, "äö/üß"},
	} {
		if got := strings.Join(wrap(tt.text, tt.n), "/"); got != tt.want {
			t.Errorf("wrap(%q, %d) = %q; want %q", tt.text, tt.n, got, tt.want)
		}
	}
}

// What is not as it was accepted or bought is wrong where it is less, and is
// said beside what else is wrong; the rest of what was found is not.
func TestHardwareIsAVerdict(t *testing.T) {
	now := time.Date(2026, 11, 22, 22, 0, 0, 0, time.UTC)
	lost := hardware.Finding{Code: hardware.CodeBaselineDiffers, Severity: hardware.Warning, Part: "dimm B1", Evidence: "gone: dimm B1", Hint: "look at this part"}
	more := hardware.Finding{Code: hardware.CodeBaselineDiffers, Severity: hardware.Info, Part: "bios", Evidence: "changed"}
	other := hardware.Finding{Code: hardware.CodeUUIDDisagrees, Severity: hardware.Warning, Part: "system"}
	dying := hardware.Finding{Code: "drive-failing", Severity: hardware.Critical, Part: "drive sda", Evidence: "SMART says failing"}
	running := fleet.Status{Phase: fleet.PhaseRunning, Stack: "hello:1", LastSeen: now, Layers: layersOf(fleet.LayerUp)}
	for name, tt := range map[string]struct {
		st       fleet.Status
		findings []hardware.Finding
		verdict  Verdict
		answer   string
		code     fleet.ReasonCode // of the first reason
	}{
		"nothing":              {running, []hardware.Finding{more, other}, Fine, "Nothing is wrong: it runs hello:1", ""},
		"a loss":               {running, []hardware.Finding{more, lost}, Wrong, "as it should be: gone: dimm B1. Beside that nothing is wrong: it runs hello:1", "baseline-differs"},
		"the gravest first":    {running, []hardware.Finding{lost, dying}, Wrong, "drive sda: SMART says failing, and 1 more. Beside", "drive-failing"},
		"while it waits":       {fleet.Status{Phase: fleet.PhaseWaiting, Reason: fleet.ReasonNoAssignment}, []hardware.Finding{lost}, Wrong, "gone: dimm B1", "baseline-differs"},
		"beside another fault": {fleet.Status{Phase: fleet.PhaseLost, Reason: fleet.ReasonHeartbeatSilent}, []hardware.Finding{lost}, Wrong, "not heard for three heartbeats", "heartbeat-silent"},
	} {
		w := Explain(Node{Status: &tt.st, Machine: &fleet.Machine{Name: "r1u1"}, Inventory: &hardware.Inventory{Findings: tt.findings}}, "", now)
		var code fleet.ReasonCode
		if len(w.Reasons) > 0 {
			code = w.Reasons[0].Code
		}
		if w.Verdict != tt.verdict || !strings.Contains(w.Answer, tt.answer) || code != tt.code {
			t.Errorf("%s: %s, %q, %s; want %s, %q, %s", name, w.Verdict, w.Answer, code, tt.verdict, tt.answer, tt.code)
		}
	}
}
