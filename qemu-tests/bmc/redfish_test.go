package bmc

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"

	"github.com/ingot-metal/ingot/hardware/redfish"
)

func (b *bench) connect(t *testing.T, basic bool) *gofish.APIClient {
	t.Helper()
	c, err := gofish.ConnectContext(t.Context(), gofish.ClientConfig{
		Endpoint: b.redfish, Username: "admin", Password: testPassword, Insecure: true, BasicAuth: basic, ReuseConnections: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Logout)
	return c
}

// plain is one request without gofish; it returns the status and the body.
func (b *bench) plain(t *testing.T, method, path, body string, header http.Header) (int, map[string]any, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.redfish+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if header == nil {
		req.SetBasicAuth("admin", testPassword)
	} else {
		req.Header = header
	}
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if buf.Len() > 0 {
		if err := json.Unmarshal(buf.Bytes(), &out); err != nil {
			t.Fatalf("%s %s: body is not JSON: %v", method, path, err)
		}
	}
	return resp.StatusCode, out, resp.Header
}

func errorID(body map[string]any) string {
	e, _ := body["error"].(map[string]any)
	code, _ := e["code"].(string)
	return code[strings.LastIndex(code, ".")+1:]
}

func TestRedfishInventory(t *testing.T) {
	b := newBench(t, nil)
	c := b.connect(t, false)
	systems, err := c.Service.Systems()
	if err != nil || len(systems) != 1 {
		t.Fatalf("systems = %d, %v; want 1", len(systems), err)
	}
	s := systems[0]
	if s.SerialNumber != "SER-0001" || s.Manufacturer != "Ingot Lab" || s.Model != "LS-1" || s.UUID != "1ab00001-0001-4001-8000-525400010101" {
		t.Errorf("system = %s %s %s %s", s.Manufacturer, s.Model, s.SerialNumber, s.UUID)
	}
	if s.PowerState != schemas.OffPowerState {
		t.Errorf("power = %s; want Off", s.PowerState)
	}
	dimms, err := s.Memory()
	if err != nil || len(dimms) != 2 || *dimms[0].CapacityMiB+*dimms[1].CapacityMiB != 3072 {
		t.Errorf("memory = %d DIMMs, %v; want 2 of 3072 MiB", len(dimms), err)
	}
	cpus, err := s.Processors()
	if err != nil || len(cpus) != 1 || *cpus[0].TotalCores != 2 {
		t.Errorf("processors = %d, %v; want 1 of 2 cores", len(cpus), err)
	}
	nics, err := s.EthernetInterfaces()
	if err != nil || len(nics) != 1 || nics[0].MACAddress != "52:54:00:01:01:01" {
		t.Errorf("NICs = %d, %v; want 52:54:00:01:01:01", len(nics), err)
	}
	storage, err := s.Storage()
	if err != nil || len(storage) != 1 {
		t.Fatalf("storage = %d, %v; want 1", len(storage), err)
	}
	drives, err := storage[0].Drives()
	if err != nil || len(drives) != 1 || drives[0].SerialNumber != "NVME-1" {
		t.Errorf("drives = %d, %v; want NVME-1", len(drives), err)
	}
	enclosures, err := c.Service.Chassis()
	if err != nil || len(enclosures) != 1 || enclosures[0].SerialNumber != "CHS-1" {
		t.Errorf("chassis = %d, %v; want CHS-1", len(enclosures), err)
	}
	managers, err := c.Service.Managers()
	if err != nil || len(managers) != 1 || managers[0].FirmwareVersion != "1.04" {
		t.Fatalf("managers = %d, %v; want firmware 1.04", len(managers), err)
	}
	ports, err := managers[0].EthernetInterfaces()
	if err != nil || len(ports) != 1 || ports[0].MACAddress != "52:54:00:01:01:bc" {
		t.Errorf("manager's ports = %d, %v; want 52:54:00:01:01:bc", len(ports), err)
	}
}

func TestRedfishPower(t *testing.T) {
	b := newBench(t, nil)
	c := b.connect(t, true)
	systems, err := c.Service.Systems()
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		reset  schemas.ResetType
		action PowerAction
	}{
		{schemas.OnResetType, PowerOn}, {schemas.ForceRestartResetType, PowerReset}, {schemas.GracefulRestartResetType, PowerRestart},
		{schemas.PowerCycleResetType, PowerCycle}, {schemas.ForceOffResetType, PowerOff},
		{schemas.OnResetType, PowerOn}, {schemas.GracefulShutdownResetType, PowerShutdown},
	} {
		if _, err := systems[0].Reset(step.reset); err != nil {
			t.Fatalf("reset %s: %v", step.reset, err)
		}
		if got := b.server.last(); got != step.action {
			t.Errorf("reset %s = %s; want %s", step.reset, got, step.action)
		}
	}
	const action = systemPath + "/Actions/ComputerSystem.Reset"
	for body, want := range map[string]struct {
		status int
		id     string
	}{
		`{"ResetType":"Explode"}`:      {http.StatusBadRequest, "ActionParameterValueNotInList"},
		`{}`:                           {http.StatusBadRequest, "ActionParameterMissing"},
		`{"ResetType":7}`:              {http.StatusBadRequest, "PropertyValueTypeError"},
		`{`:                            {http.StatusBadRequest, "MalformedJSON"},
		`{"ResetType":"ForceRestart"}`: {http.StatusConflict, "ResourceInUse"}, // it is off
	} {
		status, got, _ := b.plain(t, http.MethodPost, action, body, nil)
		if status != want.status || errorID(got) != want.id {
			t.Errorf("POST %s = %d %s; want %d %s", body, status, errorID(got), want.status, want.id)
		}
	}
}

