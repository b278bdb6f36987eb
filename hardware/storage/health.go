package storage

import (
	"fmt"
	"math"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/storage/ata"
	"github.com/ingot-metal/ingot/hardware/storage/nvme"
	"github.com/ingot-metal/ingot/hardware/storage/scsi"
)

// The states of a drive's health, from best to worst.
const (
	healthOK       = "ok"
	healthWarning  = "warning"
	healthCritical = "critical"
)

// wornOut is how much of a drive's rated life may be used before a person
// should plan for another.
const wornOut = 90

func pointer[T any](v T) *T { return &v }

// worse sets the health where it is worse than what is known.
func (r *result) worse(health string) {
	rank := map[string]int{healthOK: 1, healthWarning: 2, healthCritical: 3}
	if rank[health] > rank[r.health.Health] {
		r.health.Health = health
	}
}

// warns keeps what a drive complains of. One that fails is a critical finding.
func (r *result) warns(fails bool, texts ...string) {
	if len(texts) == 0 {
		return
	}
	r.health.Warnings = append(r.health.Warnings, texts...)
	if fails {
		r.worse(healthCritical)
		r.find(hardware.CodeDriveFailing, hardware.Critical, strings.Join(texts, "; "), "save what is on it, and replace "+label(r.drive))
		return
	}
	r.worse(healthWarning)
}

// nvmeHealth reads the SMART log. A drive that knows neither spare blocks nor
// their threshold has none: an emulated one.
func (r *result) nvmeHealth(c nvme.Controller, s nvme.Smart) {
	h := &r.health
	r.worse(healthOK)
	if s.Celsius != 0 {
		h.Celsius = pointer(float64(s.Celsius))
	}
	h.WearPercent = pointer(float64(s.UsedPercent))
	if s.SparePercent != 0 || s.SpareThreshold != 0 {
		h.SparePercent = pointer(float64(s.SparePercent))
	}
	h.PowerOnHours, h.PowerCycles, h.UnsafeShutdowns = &s.PowerOnHours, &s.PowerCycles, &s.UnsafeShutdowns
	h.MediaErrors, h.ErrorLogEntries, h.ReadBytes, h.WrittenBytes = &s.MediaErrors, &s.ErrorLogEntries, &s.ReadBytes, &s.WrittenBytes
	texts, fails := s.Warnings()
	r.warns(fails, texts...)
	if limit := c.WarningCelsius; limit > 0 && s.Celsius >= limit {
		r.hot(s.Celsius, limit)
	} else if s.Warning&2 != 0 {
		r.find(hardware.CodeDriveHot, hardware.Warning, fmt.Sprintf("%d °C, outside its own limits", s.Celsius), hotHint)
	}
}

// ataHealth reads device statistics and SMART attributes; where both know a
// fact the statistics stand, whose meaning is standardized.
func (r *result) ataHealth() {
	h, s, rows := &r.health, r.statistics, r.smart
	raw := func(id byte, mask, most uint64) *uint64 {
		if a, ok := rows.Attribute(id); ok && a.Raw&mask <= most {
			return pointer(a.Raw & mask)
		}
		return nil
	}
	const any = math.MaxUint64
	const century = 24 * 365 * 100 // some drives count minutes or milliseconds
	h.PowerOnHours = first(s.PowerOnHours, raw(ata.PowerOnHours, 0xffffffff, century))
	h.PowerCycles = first(raw(ata.PowerCycles, 0xffffffff, any), s.PowerOnResets) // resets may be more than cycles
	h.Reallocated = first(raw(ata.Reallocated, 0xffff, any), s.Reallocated)
	h.Pending = raw(ata.Pending, 0xffffffff, any)
	h.MediaErrors = first(s.Uncorrectable, first(raw(ata.Uncorrectable, 0xffff, any), raw(ata.OfflineErrors, 0xffffffff, any)))
	h.ReadBytes, h.WrittenBytes = blocks(r, s.BlocksRead, ata.BlocksRead), blocks(r, s.BlocksWritten, ata.BlocksWritten)
	h.Celsius = r.ataCelsius()
	h.WearPercent = r.ataWear()
	switch {
	case r.signature.Failing():
		r.warns(true, append([]string{"SMART says that it will fail"}, r.failing(true)...)...)
	default:
		if r.signature.Sound() {
			r.worse(healthOK)
		}
		r.warns(true, r.failing(true)...)
		r.warns(false, r.failing(false)...)
	}
	if s.MaximumCelsius != nil && s.Celsius != nil && *s.Celsius > *s.MaximumCelsius {
		r.hot(*s.Celsius, *s.MaximumCelsius)
	}
}

