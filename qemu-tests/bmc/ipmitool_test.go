package bmc

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/ipmi"
)

// comparison is the table of what ipmitool prints and we do not have.
const comparison = "../../hardware/ipmi/COMPARISON.md"

// counter passes datagrams on and counts those to the BMC: the round trips.
type counter struct {
	net.PacketConn
	trips atomic.Int64
}

func newCounter(t testing.TB, to *net.UDPAddr) *counter {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{PacketConn: front}
	back := map[string]net.Conn{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := front.ReadFrom(buf)
			if err != nil {
				return
			}
			b := back[from.String()]
			if b == nil {
				if b, err = net.DialUDP("udp", nil, to); err != nil {
					return
				}
				back[from.String()] = b
				go c.answers(b, from)
			}
			c.trips.Add(1)
			if _, err := b.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		front.Close()
		<-done
		for _, b := range back {
			b.Close()
		}
	})
	return c
}

func (c *counter) answers(b net.Conn, to net.Addr) {
	buf := make([]byte, 4096)
	for {
		n, err := b.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.WriteTo(buf[:n], to); err != nil {
			return
		}
	}
}

// tool runs the real ipmitool.
func (c *counter) tool(t testing.TB, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("ipmitool")
	if err != nil {
		t.Skip("ipmitool is not installed; on Debian: apt-get install ipmitool")
	}
	_, port, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"-I", "lanplus", "-H", "127.0.0.1", "-p", port, "-U", "admin", "-E", "-N", "5"}, args...)...)
	cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+testPassword, "TZ=UTC")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// fru ends with 1 for a FRU that it does not understand.
	if err := cmd.Run(); err != nil && stdout.Len() == 0 {
		t.Fatalf("ipmitool %v: %v\n%s", args, err, stderr.String())
	}
	return stdout.String()
}

// busyBMC is a BMC with a past.
func busyBMC(t testing.TB) *bench {
	b := newBench(t, func(c *Config) { c.Machine.Controller.VLAN = 78 })
	b.Booted(t.Context())
	event := func(kind, number, eventType, one, two, three uint8) {
		b.sel.append([selRecordBytes]byte{2: 0x02, 7: 0x20, 9: 0x04, 10: kind, 11: number, 12: eventType, 13: one, 14: two, 15: three})
	}
	event(typeTemperature, 1, byThreshold, 0x50|9, 96, 95)  // CPU 0, upper critical, going high
	event(typeTemperature, 1, 0x80|byThreshold, 0x09, 0, 0) // and back
	event(typePSU, 17, sensorSpecific, 0, 0xff, 0xff)       // PS2 is there
	event(typePSU, 17, sensorSpecific, 3, 0xff, 0xff)       // and lost its input
	b.sel.append([selRecordBytes]byte{2: 0xc0, 7: 0x57, 8: 1, 10: 1, 11: 2, 12: 3})
	b.sel.append([selRecordBytes]byte{2: 0xe0, 3: 0xde, 4: 0xad})
	return b
}

// TestAgainstIPMItool has the two read the same BMC. What ipmitool prints we
// have, or it is a row of the table with its reason; a row that nothing prints
// has to go.
func TestAgainstIPMItool(t *testing.T) {
	b := busyBMC(t)
	c := newCounter(t, b.ipmi)
	rows := tableRows(t)
	used := map[string]bool{}
	v, _, err := ipmi.Crawl(t.Context(), b.crawlOptions())
	if err != nil {
		t.Fatal(err)
	}
	check := func(command, what, theirs, ours string) {
		t.Helper()
		if ours == theirs || theirs == "" {
			return
		}
		row := command + " | " + what
		if _, ok := rows[row]; !ok {
			t.Errorf("ipmitool %s prints %s %q; we have %q, and %s has no row for it", command, what, theirs, ours, comparison)
		}
		used[row] = true
	}
	checkMC(c.tool(t, "mc", "info"), v.Inventory.BMC, check)
	for id := range 3 {
		checkFRU(c.tool(t, "-v", "fru", "print", fmt.Sprint(id)), id, v.Inventory, check)
	}
	for _, page := range strings.Split(c.tool(t, "fru", "print"), "FRU Device Description") { // SPDs are read only so
		for _, d := range v.Inventory.DIMMs {
			if _, lines, ok := strings.Cut(page, "\n"); ok && strings.HasPrefix(page, " : "+d.Slot+" ") {
				checkDIMM(lines, d, check)
			}
		}
	}
	checkSDR(c.tool(t, "sdr", "elist", "all"), v.Readings.Sensors, check)
	checkSensors(c.tool(t, "sensor", "list"), v.Readings.Sensors, check)
	checkSEL(c.tool(t, "sel", "list"), v.Readings.Logs[0], check)
	checkLAN(c.tool(t, "lan", "print", "1"), v.Inventory.BMC, check)
	for _, l := range labels(c.tool(t, "dcmi", "power", "reading")) {
		if l[0] == "Instantaneous power reading" {
			check("dcmi power", l[0], l[1], fmt.Sprintf("%g Watts", *v.Readings.Watts))
		}
	}
	checkUsers(c.tool(t, "user", "list", "1"), v.Inventory.BMC.Accounts, check)
	for row := range rows {
		if !used[row] {
			t.Errorf("%s: nothing that ipmitool prints needs the row %q", comparison, row)
		}
	}
}

