package expected

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

const yamlFile = `# bought in June
skus:
  R650-A:
    model: PowerEdge R650
    cpus: 2
    memory: 512 GiB
    dimms: 16
    drives:
      - 2x 480GB sata
      - {count: 8, size: 3.84TB, transport: nvme, model: PM9A3}
    nics: ["2x 25000", {count: 1, mbps: 1000}]
machines:
  - {serial: 0012345, name: r7u12, rack: r7, unit: 12, sku: R650-A}
  - macs: [52-54-00-01-01-01, "5254.0001.0102"]
    rack: r7
    unit: 13
`

var parsed = hardware.Expected{
	Schema: hardware.ExpectedSchema,
	SKUs: map[string]hardware.SKU{"R650-A": {Model: "PowerEdge R650", CPUs: 2, MemoryBytes: 512 << 30, DIMMs: 16,
		Drives: []hardware.ExpectedDrive{{Count: 2, SizeBytes: 480e9, Transport: "sata"}, {Count: 8, SizeBytes: 3840e9, Transport: "nvme", Model: "PM9A3"}},
		NICs:   []hardware.ExpectedNIC{{Count: 2, Mbps: 25000}, {Count: 1, Mbps: 1000}}}},
	Machines: []hardware.ExpectedMachine{
		{Serial: "0012345", Name: "r7u12", Rack: "r7", Unit: 12, SKU: "R650-A"},
		{MACs: []hardware.MAC{"52:54:00:01:01:01", "52:54:00:01:01:02"}, Rack: "r7", Unit: 13}},
}

func TestParse(t *testing.T) {
	known := map[string]hardware.SKU{"R650-A": {}}
	csvMachines := "\ufeffSerial, Rack,Unit,SKU,Name,MACs\n# a comment\n0012345,r7,12,R650-A,r7u12,\n\"\",r7,13,,,52:54:00:01:01:01; 52:54:00:01:01:02\n"
	csvBills := "sku,model,cpus,memory,dimms,drives,nics\r\nR650-A,PowerEdge R650,2,512GiB,16,2x480GB sata;8 x 3.84 TB NVMe PM9A3,2x25000;1x 1000\r\n"
	for _, tt := range []struct {
		name, text string
		known      map[string]hardware.SKU
		want       hardware.Expected
	}{
		{"a.yaml", yamlFile, nil, parsed},
		{"-", yamlFile, nil, parsed},
		{"-", csvMachines, known, hardware.Expected{Schema: hardware.ExpectedSchema, Machines: parsed.Machines}},
		{"bill.CSV", csvBills, nil, hardware.Expected{Schema: hardware.ExpectedSchema, SKUs: parsed.SKUs}},
	} {
		got, err := Parse(tt.name, []byte(tt.text), tt.known)
		if d := cmp.Diff(tt.want, got); d != "" || err != nil {
			t.Errorf("Parse(%s): %v (-want +got):\n%s", tt.name, err, d)
		}
	}
}

