package redfish

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-metal/ingot/hardware"
)

const user, password, token = "admin", "ingot", "t0ken"

// fakeBMC is a real HTTPS server over recorded resources: sessions, power,
// PATCH of Boot. Its faults are fields.
type fakeBMC struct {
	*httptest.Server
	mu        sync.Mutex
	resources map[string]any // lower-case path without a slash at its end
	sessions  int            // open ones
	logins    int
	requests  int
	resets    []string

	fault          map[string]http.HandlerFunc                        // by path
	conditional    func(http.ResponseWriter, *http.Request, any) bool // answers a GET, or says false
	refusesQueries int
	gets           map[string]int // GETs by path and query
	expands        bool           // knows $expand
	deny           int            // after so many requests all are 401
	noSessions     bool
	forget         bool // says yes to a boot override and forgets it
	needMatch      bool // 412 without If-Match
	refuseMatch    bool // 412 with If-Match
}

func serve(t testing.TB, resources map[string]any) *fakeBMC {
	t.Helper()
	b := &fakeBMC{resources: map[string]any{}, fault: map[string]http.HandlerFunc{}, gets: map[string]int{}}
	for p, r := range resources {
		b.resources[key(p)] = r
	}
	b.Server = httptest.NewUnstartedServer(b)
	b.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // clients that hang up
	b.StartTLS()
	t.Cleanup(func() {
		b.Close()
		if b.sessions != 0 {
			t.Errorf("%d sessions are left open", b.sessions)
		}
	})
	return b
}

func (b *fakeBMC) options() Options {
	return Options{URL: b.URL, User: user, Password: password, Insecure: true}
}

func (b *fakeBMC) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests++
	if r.Method == http.MethodGet {
		b.gets[key(r.URL.RequestURI())]++
	}
	if f := b.fault[key(r.URL.Path)]; f != nil {
		f(w, r)
		return
	}
	path := key(r.URL.Path)
	if page := key(r.URL.RequestURI()); b.resources[page] != nil {
		path = page // of a collection
	}
	switch {
	case path == key(sessionsPath) && r.Method == http.MethodPost:
		b.login(w, r)
	case path == key(sessionsPath)+"/1" && r.Method == http.MethodDelete && r.Header.Get("X-Auth-Token") == token:
		b.sessions--
	case path != key(rootPath) && !b.may(r), b.deny > 0 && b.requests > b.deny:
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodPost && strings.HasSuffix(path, "computersystem.reset"):
		b.reset(w, r)
	case b.resources[path] == nil:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":{"code":"Base.1.0.ResourceMissingAtURI","message":"not here"}}`)
	case r.Method == http.MethodPatch:
		b.patch(w, r, path)
	case r.Method == http.MethodGet && b.refusesQueries > 0 && r.URL.RawQuery != "":
		w.WriteHeader(b.refusesQueries)
	case r.Method == http.MethodGet && b.conditional != nil && b.conditional(w, r, b.resources[path]):
	case r.Method == http.MethodGet && b.expands && strings.Contains(r.URL.RawQuery, "expand"):
		reply(w, b.expanded(b.resources[path].(map[string]any)))
	case r.Method == http.MethodGet:
		reply(w, b.resources[path])
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

// expanded is a collection with its members in it.
func (b *fakeBMC) expanded(collection map[string]any) map[string]any {
	out := maps.Clone(collection)
	var members []any
	for _, m := range node(collection).list("Members") {
		members = append(members, b.resources[key(m.id())])
	}
	out["Members"] = members
	return out
}

func (b *fakeBMC) may(r *http.Request) bool {
	u, p, ok := r.BasicAuth()
	return b.noSessions && ok && u == user && p == password || !b.noSessions && r.Header.Get("X-Auth-Token") == token
}

func (b *fakeBMC) login(w http.ResponseWriter, r *http.Request) {
	b.logins++
	var c struct{ UserName, Password string }
	switch err := json.NewDecoder(r.Body).Decode(&c); {
	case b.noSessions:
		w.WriteHeader(http.StatusNotFound)
	case err != nil || c.UserName != user || c.Password != password:
		w.WriteHeader(http.StatusUnauthorized)
	default:
		b.sessions++
		w.Header().Set("X-Auth-Token", token)
		w.Header().Set("Location", b.URL+sessionsPath+"/1")
		w.WriteHeader(http.StatusCreated)
	}
}

func (b *fakeBMC) reset(w http.ResponseWriter, r *http.Request) {
	var c struct{ ResetType string }
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.resets = append(b.resets, c.ResetType)
	system := b.resources["/redfish/v1/systems/1"].(map[string]any)
	system["PowerState"] = "On"
	if c.ResetType == "ForceOff" || c.ResetType == "GracefulShutdown" {
		system["PowerState"] = "Off"
	}
	w.WriteHeader(http.StatusNoContent)
}

func (b *fakeBMC) patch(w http.ResponseWriter, r *http.Request, path string) {
	match := r.Header.Get("If-Match")
	if b.needMatch && match == "" || b.refuseMatch && match != "" {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	var c struct{ Boot map[string]any }
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if !b.forget {
		boot, _ := b.resources[path].(map[string]any)["Boot"].(map[string]any)
		if boot == nil {
			boot = map[string]any{}
			b.resources[path].(map[string]any)["Boot"] = boot
		}
		maps.Copy(boot, c.Boot)
	}
	w.WriteHeader(http.StatusNoContent)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

// machine is a recorded tree of our own.
func machine(t testing.TB) map[string]any {
	t.Helper()
	b, err := os.ReadFile("../testdata/machines/ingot-ls1/redfish.json")
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// fixtures is the folder of recorded BMCs. Without it a test or benchmark
// skips.
func fixtures(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("INGOT_FIXTURES")
	if dir == "" {
		dir = "../../../shared/fixtures"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no recorded BMCs: set INGOT_FIXTURES to their folder")
	}
	return filepath.Join(dir, "redfish")
}

func fixture(t testing.TB, name string) map[string]any {
	t.Helper()
	return recorded(t, filepath.Join(fixtures(t), name+".tar.gz"))
}

// recorded is a tree out of an archive of recorded BMCs, in the layout of
// DMTF's mock-ups.
func recorded(t testing.TB, archive string) map[string]any {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		_, path, ok := strings.Cut(h.Name, "/redfish/")
		if !ok || !strings.HasSuffix(path, "/index.json") {
			continue
		}
		var v any
		if err := json.NewDecoder(r).Decode(&v); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		out["/redfish/"+strings.TrimSuffix(path, "/index.json")] = v
	}
}

func codes(inv hardware.Inventory) map[hardware.Code]int {
	out := map[hardware.Code]int{}
	for _, f := range inv.Findings {
		out[f.Code]++
	}
	return out
}
