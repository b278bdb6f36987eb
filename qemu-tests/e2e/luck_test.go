package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
)

func TestMomentOf(t *testing.T) {
	for _, c := range []struct {
		phase fleet.Phase
		step  string
		want  int
	}{
		{fleet.PhaseBooting, "power on over redfish", -1},
		{fleet.PhaseBooting, "dhcp snponly.efi (PXE UEFI)", atSeen},
		{fleet.PhaseBooting, "tftp snponly.efi (PXE)", atSeen},
		{fleet.PhaseBooting, "http /boot.ipxe (iPXE)", atBooting},
		{fleet.PhaseWaiting, "waits", atWaiting},
		{fleet.PhaseFetching, "granted hello:1", -1},
		{fleet.PhaseFetching, "fetched vmlinuz", atFetching},
		{fleet.PhaseHandingOff, "kexec into hello:1", atHandingOff},
		{fleet.PhaseRunning, "all layers are up", atRunning},
		{fleet.PhaseLost, "silent since it was running", -1},
	} {
		if got := momentOf(fleet.Status{Phase: c.phase, Step: c.step}); got != c.want {
			t.Errorf("momentOf(%s, %s) = %d; want %d", c.phase, c.step, got, c.want)
		}
	}
}

// said is an event of a source in boot n.
func said(source fleet.Source, kind string, n int64, data any) operator.Record {
	b, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	e := fleet.Event{Source: source, Kind: kind, Attempt: n, Data: b}
	if source != fleet.SourceControl {
		e.BootID, e.Seq = "boot", 1
	}
	return operator.Record{Event: e}
}

func TestOnce(t *testing.T) {
	agent := said(fleet.SourceAgent, fleet.KindVerified, 1, nil)
	enrolled := said(fleet.SourceControl, fleet.KindEnrolled, 1, fleet.EnrolledData{Role: "agent"})
	granted := said(fleet.SourceControl, fleet.KindGranted, 1, nil)
	resident := said(fleet.SourceResident, fleet.KindLayer, 1, nil)
	for _, c := range []struct {
		name    string
		records []operator.Record
		good    bool
	}{
		{"each once", []operator.Record{enrolled, granted, agent}, true},
		{"enrolled twice", []operator.Record{enrolled, enrolled, granted, agent}, false},
		{"granted twice", []operator.Record{enrolled, granted, granted, agent}, false},
		{"never enrolled", []operator.Record{granted, agent}, false},
		{"never granted", []operator.Record{enrolled, agent}, false},
		{"a resident that was never enrolled", []operator.Record{enrolled, granted, agent, resident}, false},
		{"a boot of which nothing is there", []operator.Record{enrolled, granted, agent, said(fleet.SourceNetboot, fleet.KindDHCP, 3, nil)}, false},
	} {
		if err := once(c.records); (err == nil) != c.good {
			t.Errorf("%s: %v; want good = %v", c.name, err, c.good)
		}
	}
}

func TestOneStack(t *testing.T) {
	a, b := fleet.AssignedData{Rule: "r", Digest: "sha256:a"}, fleet.AssignedData{Rule: "r", Digest: "sha256:b"}
	grant := func(n int64, d fleet.AssignedData) operator.Record {
		return said(fleet.SourceControl, fleet.KindGranted, n, d)
	}
	if err := oneStack([]operator.Record{grant(1, a), grant(2, a)}); err != nil {
		t.Error(err)
	}
	if oneStack([]operator.Record{grant(1, a), grant(2, b)}) == nil || oneStack(nil) == nil {
		t.Error("another stack, or none, passes")
	}
}

func TestKeptAndInOrder(t *testing.T) {
	record := func(id string, seq uint64, at int) operator.Record {
		return operator.Record{Event: fleet.Event{ID: id, BootID: "b", Source: fleet.SourceAgent, Seq: seq}, Received: time.Unix(int64(at), 0)}
	}
	a, b, c := record("a", 1, 1), record("b", 2, 2), record("c", 3, 3)
	before := []operator.Record{a, b}
	for _, x := range []struct {
		name string
		now  []operator.Record
		good bool
	}{
		{"more", []operator.Record{a, b, c}, true},
		{"the last is lost", []operator.Record{a}, false},
		{"the first is lost", []operator.Record{b, c}, false},
		{"stored anew", []operator.Record{a, record("b", 2, 9)}, false},
		{"one came in between", []operator.Record{a, c, b}, false},
	} {
		if err := kept(before, x.now); (err == nil) != x.good {
			t.Errorf("%s: %v; want good = %v", x.name, err, x.good)
		}
	}
	if err := inOrder([]operator.Record{a, b, c}); err != nil {
		t.Error(err)
	}
	if inOrder([]operator.Record{b, a}) == nil {
		t.Error("what is stored in another order than it was said passes")
	}
}

func TestStandsIn(t *testing.T) {
	at := func(attempt int64, stream uint64, inventory string) page {
		return page{status: fleet.Status{Node: "n-1", Attempt: attempt, Applied: map[string]uint64{"stream": stream}}, inventory: inventory}
	}
	before := at(2, 9, "sha256:a")
	for _, c := range []struct {
		name string
		now  page
		good bool
	}{
		{"as it was", before, true},
		{"further", at(3, 12, "sha256:b"), true},
		{"an earlier boot", at(1, 12, "sha256:a"), false},
		{"an earlier event", at(2, 8, "sha256:a"), false},
		{"no inventory", at(2, 9, ""), false},
	} {
		if err := before.standsIn(c.now); (err == nil) != c.good {
			t.Errorf("%s: %v; want good = %v", c.name, err, c.good)
		}
	}
}

func TestAgrees(t *testing.T) {
	records := []operator.Record{
		{Event: fleet.Event{BootID: "x", Source: fleet.SourceAgent, Attempt: 1, Seq: 9}},
		{Event: fleet.Event{BootID: "y", Source: fleet.SourceAgent, Attempt: 2, Seq: 1}},
		{Event: fleet.Event{BootID: "y", Source: fleet.SourceAgent, Attempt: 2, Seq: 2}},
	}
	for _, c := range []struct {
		attempt int64
		applied uint64
		good    bool
	}{{2, 2, true}, {1, 2, false}, {2, 1, false}} {
		st := fleet.Status{Attempt: c.attempt, Applied: map[string]uint64{"y/agent": c.applied}}
		if err := agrees(st, records); (err == nil) != c.good {
			t.Errorf("boot %d, %d taken: %v; want good = %v", c.attempt, c.applied, err, c.good)
		}
	}
}
