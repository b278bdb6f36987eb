package redfish

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tagged makes a BMC answer with ETags, in the header or only in the body,
// and 304 where the client has the same.
func tagged(b *fakeBMC, inBody bool) {
	b.conditional = func(w http.ResponseWriter, r *http.Request, v any) bool {
		raw, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		tag := fmt.Sprintf(`W/"%x"`, sha256.Sum256(raw))[:20] + `"`
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return true
		}
		if !inBody {
			w.Header().Set("ETag", tag)
			return false
		}
		var n map[string]any
		if err := json.Unmarshal(raw, &n); err != nil {
			panic(err)
		}
		n["@odata.etag"] = tag
		reply(w, n)
		return true
	}
}

func TestCache(t *testing.T) {
	for name, inBody := range map[string]bool{"tags in headers": false, "tags in bodies": true} {
		for kind, cache := range map[string]Cache{"memory": &MemoryCache{}, "directory": DirCache(filepath.Join(t.TempDir(), "a", "b"))} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				b := serve(t, largeTree())
				tagged(b, inBody)
				o := b.options()
				o.Cache = cache
				cold, err := Crawl(t.Context(), o)
				if err != nil || cold.CacheErr != nil || cold.Stats.Cached != 0 {
					t.Fatalf("first: %v, %v, %+v", err, cold.CacheErr, cold.Stats)
				}
				warm, err := Crawl(t.Context(), o)
				if err != nil || warm.CacheErr != nil {
					t.Fatalf("second: %v, %v", err, warm.CacheErr)
				}
				if warm.Stats.Bytes*10 >= cold.Stats.Bytes || warm.Stats.Cached < 200 {
					t.Errorf("second crawl took %d bytes of %d, %d unchanged; want under a tenth", warm.Stats.Bytes, cold.Stats.Bytes, warm.Stats.Cached)
				}
				if d := cmp.Diff(cold.Views, warm.Views); d != "" {
					t.Errorf("second crawl differs:\n%s", d)
				}
				dimm := b.resources[key("/redfish/v1/Systems/0/Memory/7")].(map[string]any)
				dimm["SerialNumber"] = "ANOTHER"
				changed, err := Crawl(t.Context(), o)
				if err != nil || changed.Stats.Cached != warm.Stats.Cached-1 {
					t.Errorf("after a change: %v, %d unchanged; want one less than %d", err, changed.Stats.Cached, warm.Stats.Cached)
				}
				if got := changed.Views[0].Inventory.DIMMs[7].Serial; got != "ANOTHER" {
					t.Errorf("the changed DIMM's serial is %q", got)
				}
			})
		}
	}
}

// TestCacheIsOfOneBMC has another BMC at the address of the first.
func TestCacheIsOfOneBMC(t *testing.T) {
	b := serve(t, largeTree())
	tagged(b, false)
	o := b.options()
	o.Cache = &MemoryCache{}
	if _, err := Crawl(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b.resources[key(rootPath)].(map[string]any)["UUID"] = "11223344-5566-4788-99aa-bbccddeeff77"
	r, err := Crawl(t.Context(), o)
	if err != nil || r.Stats.Cached != 0 {
		t.Errorf("another BMC was asked with the first one's ETags: %v, %+v", err, r.Stats)
	}
}

func TestDirCache(t *testing.T) {
	dir := DirCache(t.TempDir())
	if err := dir.Save("s", Answers{"/redfish/v1/X": {ETag: `"1"`, Body: []byte(`{"Id":"X"}`)}}); err != nil {
		t.Fatal(err)
	}
	if got := dir.Load("s"); got["/redfish/v1/X"].ETag != `"1"` || string(got["/redfish/v1/X"].Body) != `{"Id":"X"}` {
		t.Errorf("Load = %v", got)
	}
	if err := os.WriteFile(dir.path("s"), []byte(`{"/redfish/v1/X":{"etag`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := dir.Load("s"); got != nil {
		t.Errorf("half a file is taken: %v", got)
	}
	st, err := os.Stat(dir.path("s"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := DirCache(file).Save("s", Answers{}); err == nil {
		t.Error("a file is taken for a directory")
	}
	b := serve(t, machine(t))
	o := b.options()
	o.Cache = DirCache(file)
	if r, err := Crawl(t.Context(), o); err != nil || r.CacheErr == nil || len(r.Views) != 1 {
		t.Errorf("a cache that cannot be kept: %v, %v, %d views", err, r.CacheErr, len(r.Views))
	}
}
