package bmc

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/ipmi"
)

func (b *bench) crawlOptions() ipmi.Options {
	return ipmi.Options{Address: b.ipmi.String(), User: "admin", Password: testPassword, Timeout: 30 * time.Second}
}

// TestCrawl compares what a crawl finds with what the machine is made of.
func TestCrawl(t *testing.T) {
	b := newBench(t, nil)
	b.restore.Store(restorePrevious)
	b.watchdog.configure([]byte{0x04, watchdogHardReset, 0, 0, 0x58, 0x02})
	b.Booted(t.Context())
	if err := b.SetBoot(t.Context(), BootOverride{BootOnce, BootPXE, BootUEFI}); err != nil {
		t.Fatal(err)
	}
	v, stats, err := ipmi.Crawl(t.Context(), b.crawlOptions())
	if err != nil {
		t.Fatal(err)
	}
	inv, m := v.Inventory, testMachine()
	from := hardware.Sources{"ipmi"}
	check := func(what string, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	check("system", inv.System, hardware.System{Manufacturer: m.Manufacturer, Model: m.Product, Serial: m.Serial, AssetTag: m.AssetTag,
		UUID: "1ab00001-0001-4001-8000-525400010101", Sources: from})
	check("boot override", inv.BIOS.Boot, hardware.BootOverride{Target: "pxe", Enabled: "once", Mode: hardware.ModeUEFI})
	check("power restore", inv.BMC.PowerRestore, "previous")
	check("watchdogs", inv.Watchdogs, []hardware.Watchdog{{Name: "bmc", Identity: "IPMI", TimeoutSeconds: 60, Running: hardware.Disabled,
		Use: "sms-os", Action: "reset", Sources: from}})
	check("interfaces", inv.BMC.Interfaces, []hardware.BMCInterface{{Name: "channel 1", Channel: 1, MAC: "52:54:00:01:01:bc",
		Addresses: []string{"127.0.0.1/8", "fd00:78::11/64"}, Gateway: "127.0.0.2", Origin: "static", VLAN: 78, Enabled: hardware.Enabled,
		CipherLimits: map[string]string{"3": "administrator", "17": "administrator"}}})
	check("accounts", inv.BMC.Accounts, []hardware.BMCAccount{{ID: "2", Name: "admin", Privilege: "administrator", Enabled: hardware.Enabled,
		Access: []hardware.BMCAccess{{Channel: 1, Privilege: "administrator", Messaging: hardware.Enabled, LinkAuth: hardware.Disabled}}}})
	check("cipher suites", inv.BMC.CipherSuites, []int{3, 17})
	var psus []hardware.PSU
	for _, p := range m.PSUs {
		psus = append(psus, hardware.PSU{Name: p.Slot, Manufacturer: p.Manufacturer, Model: p.Model, Serial: p.Serial, Part: p.PartNumber,
			Firmware: p.Firmware, CapacityWatt: p.Watts, Kind: "ac", Sources: from})
	}
	check("power supplies", inv.PSUs, psus)
	for i, d := range inv.DIMMs {
		want := m.DIMMs[i]
		check("DIMM", []any{d.Slot, d.SizeBytes, d.SpeedMTs, d.Part, d.Type, d.ECC}, []any{want.Slot, uint64(want.SizeBytes), want.SpeedMTs, want.PartNumber, want.Type, hardware.Enabled})
	}
	check("DIMMs", len(inv.DIMMs), len(m.DIMMs))
	check("FRUs", len(inv.FRUs), 1+len(m.PSUs))
	check("findings", codesOf(inv.Findings), []hardware.Code{hardware.CodeDefaultAccount})
	b.checkReadings(t, v.Readings)
	if n := b.BMC.ipmi.Sessions.Count(); n != 0 {
		t.Errorf("%d sessions are left open", n)
	}
	if stats.Cipher != 17 || stats.Repeated != 0 || stats.Dropped != 0 {
		t.Errorf("statistics = %+v", stats)
	}
	if again, _, err := ipmi.Crawl(t.Context(), b.crawlOptions()); err != nil || again.Inventory.Digest() != inv.Digest() {
		t.Errorf("a second crawl of the same machine has another digest, %v", err)
	}
}

func codesOf(all []hardware.Finding) (out []hardware.Code) {
	for _, f := range all {
		out = append(out, f.Code)
	}
	return out
}

func (b *bench) checkReadings(t *testing.T, r hardware.Readings) {
	t.Helper()
	find := func(name string) string {
		i := slices.IndexFunc(r.Sensors, func(s hardware.Sensor) bool { return s.Name == name })
		if i < 0 {
			return "missing"
		}
		s := r.Sensors[i]
		text := fmt.Sprint(s.Status, " ", s.States)
		if s.Value != nil {
			text = fmt.Sprintf("%g %s %s", *s.Value, s.Unit, s.Status)
		}
		return text + " " + s.Entity
	}
	for name, want := range map[string]string{
		"CPU 0 Temp": "41 degrees C ok processor 1", "Inlet Temp": "23 degrees C ok air inlet 1", "FAN1": "8300 RPM ok fan 1", "FAN4": " [] fan 4",
		"PUMP1": "4000 RPM ok fan 9", "3.3V": "3.312 volts ok system board 1", "PS2 Input": "180 watts ok power supply 2",
		"PS1 Status": "ok [Presence detected] power supply 1", "CPU 0 Status": "ok [Processor Presence detected] processor 1",
		"Drive0": "ok [Drive Presence] drive bay 1", "Drive3": " [] drive bay 1", "System Event": " [] system board 1",
	} {
		if got := find(name); got != want {
			t.Errorf("sensor %s = %q; want %q", name, got, want)
		}
	}
	if r.Watts == nil || *r.Watts != 360 {
		t.Errorf("watts = %v; want 360", r.Watts)
	}
	if r.PowerState != hardware.PowerOff || r.BMCTime == nil || time.Since(*r.BMCTime) > time.Minute {
		t.Errorf("power %q, clock %v", r.PowerState, r.BMCTime)
	}
	if l := r.Logs; len(l) != 1 || l[0].Entries != 2 || len(l[0].Newest) != 2 || l[0].Newest[0].ID != "0x0002" || l[0].FreeBytes != (selCapacity-2)*selRecordBytes {
		t.Errorf("log = %+v", l)
	}
}

// TestCrawlInPieces has a BMC that gives 20 bytes of a record at a time.
func TestCrawlInPieces(t *testing.T) {
	whole, _, err := ipmi.Crawl(t.Context(), newBench(t, nil).crawlOptions())
	if err != nil {
		t.Fatal(err)
	}
	pieces, _, err := ipmi.Crawl(t.Context(), newBench(t, func(c *Config) { c.MaxSDRRead = 20 }).crawlOptions())
	if d := cmp.Diff(whole.Readings.Sensors, pieces.Readings.Sensors); d != "" || err != nil {
		t.Errorf("in pieces: %v (-whole +pieces):\n%s", err, d)
	}
}

// TestPSUFails has a power supply lose its cable.
func TestPSUFails(t *testing.T) {
	b := newBench(t, nil)
	for i := range b.board.sensors {
		if s := &b.board.sensors[i]; s.name == "PS2 Status" {
			s.state = 1 | 1<<3
		}
	}
	v, _, err := ipmi.Crawl(t.Context(), b.crawlOptions())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(v.Inventory.Findings, func(f hardware.Finding) bool { return f.Code == hardware.CodeSensorCritical })
	if i < 0 || v.Inventory.Findings[i].Part != "psu PS2 Status" {
		t.Errorf("findings = %v; want that of PS2", v.Inventory.Findings)
	}
	if r := v.Readings.PSUs; len(r) != 2 || r[0].Health != "ok" || r[1].Health != "critical" {
		t.Errorf("power supplies = %+v", r)
	}
}
