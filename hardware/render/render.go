// Package render shows an inventory to a person.
package render

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/ingot-metal/ingot/hardware"
)

// Table writes the inventory as a page of tables: what the server is, its
// parts, and what looked wrong. Unknown facts are a dash. PCI devices are
// only counted; they are in the JSON.
func Table(w io.Writer, inv hardware.Inventory) error {
	inv = inv.Normalized()
	p := &page{tab: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	p.line("%s", inv.Summary())
	p.facts(inv)
	p.cpus(inv.CPUs)
	p.dimms(inv)
	p.drives(inv.Drives)
	p.nics(inv.NICs)
	if n := len(inv.PCI); n > 0 {
		p.line("")
		p.line("PCI devices: %d", n)
	}
	p.findings(inv.Findings)
	p.line("")
	p.line("digest %s", inv.Digest())
	if p.err != nil {
		return fmt.Errorf("write inventory: %w", p.err)
	}
	return p.tab.Flush()
}

// page keeps the first error of its writer.
type page struct {
	tab *tabwriter.Writer
	err error
}

func (p *page) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.tab, format+"\n", args...)
	}
}

// row is one line of cells; an empty one is a dash.
func (p *page) row(cells ...string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	p.line("%s", strings.TrimRight(strings.Join(cells, "\t"), "\t "))
}

// fact is a named line, left out where nothing is known.
func (p *page) fact(name string, words ...string) {
	var known []string
	for _, w := range words {
		if w != "" {
			known = append(known, w)
		}
	}
	if len(known) > 0 {
		p.line("  %s\t%s", name, strings.Join(known, " "))
	}
}

// with is "before value", empty without a value.
func with[T ~string](before string, value T) string {
	if value == "" {
		return ""
	}
	return before + " " + string(value)
}

func (p *page) facts(inv hardware.Inventory) {
	s, b, c, f, m := inv.System, inv.Baseboard, inv.Chassis, inv.BIOS, inv.BMC
	p.line("")
	p.fact("system", s.Manufacturer, s.Model, with("serial", s.Serial), with("SKU", s.SKU), with("asset", s.AssetTag))
	p.fact("UUID", string(s.UUID))
	p.fact("board", b.Manufacturer, b.Model, with("serial", b.Serial))
	p.fact("chassis", c.Manufacturer, c.Model, with("serial", c.Serial), with("asset", c.AssetTag))
	p.fact("BIOS", f.Vendor, f.Version, f.Date, with("mode", f.Mode), with("secure boot", f.SecureBoot))
	p.fact("BMC", m.Manufacturer, m.Model, with("firmware", m.Firmware), with("IPMI", m.IPMIVersion), with("MAC", m.MAC), strings.Join(m.Addresses, " "))
	p.fact("TPM", inv.TPM.Version, inv.TPM.Manufacturer, with("firmware", inv.TPM.Firmware))
	p.fact("kernel", inv.Kernel.Release, inv.Kernel.Arch)
}

func (p *page) cpus(cpus []hardware.CPU) {
	if len(cpus) == 0 {
		return
	}
	p.line("")
	p.row("SOCKET", "CPU", "CORES", "THREADS", "MAX MHZ")
	for _, c := range cpus {
		p.row(c.Socket, c.Model, number(c.Cores), number(c.Threads), number(c.MaxMHz))
	}
}

// dimms lists slots in their order, each with what sits in it.
func (p *page) dimms(inv hardware.Inventory) {
	if len(inv.DIMMs)+len(inv.DIMMSlots) == 0 {
		return
	}
	p.line("")
	p.row("DIMM SLOT", "SIZE", "TYPE", "MT/S", "MANUFACTURER", "PART", "SERIAL")
	shown := map[string]bool{}
	for _, d := range inv.DIMMs {
		shown[d.Slot] = true
		p.row(d.Slot, size(d.SizeBytes), d.Type, number(d.SpeedMTs), d.Manufacturer, d.Part, d.Serial)
	}
	for _, s := range inv.DIMMSlots {
		if !shown[s.Name] {
			p.row(s.Name, "empty")
		}
	}
}

func (p *page) drives(drives []hardware.Drive) {
	if len(drives) == 0 {
		return
	}
	p.line("")
	p.row("DRIVE", "SIZE", "KIND", "MODEL", "SERIAL", "FIRMWARE", "WWN")
	for _, d := range drives {
		kind := string(d.Transport)
		if d.Rotational {
			kind = strings.TrimSpace(kind + " rotational")
		}
		name := d.Name
		if name == "" {
			name = d.Slot
		}
		p.row(name, size(d.SizeBytes), kind, d.Model, d.Serial, d.Firmware, d.WWN)
	}
}

func (p *page) nics(nics []hardware.NIC) {
	if len(nics) == 0 {
		return
	}
	p.line("")
	p.row("NIC", "MAC", "LINK", "DRIVER", "BDF", "ADAPTER")
	for _, n := range nics {
		link := map[hardware.Switch]string{hardware.Enabled: "up", hardware.Disabled: "down"}[n.Carrier]
		if n.LinkMbps > 0 {
			link = strings.TrimSpace(link + " " + speed(n.LinkMbps))
		}
		name := n.Name
		if name == "" {
			name = n.Slot
		}
		p.row(name, string(n.MAC), link, n.Driver, string(n.BDF), n.Adapter)
	}
}

func (p *page) findings(findings []hardware.Finding) {
	if len(findings) == 0 {
		return
	}
	p.line("")
	p.row("FINDING", "SEVERITY", "PART", "EVIDENCE")
	for _, f := range findings {
		p.row(string(f.Code), string(f.Severity), f.Part, f.Evidence)
		if f.Hint != "" {
			p.line("  hint: %s", f.Hint)
		}
	}
}

func speed(mbps int) string {
	if mbps >= 1000 && mbps%500 == 0 {
		return fmt.Sprintf("%g Gbit/s", float64(mbps)/1000)
	}
	return fmt.Sprintf("%d Mbit/s", mbps)
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func size(n uint64) string {
	if n == 0 {
		return ""
	}
	return hardware.FormatBytes(n)
}