type checker func(command, what, theirs, ours string)

// tableRows are the rows "| command | what, what | reason |".
func tableRows(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile(comparison)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if !strings.HasPrefix(line, "| `") || len(cells) != 3 {
			continue
		}
		for _, what := range strings.Split(cells[1], ",") {
			key := strings.Trim(strings.TrimSpace(cells[0]), "`") + " | " + strings.TrimSpace(what)
			if rows[key] = strings.TrimSpace(cells[2]); rows[key] == "" {
				t.Errorf("the row %q has no reason", key)
			}
		}
	}
	return rows
}

// labels are the lines "name : value" of a page.
func labels(out string) (all [][2]string) {
	for _, line := range strings.Split(out, "\n") {
		name, value, ok := strings.Cut(line, ":")
		if ok {
			all = append(all, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
		}
	}
	return all
}

func checkMC(out string, m hardware.BMC, check checker) {
	functions := map[string]string{"Sensor Device": "sensor", "SDR Repository Device": "sdr-repository", "SEL Device": "sel",
		"FRU Inventory Device": "fru", "Chassis Device": "chassis"}
	for _, line := range strings.Split(out, "\n") {
		if name := strings.TrimSpace(line); strings.HasPrefix(line, "    ") && name != "" {
			have := ""
			if slices.Contains(m.Functions, functions[name]) {
				have = name
			}
			check("mc info", "Additional Device Support", name, have)
		}
	}
	ours := map[string]string{"Device ID": fmt.Sprint(m.DeviceID), "Device Revision": fmt.Sprint(m.DeviceRevision), "Firmware Revision": m.Firmware,
		"IPMI Version": m.IPMIVersion, "Manufacturer ID": fmt.Sprint(m.ManufacturerID), "Product ID": fmt.Sprintf("%d (%#04x)", m.ProductID, m.ProductID),
		"Manufacturer Name": orUnknown(m.Manufacturer), "Product Name": fmt.Sprintf("Unknown (%#02x)", m.ProductID),
		"Provides Device SDRs": yes(slices.Contains(m.Functions, "device-sdrs"))}
	for _, l := range labels(out) {
		check("mc info", l[0], l[1], ours[l[0]])
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "Unknown"
	}
	return s
}

func yes(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }

func checkFRU(out string, id int, inv hardware.Inventory, check checker) {
	i := slices.IndexFunc(inv.FRUs, func(f hardware.FRU) bool { return f.ID == id })
	if i < 0 {
		check("fru print", fmt.Sprintf("FRU %d", id), "yes", "no")
		return
	}
	f := inv.FRUs[i]
	o := f.Other
	ours := map[string]string{"Chassis Type": f.ChassisType, "Chassis Part Number": f.ChassisPart, "Chassis Serial": f.ChassisSerial,
		"Board Mfg Date": f.BoardDate, "Board Mfg": f.BoardManufacturer, "Board Product": f.BoardProduct, "Board Serial": f.BoardSerial, "Board Part Number": f.BoardPart,
		"Product Manufacturer": f.ProductManufacturer, "Product Name": f.ProductName, "Product Part Number": f.ProductPart,
		"Product Version": f.ProductVersion, "Product Serial": f.ProductSerial, "Product Asset Tag": f.AssetTag, "Product Extra": o["product 1"],
		"Capacity": o["psu watts"] + " W", "Peak VA": o["psu peak va"] + " VA", "Inrush Current": o["psu inrush amps"] + " A", "Inrush Interval": o["psu inrush ms"] + " ms",
		"Input Voltage Range 1": o["psu input volts"] + " V", "Input Voltage Range 2": o["psu input volts 2"] + " V",
		"Input Frequency Range": o["psu input hertz"] + " Hz", "A/C Dropout Tolerance": o["psu dropout ms"] + " ms",
		"Peak capacity": o["psu peak watts"] + " W", "Peak capacity holdup": o["psu peak hold-up s"] + " s", "Combined capacity": "not specified"}
	for _, l := range labels(out) {
		name, value := l[0], l[1]
		switch name {
		case "Chassis Type":
			value = strings.Replace(strings.ToLower(value), "chassis", "chassis", 1)
		case "Board Mfg Date":
			at, err := time.Parse("Mon Jan _2 15:04:05 2006 MST", value)
			if err == nil {
				value = at.Format("2006-01-02")
			}
		case "Flags":
			for _, flag := range regexp.MustCompile(`'[^']+'`).FindAllString(value, -1) {
				ours := map[string]string{"'Power factor correction'": "psu power factor correction", "'Autoswitch voltage'": "psu autoswitch",
					"'Hot swap'": "psu hot swap", "'Predictive fail'": "psu predictive fail"}[flag]
				check("fru print", "Flags "+flag, "yes", o[ours])
			}
			continue
		}
		if dc, ok := dcFact(name, value); ok { // one line of ours has them all
			if strings.Contains(o["dc output 1"], dc) {
				continue
			}
		}
		check("fru print", name, value, ours[name])
	}
}

// dcFact is what a line of the DC output record looks like in ours.
func dcFact(name, value string) (string, bool) {
	number, _, _ := strings.Cut(value, " ")
	f, _ := strconv.ParseFloat(number, 64)
	switch name {
	case "Output Number":
		return "", true
	case "Standby power":
		return "", value == "No"
	case "Nominal voltage":
		return fmt.Sprintf("%g V (", f), true
	case "Max negative deviation":
		return fmt.Sprintf("(%g to", f), true
	case "Max positive deviation":
		return fmt.Sprintf("to %g)", f), true
	case "Ripple and noise pk-pk":
		return "ripple " + value, true
	case "Minimum current draw":
		return fmt.Sprintf(" %d-", int(math.Round(f*1000))), true
	case "Maximum current draw":
		return fmt.Sprintf("-%d mA", int(math.Round(f*1000))), true
	}
	return "", false
}

func checkDIMM(out string, d hardware.DIMM, check checker) {
	ours := map[string]string{"Memory Type": d.Type + " SDRAM", "Technology": d.Module, "Memory size": fmt.Sprintf("%d MB", d.SizeBytes>>20),
		"Logical Rank per DIMM": fmt.Sprint(d.Ranks), "Serial Number": strings.ToLower(d.Serial), "Part Number": d.Part,
		"Manufacturer": d.Manufacturer + " Technology"}
	if d.ECC == hardware.Enabled {
		ours["Error Detect/Cor"] = "8 bits"
	}
	year, week := 0, 0
	if n, err := fmt.Sscanf(d.Manufactured, "%d-W%d", &year, &week); n == 2 && err == nil {
		ours["Manufacture Date"] = fmt.Sprintf("year %4d week %2d", year, week)
	}
	for _, l := range labels(out) {
		check("fru print", l[0], l[1], ours[l[0]])
	}
}

func columns(line string) []string {
	cells := strings.Split(line, "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

func bySensorName(all []hardware.Sensor, name string) hardware.Sensor {
	for _, s := range all {
		if s.Name == name || s.Name == name+"0" { // of several that share a record ipmitool shows one
			return s
		}
	}
	return hardware.Sensor{}
}

// near is theirs where it is our number, rounded as they do.
func near(theirs string, ours *float64) string {
	f, err := strconv.ParseFloat(theirs, 64)
	if err != nil || ours == nil || math.Abs(f-*ours) > 0.0051 {
		return number(ours)
	}
	return theirs
}

func number(v *float64) string {
	if v == nil {
		return "na"
	}
	return fmt.Sprint(*v)
}

func checkSDR(out string, all []hardware.Sensor, check checker) {
	entities := map[string]string{"3": "processor", "7": "system board", "10": "power supply", "23": "chassis", "26": "drive bay", "29": "fan", "32": "memory device", "64": "air inlet"}
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		c := columns(line)
		if len(c) < 5 || c[1] == "00h" && strings.Contains(c[4], "MC") || strings.Contains(c[4], "FRU") {
			continue // the locators, whose FRUs are compared by themselves
		}
		s := bySensorName(all, c[0])
		if c[4] == "Event-Only" {
			check("sdr elist", "Event-Only", c[0], s.Name)
			continue
		}
		n, _ := strconv.ParseUint(strings.TrimSuffix(c[1], "h"), 16, 8)
		check("sdr elist", "sensor number", fmt.Sprintf("%#02x", n), s.ID)
		id, instance, _ := strings.Cut(c[3], ".")
		check("sdr elist", "entity", entities[id]+" "+instance, s.Entity)
		value, unit, _ := strings.Cut(c[4], " ")
		switch {
		case c[4] == "No Reading":
			check("sdr elist", "reading", "na", number(s.Value))
		case s.Unit != "":
			check("sdr elist", "reading", value, near(value, s.Value))
			check("sdr elist", "unit", strings.ToLower(unit), strings.ToLower(s.Unit))
			check("sdr elist", "status", c[2], s.Status)
		case c[4] == "":
			check("sdr elist", "states", "none", map[bool]string{true: "none"}[len(s.States) == 0])
		default:
			check("sdr elist", "states", words(c[4]), words(strings.Join(s.States, ", ")))
		}
	}
}

// words are the words of a state, which ipmitool and we take from the same
// tables and write differently.
func words(s string) string {
	s = strings.NewReplacer("presence detected", "present", "drive presence", "present", "drive present", "present", "processor ", "",
		"log area reset/cleared", "log cleared", "power supply ac lost", "input lost", "power supply input lost (ac/dc)", "input lost",
		"power supply input lost", "input lost", " - ", " ").Replace(strings.ToLower(s))
	return strings.TrimSpace(s)
}

func checkSensors(out string, all []hardware.Sensor, check checker) {
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		c := columns(line)
		s := bySensorName(all, c[0])
		if len(c) < 10 || c[2] == "discrete" {
			continue // their states are in sdr elist
		}
		t := hardware.Thresholds{}
		if s.Thresholds != nil {
			t = *s.Thresholds
		}
		for i, ours := range []*float64{t.LowerNonRecoverable, t.LowerCritical, t.LowerNonCritical, t.UpperNonCritical, t.UpperCritical, t.UpperNonRecoverable} {
			check("sensor list", "threshold "+fmt.Sprint(i), c[4+i], near(c[4+i], ours))
		}
	}
}

func checkSEL(out string, l hardware.Log, check checker) {
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		c := columns(line)
		id, _ := strconv.ParseUint(c[0], 16, 16)
		i := slices.IndexFunc(l.Newest, func(e hardware.LogEntry) bool { return e.ID == fmt.Sprintf("%#04x", id) })
		if i < 0 {
			check("sel list", "entry", c[0], "")
			continue
		}
		e := l.Newest[i]
		if strings.Contains(line, "OEM record") {
			data := c[len(c)-1]
			check("sel list", "OEM data", data, map[bool]string{true: data}[strings.Contains(e.Text, data)])
			continue
		}
		at := ""
		if e.Time != nil {
			at = e.Time.Format("01/02/06 15:04:05 UTC")
		}
		check("sel list", "time", c[1]+" "+c[2], at)
		_, event, _ := strings.Cut(e.Text, ": ")
		event, _, _ = strings.Cut(event, ",")
		check("sel list", "event", words(c[4]), words(event))
		check("sel list", "direction", c[5], map[hardware.Switch]string{hardware.Enabled: "Asserted", hardware.Disabled: "Deasserted"}[e.Asserted])
	}
}

