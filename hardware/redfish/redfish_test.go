package redfish

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

var update = flag.Bool("update", false, "rewrite want-redfish.json")

func TestRead(t *testing.T) {
	b := serve(t, machine(t))
	inv, readings, stats, err := Read(t.Context(), b.options())
	if err != nil {
		t.Fatal(err)
	}
	enc, err := inv.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := json.Indent(&got, enc, "", "  "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	const file = "../testdata/machines/ingot-ls1/want-redfish.json"
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; make it with -update", err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("inventory (-want +got):\n%s", d)
	}
	if readings.PowerState != hardware.PowerOn || readings.Schema != hardware.ReadingsSchema {
		t.Errorf("readings = %+v", readings)
	}
	if b.logins != 1 || stats.Requests == 0 || stats.Requests > 40 || stats.Bytes == 0 || stats.Took <= 0 {
		t.Errorf("%d logins, stats %+v", b.logins, stats)
	}
}

// TestRecorded reads what vendors' BMCs really answer.
func TestRecorded(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(fixtures(t), "answers.json"))
	if err != nil {
		t.Fatal(err)
	}
	var answers map[string]map[string]any
	if err := json.Unmarshal(b, &answers); err != nil {
		t.Fatal(err)
	}
	for name, want := range answers {
		t.Run(name, func(t *testing.T) {
			b := serve(t, fixture(t, name))
			inv, readings, stats, err := Read(t.Context(), b.options())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s; %+v; %v", inv.Summary(), stats, codes(inv))
			compare(t, want, inv, readings)
			if name == "hpe_dl360" && codes(inv)[hardware.CodeResourceMissing] < 4 {
				t.Errorf("missing branches are not findings: %v", inv.Findings)
			}
		})
	}
}

func compare(t *testing.T, want map[string]any, inv hardware.Inventory, r hardware.Readings) {
	t.Helper()
	cores, model := 0, ""
	for _, c := range inv.CPUs {
		cores += c.Cores
		model = c.Model
	}
	got := map[string]any{
		"manufacturer": inv.System.Manufacturer, "model": inv.System.Model, "serial": inv.System.Serial, "bios_version": inv.BIOS.Version,
		"power_state": strings.ToUpper(string(r.PowerState)[:1]) + string(r.PowerState)[1:], "cpus": len(inv.CPUs), "cpu_model": model,
		"cores": cores, "dimm_slots": len(inv.DIMMSlots), "dimms": len(inv.DIMMs), "memory_gib": inv.Memory.SizeBytes >> 30,
		"drives": len(inv.Drives), "fans": len(inv.Fans), "temperatures": len(r.Temperatures), "gpus": len(inv.GPUs), "psus": len(inv.PSUs),
		"network_adapters": len(inv.Adapters), "firmware_entries": len(inv.Firmware), "bmc_model": inv.BMC.Model,
		"bmc_firmware": inv.BMC.Firmware, "ethernet_interfaces": len(inv.NICs),
	}
	for k, g := range got {
		w, ok := want[k]
		if !ok {
			continue
		}
		if w == nil {
			w = ""
		}
		if fmt.Sprint(g) != fmt.Sprint(w) {
			t.Errorf("%s = %v; want %v", k, g, w)
		}
	}
}

func TestWrongTypes(t *testing.T) {
	m := machine(t)
	system := m["/redfish/v1/Systems/1"].(map[string]any)
	system["MemorySummary"] = "N/A"
	system["ProcessorSummary"] = []any{1, "x"}
	system["SerialNumber"] = 987001
	system["Links"] = map[string]any{"Chassis": map[string]any{"@odata.id": "/redfish/v1/Chassis/1"}, "ManagedBy": nil}
	dimm := m["/redfish/v1/Systems/1/Memory/1"].(map[string]any)
	dimm["OperatingSpeedMhz"], dimm["CapacityMiB"] = "N/A", "2048"
	b := serve(t, m)
	inv, _, _, err := Read(t.Context(), b.options())
	if err != nil {
		t.Fatal(err)
	}
	if inv.System.Serial != "987001" || inv.Chassis.Sources == nil || inv.BMC.Sources == nil || len(inv.DIMMs) != 2 || inv.DIMMs[0].SizeBytes != 2<<30 {
		t.Errorf("inventory = %+v", inv)
	}
}