func TestRedfishBoot(t *testing.T) {
	b := newBench(t, nil)
	c := b.connect(t, true)
	systems, err := c.Service.Systems()
	if err != nil {
		t.Fatal(err)
	}
	if err := systems[0].SetBoot(&schemas.Boot{
		BootSourceOverrideTarget: schemas.PxeBootSource, BootSourceOverrideEnabled: schemas.OnceBootSourceOverrideEnabled, BootSourceOverrideMode: schemas.UEFIBootSourceOverrideMode,
	}); err != nil {
		t.Fatal(err)
	}
	if got, want := b.Boot(), (BootOverride{BootOnce, BootPXE, BootUEFI}); got != want {
		t.Errorf("override = %v; want %v", got, want)
	}
	for body, want := range map[string]struct {
		status int
		id     string
	}{
		`{"Boot":{"BootSourceOverrideTarget":"Moon"}}`:       {http.StatusBadRequest, "PropertyValueNotInList"},
		`{"Boot":{"BootSourceOverrideEnabled":"Sometimes"}}`: {http.StatusBadRequest, "PropertyValueNotInList"},
		`{"AssetTag":"x"}`: {http.StatusBadRequest, "PropertyNotWritable"},
	} {
		status, got, _ := b.plain(t, http.MethodPatch, systemPath, body, nil)
		if status != want.status || errorID(got) != want.id {
			t.Errorf("PATCH %s = %d %s; want %d %s", body, status, errorID(got), want.status, want.id)
		}
	}
	if got, want := b.Boot(), (BootOverride{BootOnce, BootPXE, BootUEFI}); got != want {
		t.Errorf("override after refused changes = %v; want %v", got, want)
	}
	status, _, _ := b.plain(t, http.MethodPatch, systemPath, `{"Boot":{"BootSourceOverrideTarget":"None"}}`, nil)
	if got, want := b.Boot(), (BootOverride{BootDisabled, BootNone, BootUEFI}); status != http.StatusOK || got != want {
		t.Errorf("override after None = %d %v; want 200 %v", status, got, want)
	}
	stale := http.Header{"If-Match": {`"0000"`}}
	req, _ := http.NewRequest(http.MethodGet, "/", nil)
	req.SetBasicAuth("admin", testPassword)
	stale.Set("Authorization", req.Header.Get("Authorization"))
	if status, _, _ := b.plain(t, http.MethodPatch, systemPath, `{"Boot":{}}`, stale); status != http.StatusPreconditionFailed {
		t.Errorf("PATCH with a stale ETag = %d; want 412", status)
	}
}

