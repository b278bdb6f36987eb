package cpu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// tree makes a root that holds these files.
func tree(t *testing.T, files map[string]string) sysfs.Root {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		p := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return sysfs.Root(root)
}

// Two threads of one core in socket 0, one in socket 1; the sockets' core ids
// are equal, and the third level is shared by the socket.
func TestTopology(t *testing.T) {
	const dir = "sys/devices/system/cpu/cpu"
	files := map[string]string{
		"proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nstepping\t: 8\nmicrocode\t: 0x2b000590\nmodel name\t: Xeon\nflags\t\t: fpu vme\n\n" +
			"processor\t: 1\nvendor_id\t: GenuineIntel\nmodel name\t: GOLD\n\nprocessor\t: 2\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\n",
		"sys/devices/system/node/node0/cpulist":         "0,2\n",
		"sys/devices/system/node/node0/distance":        "10 21\n",
		"sys/devices/system/node/node0/meminfo":         "Node 0 MemTotal:       1024 kB\nNode 0 MemFree: 1 kB\n",
		"sys/devices/system/node/node1/cpulist":         "1\n",
		"sys/devices/system/node/node1/memory7/x":       "",
		"sys/devices/system/node/node1/memory8/x":       "",
		"sys/devices/system/memory/block_size_bytes":    "8000000\n",
		"sys/devices/system/node/node99999999999999/no": "",
		dir + "0/cpufreq/cpuinfo_max_freq":              "3600000\n",
	}
	for cpu, at := range map[string][2]string{"0": {"0", "0,2"}, "1": {"1", "1"}, "2": {"0", "0,2"}} {
		files[dir+cpu+"/topology/physical_package_id"] = at[0] + "\n"
		files[dir+cpu+"/topology/core_cpus_list"] = at[1] + "\n"
		for index, c := range map[string][3]string{"index0": {"1", "Data", "48K"}, "index3": {"3", "Unified", "36M"}, "index4": {"x", "", ""}} {
			files[dir+cpu+"/cache/"+index+"/level"] = c[0]
			files[dir+cpu+"/cache/"+index+"/type"] = c[1]
			files[dir+cpu+"/cache/"+index+"/size"] = c[2]
			files[dir+cpu+"/cache/"+index+"/shared_cpu_list"] = at[1]
		}
	}
	got, err := Read(t.Context(), tree(t, files))
	if err != nil {
		t.Fatal(err)
	}
	caches := []hardware.Cache{{Level: 1, Kind: "data", SizeBytes: 48 << 10}, {Level: 3, Kind: "unified", SizeBytes: 36 << 20}}
	want := hardware.Inventory{
		CPUs: []hardware.CPU{
			{Socket: "CPU 0", Manufacturer: "Intel", Model: "Xeon", Cores: 1, Threads: 2, MaxMHz: 3600, Microcode: "0x2b000590",
				Family: 6, ModelNumber: 143, Stepping: 8, Caches: caches, Flags: []string{"fpu", "vme"}, NUMANodes: []int{0}, Sources: from},
			{Socket: "CPU 1", Manufacturer: "Intel", Model: "GOLD", Cores: 1, Threads: 1, Caches: caches, Flags: []string{}, NUMANodes: []int{1}, Sources: from},
		},
		NUMANodes: []hardware.NUMANode{
			{ID: 0, CPUs: "0,2", SizeBytes: 1 << 20, Distances: []int{10, 21}, Sources: from},
			{ID: 1, CPUs: "1", SizeBytes: 2 << 27, Sources: from},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Read (-want +got):\n%s", d)
	}
}

func TestARM(t *testing.T) {
	got, err := Read(t.Context(), tree(t, map[string]string{
		"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\nprocessor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n",
		"sys/devices/system/cpu/cpu0/topology/physical_package_id": "-1\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := []hardware.CPU{{Socket: "CPU 0", Manufacturer: "Arm", Model: "Neoverse-N1", Threads: 2, Stepping: 1, Flags: []string{"fp", "asimd"}, Sources: from}}
	if d := cmp.Diff(want, got.CPUs); d != "" {
		t.Errorf("CPUs (-want +got):\n%s", d)
	}
	if _, model := arm("0x99", "0x1"); model != "core 0x1 of implementer 0x99" {
		t.Errorf("arm(unknown) = %q", model)
	}
}

func TestInList(t *testing.T) {
	for list, want := range map[string]bool{"0-3,8-11": true, "8": true, "0-7": false, "9-": false, "": false, "x,8": true} {
		if got := inList(list, 8); got != want {
			t.Errorf("inList(%q, 8) = %v; want %v", list, got, want)
		}
	}
}

func FuzzCPUInfo(f *testing.F) {
	f.Add([]byte("processor\t: 0\nphysical id\t: 0\ncore id\t: 0\nmodel name\t: Xeon\n\nprocessor\t: 1\nphysical id\t: 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		threads := 0
		for _, s := range group(parse(b), func(*thread) {}) {
			c := s.part()
			threads += c.Threads
			if c.Cores > c.Threads {
				t.Errorf("%d cores in %d threads", c.Cores, c.Threads)
			}
		}
		if n := strings.Count(string(b), "processor"); threads > n {
			t.Errorf("%d threads in %d processors", threads, n)
		}
	})
}