func TestFaults(t *testing.T) {
	const memory = "/redfish/v1/systems/1/memory"
	for name, c := range map[string]struct {
		fault http.HandlerFunc
		want  hardware.Code
	}{
		"HTML": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>please log in</html>") }, hardware.CodeSourceMalformed},
		"deep": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"a":`+strings.Repeat("[", 1<<20))
		}, hardware.CodeSourceMalformed},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"Members":[`)
			for range 6 << 10 {
				fmt.Fprint(w, `"`+strings.Repeat("x", 1<<10)+`",`)
			}
		}, hardware.CodeSourceMalformed},
		"null":         {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "null") }, hardware.CodeSourceMalformed},
		"server error": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, hardware.CodeSourceMalformed},
		"missing":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, hardware.CodeResourceMissing},
		"leads away": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.2:1/redfish/v1/", http.StatusFound)
		}, hardware.CodeSourceMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			b := serve(t, machine(t))
			b.fault[memory] = c.fault
			inv, _, stats, err := Read(t.Context(), b.options())
			if err != nil {
				t.Fatal(err)
			}
			if codes(inv)[c.want] == 0 || len(inv.Drives) != 1 {
				t.Errorf("findings %v, %d drives", inv.Findings, len(inv.Drives))
			}
			if stats.Bytes > 2*maxBody {
				t.Errorf("%d bytes were read", stats.Bytes)
			}
		})
	}
}

// TestLinksStayHere has links that would carry the token elsewhere.
func TestLinksStayHere(t *testing.T) {
	away := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a request went to another host: %s %v", r.URL, r.Header)
	}))
	defer away.Close()
	host := strings.TrimPrefix(away.URL, "https://")
	for _, link := range []string{"@" + host + "/redfish/v1/x", away.URL + "/redfish/v1/x", "//" + host + "/x", ".evil.example/redfish", "/redfish/../x", "/redfish/v1/x?$expand=*"} {
		m := machine(t)
		m["/redfish/v1/Systems/1"].(map[string]any)["Memory"] = map[string]any{"@odata.id": link}
		m["/redfish/v1/Chassis/1"].(map[string]any)["Thermal"] = link
		b := serve(t, m)
		if _, _, _, err := Read(t.Context(), b.options()); err != nil {
			t.Errorf("link %q: %v", link, err)
		}
	}
}

func TestDenied(t *testing.T) {
	b := serve(t, machine(t))
	o := b.options()
	o.Password = "wrong"
	_, _, _, err := Read(t.Context(), o)
	if !errors.Is(err, ErrDenied) && (err == nil || !strings.Contains(err.Error(), ErrDenied.Error())) {
		t.Errorf("Read with a wrong password: %v", err)
	}
	if b.logins != 1 {
		t.Errorf("%d logins with a wrong password; want 1", b.logins)
	}

	b = serve(t, machine(t))
	b.deny = 12 // the session dies on the way
	inv, _, _, err := Read(t.Context(), b.options())
	if !errors.Is(err, ErrDenied) || inv.System.Serial == "" {
		t.Errorf("Read with a session that dies = %v, %q", err, inv.System.Serial)
	}
	if n := b.requests - b.deny; n > 2+defaultWindow { // those in flight, and the logout
		t.Errorf("%d requests after the first 401", n)
	}
}

func TestBasicAuthWhereThereAreNoSessions(t *testing.T) {
	b := serve(t, machine(t))
	b.noSessions = true
	inv, _, _, err := Read(t.Context(), b.options())
	if err != nil || inv.System.Serial == "" {
		t.Errorf("Read = %v, %+v", err, inv.System)
	}
}

func TestCertificates(t *testing.T) {
	b := serve(t, machine(t))
	o := b.options()
	o.Insecure = false
	if _, err := Power(t.Context(), o); err == nil || b.logins != 0 {
		t.Errorf("an unknown certificate is taken: %v, %d logins", err, b.logins)
	}
	o.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Certificate().Raw})
	if p, err := Power(t.Context(), o); p != hardware.PowerOn || err != nil {
		t.Errorf("Power = %q, %v", p, err)
	}
	o.CA = []byte("junk")
	if _, err := Power(t.Context(), o); err == nil {
		t.Error("a CA without certificates is taken")
	}
	for _, u := range []string{"", "http://bmc", "https://", "https://u:p@bmc", "https://bmc/redfish", "bmc"} {
		o.URL = u
		if _, err := Power(t.Context(), o); err == nil {
			t.Errorf("URL %q is taken", u)
		}
	}
}

func TestHangingBMC(t *testing.T) {
	b := serve(t, machine(t))
	release := make(chan struct{})
	defer close(release)
	slow := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/Memory") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		b.ServeHTTP(w, r)
	}))
	defer slow.Close()
	o := b.options()
	o.URL, o.Timeout = slow.URL, time.Second
	begin := time.Now()
	inv, _, _, err := Read(t.Context(), o)
	if !errors.Is(err, context.DeadlineExceeded) || inv.System.Serial == "" || time.Since(begin) > 5*time.Second {
		t.Errorf("Read = %v, %+v after %v", err, inv.System, time.Since(begin))
	}
}

