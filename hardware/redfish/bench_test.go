package redfish

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stmcginnis/gofish"
)

// slowBMC serves a tree as a BMC does that has a few workers: each request
// takes a worker for a while, and more than so many at once are refused.
type slowBMC struct {
	*fakeBMC
	front   *httptest.Server
	latency time.Duration
	workers chan struct{}
	limit   int64
	now     atomic.Int64
	mu      sync.Mutex
	gets    map[string]int
	refused int
}

func serveSlowly(tb testing.TB, tree map[string]any, latency time.Duration, workers, limit int) *slowBMC {
	s := &slowBMC{fakeBMC: serve(tb, tree), latency: latency, workers: make(chan struct{}, workers), limit: int64(limit), gets: map[string]int{}}
	s.front = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.now.Add(-1)
		if s.now.Add(1) > s.limit {
			s.mu.Lock()
			s.refused++
			s.mu.Unlock()
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.workers <- struct{}{}
		time.Sleep(s.latency)
		<-s.workers
		if r.Method == http.MethodGet {
			s.mu.Lock()
			s.gets[key(r.URL.Path)]++
			s.mu.Unlock()
		}
		s.fakeBMC.ServeHTTP(w, r)
	}))
	tb.Cleanup(s.front.Close)
	return s
}

func (s *slowBMC) options() Options {
	o := s.fakeBMC.options()
	o.URL = s.front.URL
	return o
}

// gofishDefaults does by gofish, as it is, about what a crawl does: systems
// with their parts, chassis with theirs, managers, firmware, accounts.
func gofishDefaults(tb testing.TB, s *slowBMC) {
	c, err := gofish.Connect(gofish.ClientConfig{Endpoint: s.front.URL, Username: user, Password: password, Insecure: true})
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Logout()
	// What gofish drops is an error of the one call; the work goes on.
	systems, _ := c.Service.Systems()
	for _, y := range systems {
		y.Processors()
		y.Memory()
		storage, _ := y.Storage()
		for _, t := range storage {
			t.Drives()
			t.Volumes()
		}
		y.EthernetInterfaces()
		y.Bios()
		y.SecureBoot()
		y.BootOptions()
		devices, _ := y.PCIeDevices()
		for _, d := range devices {
			d.PCIeFunctions()
		}
	}
	chassis, _ := c.Service.Chassis()
	for _, b := range chassis {
		b.Power()
		b.Thermal()
		adapters, _ := b.NetworkAdapters()
		for _, a := range adapters {
			a.NetworkPorts()
			a.NetworkDeviceFunctions()
		}
	}
	managers, _ := c.Service.Managers()
	for _, m := range managers {
		m.EthernetInterfaces()
		m.HostInterfaces()
		m.VirtualMedia()
	}
	if u, err := c.Service.UpdateService(); err == nil && u != nil {
		u.FirmwareInventory()
	}
	if a, err := c.Service.AccountService(); err == nil && a != nil {
		a.Accounts()
	}
}

const benchLatency, benchWorkers, benchLimit = 100 * time.Millisecond, 4, 8

// crawlOnce is one crawl, held to the aims: its time against the bound, no
// request refused, no resource asked for twice.
func crawlOnce(b *testing.B, tree map[string]any, want int) {
	s := serveSlowly(b, tree, benchLatency, benchWorkers, benchLimit)
	begin := time.Now()
	gofishDefaults(b, s)
	peer := time.Since(begin)
	peerRequests := 0
	for _, n := range s.gets {
		peerRequests += n
	}
	var ratio, faster float64
	for b.Loop() {
		clear(s.gets)
		r, err := Crawl(b.Context(), s.options())
		if err != nil || len(r.Views) != want {
			b.Fatalf("%d views, %v", len(r.Views), err)
		}
		bound := time.Duration(r.Stats.Requests) * benchLatency / benchWorkers
		ratio += float64(r.Stats.Took) / float64(bound)
		faster += float64(peer) / float64(r.Stats.Took) * float64(r.Stats.Requests) / float64(peerRequests)
		for p, n := range s.gets {
			if n > 1 {
				b.Errorf("%s was asked for %d times", p, n)
			}
		}
		if r.Stats.Refused > 0 || s.refused > 0 {
			b.Errorf("%d requests were refused", s.refused)
		}
		b.ReportMetric(float64(r.Stats.Requests), "requests")
		b.ReportMetric(float64(r.Stats.InFlight), "in-flight")
	}
	b.ReportMetric(ratio/float64(b.N), "x-bound")
	b.ReportMetric(faster/float64(b.N), "x-gofish")
	b.ReportMetric(float64(peerRequests), "gofish-requests")
	b.ReportMetric(peer.Seconds(), "gofish-s")
}

func BenchmarkCrawlLenovo(b *testing.B) { crawlOnce(b, fixture(b, "lenovo_sr670"), 1) }

// BenchmarkCrawlLarge is a tree of about as many resources as a large server
// has.
func BenchmarkCrawlLarge(b *testing.B) { crawlOnce(b, largeTree(), 1) }

