package hardware

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Digest is sha256: and 64 hexadecimal digits.
type Digest string

// ParseDigest reads a digest; empty for what is none.
func ParseDigest(s string) Digest {
	digits, ok := strings.CutPrefix(s, "sha256:")
	if b, err := hex.DecodeString(digits); !ok || err != nil || len(b) != sha256.Size {
		return ""
	}
	return Digest(strings.ToLower(s))
}

// Digest covers what stays from boot to boot: the canonical JSON (keys and
// parts sorted) without sources, raw texts, findings, the kernel, and what the
// fields' tags say moves: links, drivers, the names that a kernel gave.
func (inv Inventory) Digest() Digest {
	c := cloned(inv)
	c.withoutWhatMoves()
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
	slices.SortStableFunc(inv.PCI, func(a, b PCIDevice) int {
		return cmp.Or(cmp.Compare(a.BDF, b.BDF), natural(a.Slot, b.Slot), natural(a.Device, b.Device), cmp.Compare(a.DeviceID, b.DeviceID), cmp.Compare(a.VPD.Serial, b.VPD.Serial))
	})
	slices.SortStableFunc(inv.NUMANodes, func(a, b NUMANode) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortStableFunc(inv.GPUs, func(a, b GPU) int {
		return cmp.Or(cmp.Compare(a.BDF, b.BDF), natural(a.Slot, b.Slot), natural(a.Name, b.Name), cmp.Compare(a.Serial, b.Serial))
	})
	slices.SortStableFunc(inv.Volumes, func(a, b Volume) int { return cmp.Or(natural(a.ID, b.ID), natural(a.Name, b.Name)) })
	slices.SortStableFunc(inv.StorageControllers, func(a, b StorageController) int {
		return cmp.Or(cmp.Compare(a.BDF, b.BDF), natural(a.Slot, b.Slot), natural(a.Name, b.Name), cmp.Compare(a.Serial, b.Serial))
	})
	slices.SortStableFunc(inv.Enclosures, func(a, b Enclosure) int {
		return cmp.Or(natural(a.Name, b.Name), cmp.Compare(a.Serial, b.Serial))
	})
	slices.SortStableFunc(inv.Adapters, func(a, b Adapter) int {
		return cmp.Or(cmp.Compare(a.BDF, b.BDF), natural(a.Slot, b.Slot), natural(a.Name, b.Name), cmp.Compare(a.Serial, b.Serial))
	})
	slices.SortStableFunc(inv.USB, func(a, b USBDevice) int { return natural(a.Port, b.Port) })
	slices.SortStableFunc(inv.PSUs, func(a, b PSU) int {
		return cmp.Or(natural(a.Slot, b.Slot), natural(a.Name, b.Name), cmp.Compare(a.Serial, b.Serial))
	})
	slices.SortStableFunc(inv.Fans, func(a, b FanPart) int { return cmp.Or(natural(a.Name, b.Name), natural(a.Slot, b.Slot)) })
	slices.SortStableFunc(inv.Watchdogs, func(a, b Watchdog) int { return natural(a.Name, b.Name) })
	slices.SortStableFunc(inv.Firmware, func(a, b Firmware) int {
		return cmp.Or(natural(a.Name, b.Name), natural(a.ID, b.ID), cmp.Compare(a.Version, b.Version))
	})
	slices.SortStableFunc(inv.BootEntries, func(a, b BootEntry) int { return cmp.Or(natural(a.ID, b.ID), natural(a.Name, b.Name)) })
	slices.SortStableFunc(inv.ChassisParts, func(a, b ChassisPart) int {
		return cmp.Or(natural(a.Name, b.Name), cmp.Compare(a.Serial, b.Serial))
	})
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