func checkLAN(out string, m hardware.BMC, check checker) {
	i := m.Interfaces[0]
	address, mask := "", ""
	for _, a := range i.Addresses {
		if ip, n, err := net.ParseCIDR(a); err == nil && ip.To4() != nil {
			address, mask = ip.String(), net.IP(n.Mask).String()
		}
	}
	limits := ""
	for _, id := range m.CipherSuites {
		limits += i.CipherLimits[fmt.Sprint(id)][:1]
	}
	ours := map[string]string{"IP Address Source": map[string]string{"static": "Static Address", "dhcp": "DHCP Address"}[i.Origin], "IP Address": address,
		"Subnet Mask": mask, "MAC Address": string(i.MAC), "Default Gateway IP": i.Gateway, "802.1q VLAN ID": fmt.Sprint(i.VLAN),
		"RMCP+ Cipher Suites": strings.Trim(strings.ReplaceAll(fmt.Sprint(m.CipherSuites), " ", ","), "[]"), "Cipher Suite Priv Max": limits}
	for _, l := range labels(out) {
		name, value := l[0], l[1]
		switch {
		case name == "" || strings.HasPrefix(name, "Auth Type Enable"): // the legend, and privileges without a type
			if _, types, _ := strings.Cut(value, ":"); strings.Contains(value, "=") || strings.TrimSpace(types) == "" {
				continue
			}
		case name == "Cipher Suite Priv Max":
			value = strings.TrimRight(value, "X")
		case value == "Not Available":
			continue
		}
		check("lan print", name, value, ours[name])
	}
}

