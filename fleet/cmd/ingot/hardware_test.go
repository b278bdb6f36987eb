package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/hardware"
)

// recordedBMC serves a recorded tree over plain HTTP, with one account.
func recordedBMC(t *testing.T, change func(map[string]any)) *httptest.Server {
	t.Helper()
	b, err := os.ReadFile("../../../hardware/testdata/machines/ingot-ls1/redfish.json")
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(b, &tree); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(tree)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimSuffix(r.URL.Path, "/")
		var login struct{ Password string }
		switch {
		case r.Method == http.MethodPost && json.NewDecoder(r.Body).Decode(&login) == nil && login.Password == "right":
			w.Header().Set("X-Auth-Token", "t")
			w.Header().Set("Location", "/redfish/v1/SessionService/Sessions/1")
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodPost || path != "/redfish/v1" && r.Header.Get("X-Auth-Token") != "t":
			w.WriteHeader(http.StatusUnauthorized)
		case tree[path] == nil:
			w.WriteHeader(http.StatusNotFound)
		default:
			if err := json.NewEncoder(w).Encode(tree[path]); err != nil {
				t.Error(err)
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func runHardware(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := map[string]string{"RIGHT": "right", "WRONG": "wrong", "XDG_CACHE_HOME": t.TempDir()}
	code = newApp(&out, &errs, func(k string) string { return env[k] }).run(t.Context(), append([]string{"hardware"}, args...))
	return code, out.String(), errs.String()
}

func TestHardwareRedfish(t *testing.T) {
	s := recordedBMC(t, nil)
	flags := []string{"redfish", s.URL, "--user", "admin", "--password-env", "RIGHT", "--insecure", "-o", "json"}
	code, stdout, stderr := runHardware(t, flags...)
	inv, err := hardware.Decode([]byte(stdout))
	if code != exitOK || err != nil || inv.System.Serial != "LAB-0001" {
		t.Errorf("exit %d, %v, %s; stderr %s", code, err, inv.Summary(), stderr)
	}
	for _, want := range []string{"requests ", "refused 0", "seconds ", "most in flight "} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr %q lacks %q", stderr, want)
		}
	}
	code, stdout, _ = runHardware(t, append(flags, "--readings")...)
	if r, err := hardware.DecodeReadings([]byte(stdout)); code != exitOK || err != nil || r.PowerState != hardware.PowerOn {
		t.Errorf("readings: exit %d, %v, %+v", code, err, r)
	}
	code, stdout, _ = runHardware(t, append(flags, "-o", "table")...)
	if code != exitOK || !strings.Contains(stdout, "LAB-0001") {
		t.Errorf("table: exit %d\n%s", code, stdout)
	}
}

// TestHardwareRedfishOfSeveralSystems has two behind one BMC: an array, or the
// one that was asked for.
func TestHardwareRedfishOfSeveralSystems(t *testing.T) {
	s := recordedBMC(t, func(tree map[string]any) {
		second := map[string]any{"@odata.id": "/redfish/v1/Systems/2", "Id": "2", "SerialNumber": "LAB-0002"}
		tree["/redfish/v1/Systems/2"] = second
		systems := tree["/redfish/v1/Systems"].(map[string]any)
		systems["Members"] = append(systems["Members"].([]any), map[string]any{"@odata.id": "/redfish/v1/Systems/2"})
	})
	flags := []string{"redfish", s.URL, "--user", "admin", "--password-env", "RIGHT", "--insecure", "-o", "json"}
	_, stdout, _ := runHardware(t, flags...)
	var all []hardware.Inventory
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all) != 2 || all[1].System.Serial != "LAB-0002" {
		t.Errorf("%v, %d documents", err, len(all))
	}
	_, stdout, _ = runHardware(t, append(flags, "--system", "2")...)
	if inv, err := hardware.Decode([]byte(stdout)); err != nil || inv.System.Serial != "LAB-0002" {
		t.Errorf("--system 2: %v, %s", err, inv.Summary())
	}
}

func TestHardwareRedfishRefuses(t *testing.T) {
	s := recordedBMC(t, nil)
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no account", []string{s.URL}, exitUsage, "--user"},
		{"an empty variable", []string{s.URL, "--user", "a", "--password-env", "NOTHING", "--insecure"}, exitUsage, "NOTHING"},
		{"http", []string{s.URL, "--user", "a", "--password-env", "RIGHT"}, exitUsage, "--insecure"},
		{"a wrong password", []string{s.URL, "--user", "a", "--password-env", "WRONG", "--insecure"}, exitRefused, "refused the account"},
		{"no such system", []string{s.URL, "--user", "a", "--password-env", "RIGHT", "--insecure", "--system", "9"}, exitFailed, `no system "9"`},
		{"nobody there", []string{"https://127.0.0.1:1", "--user", "a", "--password-env", "RIGHT"}, exitFailed, "connection refused"},
	} {
		code, stdout, stderr := runHardware(t, append([]string{"redfish"}, c.args...)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit %d, want %d; stdout %q; stderr %q lacks %q", c.name, code, c.code, stdout, stderr, c.says)
		}
		if strings.Contains(stderr, "wrong") && strings.Contains(stderr, "\"wrong\"") {
			t.Errorf("%s: the password is in %q", c.name, stderr)
		}
	}
}
