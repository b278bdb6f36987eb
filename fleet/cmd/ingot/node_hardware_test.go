package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
)

func whole() hardware.Inventory {
	inv := hardware.Inventory{
		System: hardware.System{Manufacturer: "Acme", Model: "A1", Serial: "S1"}, Memory: hardware.Memory{SizeBytes: 2 << 30},
		DIMMs: []hardware.DIMM{{Slot: "A1", Serial: "D1", SizeBytes: 1 << 30}, {Slot: "B1", Serial: "D2", SizeBytes: 1 << 30}},
		NICs:  []hardware.NIC{{MAC: "52:54:00:01:01:01", Bus: "pci", BDF: "0000:01:00.0"}},
	}
	inv.Normalize()
	return inv
}

// less is the same without its second DIMM.
func less() hardware.Inventory {
	inv := whole()
	inv.DIMMs, inv.Memory.SizeBytes = inv.DIMMs[:1], 1<<30
	return inv
}

func file(t *testing.T, name string, v any) string {
	t.Helper()
	b, ok := v.([]byte)
	if !ok {
		var err error
		if b, err = json.MarshalIndent(v, "", "  "); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHardwareDiff(t *testing.T) {
	before, after := file(t, "a.json", whole()), file(t, "b.yaml", []byte("schema: ingot.inventory/v1\nsystem: {serial: S1}\nmemory: {size_bytes: 1073741824}\ndimms: [{slot: A1, serial: D1}]\n"))
	for _, tt := range []struct {
		line, want string
		code       int
	}{
		{before + " " + before, "nothing differs", exitOK},
		{before + " " + after, "gone      dimm B1", exitOK},
		{before + " " + after + " -o json", `"kind": "degraded"`, exitOK},
		{before + " " + before + " -o json", "[]", exitOK},
		{before + " " + before + "x", "no such file", exitNotFound},
		{before + " " + file(t, "c", []byte(`[{}]`)), "holds a list", exitFailed},
		{before + " " + file(t, "c", []byte(`{"schema":"other"}`)), `schema "other"`, exitFailed},
		{before + " " + file(t, "c", []byte(`{`)), "unexpected end", exitFailed},
		{before + " " + file(t, "c", []byte("a: [")), "neither JSON nor YAML", exitFailed},
	} {
		code, stdout, stderr := try(t, nil, append([]string{"hardware", "diff"}, strings.Fields(tt.line)...)...)
		if said := stdout + stderr; code != tt.code || !strings.Contains(said, tt.want) {
			t.Errorf("ingot hardware diff %s = %d, %q; want %d and %q", tt.line, code, said, tt.code, tt.want)
		}
	}
}

// agentOf is an agent of r1u1 on the fleet's bus.
func agentOf(t *testing.T, contextFile string) *uplink.Uplink {
	t.Helper()
	oc, err := readContext(contextFile)
	if err != nil {
		t.Fatal(err)
	}
	u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-one"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := u.Connect(ctx, uplink.Target{Bus: oc.Bus, Enroll: fleet.EnrollRequest{Serial: "S1", MACs: []string{"52:54:00:01:01:01"}}}); err != nil {
		t.Fatal(err)
	}
	return u
}

func report(t *testing.T, u *uplink.Uplink, kind string, inv hardware.Inventory) {
	t.Helper()
	b, err := inv.Encode()
	if err == nil {
		err = u.PutInventory(t.Context(), b)
	}
	if err == nil {
		err = u.PublishAcked(t.Context(), fleet.SourceAgent, kind, fleet.ReportData{Digest: string(inv.Digest()), Summary: inv.Summary()})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAcceptAndLose is the life of a baseline as an operator sees it: none, one,
// a loss that is found and not accepted by itself, and one that is meant.
func TestAcceptAndLose(t *testing.T) {
	env := map[string]string{"INGOT_CONTEXT": startFleet(t)}
	say := func(line string, code int, want ...string) {
		t.Helper()
		var got int
		var stdout, stderr string
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			got, stdout, stderr = try(t, env, strings.Fields(line)...)
			missing := ""
			for _, w := range want {
				if !strings.Contains(stdout+stderr, w) {
					missing = w
				}
			}
			if got == code && missing == "" {
				return
			}
			if time.Now().After(end) { // control makes views beside what it is asked
				t.Fatalf("ingot %s = %d, stdout %q, stderr %q; want %d and %q", line, got, stdout, stderr, code, missing)
			}
		}
	}
	say("node show r1u1 --inventory", exitNotFound, "never seen")
	say("baseline show r1u1", exitNotFound, "no baseline")
	u := agentOf(t, env["INGOT_CONTEXT"])
	say("baseline accept r1u1", exitNotFound, "has not reported")
	report(t, u, fleet.KindReport, whole())
	say("node show r1u1", exitOK, "no baseline; as it is now: ingot baseline accept r1u1")
	say("node show r1u1 --inventory", exitOK, "Memory: 2.0 GiB in 2 of 2 slots", "D2")
	say("node show r1u1 --inventory -o json", exitOK, `"schema": "ingot.inventory/v1"`)
	say("node show r1u1 --readings", exitNotFound, "nobody has read any")
	say("node diff r1u1", exitNotFound, "no baseline", "none is kept")
	say("node findings r1u1", exitOK, "nothing was found")
	say("baseline show r1u1", exitNotFound, "no baseline; accept it as it is with: ingot baseline accept r1u1")
	say("baseline accept r1u1 --note "+strings.Repeat("x", 300), exitFailed, "at most 256")
	say("baseline accept r1u1 --note as-delivered", exitOK, "accepted as Acme A1 serial S1")
	say("baseline show r1u1", exitOK, "by operator", "as-delivered", "D2")
	say("node diff r1u1", exitOK, "against what was accepted", "nothing differs")

	report(t, u, fleet.KindInventory, less())
	say("why r1u1", exitWrong, "Its hardware is not as it should be", "gone: dimm B1", "ingot node diff r1u1")
	say("node diff r1u1", exitOK, "gone      dimm B1")
	say("node findings r1u1 --severity warning -o json", exitOK, `"code": "baseline-differs"`)
	say("node findings r1u1 --severity critical -o json", exitOK, "[]")
	say("baseline accept r1u1", exitRefused, "baseline-differs", "gone: dimm B1", "--shrink")
	say("baseline show r1u1", exitOK, "D2")
	say("baseline accept r1u1 --shrink", exitOK, "gone      dimm B1")
	say("why r1u1", exitOK, "Nothing is wrong")

	bill := file(t, "rack.yaml", []byte("skus: {A1: {dimms: 2}}\nmachines:\n  - {serial: S1, sku: A1, rack: r1, unit: 1}\n  - {serial: S2, sku: A1, rack: r1, unit: 2}\n"))
	say("expected list", exitOK, "none of 0")
	say("expected import "+file(t, "bad.csv", []byte("serial,unit\nS3,0\n")), exitFailed, "nothing was taken", "line 2, column 4")
	say("expected import "+file(t, "new.csv", []byte("serial,sku\nS3,A1\n")), exitFailed, `line 2, column 4: SKU "A1" has no bill of materials`)
	say("expected list", exitOK, "none of 0")
	say("expected import "+bill, exitOK, "2 new, 0 changed")
	say("expected import "+bill, exitOK, "0 new, 0 changed, 2 as they were")
	say("expected import "+file(t, "new.csv", []byte("serial,sku\nS3,A1\n")), exitOK, "1 new", "3 machines are expected")
	say("expected list --missing", exitOK, "S2", "S3", "2 of 3 expected machines")
	say("expected list -o json", exitOK, `"serial": "S1"`, `"phase"`)
	say("node list", exitOK, "S2")
	say("node show s2", exitOK, "rack r1, unit 2")
	say("why r1u1", exitWrong, "dimms: expected 2, found 1")
	say("node show r1u1", exitOK, "bought as", "A1")
	say("expected import "+file(t, "one.csv", []byte("serial\nS1\n"))+" --replace", exitOK, "2 dropped; 1 machines")
	say("why r1u1", exitOK, "Nothing is wrong")
}
