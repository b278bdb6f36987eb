package redfish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

// tree is a recorded machine of testdata: what a vendor's BMC answers, made
// by hand to have that vendor's habits.
func recordedTree(t testing.TB, name string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name, "tree.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestMachines reads every machine of testdata. A new one is a directory with
// a tree; -update writes what it is read as.
func TestMachines(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/tree.json")
	if err != nil || len(dirs) < 6 {
		t.Fatalf("%d machines, %v", len(dirs), err)
	}
	for _, file := range dirs {
		name := filepath.Base(filepath.Dir(file))
		t.Run(name, func(t *testing.T) {
			b := serve(t, recordedTree(t, name))
			o := b.options()
			o.Readings = true
			r, err := Crawl(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			enc := json.NewEncoder(&got)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", " ")
			for _, v := range r.Views {
				if err := enc.Encode(v); err != nil {
					t.Fatal(err)
				}
				if again := v.Inventory.Normalized(); again.Digest() != v.Inventory.Digest() {
					t.Error("normalizing again changes the digest")
				}
			}
			for _, v := range r.Views {
				if d := hardware.Diff(v.Inventory, v.Inventory); len(d) > 0 {
					t.Errorf("a record differs from itself: %v", d)
				}
			}
			golden(t, filepath.Join("testdata", name, "want.json"), got.Bytes())
			for p, n := range b.gets {
				if n > 1 {
					t.Errorf("%s was asked for %d times", p, n)
				}
			}
		})
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; make it with -update", err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}

// TestCounts holds what a person reads off the trees of testdata, apart from
// the golden files, which a program wrote.
func TestCounts(t *testing.T) {
	type counts struct{ CPUs, GPUs, DIMMs, Slots, Drives, Volumes, Controllers, NICs, Adapters, PSUs, Fans, PCI int }
	for name, want := range map[string][]counts{
		"dell-r750":   {{CPUs: 2, GPUs: 1, DIMMs: 4, Slots: 4, Drives: 3, Volumes: 1, Controllers: 1, NICs: 4, Adapters: 2, PSUs: 1, Fans: 3, PCI: 4}},
		"openbmc":     {{CPUs: 1, DIMMs: 2, Slots: 4, Drives: 1, NICs: 2, Adapters: 1, PSUs: 1, Fans: 1}},
		"ami-megarac": {{CPUs: 2, GPUs: 1, DIMMs: 3, Slots: 4, Drives: 1, Controllers: 1, NICs: 2, PSUs: 1, Fans: 1}},
		"nvidia-hgx": {{CPUs: 2, DIMMs: 2, Slots: 2, NICs: 1, Adapters: 1, PCI: 2},
			{GPUs: 8, PCI: 8}},
		"hpe-ilo4": {{CPUs: 2, DIMMs: 2, Slots: 3, Drives: 2, Volumes: 1, Controllers: 1, NICs: 2, Adapters: 1, PSUs: 1, Fans: 1, PCI: 2}},
		"inspur-two-nodes": {{CPUs: 1, DIMMs: 1, Slots: 1, Drives: 1, PSUs: 2, Fans: 2},
			{CPUs: 1, DIMMs: 1, Slots: 1, Drives: 1, PSUs: 2, Fans: 2}},
	} {
		r, err := Crawl(t.Context(), serve(t, recordedTree(t, name)).options())
		if err != nil {
			t.Fatal(err)
		}
		var got []counts
		for _, v := range r.Views {
			i := v.Inventory
			got = append(got, counts{len(i.CPUs), len(i.GPUs), len(i.DIMMs), len(i.DIMMSlots), len(i.Drives), len(i.Volumes),
				len(i.StorageControllers), len(i.NICs), len(i.Adapters), len(i.PSUs), len(i.Fans), len(i.PCI)})
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// TestGraphicsControllers has GPUs that are no processors, and screens that
// are no GPUs.
func TestGraphicsControllers(t *testing.T) {
	tree := map[string]any{}
	if err := json.Unmarshal([]byte(`{"/redfish/v1":{"Systems":{"@odata.id":"/redfish/v1/Systems"}},"/redfish/v1/Systems":{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}]},
		"/redfish/v1/Systems/1":{"Id":"1","GraphicsControllers":{"@odata.id":"/redfish/v1/Systems/1/GraphicsControllers"}},
		"/redfish/v1/Systems/1/GraphicsControllers":{"Members":[{"@odata.id":"/redfish/v1/Systems/1/GraphicsControllers/Video.Embedded.1-1"},{"@odata.id":"/redfish/v1/Systems/1/GraphicsControllers/GPU1"}]},
		"/redfish/v1/Systems/1/GraphicsControllers/Video.Embedded.1-1":{"Id":"Video.Embedded.1-1","Manufacturer":"Matrox Electronics Systems Ltd."},
		"/redfish/v1/Systems/1/GraphicsControllers/GPU1":{"Id":"GPU1","Manufacturer":"NVIDIA","Model":"L40S","SerialNumber":"G1","BiosVersion":"95.02"}}`), &tree); err != nil {
		t.Fatal(err)
	}
	r, err := Crawl(t.Context(), serve(t, tree).options())
	if err != nil {
		t.Fatal(err)
	}
	if g := r.Views[0].Inventory.GPUs; len(g) != 1 || g[0].Model != "L40S" || g[0].Firmware != "95.02" {
		t.Errorf("GPUs = %+v", g)
	}
}

// TestMemorySizes has the ways in which BMCs write a DIMM of 16 GiB.
func TestMemorySizes(t *testing.T) {
	for _, s := range []string{`{"CapacityMiB":16384}`, `{"CapacityMiB":"16384"}`, `{"CapacityMiB":"16 GiB"}`, `{"CapacityMiB":"16384 MB"}`, `{"CapacityMiB":16}`,
		`{"CapacityMiB":17179869184}`, `{"SizeMB":16384}`, `{"CapacityGiB":16}`, `{"CapacityMiB":null,"VolatileSizeMiB":16384}`} {
		if got := memoryBytes(parse(t, s)); got != 16<<30 {
			t.Errorf("memoryBytes(%s) = %d; want 16 GiB", s, got)
		}
	}
	for _, s := range []string{`{}`, `{"CapacityMiB":null}`, `{"CapacityMiB":-1}`, `{"CapacityMiB":"N/A"}`, `{"CapacityMiB":"16 bananas"}`, `{"CapacityMiB":1e300}`} {
		if got := memoryBytes(parse(t, s)); got != 0 {
			t.Errorf("memoryBytes(%s) = %d; want none", s, got)
		}
	}
}

func TestBDF(t *testing.T) {
	for _, c := range []struct{ device, fn, want string }{
		{`{"Id":"59-0"}`, `{"Id":"59-0-1"}`, "0000:3b:00.1"},
		{`{"Id":"slot_5"}`, `{"Id":"slot_5.00","Name":"Adapter ca:00:00"}`, "0000:ca:00.0"},
		{`{}`, `{"BusNumber":2,"DeviceNumber":31,"FunctionNumber":7}`, "0000:02:1f.7"},
		{`{}`, `{"Oem":{"Huawei":{"BusNumber":"0x3b","DeviceNumber":"0x00","FunctionNumber":"0x1"}}}`, "0000:3b:00.1"},
		{`{}`, `{"Id":"0001:3b:00.0"}`, "0001:3b:00.0"},
		{`{"Id":"1"}`, `{"Id":"1-2-3"}`, ""},
		{`{}`, `{"BusNumber":300,"DeviceNumber":0,"FunctionNumber":0}`, ""},
		{`{}`, `{"Id":"0"}`, ""},
	} {
		if got := bdfOf(parse(t, c.device), parse(t, c.fn)); got != hardware.BDF(c.want) {
			t.Errorf("bdfOf(%s, %s) = %q; want %q", c.device, c.fn, got, c.want)
		}
	}
}

// TestExpand has a BMC that is trusted to give members within a collection:
// it does, or only says so, or refuses. What is read is the same each time.
func TestExpand(t *testing.T) {
	plain, err := Crawl(t.Context(), serve(t, recordedTree(t, "dell-r750")).options())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		set  func(*fakeBMC)
		more int // requests, against those without
	}{
		"does":           {func(b *fakeBMC) { b.expands = true }, -5},
		"only says so":   {func(*fakeBMC) {}, 0},
		"refuses by 400": {func(b *fakeBMC) { b.refusesQueries = 400 }, 1},
		"refuses by 501": {func(b *fakeBMC) { b.refusesQueries = 501 }, 1},
	} {
		b := serve(t, recordedTree(t, "dell-r750"))
		c.set(b)
		r, err := Crawl(t.Context(), b.options())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(plain.Views, r.Views); d != "" {
			t.Errorf("%s: another record:\n%s", name, d)
		}
		if got := r.Stats.Requests - plain.Stats.Requests; c.more < 0 && got > c.more || c.more >= 0 && got != c.more {
			t.Errorf("%s: %d requests against %d; want %d more", name, r.Stats.Requests, plain.Stats.Requests, c.more)
		}
	}
}

// TestRecordIsBounded has a BMC with more than a record may weigh.
func TestRecordIsBounded(t *testing.T) {
	tree := largeTree()
	system := tree["/redfish/v1/Systems/0"].(map[string]any)
	system["Bios"] = map[string]any{"@odata.id": "/redfish/v1/Systems/0/Bios"}
	attributes := map[string]any{"AdminPassword": "secret"}
	for i := range 2000 {
		attributes[fmt.Sprintf("Setting%04d", i)] = strings.Repeat("x1", 200)
	}
	tree["/redfish/v1/Systems/0/Bios"] = map[string]any{"Id": "Bios", "Attributes": attributes}
	r, err := Crawl(t.Context(), serve(t, tree).options())
	if err != nil {
		t.Fatal(err)
	}
	inv := r.Views[0].Inventory
	b, err := json.MarshalIndent(inv, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hardware.Decode(b); err != nil || len(inv.DIMMs) != 48 || codes(inv)[hardware.CodeInventoryTruncated] == 0 {
		t.Errorf("a record of %d bytes: %v, %d DIMMs, findings %v", len(b), err, len(inv.DIMMs), codes(inv))
	}
	if bytes.Contains(b, []byte("secret")) {
		t.Error("a password is in the record")
	}
}

// TestOldAndOdd has services that are nearly Redfish.
func TestOldAndOdd(t *testing.T) {
	for name, tree := range map[string]string{
		"a root that forgets its systems": `{"/redfish/v1":{"Id":"R"},"/redfish/v1/Systems":{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}]},
			"/redfish/v1/Systems/1":{"Id":"1","SerialNumber":"S1"}}`,
		"members among the links": `{"/redfish/v1":{"Systems":{"href":"/redfish/v1/Systems"}},"/redfish/v1/Systems":{"links":{"Member":[{"href":"/redfish/v1/Systems/1"}]}},
			"/redfish/v1/Systems/1":{"Id":"1","SerialNumber":"S1"}}`,
		"a hypervisor listed as a system": `{"/redfish/v1":{"Systems":{"@odata.id":"/redfish/v1/Systems"}},"/redfish/v1/Systems":{"Members":[{"@odata.id":"/redfish/v1/Systems/hypervisor"},{"@odata.id":"/redfish/v1/Systems/1"}]},
			"/redfish/v1/Systems/1":{"Id":"1","SerialNumber":"S1"},"/redfish/v1/Systems/hypervisor":{"Id":"hypervisor","SystemType":"OS"}}`,
		"a link in circles": `{"/redfish/v1":{"Systems":{"@odata.id":"/redfish/v1/Systems"},"Chassis":{"@odata.id":"/redfish/v1/Chassis"}},"/redfish/v1/Systems":{"Members":[{"@odata.id":"/redfish/v1/Systems/1"}]},
			"/redfish/v1/Systems/1":{"Id":"1","SerialNumber":"S1","Links":{"Chassis":[{"@odata.id":"/redfish/v1/Chassis/a"}]}},
			"/redfish/v1/Chassis":{"Members":[{"@odata.id":"/redfish/v1/Chassis/a"}],"Members@odata.nextLink":"/redfish/v1/Chassis"},
			"/redfish/v1/Chassis/a":{"Id":"a","Links":{"Contains":[{"@odata.id":"/redfish/v1/chassis/b/"}],"ContainedBy":{"@odata.id":"/redfish/v1/Chassis/b"}}},
			"/redfish/v1/Chassis/b":{"Id":"b","Links":{"Contains":[{"@odata.id":"/redfish/v1/Chassis/a"}]}}}`,
	} {
		var m map[string]any
		if err := json.Unmarshal([]byte(tree), &m); err != nil {
			t.Fatal(err)
		}
		b := serve(t, m)
		r, err := Crawl(t.Context(), b.options())
		if err != nil || len(r.Views) != 1 || r.Views[0].Inventory.System.Serial != "S1" {
			t.Errorf("%s: %d views, %v", name, len(r.Views), err)
		}
		if r.Stats.Requests > 20 {
			t.Errorf("%s: %d requests", name, r.Stats.Requests)
		}
	}
}