func checkUsers(out string, all []hardware.BMCAccount, check checker) {
	line := regexp.MustCompile(`^(\d+)\s+(.*?)\s+(true|false)\s+(true|false)\s+(true|false)\s+(.+)$`)
	for _, l := range strings.Split(out, "\n") {
		c := line.FindStringSubmatch(strings.TrimSpace(l))
		if c == nil {
			continue
		}
		i := slices.IndexFunc(all, func(a hardware.BMCAccount) bool { return a.ID == c[1] })
		if i < 0 && c[2] == "" && c[6] == "NO ACCESS" {
			check("user list", "slots without a name and without access", c[1], "")
			continue
		}
		if i < 0 {
			check("user list", "user", c[2], "")
			continue
		}
		a := all[i]
		on := func(s hardware.Switch) string { return fmt.Sprint(s == hardware.Enabled) }
		check("user list", "Name", c[2], a.Name)
		check("user list", "Callin", c[3], fmt.Sprint(!a.Access[0].CallbackOnly))
		check("user list", "Link Auth", c[4], on(a.Access[0].LinkAuth))
		check("user list", "IPMI Msg", c[5], on(a.Access[0].Messaging))
		check("user list", "Channel Priv Limit", strings.ToLower(strings.TrimSpace(c[6])), a.Access[0].Privilege)
	}
}

