package render

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/ingot-metal/ingot/hardware"
)

// Readings writes what moves about a server as a page of tables.
func Readings(w io.Writer, r hardware.Readings) error {
	p := &page{tab: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	p.fact("power", string(r.PowerState), value(r.Watts, "W"))
	p.fact("health", r.Health)
	for _, t := range r.Temperatures {
		p.row("temperature", t.Name, value(t.Celsius, "°C"))
	}
	for _, f := range r.Fans {
		p.row("fan", f.Name, strings.TrimSpace(value(f.RPM, "RPM")+" "+value(f.Percent, "%")))
	}
	for _, s := range r.PSUs {
		p.row("psu", s.Name, value(s.OutputWatts, "W"), s.Health)
	}
	for _, s := range r.Sensors {
		p.row("sensor", s.Name, value(s.Value, s.Unit), s.Status)
	}
	for _, d := range r.Drives {
		p.row("drive", d.Name, value(d.WearPercent, "% used"), d.Health)
	}
	for _, l := range r.Logs {
		p.row("log", l.Name, fmt.Sprintf("%d entries", l.Entries))
	}
	if p.err != nil {
		return fmt.Errorf("write readings: %w", p.err)
	}
	return p.tab.Flush()
}

func value(v *float64, unit string) string {
	if v == nil {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("%g %s", *v, unit))
}