func TestRedfishAuthentication(t *testing.T) {
	b := newBench(t, nil)
	none := http.Header{}
	for path, want := range map[string]int{
		"/redfish": 200, "/redfish/v1": 200, "/redfish/v1/": 200, systemPath: 401, "/redfish/v1/Nothing": 401,
		sessionsPath: 401, "/redfish/v1/SessionService": 401, systemPath + "/Memory/1": 401,
	} {
		if status, _, _ := b.plain(t, http.MethodGet, path, "", none); status != want {
			t.Errorf("GET %s without login = %d; want %d", path, status, want)
		}
	}
	for _, body := range []string{`{"UserName":"admin","Password":"wrong"}`, `{"UserName":"","Password":""}`, `{}`} {
		if status, _, h := b.plain(t, http.MethodPost, sessionsPath, body, none); status != 401 || h.Get("X-Auth-Token") != "" {
			t.Errorf("login %s = %d, token %q; want 401 and none", body, status, h.Get("X-Auth-Token"))
		}
	}
	if status, _, _ := b.plain(t, http.MethodGet, systemPath, "", http.Header{"X-Auth-Token": {"guess"}}); status != 401 {
		t.Errorf("GET with a guessed token = %d; want 401", status)
	}
	if status, _, _ := b.plain(t, http.MethodPost, systemPath+"/Actions/ComputerSystem.Reset", `{"ResetType":"On"}`, none); status != 401 || b.server.On() {
		t.Errorf("reset without login = %d, on %t; want 401 and off", status, b.server.On())
	}
	if status, body, _ := b.plain(t, http.MethodGet, "/redfish/v1/Nothing", "", nil); status != 404 || errorID(body) != "ResourceMissingAtURI" {
		t.Errorf("GET of nothing = %d %s; want 404", status, errorID(body))
	}
	if status, _, h := b.plain(t, http.MethodDelete, systemPath, "", nil); status != 405 || h.Get("Allow") == "" {
		t.Errorf("DELETE of the system = %d, Allow %q; want 405", status, h.Get("Allow"))
	}
}

func TestRedfishSessionLimit(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxSessions = 2; c.SessionTimeout = 2 * time.Second })
	login := func() (int, http.Header) {
		status, _, h := b.plain(t, http.MethodPost, sessionsPath, `{"UserName":"admin","Password":"`+testPassword+`"}`, http.Header{})
		return status, h
	}
	_, first := login()
	token := http.Header{"X-Auth-Token": {first.Get("X-Auth-Token")}}
	if status, _ := login(); status != http.StatusCreated {
		t.Fatalf("second login = %d; want 201", status)
	}
	if status, _ := login(); status != http.StatusServiceUnavailable {
		t.Errorf("login over the limit = %d; want 503", status)
	}
	if status, _, _ := b.plain(t, http.MethodDelete, first.Get("Location"), "", token); status != http.StatusNoContent {
		t.Errorf("logout = %d; want 204", status)
	}
	if status, _, _ := b.plain(t, http.MethodGet, systemPath, "", token); status != http.StatusUnauthorized {
		t.Errorf("GET after logout = %d; want 401", status)
	}
	if status, _ := login(); status != http.StatusCreated {
		t.Errorf("login after a logout = %d; want 201", status)
	}
	time.Sleep(2100 * time.Millisecond)
	if status, _ := login(); status != http.StatusCreated {
		t.Errorf("login after the others went idle = %d; want 201", status)
	}
}

// TestRedfishCrawl reads the BMC of a healthy server as control does: nothing of it
// is a finding, and nothing is asked for that is not there.
func TestRedfishCrawl(t *testing.T) {
	b := newBench(t, nil)
	r, err := redfish.Crawl(t.Context(), redfish.Options{URL: b.redfish, User: "admin", Password: testPassword, CA: []byte(b.CertificatePEM()), Readings: true})
	if err != nil || len(r.Views) != 1 {
		t.Fatalf("Crawl = %d views, %v", len(r.Views), err)
	}
	inv := r.Views[0].Inventory
	if len(inv.Findings) > 0 {
		t.Errorf("findings: %v", inv.Findings)
	}
	if len(inv.DIMMs) != 2 || len(inv.CPUs) != 1 || len(inv.Drives) != 1 || len(inv.NICs) != 1 || inv.BMC.Firmware != "1.04" {
		t.Errorf("record: %s, BMC %+v", inv.Summary(), inv.BMC)
	}
}