// TestRoundTrips claims that the same facts of SDR, FRU and SEL cost at most a
// third of ipmitool's round trips: 0.34 of them, logging in and out included
// on both sides.
func TestRoundTrips(t *testing.T) {
	ours, theirs := roundTrips(t)
	t.Logf("round trips for SDR, FRU and SEL: ours %d, ipmitool's %d: %.2f", ours, theirs, float64(ours)/float64(theirs))
	if float64(ours) > 0.34*float64(theirs) {
		t.Errorf("%d round trips, ipmitool %d; want a third", ours, theirs)
	}
}

func BenchmarkRoundTrips(b *testing.B) {
	for b.Loop() {
		ours, theirs := roundTrips(b)
		b.ReportMetric(float64(ours), "trips")
		b.ReportMetric(float64(theirs), "ipmitool-trips")
	}
}

func roundTrips(t testing.TB) (ours, theirs int64) {
	bmc := busyBMC(t)
	c := newCounter(t, bmc.ipmi)
	o := bmc.crawlOptions()
	o.Address = c.LocalAddr().String()
	_, stats, err := ipmi.Crawl(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	all := c.trips.Load()
	ours = all
	for step, n := range stats.Steps {
		if !slices.Contains([]string{"device ID", "SDR repository", "sensors", "FRUs", "SEL"}, step) {
			ours -= int64(n)
		}
	}
	t.Logf("ours: %v and logging in and out", stats.Steps)
	for _, args := range [][]string{{"sdr", "elist", "all"}, {"sensor", "list"}, {"fru", "print"}, {"sel", "elist"}} {
		before := c.trips.Load()
		c.tool(t, args...)
		t.Logf("ipmitool %s: %d round trips", strings.Join(args, " "), c.trips.Load()-before)
	}
	return ours, c.trips.Load() - all
}
