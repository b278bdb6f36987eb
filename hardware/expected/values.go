package expected

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// machineFields are the keys of a machine: columns of CSV, keys of YAML.
var machineFields = map[string]func(*file, *hardware.ExpectedMachine, cell){
	"serial": func(f *file, m *hardware.ExpectedMachine, c cell) {
		if hardware.CleanSerial(c.text) != c.text || len(c.text) > 64 {
			f.bad(c, "%.80q is no serial of one machine", c.text)
			return
		}
		first(f, f.serials, strings.ToLower(c.text), c, "serial")
		m.Serial = c.text
	},
	"name": func(f *file, m *hardware.ExpectedMachine, c cell) {
		if !machineName.MatchString(c.text) {
			f.bad(c, "name %.80q: want letters, digits, - and _, at most 63", c.text)
			return
		}
		first(f, f.names, c.text, c, "name")
		m.Name = c.text
	},
	"rack": func(f *file, m *hardware.ExpectedMachine, c cell) { f.text(c, &m.Rack) },
	"unit": func(f *file, m *hardware.ExpectedMachine, c cell) { f.number(c, &m.Unit, 1, 100) },
	"sku": func(f *file, m *hardware.ExpectedMachine, c cell) {
		if f.text(c, &m.SKU) {
			f.wanted = append(f.wanted, c)
		}
	},
	"mac":  mac,
	"macs": mac,
}

var machineName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

func mac(f *file, m *hardware.ExpectedMachine, c cell) {
	parsed := hardware.ParseMAC(c.text)
	switch {
	case parsed == "":
		f.bad(c, "%.80q is no MAC address of a NIC: want the form 52:54:00:ab:12:cd", c.text)
	case len(m.MACs) >= mostList:
		f.bad(c, "this machine has more than %d MAC addresses", mostList)
	default:
		first(f, f.macs, parsed, c, "MAC address")
		m.MACs = append(m.MACs, parsed)
	}
}

// skuFields are the keys of a bill of materials.
var skuFields = map[string]func(*file, *hardware.SKU, cell){
	"manufacturer": func(f *file, s *hardware.SKU, c cell) { f.text(c, &s.Manufacturer) },
	"model":        func(f *file, s *hardware.SKU, c cell) { f.text(c, &s.Model) },
	"cpus":         func(f *file, s *hardware.SKU, c cell) { f.number(c, &s.CPUs, 1, 64) },
	"cpu_model":    func(f *file, s *hardware.SKU, c cell) { f.text(c, &s.CPUModel) },
	"cores":        func(f *file, s *hardware.SKU, c cell) { f.number(c, &s.Cores, 1, 1<<16) },
	"memory":       memory,
	"memory_bytes": memory,
	"dimms":        func(f *file, s *hardware.SKU, c cell) { f.number(c, &s.DIMMs, 1, 256) },
	"gpus":         func(f *file, s *hardware.SKU, c cell) { f.number(c, &s.GPUs, 1, 64) },
	"psus":         func(f *file, s *hardware.SKU, c cell) { f.number(c, &s.PSUs, 1, 32) },
	"bios_version": func(f *file, s *hardware.SKU, c cell) { f.text(c, &s.BIOS) },
	"bmc_firmware": func(f *file, s *hardware.SKU, c cell) { f.text(c, &s.BMC) },
	"drives": func(f *file, s *hardware.SKU, c cell) {
		if len(s.Drives) >= mostList {
			f.bad(c, "more than %d kinds of drives", mostList)
			return
		}
		if d, ok := f.drive(c); ok {
			s.Drives = append(s.Drives, d)
		}
	},
	"nics": func(f *file, s *hardware.SKU, c cell) {
		if len(s.NICs) >= mostList {
			f.bad(c, "more than %d kinds of ports", mostList)
			return
		}
		if n, ok := f.nic(c); ok {
			s.NICs = append(s.NICs, n)
		}
	},
}

// lists are the keys that may hold several values.
var lists = []string{"mac", "macs", "drives", "nics"}

// known names the keys of a table, for whoever wrote another.
func known[T any](fields map[string]T) string {
	return strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
}

// text takes a text that shows as it is written.
func (f *file) text(c cell, to *string) bool {
	if c.text == "" || len(c.text) > 128 || hardware.Clean(c.text) != c.text {
		f.bad(c, "%.80q: want a text of 1 to 128 printable characters", c.text)
		return false
	}
	*to = c.text
	return true
}

