package hardware

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ExpectedSchema is the schema of [Expected].
const ExpectedSchema = "ingot.expected/v1"

// How much an [Expected] holds.
const (
	MaxExpectedMachines = 20000
	MaxExpectedSKUs     = 1000
)

// Expected is what was bought: the machines that should be in the racks, and
// what each kind of them is made of.
type Expected struct {
	Schema   string            `json:"schema"`
	SKUs     map[string]SKU    `json:"skus,omitempty"`
	Machines []ExpectedMachine `json:"machines"`
}

// ExpectedMachine is one machine: known by its serial, or by a MAC.
type ExpectedMachine struct {
	Serial string `json:"serial,omitempty"`
	MACs   []MAC  `json:"macs,omitempty"`
	Name   string `json:"name,omitempty"`
	Rack   string `json:"rack,omitempty"`
	Unit   int    `json:"unit,omitempty"` // the lowest that it takes, from 1
	SKU    string `json:"sku,omitempty"`
}

// SKU is a bill of materials. What is absent is not compared.
type SKU struct {
	Manufacturer string          `json:"manufacturer,omitempty"`
	Model        string          `json:"model,omitempty"`
	CPUs         int             `json:"cpus,omitempty"`
	CPUModel     string          `json:"cpu_model,omitempty"` // what the model contains: Gold 6354
	Cores        int             `json:"cores,omitempty"`     // of all sockets
	MemoryBytes  uint64          `json:"memory_bytes,omitempty"`
	DIMMs        int             `json:"dimms,omitempty"`
	GPUs         int             `json:"gpus,omitempty"`
	PSUs         int             `json:"psus,omitempty"`
	Drives       []ExpectedDrive `json:"drives,omitempty"`
	NICs         []ExpectedNIC   `json:"nics,omitempty"`
	BIOS         string          `json:"bios_version,omitempty"`
	BMC          string          `json:"bmc_firmware,omitempty"`
}

// ExpectedDrive is so many drives of one kind, at least of this size.
type ExpectedDrive struct {
	Count     int       `json:"count"`
	SizeBytes uint64    `json:"size_bytes,omitempty"`
	Transport Transport `json:"transport,omitempty"`
	Model     string    `json:"model,omitempty"` // what the model contains
}

// ExpectedNIC is so many ports, at least of this speed.
type ExpectedNIC struct {
	Count int `json:"count"`
	Mbps  int `json:"mbps,omitempty"`
}

// Find is the machine that these aliases belong to, by serial and then by MAC.
func (e Expected) Find(aliases []Alias) (ExpectedMachine, bool) {
	for _, m := range e.Machines {
		if m.Serial != "" && slices.ContainsFunc(aliases, func(a Alias) bool {
			return a.Kind() == AliasSerial && strings.EqualFold(a.Value(), m.Serial)
		}) {
			return m, true
		}
	}
	for _, m := range e.Machines {
		if slices.ContainsFunc(m.MACs, func(mac MAC) bool { return slices.Contains(aliases, Alias(AliasMAC+":"+string(mac))) }) {
			return m, true
		}
	}
	return ExpectedMachine{}, false
}

// Merge is e with what more says: machines of the same serial, or without a
// serial of the same MAC, and SKUs of the same name are replaced. Merging the
// same twice changes nothing.
func (e Expected) Merge(more Expected) Expected {
	out := Expected{Schema: ExpectedSchema, SKUs: maps.Clone(e.SKUs)}
	if out.SKUs == nil && len(more.SKUs) > 0 {
		out.SKUs = map[string]SKU{}
	}
	maps.Copy(out.SKUs, more.SKUs)
	said := map[string]bool{}
	for _, m := range more.Machines {
		for _, k := range m.keys() {
			said[k] = true
		}
	}
	for _, m := range e.Machines {
		if !slices.ContainsFunc(m.keys(), func(k string) bool { return said[k] }) {
			out.Machines = append(out.Machines, m)
		}
	}
	out.Machines = append(out.Machines, more.Machines...)
	slices.SortStableFunc(out.Machines, func(a, b ExpectedMachine) int {
		return cmp.Or(natural(a.Rack, b.Rack), cmp.Compare(a.Unit, b.Unit), natural(a.Serial, b.Serial), slices.Compare(a.MACs, b.MACs))
	})
	return out
}

// keys are what makes two rows one machine.
func (m ExpectedMachine) keys() []string {
	if m.Serial != "" {
		return []string{AliasSerial + ":" + strings.ToLower(m.Serial)}
	}
	var out []string
	for _, mac := range m.MACs {
		out = append(out, AliasMAC+":"+string(mac))
	}
	return out
}

// Label is what a machine is called: its name, else its serial, else a MAC.
func (m ExpectedMachine) Label() string {
	if m.Name == "" && m.Serial == "" && len(m.MACs) > 0 {
		return string(m.MACs[0])
	}
	return cmp.Or(m.Name, m.Serial)
}

