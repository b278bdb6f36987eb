package render

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
)

// Readings writes what moves about a server as a page of any width.
func Readings(w io.Writer, r hardware.Readings) error { return Page{}.Readings(w, r) }

// newest is how many entries of each log a page shows; the JSON has more.
const newest = 10

// Readings writes what moves about a server: power, sensors, the health of its
// drives and of its memory, and the newest entries of its logs.
func (p Page) Readings(w io.Writer, r hardware.Readings) error {
	r.Normalize()
	s := &sheet{width: p.bound()}
	s.fact("power", string(r.PowerState), value(r.Watts, "W"))
	s.fact("health", r.Health)
	if r.BMCTime != nil {
		s.fact("BMC clock", stamp(r.BMCTime))
	}
	s.sensors(r)
	s.driveReadings(r.Drives)
	s.counters(r)
	s.logs(r.Logs)
	if len(s.lines) == 0 {
		s.line("nothing was read")
	}
	return s.write(w, "readings")
}

func (s *sheet) sensors(r hardware.Readings) {
	var rows [][]string
	for _, t := range r.Temperatures {
		rows = append(rows, []string{t.Name, "temperature", value(t.Celsius, "°C"), "", with("critical from", value(t.UpperCelsius, "°C"))})
	}
	for _, f := range r.Fans {
		rows = append(rows, []string{f.Name, "fan", strings.Join(known([]string{value(f.RPM, "RPM"), value(f.Percent, "%")}), " "), "", ""})
	}
	for _, u := range r.PSUs {
		rows = append(rows, []string{u.Name, "power supply", strings.Join(known([]string{value(u.InputVolts, "V"), with("in", value(u.InputWatts, "W")), with("out", value(u.OutputWatts, "W"))}), " "), u.Health, ""})
	}
	for _, x := range r.Sensors {
		reads := value(x.Value, x.Unit)
		if len(x.States) > 0 {
			reads = strings.Join(known([]string{reads, strings.Join(x.States, ", ")}), " ")
		}
		rows = append(rows, []string{x.Name, x.Kind, reads, x.Status, limits(x.Thresholds)})
	}
	if len(rows) > 0 {
		s.section("Sensors: %d", len(rows))
	}
	s.table([]string{"SENSOR", "KIND", "READS", "STATUS", "LIMITS"}, rows)
}

func limits(t *hardware.Thresholds) string {
	if t == nil {
		return ""
	}
	low, high := value(t.LowerCritical, ""), value(t.UpperCritical, "")
	switch {
	case low != "" && high != "":
		return "critical below " + low + " and above " + high
	case low != "":
		return "critical below " + low
	}
	return with("critical above", high)
}

func (s *sheet) driveReadings(all []hardware.DriveReading) {
	if len(all) > 0 {
		s.section("Drives: %d", len(all))
	}
	var rows [][]string
	for _, d := range all {
		test := d.LastSelfTest
		if d.LastSelfTestHours != nil {
			test += fmt.Sprintf(" at %d h", *d.LastSelfTestHours)
		}
		rows = append(rows, []string{cmp.Or(d.Name, d.Serial), d.Serial, d.Health, value(d.WearPercent, "%"), value(d.SparePercent, "%"), value(d.Celsius, "°C"), hours(d.PowerOnHours),
			hours(d.MediaErrors), hours(d.Reallocated), hours(d.Pending), test, strings.Join(d.Warnings, "; ")})
	}
	s.table([]string{"DRIVE", "SERIAL", "HEALTH", "WORN", "SPARE", "TEMP", "HOURS", "MEDIA ERRORS", "REALLOCATED", "PENDING", "SELF-TEST", "WARNINGS"}, rows)
}

func (s *sheet) counters(r hardware.Readings) {
	var rows [][]string
	for _, e := range r.ECC {
		rows = append(rows, []string{e.Name, fmt.Sprint(e.Corrected), fmt.Sprint(e.Uncorrected)})
	}
	if len(rows) > 0 {
		s.section("Memory errors")
	}
	s.table([]string{"DIMM", "CORRECTED", "NOT CORRECTED"}, rows)
	rows = nil
	for _, l := range r.Links {
		rows = append(rows, []string{string(l.MAC), map[hardware.Switch]string{hardware.Enabled: "up", hardware.Disabled: "down"}[l.Carrier], speed(l.LinkMbps)})
	}
	if len(rows) > 0 {
		s.section("Links")
	}
	s.table([]string{"NIC", "LINK", "SPEED"}, rows)
}

func (s *sheet) logs(all []hardware.Log) {
	for _, l := range all {
		full := ""
		if l.Overflowed {
			full = ", full: older entries are lost"
		}
		s.section("Log %s: %d entries%s", l.Name, l.Entries, full)
		var rows [][]string
		for _, e := range l.Newest[:min(newest, len(l.Newest))] {
			state := map[hardware.Switch]string{hardware.Disabled: "over"}[e.Asserted]
			rows = append(rows, []string{stamp(e.Time), e.Severity, e.Sensor, e.Text, state})
		}
		s.table([]string{"TIME", "SEVERITY", "SENSOR", "WHAT", ""}, rows)
	}
}

func stamp(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func value(v *float64, unit string) string {
	if v == nil {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("%.4g %s", *v, unit))
}