func (f *file) number(c cell, to *int, least, most int) bool {
	n, err := strconv.Atoi(c.text)
	if err != nil || n < least || n > most {
		f.bad(c, "%.80q: want a number from %d to %d", c.text, least, most)
		return false
	}
	*to = n
	return true
}

// memory is counted in binary units: what is sold as 64 GB is 64 GiB.
func memory(f *file, s *hardware.SKU, c cell) {
	n, decimal, err := parseSize(c.text)
	switch {
	case err != nil:
		f.bad(c, "%v", err)
	case decimal:
		f.bad(c, "%.80q: memory is counted in binary units: want the form 64GiB", c.text)
	default:
		s.MemoryBytes = n
	}
}

var sizeForm = regexp.MustCompile(`^([0-9]{1,18}(?:\.[0-9]{1,6})?) ?([kKMGTP]i?)?B?$`)

// parseSize reads 3.84TB, 512 GiB, or bytes; decimal says that its unit is a
// power of ten.
func parseSize(text string) (n uint64, decimal bool, err error) {
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, false, fmt.Errorf("%.80q: want a size like 512GiB, 3.84TB, or bytes", text)
	}
	x, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, false, fmt.Errorf("%.80q: want a size like 512GiB, 3.84TB, or bytes", text)
	}
	if m[2] != "" {
		step := 1000.0
		if decimal = len(m[2]) == 1; !decimal {
			step = 1024
		}
		x *= math.Pow(step, float64(1+strings.IndexByte("KMGTP", strings.ToUpper(m[2])[0])))
	}
	if x = math.Round(x); x < 1 || x > 1<<60 {
		return 0, false, fmt.Errorf("%.80q: want a size from 1 byte to 1 EiB", text)
	}
	return uint64(x), decimal, nil
}

var manyForm = regexp.MustCompile(`^([0-9]{1,4}) ?x ?(.*)$`)

// many takes "8x rest" apart.
func (f *file) many(c cell, form string) (count int, rest string, ok bool) {
	m := manyForm.FindStringSubmatch(c.text)
	if m == nil || strings.TrimSpace(m[2]) == "" {
		f.bad(c, "%.80q: want the form %q", c.text, form)
		return 0, "", false
	}
	ok = f.number(cell{m[1], c.line, c.column}, &count, 1, 512)
	return count, m[2], ok
}

var transports = []hardware.Transport{hardware.TransportNVMe, hardware.TransportSATA, hardware.TransportSAS,
	hardware.TransportSCSI, hardware.TransportVirtio, hardware.TransportUSB, hardware.TransportMMC}

var unitForm = regexp.MustCompile(`^[kKMGTP]i?B$`)

const driveForm = "8x 3.84TB nvme MODEL"

// drive reads "8x 3.84TB nvme MODEL"; transport and model may be left out.
func (f *file) drive(c cell) (d hardware.ExpectedDrive, ok bool) {
	var rest string
	if d.Count, rest, ok = f.many(c, driveForm); !ok {
		return d, false
	}
	words := strings.Fields(rest)
	if len(words) > 1 && unitForm.MatchString(words[1]) {
		words = append([]string{words[0] + words[1]}, words[2:]...)
	}
	n, _, err := parseSize(words[0])
	if err != nil {
		f.bad(c, "%v", err)
		return d, false
	}
	d.SizeBytes, words = n, words[1:]
	if len(words) > 0 && slices.Contains(transports, hardware.Transport(strings.ToLower(words[0]))) {
		d.Transport, words = hardware.Transport(strings.ToLower(words[0])), words[1:]
	}
	if model := strings.Join(words, " "); model != "" {
		c.text = model
		return d, f.text(c, &d.Model)
	}
	return d, true
}

const nicForm = "2x 25000"

// nic reads "2x 25000": so many ports of so many Mbit/s.
func (f *file) nic(c cell) (n hardware.ExpectedNIC, ok bool) {
	var rest string
	if n.Count, rest, ok = f.many(c, nicForm); !ok {
		return n, false
	}
	return n, f.number(cell{strings.TrimSpace(rest), c.line, c.column}, &n.Mbps, 1, 1_600_000)
}
