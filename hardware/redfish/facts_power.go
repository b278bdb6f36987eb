package redfish

import (
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
)

// psuFacts takes a power supply, of Power or of a PowerSubsystem; false for an
// empty bay.
func psuFacts(n node) (hardware.PSU, bool) {
	p := hardware.PSU{
		Name: n.str("Name"), Slot: first(place(n), n.str("Oem", "Hpe", "BayNumber"), n.str("Oem", "Hp", "BayNumber")),
		Manufacturer: n.str("Manufacturer"), Model: n.str("Model"), Serial: n.str("SerialNumber"), Part: first(n.str("PartNumber"), n.str("SparePartNumber")),
		Firmware: n.str("FirmwareVersion"), CapacityWatt: n.small("PowerCapacityWatts"), Sources: from,
	}
	for _, r := range append(n.list("InputRanges"), n.list("OutputRails")...) {
		p.CapacityWatt = max(p.CapacityWatt, r.small("OutputWattage"), r.small("CapacityWatts"))
	}
	switch n.str("PowerSupplyType") {
	case "AC", "DC":
		p.Kind = strings.ToLower(n.str("PowerSupplyType"))
	}
	if p.Slot == "" {
		p.Slot = first(n.str("MemberId"), n.str("Id"))
	}
	named := first(p.Model, p.Part) != "" || hardware.CleanSerial(p.Serial) != "" || p.CapacityWatt > 0
	gone := n.absent() || !named && !slices.Contains([]string{"Enabled", "StandbyOffline", "UnavailableOffline", "StandbySpare"}, n.str("Status", "State"))
	return p, !gone
}

func psuReading(n, metrics node) (hardware.PSUReading, bool) {
	r := hardware.PSUReading{Name: first(n.str("Name"), n.str("MemberId"), n.str("Id")), Health: health(n)}
	for _, m := range []struct {
		to         **float64
		old, fresh string
	}{
		{&r.InputVolts, "LineInputVoltage", "InputVoltage"}, {&r.InputWatts, "PowerInputWatts", "InputPowerWatts"},
		{&r.OutputWatts, "PowerOutputWatts", "OutputPowerWatts"},
	} {
		if v, ok := n.num(m.old); ok {
			*m.to = &v
		} else if v, ok := metrics.num(m.fresh, "Reading"); ok {
			*m.to = &v
		}
	}
	if r.OutputWatts == nil {
		if v, ok := n.num("LastPowerOutputWatts"); ok {
			r.OutputWatts = &v
		}
	}
	return r, r.Name != ""
}

// fanFacts is a fan as a part, of Thermal or of a ThermalSubsystem.
func fanFacts(n node) hardware.FanPart {
	return hardware.FanPart{Name: first(n.str("Name"), n.str("FanName"), n.str("MemberId"), n.str("Id")), Slot: place(n), Model: n.str("Model"),
		Serial: n.str("SerialNumber"), Part: n.str("PartNumber"), HotPlug: n.flag("HotPluggable"), Sources: from}
}

// fanReading is how fast a fan turns. One whose state is absent has no
// reading, though many BMCs then send a zero.
func fanReading(n node) hardware.Fan {
	f := hardware.Fan{Name: first(n.str("Name"), n.str("FanName"), n.str("MemberId"), n.str("Id"))}
	if rpm := reading(n, "SpeedPercent", "SpeedRPM"); rpm != nil { // Fan, since 2020
		f.RPM = rpm
	}
	if percent := reading(n, "SpeedPercent", "Reading"); percent != nil {
		f.Percent = percent
		return f
	}
	v := reading(n, "Reading")
	switch {
	case n.str("ReadingUnits") == "Percent" || n.str("Units") == "Percent":
		f.Percent = v
	case v != nil:
		f.RPM = v
	case f.RPM == nil:
		f.RPM = reading(n, "ReadingRPM") // before Thermal 1.0
	}
	if f.RPM == nil && f.Percent == nil {
		f.Percent = reading(n, "CurrentReading") // iLO 4
	}
	return f
}

func reading(n node, path ...string) *float64 {
	v, ok := n.num(path...)
	if !ok || n.absent() {
		return nil
	}
	return &v
}