// Compare is what a server lacks, or has otherwise, by its bill of materials.
func (s SKU) Compare(inv Inventory) []Finding {
	c := check{}
	c.text("system", "manufacturer", s.Manufacturer, inv.System.Manufacturer)
	c.text("system", "model", s.Model, inv.System.Model)
	c.count("cpus", s.CPUs, len(inv.CPUs))
	cores := 0
	for _, p := range inv.CPUs {
		cores += p.Cores
		c.text("cpu "+p.Socket, "model", s.CPUModel, p.Model)
	}
	c.count("cores", s.Cores, cores)
	if want, got := s.MemoryBytes, inv.Memory.SizeBytes; want > 0 && got != want {
		c.add(CodeSKUDiffers, "memory", FormatBytes(want), FormatBytes(got), got < want)
	}
	c.count("dimms", s.DIMMs, len(inv.DIMMs))
	c.count("gpus", s.GPUs, len(inv.GPUs))
	c.count("psus", s.PSUs, len(inv.PSUs))
	c.drives(s.Drives, inv.Drives)
	c.nics(s.NICs, inv.NICs)
	c.text("bios", "version", s.BIOS, inv.BIOS.Version)
	c.text("bmc", "firmware", s.BMC, inv.BMC.Firmware)
	return c.findings
}

type check struct{ findings []Finding }

func (c *check) add(code Code, part, want, got string, lacks bool) {
	f := Finding{Code: code, Severity: Info, Part: part, Source: "expected", Evidence: "expected " + want + ", found " + got,
		Hint: "more than the bill of materials has: correct the bill, or look for a part of another server"}
	if lacks {
		f.Severity, f.Hint = Warning, "look for a part that is missing, loose or switched off; it was paid for"
	}
	c.findings = append(c.findings, f)
}

// text compares where both are known: what was expected is contained.
func (c *check) text(part, field, want, got string) {
	if want != "" && got != "" && !strings.Contains(strings.ToLower(got), strings.ToLower(want)) {
		c.findings = append(c.findings, Finding{Code: CodeSKUDiffers, Severity: Warning, Part: part, Source: "expected",
			Evidence: fmt.Sprintf("%s: expected %s, found %s", field, want, got), Hint: "another part than was ordered, or an update that is due"})
	}
}

func (c *check) count(part string, want, got int) {
	if want > 0 && got != want {
		c.add(CodeSKUDiffers, part, fmt.Sprint(want), fmt.Sprint(got), got < want)
	}
}

func (c *check) least(part string, want, got int) {
	if got < want {
		c.add(CodeSKUDiffers, part, fmt.Sprint(want), fmt.Sprint(got), true)
	}
}

// drives gives each drive to one line of the bill, the largest lines first.
func (c *check) drives(want []ExpectedDrive, have []Drive) {
	left := slices.Clone(have)
	lines := slices.Clone(want)
	slices.SortStableFunc(lines, func(a, b ExpectedDrive) int { return cmp.Compare(b.SizeBytes, a.SizeBytes) })
	for _, w := range lines {
		got := 0
		left = slices.DeleteFunc(left, func(d Drive) bool {
			fits := got < w.Count && d.SizeBytes >= w.SizeBytes && (w.Transport == "" || d.Transport == w.Transport) &&
				strings.Contains(strings.ToLower(d.Model), strings.ToLower(w.Model)) && !d.Removable
			if fits {
				got++
			}
			return fits
		})
		c.least(strings.TrimSpace(strings.Join([]string{"drives of", FormatBytes(w.SizeBytes), string(w.Transport), w.Model}, " ")), w.Count, got)
	}
}

// nics gives each port to one line of the bill, the fastest lines first. The
// BMC's own port to its host is none.
func (c *check) nics(want []ExpectedNIC, have []NIC) {
	left := slices.DeleteFunc(slices.Clone(have), func(n NIC) bool { return n.Bus == "usb" })
	lines := slices.Clone(want)
	slices.SortStableFunc(lines, func(a, b ExpectedNIC) int { return b.Mbps - a.Mbps })
	for _, w := range lines {
		got := 0
		left = slices.DeleteFunc(left, func(n NIC) bool {
			fits := got < w.Count && max(n.MaxMbps, n.LinkMbps) >= w.Mbps
			if fits {
				got++
			}
			return fits
		})
		c.least(fmt.Sprintf("nics of %d Mbit/s", w.Mbps), w.Count, got)
	}
}

// Drift is what changed since an operator accepted the server as it was, as
// findings. What the server lost weighs more than what it gained.
func Drift(changes []Change) []Finding {
	var out []Finding
	for _, c := range changes {
		f := Finding{Code: CodeBaselineDiffers, Severity: Info, Part: c.Part, Source: "baseline", Evidence: c.String(),
			Hint: "when this change is meant, accept the server as it is now"}
		if c.Shrinks() {
			f.Severity, f.Hint = Warning, "look at this part; accept the server as it is now only when the loss is meant"
		}
		out = append(out, f)
	}
	return out
}