// largeTree has some 1,700 resources, of which a crawl wants about 300.
func largeTree() map[string]any {
	t := map[string]any{}
	put := func(path string, v map[string]any) {
		v["@odata.id"], v["Id"], v["Name"] = path, leaf(path), leaf(path)
		t[path] = v
	}
	to := func(path string) map[string]any { return map[string]any{"@odata.id": path} }
	collection := func(path string, n int, member func(i int) map[string]any) {
		var members []any
		for i := range n {
			p := fmt.Sprintf("%s/%d", path, i)
			members = append(members, to(p))
			put(p, member(i))
		}
		t[path] = map[string]any{"@odata.id": path, "Members": members, "Members@odata.count": n}
	}
	const sys, box, bmc = "/redfish/v1/Systems/0", "/redfish/v1/Chassis/0", "/redfish/v1/Managers/0"
	put("/redfish/v1", map[string]any{"Systems": to("/redfish/v1/Systems"), "Chassis": to("/redfish/v1/Chassis"),
		"Managers": to("/redfish/v1/Managers"), "Links": map[string]any{"Sessions": to(sessionsPath)}, "UpdateService": to("/redfish/v1/UpdateService")})
	collection("/redfish/v1/Systems", 1, func(int) map[string]any {
		return map[string]any{"SerialNumber": "L1", "Memory": to(sys + "/Memory"), "Processors": to(sys + "/Processors"), "Storage": to(sys + "/Storage"),
			"LogServices": to(sys + "/LogServices"), "Links": map[string]any{"Chassis": []any{to(box)}, "ManagedBy": []any{to(bmc)}}}
	})
	collection(sys+"/Memory", 48, func(i int) map[string]any {
		return map[string]any{"DeviceLocator": fmt.Sprint("DIMM ", i), "CapacityMiB": 32768, "SerialNumber": fmt.Sprintf("D%08d", i)}
	})
	collection(sys+"/Processors", 2, func(int) map[string]any { return map[string]any{"ProcessorType": "CPU", "TotalCores": 64} })
	collection(sys+"/Storage", 4, func(i int) map[string]any {
		var drives []any
		for d := range 12 {
			p := fmt.Sprintf("%s/Storage/%d/Drives/%d", sys, i, d)
			put(p, map[string]any{"SerialNumber": fmt.Sprintf("S%02d%02d", i, d), "CapacityBytes": 1 << 40, "Protocol": "NVMe"})
			drives = append(drives, to(p))
		}
		return map[string]any{"Drives": drives}
	})
	collection(sys+"/LogServices", 3, func(i int) map[string]any {
		return map[string]any{"Entries": to(fmt.Sprint(sys, "/LogServices/", i, "/Entries"))}
	})
	for i := range 3 {
		collection(fmt.Sprint(sys, "/LogServices/", i, "/Entries"), 350, func(int) map[string]any { return map[string]any{"Message": "a fan was seen"} })
	}
	collection("/redfish/v1/Chassis", 1, func(int) map[string]any {
		return map[string]any{"PCIeDevices": to(box + "/PCIeDevices"), "NetworkAdapters": to(box + "/NetworkAdapters"), "Sensors": to(box + "/Sensors")}
	})
	collection(box+"/Sensors", 300, func(int) map[string]any { return map[string]any{"ReadingType": "Temperature", "Reading": 30} })
	collection(box+"/PCIeDevices", 40, func(i int) map[string]any {
		collection(fmt.Sprint(box, "/PCIeDevices/", i, "/PCIeFunctions"), 1, func(int) map[string]any { return map[string]any{"ClassCode": "0x020000"} })
		return map[string]any{"PCIeFunctions": to(fmt.Sprint(box, "/PCIeDevices/", i, "/PCIeFunctions"))}
	})
	collection(box+"/NetworkAdapters", 4, func(i int) map[string]any {
		collection(fmt.Sprint(box, "/NetworkAdapters/", i, "/Ports"), 2, func(p int) map[string]any {
			return map[string]any{"Ethernet": map[string]any{"AssociatedMACAddresses": []any{fmt.Sprintf("02:00:00:00:%02x:%02x", i, p)}}}
		})
		return map[string]any{"Ports": to(fmt.Sprint(box, "/NetworkAdapters/", i, "/Ports"))}
	})
	collection("/redfish/v1/Managers", 1, func(int) map[string]any {
		return map[string]any{"ManagerType": "BMC", "EthernetInterfaces": to(bmc + "/EthernetInterfaces")}
	})
	collection(bmc+"/EthernetInterfaces", 2, func(i int) map[string]any { return map[string]any{"MACAddress": fmt.Sprintf("02:00:00:01:00:%02x", i)} })
	put("/redfish/v1/UpdateService", map[string]any{"FirmwareInventory": to("/redfish/v1/UpdateService/FirmwareInventory")})
	collection("/redfish/v1/UpdateService/FirmwareInventory", 30, func(i int) map[string]any { return map[string]any{"Version": fmt.Sprint(i)} })
	return maps.Clone(t)
}