func temperatureFacts(n node) (hardware.Temperature, bool) {
	t := hardware.Temperature{Name: first(n.str("Name"), n.str("DeviceName"), n.str("MemberId")), Celsius: reading(n, "ReadingCelsius")}
	if t.Celsius == nil {
		t.Celsius = reading(n, "CurrentReading")
	}
	if v, ok := n.num("UpperThresholdCritical"); ok && v > 0 {
		t.UpperCelsius = &v
	}
	return t, t.Name != ""
}

func voltageFacts(n node) (hardware.Sensor, bool) {
	s := hardware.Sensor{Name: first(n.str("Name"), n.str("MemberId")), Kind: "voltage", Unit: "volts", Value: reading(n, "ReadingVolts"), Status: status(n), Source: Source}
	s.Thresholds = thresholds(func(name string) (float64, bool) { return n.num(strings.Replace(name, "Caution", "NonCritical", 1)) }, map[string]string{
		"LowerThresholdFatal": "lf", "LowerThresholdCritical": "lc", "LowerThresholdNonCritical": "ln",
		"UpperThresholdNonCritical": "un", "UpperThresholdCritical": "uc", "UpperThresholdFatal": "uf"})
	return s, s.Name != ""
}

// sensorFacts takes a Sensor (DSP0268).
func sensorFacts(n node) (hardware.Sensor, bool) {
	s := hardware.Sensor{Name: first(n.str("Name"), n.str("Id")), Kind: strings.ToLower(n.str("ReadingType")), Value: reading(n, "Reading"),
		Unit: unit(n.str("ReadingUnits")), Status: status(n), Source: Source}
	s.Thresholds = thresholds(func(name string) (float64, bool) { return n.num("Thresholds", name, "Reading") }, map[string]string{
		"LowerFatal": "lf", "LowerCritical": "lc", "LowerCaution": "ln", "UpperCaution": "un", "UpperCritical": "uc", "UpperFatal": "uf"})
	return s, s.Name != ""
}

func thresholds(read func(string) (float64, bool), names map[string]string) *hardware.Thresholds {
	var t hardware.Thresholds
	to := map[string]**float64{"lf": &t.LowerNonRecoverable, "lc": &t.LowerCritical, "ln": &t.LowerNonCritical,
		"un": &t.UpperNonCritical, "uc": &t.UpperCritical, "uf": &t.UpperNonRecoverable}
	any := false
	for name, k := range names {
		if v, ok := read(name); ok {
			*to[k], any = &v, true
		}
	}
	if !any {
		return nil
	}
	return &t
}

// unit is a UCUM unit as a record words it.
func unit(s string) string {
	if w := map[string]string{"Cel": "degrees C", "V": "volts", "A": "amperes", "W": "watts", "J": "joules", "kW.h": "kWh", "{rev}/min": "RPM"}[s]; w != "" {
		return w
	}
	return s
}

func status(n node) string {
	return map[string]string{"ok": "ok", "warning": "non-critical", "critical": "critical"}[health(n)]
}

// logFacts counts a log. Entries that came along are kept, the newest first.
func logFacts(n, entries node) (hardware.Log, bool) {
	const newest = 16
	l := hardware.Log{Name: first(n.str("Id"), n.str("Name"))}
	if entries == nil || l.Name == "" {
		return l, false
	}
	members := entries.list("Members")
	l.Entries = max(entries.small("Members@odata.count"), len(members))
	var all []hardware.LogEntry
	for _, m := range members {
		if !inline(m) {
			continue
		}
		e := hardware.LogEntry{ID: m.str("Id"), Sensor: m.str("SensorType"), Severity: strings.ToLower(m.str("Severity")), Text: m.str("Message")}
		if at, err := time.Parse(time.RFC3339, m.str("Created")); err == nil {
			at = at.UTC()
			e.Time = &at
		}
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b hardware.LogEntry) int {
		switch {
		case a.Time == nil || b.Time == nil:
			return 0
		default:
			return b.Time.Compare(*a.Time)
		}
	})
	l.Newest = all[:min(len(all), newest)]
	return l, true
}
