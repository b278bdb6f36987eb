package cpu

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// thread is one processor of /proc/cpuinfo.
type thread struct {
	number, socket int
	core           string // equal for the threads of one core; empty where it is not known
	facts          map[string]string
}

// parse takes /proc/cpuinfo apart.
func parse(b []byte) []*thread {
	var out []*thread
	for block := range bytes.SplitSeq(b, []byte("\n\n")) {
		f := fields(block)
		n, err := strconv.Atoi(f["processor"])
		if err != nil || n < 0 || len(out) == maxCPUs {
			continue
		}
		t := &thread{number: n, facts: f, core: f["core id"]}
		if id, err := strconv.Atoi(f["physical id"]); err == nil && id >= 0 {
			t.socket = id
		}
		out = append(out, t)
	}
	return out
}

// fields reads "key : value" lines, of which the flags are the longest.
func fields(block []byte) map[string]string {
	out := map[string]string{}
	for line := range bytes.Lines(block) {
		if k, v, ok := bytes.Cut(line, []byte(":")); ok {
			out[string(bytes.TrimSpace(k))] = string(bytes.TrimSpace(v))
		}
	}
	return out
}

type socket struct {
	id      int
	threads []*thread
}

// group sorts threads into their sockets, lowest first, after more has said
// what else is known of each.
func group(threads []*thread, more func(*thread)) []*socket {
	var out []*socket
	for _, t := range threads {
		more(t)
		i := slices.IndexFunc(out, func(s *socket) bool { return s.id == t.socket })
		if i < 0 {
			i, out = len(out), append(out, &socket{id: t.socket})
		}
		out[i].threads = append(out[i].threads, t)
	}
	slices.SortFunc(out, func(a, b *socket) int { return a.id - b.id })
	return out
}

// part is the socket by what its first thread says.
func (s *socket) part() hardware.CPU {
	f := s.threads[0].facts
	c := hardware.CPU{
		Socket: fmt.Sprintf("CPU %d", s.id), Threads: len(s.threads), Microcode: f["microcode"],
		Model: hardware.Clean(f["model name"]), Manufacturer: vendor(f["vendor_id"]), Sources: from,
	}
	c.Family, c.ModelNumber, c.Stepping = number(f["cpu family"]), number(f["model"]), number(f["stepping"])
	if f["CPU part"] != "" {
		c.Manufacturer, c.Model = arm(f["CPU implementer"], f["CPU part"])
		c.Stepping = number(f["CPU revision"])
	}
	if c.Flags = strings.Fields(f["flags"]); len(c.Flags) == 0 {
		c.Flags = strings.Fields(f["Features"])
	}
	cores := map[string]bool{}
	for _, t := range s.threads {
		if t.core != "" {
			cores[t.core] = true
		}
	}
	c.Cores = len(cores)
	return c
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func vendor(id string) string {
	switch id {
	case "GenuineIntel":
		return "Intel"
	case "AuthenticAMD":
		return "AMD"
	case "HygonGenuine":
		return "Hygon"
	}
	return hardware.Clean(id)
}
