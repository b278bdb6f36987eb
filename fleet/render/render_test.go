package render

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recorded is one server as the fleet held it.
type recorded struct {
	Now       time.Time           `json:"now"`
	Status    *fleet.Status       `json:"status"`
	Machine   *fleet.Machine      `json:"machine"`
	Inventory *hardware.Inventory `json:"inventory"`
	Accepted  *Accepted           `json:"accepted"`
	Events    []fleet.Event       `json:"events"`
}

func load(t *testing.T, path string) (Node, recorded) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r recorded
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	n := Node{Status: r.Status, Machine: r.Machine, Inventory: r.Inventory, Accepted: r.Accepted}
	if r.Status != nil {
		n.Timeline = Timeline(Attempt(r.Events, r.Status.Attempt))
	}
	return n, r
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", name, d)
	}
}

func TestPages(t *testing.T) {
	t.Setenv("TZ", "UTC")
	time.Local = time.UTC
	cases, err := filepath.Glob("testdata/*.json")
	if err != nil || len(cases) < 4 {
		t.Fatalf("testdata holds %d recorded servers, want at least 4 (%v)", len(cases), err)
	}
	var all []Node
	var now time.Time
	for _, path := range cases {
		n, r := load(t, path)
		all, now = append(all, n), r.Now
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		golden(t, name+".txt", Page(Style{}, n, r.Now))
		golden(t, name+".80.txt", Page(Style{Width: 80}, n, r.Now))
	}
	golden(t, "list.golden", Nodes(Style{}, all, now))
	golden(t, "list.100.golden", Nodes(Style{Width: 100}, all, now))
}

func TestPagesFitTheWidth(t *testing.T) {
	cases, _ := filepath.Glob("testdata/*.json")
	for _, path := range cases {
		n, r := load(t, path)
		for _, line := range strings.Split(Page(Style{Width: 80}, n, r.Now), "\n") {
			if len([]rune(line)) > 80 {
				t.Errorf("%s: a line of %d columns: %q", path, len([]rune(line)), line)
			}
		}
	}
}

func TestColorOnlyWhenAsked(t *testing.T) {
	n, r := load(t, "testdata/degraded.json")
	if s := Page(Style{}, n, r.Now); strings.Contains(s, "\x1b") {
		t.Error("a plain page holds escape sequences")
	}
	if s := Page(Style{Color: true}, n, r.Now); !strings.Contains(s, "\x1b[31mDEGRADED\x1b[0m") {
		t.Errorf("a coloured page does not show DEGRADED in red:\n%q", s)
	}
}

// What a node wrote must not steer the operator's terminal.
func TestHostileTextIsDisarmed(t *testing.T) {
	evil := "\x1b]0;owned\x07\x1b[2Jrm\r\n\u202e"
	data, err := json.Marshal(fleet.StepData{Step: evil, Text: evil})
	if err != nil {
		t.Fatal(err)
	}
	st := &fleet.Status{Node: "n-1", Name: evil, Summary: evil, Serial: evil, Phase: fleet.Phase(evil), Reason: fleet.ReasonCode(evil), Hint: evil, Address: evil,
		Evidence: []fleet.Evidence{{Text: evil}}, Layers: []fleet.Layer{{Layer: fleet.LayerName(evil), Name: evil, Reason: fleet.ReasonCode(evil), Facts: map[string]string{"a": evil}}}}
	inv := &hardware.Inventory{System: hardware.System{Model: evil}, Drives: []hardware.Drive{{Model: evil}}}
	e := fleet.Event{Source: "agent", Kind: fleet.KindStep, Data: data}
	n := Node{Status: st, Inventory: inv, Timeline: Timeline([]fleet.Event{e, {Source: "agent", Kind: evil, Data: data}})}
	for what, s := range map[string]string{
		"page": Page(Style{}, n, time.Time{}), "list": Nodes(Style{}, []Node{n}, time.Time{}), "event": EventLine(Style{}, e), "status": StatusLine(*st),
	} {
		if i := strings.IndexAny(s, "\x1b\x07\r\u202e"); i >= 0 {
			t.Errorf("%s: a control character is let through: %q", what, s[max(0, i-20):i+1])
		}
	}
}

func TestAttempt(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	power := func(s int, action string) fleet.Event {
		d, _ := json.Marshal(fleet.PowerData{Action: action})
		return fleet.Event{Time: at(s), Source: fleet.SourceBMC, Kind: fleet.KindPower, Data: d}
	}
	events := []fleet.Event{
		{Time: at(1), Attempt: 1, Source: "agent", Kind: "init"},
		power(2, "off"),
		{Time: at(3), Source: "netboot", Kind: "dhcp"}, // of a boot that came to nothing
		power(4, "on"),
		{Time: at(5), Source: "netboot", Kind: "dhcp"},
		{Time: at(6), Attempt: 2, Source: "agent", Kind: "init"},
		{Time: at(7), Attempt: 2, Source: "agent", Kind: "report"},
		{Time: at(8), Attempt: 3, Source: "agent", Kind: "init"},
	}
	var got []int64
	for _, e := range Attempt(events, 2) {
		got = append(got, e.Time.Unix())
	}
	if d := cmp.Diff([]int64{4, 5, 6, 7}, got); d != "" {
		t.Errorf("events of boot 2 (-want +got):\n%s", d)
	}
}

func TestTook(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0.0s", 340 * time.Millisecond: "0.3s", 59900 * time.Millisecond: "59s", 65 * time.Second: "1m05s", 3*time.Hour + 2*time.Minute: "3h02m", 100 * time.Hour: "4d",
	} {
		if got := Took(d); got != want {
			t.Errorf("Took(%v) = %q; want %q", d, got, want)
		}
	}
}
