package hardware

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// Digest is sha256: and 64 hexadecimal digits.
type Digest string

// Digest covers what stays from boot to boot: the canonical JSON (keys and
// parts sorted) without sources, findings, carrier, link speed, the kernel,
// its drivers, and the names that it gave to ports and drives.
func (inv Inventory) Digest() Digest {
	c := inv.clone()
	c.Findings, c.Kernel = nil, Kernel{}
	for i := range c.NICs {
		n := &c.NICs[i]
		n.Name, n.Driver, n.Carrier, n.LinkMbps = "", "", "", 0
	}
	for i := range c.Drives {
		c.Drives[i].Name = ""
	}
	for i := range c.PCI {
		c.PCI[i].Driver = ""
	}
	c.eachSources(func(s *Sources) { *s = nil })
	c.sort()
	sum := sha256.Sum256(canonical(c))
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// canonical is JSON with sorted keys and no escapes beyond JSON's own.
func canonical(v any) []byte {
	first, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("marshal %T: %v", v, err)) // strings, integers and booleans always marshal
	}
	var tree any
	dec := json.NewDecoder(bytes.NewReader(first))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		panic(fmt.Sprintf("read back %T: %v", v, err))
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		panic(fmt.Sprintf("marshal %T: %v", v, err))
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

func (inv Inventory) clone() Inventory {
	inv.CPUs = slices.Clone(inv.CPUs)
	inv.DIMMs = slices.Clone(inv.DIMMs)
	inv.DIMMSlots = slices.Clone(inv.DIMMSlots)
	inv.Drives = slices.Clone(inv.Drives)
	inv.NICs = slices.Clone(inv.NICs)
	inv.PCI = slices.Clone(inv.PCI)
	inv.FRUs = slices.Clone(inv.FRUs)
	inv.Findings = slices.Clone(inv.Findings)
	inv.BMC.Addresses = slices.Clone(inv.BMC.Addresses)
	inv.eachSources(func(s *Sources) { *s = slices.Clone(*s) })
	return inv
}

func (inv *Inventory) eachSources(f func(*Sources)) {
	for _, s := range []*Sources{
		&inv.System.Sources, &inv.Baseboard.Sources, &inv.Chassis.Sources, &inv.BIOS.Sources,
		&inv.Memory.Sources, &inv.BMC.Sources, &inv.TPM.Sources, &inv.Kernel.Sources,
	} {
		f(s)
	}
	each(inv.CPUs, func(p *CPU) { f(&p.Sources) })
	each(inv.DIMMs, func(p *DIMM) { f(&p.Sources) })
	each(inv.DIMMSlots, func(p *DIMMSlot) { f(&p.Sources) })
	each(inv.Drives, func(p *Drive) { f(&p.Sources) })
	each(inv.NICs, func(p *NIC) { f(&p.Sources) })
	each(inv.PCI, func(p *PCIDevice) { f(&p.Sources) })
	each(inv.FRUs, func(p *FRU) { f(&p.Sources) })
}

func each[T any](s []T, f func(*T)) {
	for i := range s {
		f(&s[i])
	}
}

// sort puts the parts into an order that does not depend on who was read
// first, nor on the names that a kernel gives.
func (inv *Inventory) sort() {
	slices.SortStableFunc(inv.CPUs, func(a, b CPU) int { return natural(a.Socket, b.Socket) })
	slices.SortStableFunc(inv.DIMMs, func(a, b DIMM) int {
		return cmp.Or(natural(a.Slot, b.Slot), cmp.Compare(a.Serial, b.Serial))
	})
	slices.SortStableFunc(inv.DIMMSlots, func(a, b DIMMSlot) int { return natural(a.Name, b.Name) })
	slices.SortStableFunc(inv.Drives, func(a, b Drive) int {
		return cmp.Or(cmp.Compare(a.BDF, b.BDF), cmp.Compare(a.Serial, b.Serial),
			cmp.Compare(a.WWN, b.WWN), natural(a.Slot, b.Slot), cmp.Compare(a.SizeBytes, b.SizeBytes), natural(a.Name, b.Name))
	})
	slices.SortStableFunc(inv.NICs, func(a, b NIC) int {
		return cmp.Or(cmp.Compare(a.BDF, b.BDF), cmp.Compare(a.MAC, b.MAC), natural(a.Name, b.Name))
	})
	slices.SortStableFunc(inv.PCI, func(a, b PCIDevice) int { return cmp.Compare(a.BDF, b.BDF) })
	slices.SortStableFunc(inv.FRUs, func(a, b FRU) int { return cmp.Compare(a.ID, b.ID) })
	slices.Sort(inv.BMC.Addresses)
	slices.SortStableFunc(inv.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Part, b.Part), cmp.Compare(a.Evidence, b.Evidence))
	})
}

// natural compares texts with their runs of digits as numbers: CPU2 < CPU10.
func natural(a, b string) int {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			x, y := trimZeros(a[:na]), trimZeros(b[:nb])
			if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
				return c
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

func trimZeros(s string) string {
	for len(s) > 1 && s[0] == '0' {
		s = s[1:]
	}
	return s
}
