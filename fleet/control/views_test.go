package control

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/nats-io/nats.go/jetstream"
)

// rig is a real bus with control on it; the node's part is played by hand.
type rig struct {
	t    *testing.T
	bus  *bus.Server
	js   jetstream.JetStream
	ring sign.Keyring
	ctl  *Control
	seq  uint64
}

// server1 is the one server of these tests, before it has a node ID.
const server1 = fleet.NodeID("mac-525400000001")

func newRig(t *testing.T) *rig {
	t.Helper()
	s, err := bus.Start(t.Context(), bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() }) //nolint:errcheck // the test is over
	ring, err := sign.OpenOrCreate(t.TempDir(), true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(s.Conn())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, bus: s, js: js, ring: ring}
	r.start()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	ctl, err := Start(context.Background(), Config{Bus: r.bus, Roots: r.ring.Roots(), Reconciler: r.ring.Reconciler, Delegations: r.ring.Delegations,
		Policy: PolicyOpen, BMCEvery: -1, BMCUser: "admin", BMCPassword: "secret", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	r.ctl = ctl
	r.t.Cleanup(ctl.Close)
}

func (r *rig) put(bucket, key string, b []byte) {
	r.t.Helper()
	kv, err := r.js.KeyValue(r.t.Context(), bucket)
	if err == nil {
		_, err = kv.Put(r.t.Context(), key, b)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// sign puts a document that key signed into the config bucket.
func (r *rig) sign(ring sign.Keyring, at, typ string, v any) {
	r.t.Helper()
	packed, err := fleet.Pack(v)
	if err != nil {
		r.t.Fatal(err)
	}
	env, err := sign.Sign(ring.Operator, typ, packed)
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := json.Marshal(fleet.SignedEntry{Schema: fleet.SignedEntrySchema, Document: env, Delegations: ring.Delegations})
	if err != nil {
		r.t.Fatal(err)
	}
	r.put(fleet.BucketConfig, at, b)
}

func (r *rig) says(attempt int64, kind string, data any) {
	r.t.Helper()
	r.seq++
	raw, err := json.Marshal(data)
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := json.Marshal(fleet.Event{Schema: fleet.EventSchema, ID: fmt.Sprint(r.seq), Node: server1, BootID: fmt.Sprint("boot-", attempt), Attempt: attempt,
		Source: fleet.SourceAgent, Seq: r.seq, Time: time.Now(), Kind: kind, Data: raw})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.js.Publish(r.t.Context(), string(fleet.EventSubject(server1, fleet.SourceAgent, kind)), b); err != nil {
		r.t.Fatal(err)
	}
}

// reports stores an inventory, and then says so.
func (r *rig) reports(attempt int64, kind string, inv hardware.Inventory) {
	r.t.Helper()
	b, err := inv.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := bus.PutValue(r.t.Context(), r.js, fleet.BucketInventory, string(server1), attempt, b); err != nil {
		r.t.Fatal(err)
	}
	r.says(attempt, kind, fleet.ReportData{Digest: string(inv.Digest()), Summary: inv.Summary()})
}

// view waits until a record is as it should be.
func (r *rig) view(key string, is func(hardware.Inventory, int64) bool) hardware.Inventory {
	r.t.Helper()
	var inv hardware.Inventory
	var attempt int64
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		v, err := bus.GetValue(r.t.Context(), r.bus.Conn(), fleet.BucketInventory, key)
		if errors.Is(err, bus.ErrNoValue) {
			continue
		}
		if err != nil {
			r.t.Fatal(err)
		}
		if inv, err = hardware.Decode(v.Data); err != nil {
			r.t.Fatal(err)
		}
		if attempt = v.Attempt; is(inv, attempt) {
			return inv
		}
	}
	r.t.Fatalf("%s does not become what it should be; it is of boot %d, findings %v", key, attempt, inv.Findings)
	return inv
}

func (r *rig) status(is func(fleet.Status) bool) fleet.Status {
	r.t.Helper()
	var s fleet.Status
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s, _ = r.ctl.status.of(server1); is(s) {
			return s
		}
	}
	r.t.Fatalf("status is %+v", s)
	return s
}

// found are the findings in the timeline, by control.
func (r *rig) found() []string {
	r.t.Helper()
	var out []string
	through := errors.New("through")
	tail := bus.Tail{JS: r.js, Stream: fleet.StreamEvents}
	err := tail.Run(r.t.Context(), func(m bus.Stored) error {
		if e, err := fleet.ParseEvent(m.Data); err == nil && e.Kind == fleet.KindFinding {
			p := read[fleet.Problem](e)
			out = append(out, string(p.Reason)+": "+p.Evidence)
		}
		return nil
	}, func() error { return through })
	if !errors.Is(err, through) {
		r.t.Fatal(err)
	}
	return out
}

func box() hardware.Inventory {
	inv := hardware.Inventory{
		System: hardware.System{Manufacturer: "Acme", Model: "A1", Serial: "S-0001", Sources: hardware.Sources{"smbios"}},
		Memory: hardware.Memory{SizeBytes: 32 << 30},
		DIMMs: []hardware.DIMM{{Slot: "A1", Serial: "D1", SizeBytes: 16 << 30, Sources: hardware.Sources{"smbios"}},
			{Slot: "B1", Serial: "D2", SizeBytes: 16 << 30, Sources: hardware.Sources{"smbios"}}},
		NICs: []hardware.NIC{{Name: "eth0", MAC: "52:54:00:00:00:01", BDF: "0000:01:00.0", Bus: "pci", Sources: hardware.Sources{"nic"}}},
	}
	inv.Normalize()
	return inv
}

func count(inv hardware.Inventory, code hardware.Code) int { return len(ofCode(inv.Findings, code)) }

// TestBaseline: a server that was never accepted has no finding of it, whatever
// it has; one that was and lost a part has one, at each boot, until an operator
// accepts it as it is. Nobody else's word is taken, and nothing waits for it.
func TestBaseline(t *testing.T) {
	r := newRig(t)
	r.reports(1, fleet.KindReport, box())
	of := func(attempt int64, differences int) func(hardware.Inventory, int64) bool {
		return func(inv hardware.Inventory, a int64) bool {
			return a == attempt && count(inv, hardware.CodeBaselineDiffers) == differences
		}
	}
	key := fleet.KeyJoined(server1)
	r.view(key, of(1, 0))

	accepted := fleet.Baseline{Schema: fleet.BaselineSchema, Node: server1, Accepted: time.Now(), Inventory: box()}
	r.sign(r.ring, fleet.ConfigBaseline+string(server1), images.BaselineType, accepted)
	less := box()
	less.DIMMs, less.Memory.SizeBytes = less.DIMMs[:1], 16<<30
	r.says(2, fleet.KindInit, fleet.StepData{Step: "init"})
	r.reports(2, fleet.KindReport, less)
	inv := r.view(key, of(2, 2))
	if f := inv.Findings[0]; f.Severity != hardware.Warning || !strings.Contains(inv.Findings[0].Evidence+inv.Findings[1].Evidence, "gone: dimm B1: 16.0 GiB serial D2") {
		t.Errorf("findings = %v; want the lost DIMM", inv.Findings)
	}
	r.view(fleet.KeyLast(server1), func(inv hardware.Inventory, a int64) bool { return a == 1 && len(inv.DIMMs) == 2 })

	r.says(2, fleet.KindWaiting, fleet.StepData{Step: "grant"})
	waits := r.status(func(s fleet.Status) bool { return s.Phase == fleet.PhaseWaiting })
	late := less
	late.NICs = slices.Clone(less.NICs)
	late.NICs[0].Neighbor = hardware.Neighbor{SystemName: "sw7", PortID: "Gi1/0/7"}
	if late.Digest() != less.Digest() {
		t.Fatal("what stands at the other end of a cable is in the digest")
	}
	r.reports(2, fleet.KindInventory, late)
	r.view(key, func(inv hardware.Inventory, _ int64) bool { return inv.NICs[0].Neighbor.SystemName == "sw7" })
	if s := r.status(func(s fleet.Status) bool { return s.Applied[appliedStream] > waits.Applied[appliedStream] }); s.Phase != fleet.PhaseWaiting || s.Reason != fleet.ReasonNoAssignment || !s.Since.Equal(waits.Since) {
		t.Errorf("a late inventory makes the status %s since %v, %s; it was %s since %v", s.Phase, s.Since, s.Reason, waits.Phase, waits.Since)
	}
	want := []string{"baseline-differs: degraded: memory size_bytes: 32.0 GiB → 16.0 GiB; gone: dimm B1: 16.0 GiB serial D2"}
	if got := r.found(); !slices.Equal(got, want) {
		t.Errorf("the timeline has %q; want %q once", got, want)
	}

	stranger, err := sign.OpenOrCreate(t.TempDir(), true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	accepted.Inventory = less
	r.sign(stranger, fleet.ConfigBaseline+string(server1), images.BaselineType, accepted)
	r.view(key, func(inv hardware.Inventory, _ int64) bool {
		return strings.Contains(strings.Join(ofCode(inv.Findings, hardware.CodeBaselineDiffers), ""), "passed over")
	})
	r.sign(r.ring, fleet.ConfigBaseline+string(server1), images.BaselineType, accepted)
	r.view(key, of(2, 0))
}

// What was told stands in the timeline once, also when control starts again.
func TestFindingsAreToldOnce(t *testing.T) {
	r := newRig(t)
	more := box()
	more.DIMMs = append(more.DIMMs, hardware.DIMM{Slot: "C1", Serial: "D3"})
	r.sign(r.ring, fleet.ConfigBaseline+string(server1), images.BaselineType, fleet.Baseline{Schema: fleet.BaselineSchema, Node: server1, Inventory: more})
	r.reports(1, fleet.KindReport, box())
	gone := func(inv hardware.Inventory, _ int64) bool { return count(inv, hardware.CodeBaselineDiffers) == 1 }
	r.view(fleet.KeyJoined(server1), gone)
	r.ctl.Close()
	r.start()
	r.says(1, fleet.KindInventory, fleet.ReportData{})
	r.status(func(s fleet.Status) bool { return s.Applied["boot-1/agent"] == r.seq })
	if _, err := r.ctl.views.update(t.Context(), server1); err != nil {
		t.Fatal(err)
	}
	if got := r.found(); len(got) != 1 {
		t.Errorf("the timeline has %q; want it once", got)
	}
}

// A reader that hung says nothing of what it would have read.
func TestWhatWasNotReadIsNotGone(t *testing.T) {
	r := newRig(t)
	r.sign(r.ring, fleet.ConfigBaseline+string(server1), images.BaselineType, fleet.Baseline{Schema: fleet.BaselineSchema, Node: server1, Inventory: box()})
	hung := box()
	hung.NICs, hung.DIMMs = nil, hung.DIMMs[:1]
	hung.Findings = []hardware.Finding{{Code: hardware.CodeReaderDeadline, Severity: hardware.Warning, Part: "nic", Source: "nic", Evidence: "hung"}}
	r.reports(1, fleet.KindReport, hung)
	r.view(fleet.KeyJoined(server1), func(inv hardware.Inventory, _ int64) bool {
		return slices.Equal(ofCode(inv.Findings, hardware.CodeBaselineDiffers), []string{"gone: dimm B1: 16.0 GiB serial D2"})
	})
}

// TestBill: a machine that was imported gives a server its name and place, and
// what it lacks by its bill of materials is found.
func TestBill(t *testing.T) {
	r := newRig(t)
	e := hardware.Expected{Schema: hardware.ExpectedSchema, SKUs: map[string]hardware.SKU{"A1": {DIMMs: 2, MemoryBytes: 32 << 30, PSUs: 2, NICs: []hardware.ExpectedNIC{{Count: 2}}}}}
	for i := range 3000 {
		e.Machines = append(e.Machines, hardware.ExpectedMachine{Serial: fmt.Sprint("OTHER-", i), MACs: []hardware.MAC{hardware.MAC(fmt.Sprintf("52:54:01:00:%02x:%02x", i/256, i%256))}})
	}
	e.Machines = append(e.Machines, hardware.ExpectedMachine{Name: "r1u7", Rack: "r1", Unit: 7, SKU: "A1", MACs: []hardware.MAC{"52:54:00:00:00:01"}})
	r.sign(r.ring, fleet.ConfigExpected, images.ExpectedType, e)
	r.reports(1, fleet.KindReport, box())
	r.view(fleet.KeyJoined(server1), func(inv hardware.Inventory, _ int64) bool {
		return slices.Equal(ofCode(inv.Findings, hardware.CodeSKUDiffers), []string{"nics of 0 Mbit/s: expected 2, found 1"})
	})
	if s := r.status(func(s fleet.Status) bool { return s.Name != "" }); s.Name != "r1u7" || s.Rack != "r1" || s.Unit != 7 {
		t.Errorf("status = %+v; want the name and place of the expected machine", s)
	}
	if key, m, ok := r.ctl.reg.find("r1u7"); !ok || key != server1 || m.SKU != "A1" {
		t.Errorf("find = %s, %+v, %v", key, m, ok)
	}
	e.SKUs["A1"] = hardware.SKU{DIMMs: 2}
	r.sign(r.ring, fleet.ConfigExpected, images.ExpectedType, e)
	r.view(fleet.KeyJoined(server1), func(inv hardware.Inventory, _ int64) bool { return count(inv, hardware.CodeSKUDiffers) == 0 })
}

// bmcOf is a BMC that answers by Redfish, and counts.
func bmcOf(t *testing.T, asked *atomic.Int64) fleet.BMC {
	t.Helper()
	tree := map[string]string{
		"/redfish/v1/":                   `{"RedfishVersion":"1.15.0","Systems":{"@odata.id":"/redfish/v1/Systems"},"SessionService":{"@odata.id":"/redfish/v1/SessionService"},"Links":{"Sessions":{"@odata.id":"/redfish/v1/SessionService/Sessions"}}}`,
		"/redfish/v1/SessionService":     `{"Sessions":{"@odata.id":"/redfish/v1/SessionService/Sessions"}}`,
		"/redfish/v1/Systems":            `{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}]}`,
		"/redfish/v1/Systems/1":          `{"Id":"1","Manufacturer":"Acme","Model":"A1","SerialNumber":"S-0001","PowerState":"On","MemorySummary":{"TotalSystemMemoryGiB":32},"Memory":{"@odata.id":"/redfish/v1/Systems/1/Memory"}}`,
		"/redfish/v1/Systems/1/Memory":   `{"Members":[{"@odata.id":"/redfish/v1/Systems/1/Memory/1"}]}`,
		"/redfish/v1/Systems/1/Memory/1": `{"Id":"1","DeviceLocator":"A1","CapacityMiB":16384,"SerialNumber":"D1"}`,
	}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked.Add(1)
		if q.Method == http.MethodPost {
			w.Header().Set("X-Auth-Token", "t")
			w.Header().Set("Location", "/redfish/v1/SessionService/Sessions/1")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"@odata.id":"/redfish/v1/SessionService/Sessions/1"}`)
			return
		}
		body, ok := tree[q.URL.Path]
		if !ok {
			body, ok = tree[strings.TrimSuffix(q.URL.Path, "/")]
		}
		if !ok {
			http.NotFound(w, q)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return fleet.BMC{Redfish: s.URL, CAPEM: string(ca)}
}

// TestCrawl: the BMC is asked once in a boot, after the report and never before;
// what comes late is joined to what it said, and it is not asked again.
func TestCrawl(t *testing.T) {
	r := newRig(t)
	var asked atomic.Int64
	bmc := bmcOf(t, &asked)
	b, err := json.Marshal(fleet.Machine{Schema: fleet.MachineSchema, Name: "r1u1", MACs: []string{"52:54:00:00:00:01"}, BMC: &bmc})
	if err != nil {
		t.Fatal(err)
	}
	r.put(fleet.BucketConfig, fleet.ConfigMachine+"r1u1", b)
	r.reports(1, fleet.KindReport, box())
	r.view(fleet.KeyJoined(server1), func(inv hardware.Inventory, a int64) bool { return a == 1 })
	time.Sleep(300 * time.Millisecond) // for whoever would ask too early
	if n := asked.Load(); n != 0 {
		t.Errorf("the BMC was asked %d times before the node waits", n)
	}
	r.says(1, fleet.KindWaiting, fleet.StepData{})
	joined := r.view(fleet.KeyJoined(server1), func(inv hardware.Inventory, _ int64) bool { return count(inv, hardware.CodeDIMMsDisagree) == 1 })
	if !slices.Contains(joined.System.Sources, "redfish") {
		t.Errorf("system is known from %v; want redfish among them", joined.System.Sources)
	}
	v, err := bus.GetValue(t.Context(), r.bus.Conn(), fleet.BucketReadings, fleet.KeyJoined(server1))
	if err != nil {
		t.Fatal(err)
	}
	if read, err := hardware.DecodeReadings(v.Data); err != nil || read.PowerState != hardware.PowerOn || v.Attempt != 1 {
		t.Errorf("readings = %+v of boot %d, %v; want power on", read, v.Attempt, err)
	}
	before := asked.Load()
	late := box()
	late.NICs[0].Neighbor.SystemName = "sw7"
	r.reports(1, fleet.KindInventory, late)
	r.view(fleet.KeyJoined(server1), func(inv hardware.Inventory, _ int64) bool {
		return inv.NICs[0].Neighbor.SystemName == "sw7" && count(inv, hardware.CodeDIMMsDisagree) == 1
	})
	if n := asked.Load(); n != before {
		t.Errorf("the BMC was asked %d times more for what the node said late", n-before)
	}
	accepted := joined
	accepted.Drives = append(accepted.Drives, hardware.Drive{Slot: "Bay 9", Serial: "BEHIND-A-CONTROLLER", Sources: hardware.Sources{"redfish"}})
	r.sign(r.ring, fleet.ConfigBaseline+string(server1), images.BaselineType, fleet.Baseline{Schema: fleet.BaselineSchema, Node: server1, Inventory: accepted})
	lost := func(inv hardware.Inventory) bool {
		return slices.Equal(ofCode(inv.Findings, hardware.CodeBaselineDiffers), []string{"gone: drive Bay 9: serial BEHIND-A-CONTROLLER"})
	}
	r.view(fleet.KeyJoined(server1), func(inv hardware.Inventory, _ int64) bool { return lost(inv) })
	r.says(2, fleet.KindInit, fleet.StepData{})
	r.reports(2, fleet.KindReport, box())
	r.view(fleet.KeyJoined(server1), func(inv hardware.Inventory, a int64) bool { // what the BMC said is of the boot before
		return a == 2 && count(inv, hardware.CodeDIMMsDisagree)+count(inv, hardware.CodeBaselineDiffers) == 0
	})
	r.says(2, fleet.KindWaiting, fleet.StepData{})
	r.view(fleet.KeyJoined(server1), func(inv hardware.Inventory, _ int64) bool {
		return count(inv, hardware.CodeDIMMsDisagree) == 1 && lost(inv)
	})
}

func TestReachable(t *testing.T) {
	for _, tt := range []struct {
		given []string
		want  string
	}{
		{nil, ""}, {[]string{"127.0.0.1", "::1", "0.0.0.0", "169.254.0.1", "fe80::1", "224.0.0.1", "255.255.255.255", "bmc.example", "::ffff:127.0.0.1"}, ""},
		{[]string{"fd00::2", "10.78.0.11/24"}, "10.78.0.11"}, {[]string{"fd00::2"}, "fd00::2"}, {[]string{"::ffff:10.0.0.1"}, "10.0.0.1"},
	} {
		if got := reachable(tt.given); got != tt.want {
			t.Errorf("reachable(%q) = %q; want %q", tt.given, got, tt.want)
		}
	}
}
