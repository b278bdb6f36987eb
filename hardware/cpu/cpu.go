// Package cpu reads the sockets, their cores, threads and caches, and the NUMA
// nodes, from /proc/cpuinfo and the kernel's topology in sysfs.
package cpu

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/memory"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// Source is how parts name this reader.
const Source = "cpu"

const (
	// maxCPUInfo bounds /proc/cpuinfo: 1.5 KiB a thread, 4,096 threads.
	maxCPUInfo = 8 << 20
	maxCPUs    = 8192
	maxNodes   = 64
)

const cpus = "sys/devices/system/cpu"

var from = hardware.Sources{Source}

// Read yields one CPU for each socket that runs, by its physical id, and the
// NUMA nodes.
func Read(ctx context.Context, root sysfs.Root) (hardware.Inventory, error) {
	var inv hardware.Inventory
	b, err := root.Bytes(maxCPUInfo, "proc/cpuinfo")
	if err != nil {
		return inv, fmt.Errorf("read /proc/cpuinfo: %w", err)
	}
	sockets := group(parse(b), func(t *thread) { topology(root, t) })
	inv.NUMANodes = nodes(root)
	for i, s := range sockets {
		if ctx.Err() != nil {
			return inv, fmt.Errorf("read CPUs: %w", ctx.Err())
		}
		c := s.part()
		if c.Family == 0 {
			c.Socket = fmt.Sprintf("CPU %d", i) // ARM firmware numbers them as it likes: 36, 3616
		}
		c.Caches = caches(root, s.threads)
		if khz, ok := root.Uint(cpus, "cpu"+strconv.Itoa(s.threads[0].number), "cpufreq/cpuinfo_max_freq"); ok && khz < 1<<30 {
			c.MaxMHz = int(khz / 1000)
		}
		for _, n := range inv.NUMANodes {
			if slices.ContainsFunc(s.threads, func(t *thread) bool { return inList(n.CPUs, t.number) }) {
				c.NUMANodes = append(c.NUMANodes, n.ID)
			}
		}
		inv.CPUs = append(inv.CPUs, c)
	}
	return inv, nil
}

// topology takes a thread's socket and core from sysfs, which has them on
// every architecture. The core is named by the list of its threads: core ids
// repeat between dies.
func topology(root sysfs.Root, t *thread) {
	dir := cpus + "/cpu" + strconv.Itoa(t.number) + "/topology"
	if id, err := strconv.Atoi(root.Text(dir, "physical_package_id")); err == nil && id >= 0 { // -1: not known
		t.socket = id
	}
	for _, name := range []string{"core_cpus_list", "thread_siblings_list"} { // the second before 5.3
		if list := root.Text(dir, name); list != "" {
			t.core = list
			return
		}
	}
}

// caches sums each level and kind over a socket. Threads that share a cache
// name the same list.
func caches(root sysfs.Root, threads []*thread) []hardware.Cache {
	seen := map[string]bool{}
	var out []hardware.Cache
	for _, t := range threads {
		dir := cpus + "/cpu" + strconv.Itoa(t.number) + "/cache"
		for _, index := range root.Names(dir) {
			if !strings.HasPrefix(index, "index") {
				continue
			}
			shared := root.Text(dir, index, "shared_cpu_list")
			if shared == "" {
				shared = strconv.Itoa(t.number)
			}
			if seen[index+" "+shared] {
				continue
			}
			seen[index+" "+shared] = true
			level, err := strconv.Atoi(root.Text(dir, index, "level"))
			size, ok := parseSize(root.Text(dir, index, "size"))
			if err != nil || !ok || level < 1 || level > 9 {
				continue
			}
			out = addCache(out, hardware.Cache{Level: level, Kind: strings.ToLower(root.Text(dir, index, "type")), SizeBytes: size})
		}
	}
	return out
}

func addCache(all []hardware.Cache, c hardware.Cache) []hardware.Cache {
	for i := range all {
		if all[i].Level == c.Level && all[i].Kind == c.Kind {
			all[i].SizeBytes += c.SizeBytes
			return all
		}
	}
	return append(all, c)
}

// parseSize reads 32K, 1024K, 36M.
func parseSize(s string) (uint64, bool) {
	shift := 0
	for suffix, n := range map[string]int{"K": 10, "M": 20, "G": 30} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			s, shift = rest, n
		}
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return n << shift, err == nil && n > 0
}

// nodes are the NUMA nodes of the kernel.
func nodes(root sysfs.Root) []hardware.NUMANode {
	const dir = "sys/devices/system/node"
	var out []hardware.NUMANode
	for _, name := range root.Names(dir) {
		id, ok := strings.CutPrefix(name, "node")
		n, err := strconv.Atoi(id)
		if !ok || err != nil || n > 1<<16 || len(out) == maxNodes {
			continue
		}
		node := hardware.NUMANode{ID: n, CPUs: root.Text(dir, name, "cpulist"), Sources: from}
		for _, f := range strings.Fields(root.Text(dir, name, "distance")) {
			if d, err := strconv.Atoi(f); err == nil {
				node.Distances = append(node.Distances, d)
			}
		}
		node.SizeBytes = nodeSize(root, dir+"/"+name)
		out = append(out, node)
	}
	return out
}

// nodeSize counts a node's blocks of memory; a kernel without memory hotplug
// has only what it did not keep for itself (MemTotal).
func nodeSize(root sysfs.Root, dir string) uint64 {
	if n := memory.Blocks(root, dir); n > 0 {
		return n
	}
	for line := range strings.SplitSeq(root.Text(dir, "meminfo"), "\n") {
		f := strings.Fields(line) // Node 0 MemTotal: 131072 kB
		if len(f) == 5 && f[2] == "MemTotal:" && f[4] == "kB" {
			kib, err := strconv.ParseUint(f[3], 10, 50)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// inList reports whether a list of the kernel (0-15,32-47) has a number.
func inList(list string, number int) bool {
	for part := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(low)
		if err != nil {
			continue
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(high); err != nil {
				continue
			}
		}
		if number >= a && number <= b {
			return true
		}
	}
	return false
}
