package redfish

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/hardware"
)

// FuzzFacts gives any JSON object to the whole decode: as the root, with the
// same object behind every link, and to each function that makes facts.
func FuzzFacts(f *testing.F) {
	for _, m := range []map[string]any{machine(f), recordedTree(f, "dell-r750"), recordedTree(f, "ami-megarac"), recordedTree(f, "hpe-ilo4"), recordedTree(f, "openbmc")} {
		for _, r := range m {
			b, err := json.Marshal(r)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Add([]byte(`{"Links":[{"Chassis":7}],"Status":[],"CapacityMiB":1e300,"Identifiers":{"DurableName":{}}}`))
	f.Add([]byte(`{"Members":[{"@odata.id":"/redfish/v1/"},null,7],"Members@odata.nextLink":"/redfish/v1/?$skip=1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := prune(decode(b))
		if err != nil {
			t.Skip(err)
		}
		for _, v := range fuzzTree(n).assemble("") {
			enc, err := v.Inventory.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := hardware.Decode(enc); err != nil {
				t.Error(err)
			}
			r, err := json.Marshal(v.Readings)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := hardware.DecodeReadings(r); err != nil && len(r) < hardware.MaxInventoryBytes {
				t.Error(err)
			}
		}
		for _, l := range []string{n.id(), n.next(), n.link("Links", "Chassis"), own(n.str("Location"))} {
			if l != "" && !strings.HasPrefix(l, "/redfish/") && !strings.HasPrefix(l, "/rest/v1/") || strings.Contains(l, "..") {
				t.Errorf("link %q leads away", l)
			}
		}
		eachFact(n)
	})
}

// fuzzTree is a service of which every resource is the same.
func fuzzTree(n node) *tree {
	t := &tree{root: n, res: map[string]*resource{}}
	add := func(path string) {
		if path != "" {
			t.res[key(path)] = &resource{path: path, node: n, loaded: true}
		}
	}
	for _, list := range links {
		for _, l := range list {
			for _, target := range n.targets(l.at) {
				add(target.id())
			}
		}
	}
	for _, m := range n.list("Members") {
		add(m.id())
	}
	add(n.id())
	t.res["/redfish/v1/broken"] = &resource{path: "/redfish/v1/broken", err: errors.New("broken")}
	return t
}

func eachFact(n node) {
	systemFacts(n)
	oemSerials(n, []node{n})
	tpmFacts(n)
	biosFacts(n, n, n)
	bootEntries(n, []node{n})
	chassisFacts(n)
	chassisPartFacts(n, "")
	bmcFacts(n, n)
	bmcInterface(n, false)
	accountFacts(n)
	mediaFacts(n)
	firmwareFacts(n)
	dimmFacts(n)
	processorKind(n)
	cpuFacts(n)
	cpuSummary(n)
	gpuFacts(n, "gpu")
	graphics(pciFacts(n, n))
	d, _ := driveFacts(n)
	driveReading(n, d)
	controllerFacts(n)
	volumeFacts(n, nil)
	adapterFacts(n)
	portFacts(n)
	ethernetFacts(n)
	functionFacts(n)
	psuFacts(n)
	psuReading(n, n)
	fanFacts(n)
	fanReading(n)
	temperatureFacts(n)
	voltageFacts(n)
	sensorFacts(n)
	logFacts(n, n)
	quirksOf(n, n)
}
