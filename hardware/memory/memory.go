// Package memory reads how much memory the kernel knows, and its counts of
// memory errors (EDAC).
package memory

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// Source is how parts name this reader.
const Source = "memory"

const system = "sys/devices/system/memory"

// Read counts the blocks of memory, for machines whose firmware has no SMBIOS
// type 17, and the errors of each DIMM.
func Read(_ context.Context, root sysfs.Root) (hardware.View, error) {
	var v hardware.View
	if size := Blocks(root, system); size > 0 {
		v.Inventory.Memory = hardware.Memory{SizeBytes: size, Sources: hardware.Sources{Source}}
	}
	v.Readings.ECC = counts(root)
	for _, r := range v.Readings.ECC {
		if r.Corrected+r.Uncorrected > 0 {
			v.Inventory.Findings = append(v.Inventory.Findings, finding(r))
		}
	}
	return v, nil
}

// Blocks is the size of the blocks of memory that stand in a directory of
// sysfs: the system's, or a NUMA node's. 0 under a kernel without memory
// hotplug, which has none.
func Blocks(root sysfs.Root, dir string) uint64 {
	block, err := strconv.ParseUint(root.Text(system, "block_size_bytes"), 16, 48)
	if err != nil {
		return 0
	}
	n := uint64(0)
	for _, name := range root.Names(dir) {
		if rest, ok := strings.CutPrefix(name, "memory"); ok && rest != "" && strings.Trim(rest, "0123456789") == "" {
			n++
		}
	}
	return n * block
}

// What the kernel's EDAC has below a controller
// (Documentation/ABI/testing/sysfs-devices-edac).
const (
	edac        = "sys/devices/system/edac/mc"
	maxCounters = 256
)

var (
	controllers = regexp.MustCompile(`^mc[0-9]+$`)
	modules     = regexp.MustCompile(`^(dimm|rank)[0-9]+$`)
	rows        = regexp.MustCompile(`^csrow[0-9]+$`)
	channels    = regexp.MustCompile(`^(ch[0-9]+)_ce_count$`)
)

// counts are those of the DIMMs (or ranks, where the controller knows no
// DIMMs), and of each controller what it could not tell to whom it belongs.
func counts(root sysfs.Root) []hardware.ECCReading {
	var out []hardware.ECCReading
	for _, mc := range root.Names(edac) {
		if !controllers.MatchString(mc) || len(out) >= maxCounters {
			continue
		}
		found := dimms(root, mc)
		if len(found) == 0 {
			found = legacyRows(root, mc)
		}
		own, ok := counter(root, mc, edac+"/"+mc, "ce_noinfo_count", "ue_noinfo_count")
		if len(found) == 0 {
			own, ok = counter(root, mc, edac+"/"+mc, "ce_count", "ue_count")
		}
		if ok && (len(found) == 0 || own.Corrected+own.Uncorrected > 0) {
			found = append(found, own)
		}
		out = append(out, found...)
	}
	return out[:min(len(out), maxCounters)]
}

func counter(root sysfs.Root, name, dir, corrected, uncorrected string) (hardware.ECCReading, bool) {
	ce, ok := root.Uint(dir, corrected)
	ue, ok2 := root.Uint(dir, uncorrected)
	return hardware.ECCReading{Name: name, Corrected: ce, Uncorrected: ue}, ok || ok2
}

func dimms(root sysfs.Root, mc string) []hardware.ECCReading {
	var out []hardware.ECCReading
	for _, name := range root.Names(edac, mc) {
		if !modules.MatchString(name) || len(out) == maxCounters {
			continue
		}
		dir := edac + "/" + mc + "/" + name
		if r, ok := counter(root, label(root.Text(dir, "dimm_label"), mc+" "+name), dir, "dimm_ce_count", "dimm_ue_count"); ok {
			out = append(out, r)
		}
	}
	return out
}

// legacyRows are the counters of drivers that know chip select rows only. The
// uncorrected ones are kept for the whole row.
func legacyRows(root sysfs.Root, mc string) []hardware.ECCReading {
	var out []hardware.ECCReading
	for _, row := range root.Names(edac, mc) {
		if !rows.MatchString(row) || len(out) >= maxCounters {
			continue
		}
		dir := edac + "/" + mc + "/" + row
		ue, _ := root.Uint(dir, "ue_count")
		for _, file := range root.Names(dir) {
			m := channels.FindStringSubmatch(file)
			if m == nil {
				continue
			}
			ce, _ := root.Uint(dir, file)
			name := label(root.Text(dir, m[1]+"_dimm_label"), mc+" "+row+" "+m[1])
			out = append(out, hardware.ECCReading{Name: name, Corrected: ce, Uncorrected: ue})
			ue = 0 // once
		}
	}
	return out
}

func label(given, otherwise string) string {
	if s := hardware.Clean(given); s != "" {
		return s
	}
	return otherwise
}

func finding(r hardware.ECCReading) hardware.Finding {
	f := hardware.Finding{Code: hardware.CodeMemoryErrors, Severity: hardware.Warning, Part: "dimm " + r.Name, Source: Source,
		Evidence: fmt.Sprintf("%d corrected, %d uncorrected errors since the kernel started", r.Corrected, r.Uncorrected),
		Hint:     "seat the DIMM anew or replace it when the count grows"}
	if r.Uncorrected > 0 {
		f.Severity, f.Hint = hardware.Critical, "replace the DIMM"
	}
	return f
}