func first[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// failing are the attributes at their thresholds: those that foretell a
// failure, or the others.
func (r *result) failing(pre bool) []string {
	var out []string
	for _, a := range r.smart.Attributes {
		if a.PreFailure == pre && a.Failing() {
			out = append(out, a.String())
		}
	}
	return out
}

// blocks is a statistic of logical blocks in bytes, or else an attribute whose
// unit is the vendor's: blocks, 32 MiB or 1 GiB. Only what is too large for
// the others is taken for blocks.
func blocks(r *result, statistic *uint64, id byte) *uint64 {
	unit := uint64(max(r.drive.LogicalBlockBytes, 512))
	if statistic != nil {
		return pointer(*statistic * unit) // 48 bits of blocks of at most 64 KiB
	}
	const surelyBlocks = 1 << 26
	if a, ok := r.smart.Attribute(id); ok && a.Raw > surelyBlocks {
		return pointer(a.Raw * 512)
	}
	return nil
}

func (r *result) ataCelsius() *float64 {
	if c := r.statistics.Celsius; c != nil {
		return pointer(float64(*c))
	}
	for _, id := range []byte{ata.Celsius, ata.AirflowCelsius} {
		if a, ok := r.smart.Attribute(id); ok && a.Raw != 0 {
			return pointer(float64(int8(a.Raw)))
		}
	}
	return nil
}

// ataWear is how much of its life a solid state drive has used. Attributes
// that tell it begin at 100 and fall.
func (r *result) ataWear() *float64 {
	if used := r.statistics.UsedPercent; used != nil {
		return pointer(float64(*used))
	}
	if !r.ata.Solid {
		return nil
	}
	for _, id := range []byte{ata.LifeLeft, ata.WearIndicator, ata.WearLeveling, ata.LifeRemaining} {
		if a, ok := r.smart.Attribute(id); ok && a.Value > 0 && a.Value <= 100 {
			return pointer(float64(100 - a.Value))
		}
	}
	return nil
}

// scsiHealth reads the log pages; judged says that the drive has one for what
// it thinks of itself.
func (r *result) scsiHealth(s scsi.Health, judged bool) {
	h := &r.health
	if s.Celsius != nil {
		h.Celsius = pointer(float64(*s.Celsius))
	}
	if s.UsedPercent != nil {
		h.WearPercent = pointer(float64(*s.UsedPercent))
	}
	h.PowerOnHours, h.PowerCycles, h.MediaErrors = s.PowerOnHours, s.Starts, s.Uncorrected
	h.ReadBytes, h.WrittenBytes = s.ReadBytes, s.WrittenBytes
	if s.SelfTestHours != nil {
		r.selfTest(s.SelfTest, *s.SelfTestHours, false)
	}
	if judged {
		r.worse(healthOK)
	}
	if s.Failing() {
		r.warns(true, fmt.Sprintf("the drive expects to fail: ASC 0x5d, ASCQ 0x%02x", s.ASCQ))
	} else if w := s.Warning(); w != "" {
		r.warns(false, w)
	}
	if s.Celsius != nil && s.LimitCelsius != nil && *s.LimitCelsius > 0 && *s.Celsius > *s.LimitCelsius {
		r.hot(*s.Celsius, *s.LimitCelsius)
	}
}

// selfTest keeps the newest self-test.
func (r *result) selfTest(outcome string, hours uint64, running bool) {
	if outcome != "" {
		r.health.LastSelfTest, r.health.LastSelfTestHours = outcome, &hours
	}
	if outcome == "failed" {
		r.worse(healthWarning)
		r.find(hardware.CodeDriveErrors, hardware.Warning, fmt.Sprintf("its newest self-test failed, at %d power-on hours", hours), "save what is on it, and replace "+label(r.drive))
	}
	if running {
		r.health.LastSelfTest = "running"
	}
}

const hotHint = "look at the fans, the air's way and the drive's neighbors"

func (r *result) hot(celsius, limit int) {
	r.worse(healthWarning)
	r.find(hardware.CodeDriveHot, hardware.Warning, fmt.Sprintf("%d °C, its own limit %d °C", celsius, limit), hotHint)
}

// finish judges what all kinds of drives have in common.
func (r *result) finish() {
	h, d := &r.health, &r.drive
	h.Name, h.Serial = d.Name, d.Serial
	if w := h.WearPercent; w != nil && *w >= wornOut {
		r.worse(healthWarning)
		r.find(hardware.CodeDriveWorn, hardware.Warning, fmt.Sprintf("%.0f %% of its rated life is used", *w), "plan for another in place of "+label(*d))
	}
	var bad []string
	for _, c := range []struct {
		n    *uint64
		what string
	}{{h.Pending, "sectors wait to be reallocated"}, {h.MediaErrors, "errors were not corrected"}} {
		if c.n != nil && *c.n > 0 {
			bad = append(bad, fmt.Sprintf("%d %s", *c.n, c.what))
		}
	}
	if len(bad) > 0 {
		r.worse(healthWarning)
		r.find(hardware.CodeDriveErrors, hardware.Warning, strings.Join(bad, "; "), "replace "+label(*d)+" when the count grows")
	}
	if most := min(d.MaxLinkMbps, r.portMbps); most > 0 && d.LinkMbps > 0 && d.LinkMbps < most {
		r.find(hardware.CodeDriveLink, hardware.Warning, fmt.Sprintf("its link runs at %d Mbit/s, drive and port can %d", d.LinkMbps, most), "reseat the drive; look at its cable and backplane")
	}
}