// Every mistake is told with its place, and a file with one is not taken.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a.yaml", "machines:\n  - {serial: A, rack: r1, unit: 0}\n", `line 2, column 33: "0": want a number from 1 to 100`},
		{"a.yaml", "machines:\n  - serial: A\n  - serial: a\n", `line 3, column 13: serial "a" stands at line 2, column 13 already`},
		{"a.yaml", "machines:\n  - serial: A\n    serail: B\n", `line 3, column 5: key "serail" of a machine is not known; known are mac, macs, name`},
		{"a.yaml", "machines:\n  - serial: To be filled by O.E.M.\n", `is no serial of one machine`},
		{"a.yaml", "machines:\n  - rack: r1\n", `line 2, column 5: this machine has no serial and no MAC`},
		{"a.yaml", "machines:\n  - {serial: A, sku: X9}\n", `line 2, column 22: SKU "X9" has no bill of materials`},
		{"a.yaml", "machines: 5\n", `line 1, column 11: want a list here`},
		{"a.yaml", "machines:\n  - serial: ~\n", `line 2, column 13: want one value here`},
		{"a.yaml", "machines:\n  - &a {serial: A}\n  - *a\n", `line 2, column 5: anchors and aliases are not taken`},
		{"a.yaml", "machines: [\n", "line "},
		{"a.yaml", "machine: []\n", `line 1, column 1: key "machine" is not known`},
		{"a.yaml", "schema: ingot.expected/v9\nmachines: [{serial: A}]\n", `line 1, column 9: schema is "ingot.expected/v9"`},
		{"a.yaml", "skus:\n  A: {memory: 64 GB}\n", `line 2, column 15: "64 GB": memory is counted in binary units`},
		{"a.yaml", "skus:\n  A: {drives: [8x]}\n", `line 2, column 16: "8x": want the form "8x 3.84TB nvme MODEL"`},
		{"a.yaml", "skus:\n  A: {nics: [{count: 2}]}\n", `line 2, column 14: "2x": want the form`},
		{"a.yaml", "skus:\n  A: {cpus: 1}\n  A: {cpus: 2}\n", `line `},
		{"a.yaml", "", `line 1, column 1: there is no machine and no SKU in it`},
		{"a.yaml", strings.Repeat("[", 1000), `line 1, column 65: brackets stand in each other`},
		{"a.yaml", "machines:\n  - serial: \xff\n", `line 2, column 13: this is not UTF-8`},
		{"a.csv", "serial,unit\nA,1\nB,x\n", `line 3, column 3: "x": want a number`},
		{"a.csv", "serial,where\nA,1\n", `line 1, column 8: column "where" is not known`},
		{"a.csv", "serial,serial\nA,B\n", `line 1, column 8: column "serial" stands here twice`},
		{"a.csv", "serial,rack\nA\n", `line 2, column 1: this row has 1 cells, the head has 2`},
		{"a.csv", "serial,rack\nA,\"r1\n", `line `},
		{"a.csv", "serial,mac\nA,01:00:00:00:00:00\n", `line 2, column 3: "01:00:00:00:00:00" is no MAC address of a NIC`},
		{"a.csv", "serial,mac\nA,52:54:00:00:00:01\nB,5254.0000.0001\n", `line 3, column 3: MAC address "5254.0000.0001" stands at line 2`},
		{"a.csv", "\"\n\",x\na,b\n", `column`},
	} {
		got, err := Parse(tt.name, []byte(tt.text), nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(got.Machines)+len(got.SKUs) > 0 {
			t.Errorf("Parse(%q) = %+v, %v; want nothing and %q", tt.text, got, err, tt.want)
		}
	}
}

func TestManyMistakesAreBounded(t *testing.T) {
	_, err := Parse("a.csv", []byte("serial\n"+strings.Repeat("xx\n", 100)), nil)
	if n := strings.Count(err.Error(), "\n"); n != mostErrors || !strings.HasSuffix(err.Error(), "and 80 more") {
		t.Errorf("%d lines are told: %v", n, err)
	}
	if _, err := Parse("a.csv", make([]byte, MaxBytes+1), nil); err == nil {
		t.Error("a file beyond the bound is read")
	}
}

// What is read once and written as JSON reads as the same.
func FuzzParse(f *testing.F) {
	f.Add("a.yaml", []byte(yamlFile))
	f.Add("a.csv", []byte("serial,rack,unit,macs\nA,r1,1,52:54:00:00:00:01;52:54:00:00:00:02\n"))
	f.Add("a.csv", []byte("sku,memory,drives,nics\nA,1.5TiB,\"8x 3.84 TB nvme X; 2x 1TB\",2x 25000\n"))
	f.Add("-", []byte("{\"machines\":[{\"serial\":\"A\"}]}"))
	f.Add("a.yaml", []byte("a: &a [*a]\n? [b]\n: |\n  c\n"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		got, err := Parse(name, b, nil)
		if err != nil {
			if len(got.Machines)+len(got.SKUs) > 0 {
				t.Fatalf("a file with mistakes is taken in part: %+v, %v", got, err)
			}
			return
		}
		out, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("again.json", out, nil)
		if d := cmp.Diff(got, again); d != "" || err != nil {
			t.Fatalf("%v (-first +again):\n%s\n%s", err, d, out)
		}
	})
}
