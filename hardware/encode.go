package hardware

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Bounds on the number of parts: more than any rack server has, and few
// enough that hostile firmware fills no memory.
const (
	maxCPUs     = 64
	maxDIMMs    = 256
	maxDrives   = 512
	maxNICs     = 256
	maxPCI      = 1024
	maxFRUs     = 64
	maxFindings = 128
	maxEvidence = 512
)

// Normalize cleans every text, sorts the parts, bounds their number, and
// sets the schema. Readers call it last; calling it twice changes nothing.
func (inv *Inventory) Normalize() {
	inv.Schema = InventorySchema
	inv.cleanTexts()
	inv.eachSources(func(s *Sources) {
		slices.Sort(*s)
		*s = slices.Compact(*s)
	})
	inv.sort()
	var cut []Finding
	inv.CPUs = bound(inv.CPUs, maxCPUs, "cpus", &cut)
	inv.DIMMs = bound(inv.DIMMs, maxDIMMs, "dimms", &cut)
	inv.DIMMSlots = bound(inv.DIMMSlots, maxDIMMs, "dimm_slots", &cut)
	inv.Drives = bound(inv.Drives, maxDrives, "drives", &cut)
	inv.NICs = bound(inv.NICs, maxNICs, "nics", &cut)
	inv.PCI = bound(inv.PCI, maxPCI, "pci", &cut)
	inv.FRUs = bound(inv.FRUs, maxFRUs, "frus", &cut)
	inv.BMC.Addresses = bound(inv.BMC.Addresses, 16, "bmc addresses", &cut)
	if len(cut) > 0 {
		inv.Findings = append(cut, inv.Findings...)
		inv.sort()
	}
	inv.Findings = slices.Compact(inv.Findings)
	inv.Findings = bound(inv.Findings, maxFindings, "findings", nil)
}

func bound[T any](parts []T, most int, what string, cut *[]Finding) []T {
	if len(parts) <= most {
		return parts
	}
	if cut != nil {
		*cut = append(*cut, truncated(what, most, len(parts)))
	}
	return parts[:most]
}

func truncated(what string, kept, of int) Finding {
	return Finding{Code: CodeInventoryTruncated, Severity: Warning, Part: what,
		Evidence: fmt.Sprintf("%d of %d kept", kept, of), Hint: "look at the machine itself for the rest"}
}

// Normalized is a normalized copy: what comes from another machine is safe to
// print, and bounded.
func (inv Inventory) Normalized() Inventory {
	c := inv.clone()
	c.Normalize()
	return c
}

func clean[T ~string](texts ...*T) {
	for _, s := range texts {
		*s = T(Clean(string(*s)))
	}
}

// words cleans identifiers and enumerations, of which none is a placeholder.
func words[T ~string](texts ...*T) {
	for _, s := range texts {
		*s = T(strings.Map(func(r rune) rune {
			if r > ' ' && r < 0x7f {
				return r
			}
			return -1
		}, string((*s)[:min(len(*s), 64)])))
	}
}

func cleanSerials(texts ...*string) {
	for _, s := range texts {
		*s = CleanSerial(*s)
	}
}