func TestPower(t *testing.T) {
	b := serve(t, machine(t))
	for _, c := range []struct {
		action hardware.PowerAction
		want   hardware.PowerState
		kind   string
	}{
		{hardware.ActionOff, hardware.PowerOff, "ForceOff"}, {hardware.ActionOn, hardware.PowerOn, "On"},
		{hardware.ActionReset, hardware.PowerOn, "ForceRestart"}, {hardware.ActionShutdown, hardware.PowerOff, "GracefulShutdown"},
	} {
		if err := SetPower(t.Context(), b.options(), c.action); err != nil {
			t.Errorf("SetPower(%s): %v", c.action, err)
		}
		if got, err := Power(t.Context(), b.options()); got != c.want || err != nil {
			t.Errorf("after %s: Power = %q, %v; want %q", c.action, got, err, c.want)
		}
		if got := b.resets[len(b.resets)-1]; got != c.kind {
			t.Errorf("%s sent %q; want %q", c.action, got, c.kind)
		}
	}
	if err := SetPower(t.Context(), b.options(), "explode"); err == nil {
		t.Error("an unknown action is taken")
	}
}

func TestPowerCycleWithoutOne(t *testing.T) {
	m := machine(t)
	reset := m["/redfish/v1/Systems/1"].(map[string]any)["Actions"].(map[string]any)["#ComputerSystem.Reset"].(map[string]any)
	reset["ResetType@Redfish.AllowableValues"] = []any{"On", "ForceOff"}
	b := serve(t, m)
	if err := SetPower(t.Context(), b.options(), hardware.ActionCycle); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"ForceOff", "On"}, b.resets); d != "" {
		t.Errorf("resets (-want +got):\n%s", d)
	}
	if err := SetPower(t.Context(), b.options(), hardware.ActionReset); err == nil || !strings.Contains(err.Error(), "On, ForceOff") {
		t.Errorf("an action that is not offered: %v", err)
	}
}

func TestBootOncePXE(t *testing.T) {
	for name, set := range map[string]func(*fakeBMC){
		"plain":            func(*fakeBMC) {},
		"demands If-Match": func(b *fakeBMC) { b.needMatch = true },
		"refuses If-Match": func(b *fakeBMC) { b.refuseMatch = true },
	} {
		t.Run(name, func(t *testing.T) {
			b := serve(t, machine(t))
			set(b)
			if err := BootOncePXE(t.Context(), b.options(), hardware.ModeUEFI); err != nil {
				t.Error(err)
			}
			boot := b.resources["/redfish/v1/systems/1"].(map[string]any)["Boot"].(map[string]any)
			if boot["BootSourceOverrideMode"] != "UEFI" || boot["BootSourceOverrideTarget"] != "Pxe" || boot["BootSourceOverrideEnabled"] != "Once" {
				t.Errorf("Boot = %v", boot)
			}
		})
	}
	t.Run("through settings", func(t *testing.T) {
		m := machine(t)
		system := m["/redfish/v1/Systems/1"].(map[string]any)
		system["@Redfish.Settings"] = map[string]any{"SettingsObject": map[string]any{"@odata.id": "/redfish/v1/Systems/1/Settings"}}
		m["/redfish/v1/Systems/1/Settings"] = map[string]any{"@odata.id": "/redfish/v1/Systems/1/Settings", "@odata.etag": `"5"`}
		b := serve(t, m)
		inner := b.resources["/redfish/v1/systems/1"]
		b.fault["/redfish/v1/systems/1"] = func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPatch {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			reply(w, inner)
		}
		if err := BootOncePXE(t.Context(), b.options(), hardware.ModeUEFI); err != nil {
			t.Error(err)
		}
	})
	t.Run("a BMC that forgets", func(t *testing.T) {
		b := serve(t, machine(t))
		b.forget = true
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := BootOncePXE(ctx, b.options(), hardware.ModeBIOS); !errors.Is(err, hardware.ErrNotKept) {
			t.Errorf("BootOncePXE = %v; want %v", err, hardware.ErrNotKept)
		}
	})
	b := serve(t, machine(t))
	if err := BootOncePXE(t.Context(), b.options(), "both"); err == nil || b.requests != 0 {
		t.Errorf("an unknown mode: %v after %d requests", err, b.requests)
	}
}