func (inv *Inventory) cleanTexts() {
	s, bb, ch, bios, bmc := &inv.System, &inv.Baseboard, &inv.Chassis, &inv.BIOS, &inv.BMC
	clean(&s.Manufacturer, &s.Model, &s.Version, &s.SKU, &s.Family, &bb.Manufacturer, &bb.Model, &bb.Version,
		&ch.Manufacturer, &ch.Model, &ch.Version, &ch.Type, &bios.Vendor, &bios.Version, &bios.Date,
		&bmc.Manufacturer, &bmc.Model, &bmc.Firmware, &bmc.IPMIVersion,
		&inv.TPM.Version, &inv.TPM.Manufacturer, &inv.TPM.Firmware, &inv.Kernel.Release, &inv.Kernel.Arch)
	words(&bios.Mode)
	words(&bios.SecureBoot)
	cleanSerials(&s.Serial, &s.AssetTag, &bb.Serial, &bb.AssetTag, &ch.Serial, &ch.AssetTag)
	s.UUID, bmc.GUID, bmc.MAC = ParseUUID(string(s.UUID)), ParseUUID(string(bmc.GUID)), ParseMAC(string(bmc.MAC))
	each(bmc.Addresses, func(a *string) { words(a) })
	each(inv.CPUs, func(p *CPU) { clean(&p.Socket, &p.Manufacturer, &p.Model); cleanSerials(&p.Serial) })
	each(inv.DIMMs, func(p *DIMM) { clean(&p.Slot, &p.Manufacturer, &p.Type); cleanSerials(&p.Serial, &p.Part) })
	each(inv.DIMMSlots, func(p *DIMMSlot) { clean(&p.Name) })
	each(inv.Drives, func(p *Drive) {
		clean(&p.Name, &p.Model, &p.Vendor, &p.Firmware, &p.WWN, &p.Slot)
		words(&p.BDF)
		words(&p.Transport)
		cleanSerials(&p.Serial)
	})
	each(inv.NICs, func(p *NIC) {
		clean(&p.Name, &p.Driver, &p.Adapter, &p.Slot)
		words(&p.Bus)
		words(&p.BDF)
		words(&p.Carrier)
		p.MAC = ParseMAC(string(p.MAC))
	})
	each(inv.PCI, func(p *PCIDevice) {
		words(&p.BDF)
		words(&p.VendorID, &p.DeviceID, &p.Class)
		clean(&p.Vendor, &p.Device, &p.ClassName, &p.Driver)
	})
	each(inv.FRUs, func(p *FRU) {
		clean(&p.BoardManufacturer, &p.BoardProduct, &p.ProductManufacturer, &p.ProductName, &p.ProductVersion)
		cleanSerials(&p.ChassisPart, &p.ChassisSerial, &p.BoardSerial, &p.BoardPart, &p.ProductPart, &p.ProductSerial, &p.AssetTag)
	})
	each(inv.Findings, func(f *Finding) {
		words(&f.Code)
		words(&f.Severity)
		words(&f.Source)
		f.Evidence, f.Hint = printable(f.Evidence, maxEvidence), printable(f.Hint, maxEvidence)
		f.Part = printable(f.Part, maxText)
	})
	inv.eachSources(func(s *Sources) { each(*s, func(t *string) { words(t) }) })
}

// Encode is the normalized inventory as canonical JSON of at most
// [MaxInventoryBytes]. Where it would be larger the PCI devices go first,
// those without a driver before the others, then findings, and a finding says
// so.
func (inv Inventory) Encode() ([]byte, error) {
	c := inv.Normalized()
	b := canonical(c)
	all := len(c.PCI)
	if len(b) > MaxInventoryBytes && all > 0 {
		c.PCI = slices.DeleteFunc(c.PCI, func(p PCIDevice) bool { return p.Driver == "" })
		b = c.encodeCut("pci", len(c.PCI), all)
	}
	if len(b) > MaxInventoryBytes && len(c.PCI) > 0 {
		c.PCI = nil
		b = c.encodeCut("pci", 0, all)
	}
	if n := len(c.Findings); len(b) > MaxInventoryBytes && n > 8 {
		c.Findings = c.Findings[:8]
		b = c.encodeCut("findings", 8, n)
	}
	if len(b) > MaxInventoryBytes {
		return nil, fmt.Errorf("encode inventory: %d bytes, at most %d", len(b), MaxInventoryBytes)
	}
	return b, nil
}

func (inv Inventory) encodeCut(what string, kept, of int) []byte {
	inv.Findings = append([]Finding{truncated(what, kept, of)}, inv.Findings...)
	return canonical(inv)
}

// Decode reads an inventory of the right schema, bounded in size, normalized.
// The bytes may come from a hostile node.
func Decode(b []byte) (Inventory, error) {
	var inv Inventory
	if len(b) > 2*MaxInventoryBytes {
		return inv, fmt.Errorf("decode inventory: %d bytes, at most %d", len(b), 2*MaxInventoryBytes)
	}
	if err := json.Unmarshal(b, &inv); err != nil {
		return Inventory{}, fmt.Errorf("decode inventory: %w", err)
	}
	if inv.Schema != InventorySchema {
		return Inventory{}, fmt.Errorf("decode inventory: schema %q, want %q", inv.Schema, InventorySchema)
	}
	inv.Normalize()
	return inv, nil
}
