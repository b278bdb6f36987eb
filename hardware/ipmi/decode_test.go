package ipmi

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

// area is a FRU area: a head, fields by their type and length, and padding.
func area(head []byte, texts ...string) []byte {
	b := append([]byte{1, 0}, head...)
	for _, t := range texts {
		b = append(append(b, 0xc0|byte(len(t))), t...)
	}
	b = append(b, endOfFields)
	for len(b)%8 != 7 {
		b = append(b, 0)
	}
	b[1] = byte(len(b)/8 + 1)
	return append(b, -checksum(b))
}

// frus puts areas behind a common header, by their place in it.
func fruOf(areas map[int][]byte) []byte {
	b := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	for at := 2; at <= 5; at++ {
		if areas[at] == nil {
			continue
		}
		b[at] = byte(len(b) / 8)
		b = append(b, areas[at]...)
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
	}
	b[7] = -checksum(b[:7])
	return b
}

func multirecord(kind byte, last bool, body ...byte) []byte {
	flags := byte(2)
	if last {
		flags |= lastRecord
	}
	h := []byte{kind, flags, byte(len(body)), -checksum(body)}
	return append(append(h, -checksum(h)), body...)
}

func TestFRUTexts(t *testing.T) {
	for _, c := range []struct {
		kind byte
		in   []byte
		wide bool
		want string
	}{
		{0, []byte{0xde, 0xad}, false, "dead"},
		{0, []byte("Plain\x00"), false, "Plain"},
		{0, []byte{0, 0}, false, ""},
		{1, []byte{0x12, 0x3c, 0x4a, 0x5b}, false, "123.4 5-"},
		{2, []byte{0x64, 0xc9, 0xb2}, false, "DELL"},         // FRU 1.0, 13.3: "IPMI" is 29 DC A6
		{2, []byte{0x29, 0xdc, 0xa6}, false, "IPMI"},         // the specification's own example
		{3, []byte("Gr\xfc\xdf"), false, "Grüß"},             // Latin-1
		{3, []byte("Grüß"), false, "Grüß"},                   // UTF-8, in practice
		{3, []byte{'Z', 0, 0x3c, 0x20, 'q', 0}, true, "Z‼q"}, // UTF-16
		{3, []byte("odd"), true, "odd"},
	} {
		if got := fruText(c.kind, c.in, c.wide); got != c.want {
			t.Errorf("fruText(%d, % x, %t) = %q; want %q", c.kind, c.in, c.wide, got, c.want)
		}
	}
}

func TestFRUAreas(t *testing.T) {
	minutes := []byte{25, 0x60, 0x3d, 0xf0} // of 2026-01-05
	binary.LittleEndian.PutUint16(minutes[1:], uint16(15782880&0xffff))
	minutes[3] = byte(15782880 >> 16)
	psu := []byte{0x20, 3, 0xff, 0xff, 35, 5, 0x28, 0x23, 0xb0, 0x36, 0, 0, 0, 0, 50, 60, 20, 8}
	b := fruOf(map[int][]byte{
		2: area([]byte{0x17}, "CP", "CS", "Extra"),
		3: area(minutes, "ACME", "MB", "BS", "BP", "file", "MAC 1", "MAC 2"),
		4: area([]byte{0}, "ACME", "Box", "PP", "1.0", "PS", "TAG", "", "kit"),
		5: append(multirecord(recordPSU, false, psu...), multirecord(0xc7, true, 0x57, 1, 0, 0xbe, 0xef)...),
	})
	got, problems := decodeFRU(3, b)
	want := hardware.FRU{ID: 3, ChassisType: "rack mount chassis", ChassisPart: "CP", ChassisSerial: "CS", BoardManufacturer: "ACME", BoardProduct: "MB",
		BoardSerial: "BS", BoardPart: "BP", BoardDate: "2026-01-04", ProductManufacturer: "ACME", ProductName: "Box", ProductPart: "PP",
		ProductVersion: "1.0", ProductSerial: "PS", AssetTag: "TAG", Other: map[string]string{"chassis 1": "Extra", "board file": "file",
			"board 1": "MAC 1", "board 2": "MAC 2", "product 1": "kit", "oem 0xc7": "IANA 343: beef", "psu watts": "800", "psu input hertz": "50-60",
			"psu input volts": "90-140", "psu inrush amps": "35", "psu inrush ms": "5", "psu dropout ms": "20", "psu predictive fail": "no",
			"psu power factor correction": "no", "psu autoswitch": "no", "psu hot swap": "yes"}}
	want.BoardDate = fruEpoch.Add(15782880 * time.Minute).Format("2006-01-02")
	if d := cmp.Diff(want, got.fru); d != "" || problems != nil {
		t.Errorf("decodeFRU (-want +got), problems %v:\n%s", problems, d)
	}
	if got.power == nil || *got.power != (powerSupply{watts: 800, kind: "ac"}) {
		t.Errorf("power supply = %+v", got.power)
	}
}

// TestFRULies has areas and records that say what is not so.
func TestFRULies(t *testing.T) {
	whole := func() []byte {
		return fruOf(map[int][]byte{2: area([]byte{1}, "CP", "CS"), 4: area([]byte{0}, "ACME", "Box"), 5: multirecord(recordDCLoad, true, make([]byte, 13)...)})
	}
	for name, c := range map[string]struct {
		change func([]byte) []byte
		words  string
		box    string // what is left of the product area
	}{
		"nothing wrong":            {func(b []byte) []byte { return b }, "", "Box"},
		"header checksum":          {func(b []byte) []byte { b[7]++; return b }, "common header: its checksum is wrong", "Box"},
		"area checksum":            {func(b []byte) []byte { b[int(b[4])*8+6] ^= 4; return b }, "product area: its checksum is wrong", "Box"},
		"area beyond the end":      {func(b []byte) []byte { b[int(b[4])*8+1] = 255; return b }, "product area: ends at", ""},
		"area of no length":        {func(b []byte) []byte { b[int(b[4])*8+1] = 0; return b }, "product area: ends at", ""},
		"area that starts outside": {func(b []byte) []byte { b[4] = 200; return b }, "product area: starts at 1600", ""},
		"record beyond the end": {func(b []byte) []byte {
			r := b[int(b[5])*8:]
			r[2], r[4] = 250, 0
			r[4] = -checksum(r[:4])
			return b
		}, "multirecord area: record 0: ends at", "Box"},
		"record header checksum": {func(b []byte) []byte { b[int(b[5])*8+4]++; return b }, "record 0: its header's checksum", "Box"},
		"record checksum":        {func(b []byte) []byte { b[int(b[5])*8+7]++; return b }, "record 0: its checksum is wrong", "Box"},
		"records without end": {func(b []byte) []byte {
			start := int(b[5]) * 8
			return append(b[:start], slices.Repeat(multirecord(recordOEM, false), 200)...)
		}, "multirecord area: it does not end", "Box"},
	} {
		f, problems := DecodeFRU(0, c.change(whole()))
		if f.ProductName != c.box || (c.words == "") != (problems == nil) || !strings.Contains(fmt.Sprint(problems), c.words) {
			t.Errorf("%s: product %q, problems %v; want %q and %q", name, f.ProductName, problems, c.box, c.words)
		}
	}
}

// TestConversion has the formula of the specification at work (36.3).
func TestConversion(t *testing.T) {
	for _, c := range []struct {
		s    sensor
		raw  byte
		want float64
	}{
		{sensor{m: 1}, 41, 41},
		{sensor{m: 6, rExp: -2}, 201, 12.06},
		{sensor{m: 1, signed: 2}, 0xf6, -10},
		{sensor{m: 1, signed: 1}, 0xf6, -9},
		{sensor{m: 2, b: -5, bExp: 1}, 30, 10},
		{sensor{m: 1, b: 5, bExp: 2, rExp: 1}, 3, 5030},
		{sensor{m: 1, linear: 1}, 1, 0},
		{sensor{m: 1, linear: 2}, 100, 2},
		{sensor{m: 1, linear: 3}, 8, 3},
		{sensor{m: 1, linear: 4}, 1, 2.718281828},
		{sensor{m: 5, rExp: -1, linear: 5}, 1, 3.16227766},
		{sensor{m: 1, linear: 6}, 10, 1024},
		{sensor{m: 1, linear: 7, rExp: -5}, 25, 4000},
		{sensor{m: 1, linear: 8}, 12, 144},
		{sensor{m: 1, linear: 9}, 3, 27},
		{sensor{m: 1, linear: 10}, 144, 12},
		{sensor{m: 1, linear: 11}, 27, 3},
	} {
		c.s.analog = true
		if got := c.s.value(c.raw); got == nil || math.Abs(*got-c.want) > 1e-6 {
			t.Errorf("value(%+v, %d) = %v; want %v", c.s, c.raw, number(got), c.want)
		}
	}
	for _, s := range []sensor{{m: 1, linear: 1, analog: true}, {m: 1, linear: 7, analog: true}, {m: 1}} {
		if got := s.value(0); got != nil {
			t.Errorf("value(%+v, 0) = %v; want none", s, *got)
		}
	}
	var s sensor
	s.factors([]byte{0x00, 0x80, 0xff, 0xc0, 0, 0xf7}) // M = 200h, which is -512; B = 3FFh, -1
	if s.m != -512 || s.b != -1 || s.rExp != -1 || s.bExp != 7 {
		t.Errorf("factors = %v %v %d %d; want -512 -1 -1 7", s.m, s.b, s.rExp, s.bExp)
	}
}

func TestReading(t *testing.T) {
	temp, err := decodeSDR(volts(7, "12V"))
	if err != nil {
		t.Fatal(err)
	}
	psu := sensor{name: "PS1", kind: 8, event: sensorSpecific}
	for _, c := range []struct {
		name   string
		s      sensor
		answer []byte
		value  string
		status string
		states []string
	}{
		{"fine", temp.sensors[0], []byte{200, 0xc0, 0xc0}, "12", "ok", nil},
		{"critical", temp.sensors[0], []byte{221, 0xc0, 0xd0}, "13.26", "critical", nil},
		{"above all", temp.sensors[0], []byte{221, 0xc0, 0xf8}, "13.26", "non-recoverable", nil},
		{"low", temp.sensors[0], []byte{1, 0xc0, 0xc1}, "0.06", "non-critical", nil},
		{"unavailable", temp.sensors[0], []byte{0, 0xe0, 0xc0}, "no value", "", nil},
		{"not scanned", temp.sensors[0], []byte{200, 0x80, 0xc0}, "no value", "", nil},
		{"short", temp.sensors[0], []byte{200}, "no value", "", nil},
		{"without states", temp.sensors[0], []byte{200, 0xc0}, "12", "ok", nil},
		{"there", psu, []byte{0, 0xc0, 1, 0x80}, "no value", "ok", []string{"Presence detected"}},
		{"lost", psu, []byte{0, 0xc0, 9, 0x80}, "no value", "critical", []string{"Presence detected", "Power Supply input lost (AC/DC)"}},
		{"no state", psu, []byte{0, 0xc0, 0, 0x80}, "no value", "", nil},
		{"oem state", sensor{kind: 0xc1, event: 0x72}, []byte{0, 0xc0, 4, 0}, "no value", "ok", []string{"oem state 2"}},
	} {
		d := c.s.describe()
		c.s.read(&d, c.answer)
		if number(d.Value) != c.value || d.Status != c.status || !slices.Equal(d.States, c.states) {
			t.Errorf("%s: %s %q %q; want %s %q %q", c.name, number(d.Value), d.Status, d.States, c.value, c.status, c.states)
		}
	}
}

func TestSDRs(t *testing.T) {
	head := func(kind byte, body ...byte) []byte {
		return append([]byte{9, 0, 0x51, kind, byte(len(body))}, body...)
	}
	compact := func(share, offset byte) []byte {
		b := make([]byte, 27, 40)
		copy(b, []byte{0x20, 0, 40, 26, 1, 0, 0, 0x0d, sensorSpecific})
		b[18], b[19], b[26] = share, offset, 0xc4
		return head(sdrCompact, append(b, "Bay "...)...)
	}
	names := func(r sdrRecord) (out []string) {
		for _, s := range r.sensors {
			out = append(out, fmt.Sprintf("%s#%d@%d", s.name, s.number, s.instance))
		}
		return out
	}
	for name, c := range map[string]struct {
		in   []byte
		want []string
		bad  string
	}{
		"full":                  {volts(5, "12V"), []string{"12V#5@1"}, ""},
		"compact":               {compact(1, 0), []string{"Bay#40@1"}, ""},
		"shared, by number":     {compact(3, 1), []string{"Bay1#40@1", "Bay2#41@1", "Bay3#42@1"}, ""},
		"shared, by letter":     {compact(0x12, 0x80|25), []string{"BayZ#40@1", "BayAA#41@2"}, ""},
		"event only":            {head(sdrEventOnly, 0x20, 0, 1, 7, 1, 0x12, 0x6f, 1, 0, 0, 0, 0xc3, 'S', 'E', 'L'), []string{"SEL#1@1"}, ""},
		"name beyond":           {head(sdrEventOnly, 0x20, 0, 1, 7, 1, 0x12, 0x6f, 1, 0, 0, 0, 0xdf, 'S', 'E', 'L'), []string{"SEL#1@1"}, ""},
		"six bits":              {head(sdrEventOnly, 0x20, 0, 1, 7, 1, 0x12, 0x6f, 1, 0, 0, 0, 0x83, 0x29, 0xdc, 0xa6), []string{"IPMI#1@1"}, ""},
		"oem":                   {head(sdrOEM, 0x57, 1, 0, 1, 2), nil, ""},
		"association":           {head(0x08, 1, 2, 3), nil, ""},
		"short of its header":   {[]byte{1, 0, 0x51}, nil, "SDR of 3 bytes"},
		"short of its length":   {head(sdrFull, make([]byte, 50)...)[:40], nil, "ends at 55 of 40"},
		"short of its type":     {head(sdrFull, make([]byte, 20)...), nil, "of type 0x01 has 25 bytes, want 48"},
		"locator that is short": {head(sdrFRULocator, 0x20, 1), nil, "want 16"},
	} {
		r, err := decodeSDR(c.in)
		if d := cmp.Diff(c.want, names(r)); d != "" || (err == nil) != (c.bad == "") || err != nil && !strings.Contains(err.Error(), c.bad) {
			t.Errorf("%s: %v, want %q\n%s", name, err, c.bad, d)
		}
	}
	r, err := decodeSDR(head(sdrFRULocator, 0x20, 17, 0x80, 0, 0, 0x10, 1, 0x20, 2, 0, 0xc5, 'D', 'I', 'M', 'M', '1'))
	want := &locator{bmc: true, fru: 17, device: 0x10, modifier: 1, entity: 0x20, instance: 2, name: "DIMM1"}
	if err != nil || *r.locator != *want || !r.locator.spd() {
		t.Errorf("locator = %+v, %v; want %+v", r.locator, err, want)
	}
}

func TestEvents(t *testing.T) {
	records := &session{}
	twelve, err := decodeSDR(volts(1, "12V"))
	if err != nil {
		t.Fatal(err)
	}
	records.records = []sdrRecord{twelve}
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		in   []byte
		want hardware.LogEntry
		bad  bool
	}{
		"threshold": {event(0x12, uint32(at.Unix())), hardware.LogEntry{ID: "0x0012", Time: &at, Sensor: "12V", Severity: "critical",
			Text: "voltage: Upper Critical - going high, reading 13.26, threshold 13.2 volts", Asserted: hardware.Enabled}, false},
		"before the clock": {event(2, 42), hardware.LogEntry{ID: "0x0002", Sensor: "12V", Severity: "critical",
			Text: "voltage: Upper Critical - going high, reading 13.26, threshold 13.2 volts (42 s after the BMC's start)", Asserted: hardware.Enabled}, false},
		"another's sensor": {[]byte{3, 0, 2, 0xff, 0xff, 0xff, 0xff, 0x41, 0, 4, 0x12, 1, 0xef, 0x05, 0xff, 0xff}, hardware.LogEntry{ID: "0x0003", Sensor: "0x01",
			Severity: "warning", Text: "system event: Timestamp Clock Synch", Asserted: hardware.Disabled}, false},
		"a number that is another type's": {[]byte{7, 0, 2, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 4, 0x1d, 1, 0x6f, 0x00, 0xff, 0xff}, hardware.LogEntry{ID: "0x0007", Sensor: "0x01",
			Severity: "info", Text: "system boot initiated: Initiated by power up", Asserted: hardware.Enabled}, false},
		"oem with a time": {append([]byte{4, 0, 0xc1}, append(binary.LittleEndian.AppendUint32(nil, uint32(at.Unix())), 0x57, 1, 0, 1, 2, 3, 4, 5, 6)...),
			hardware.LogEntry{ID: "0x0004", Time: &at, Severity: "info", Text: "oem record 0xc1, IANA 343: 010203040506"}, false},
		"oem bare": {append([]byte{5, 0, 0xe0}, make([]byte, 13)...), hardware.LogEntry{ID: "0x0005", Severity: "info", Text: "oem record 0xe0: 00000000000000000000000000"}, false},
		"other":    {append([]byte{6, 0, 0x11}, make([]byte, 13)...), hardware.LogEntry{ID: "0x0006", Severity: "info", Text: "record of type 0x11: 000000000000000000"}, false},
		"short":    {make([]byte, 15), hardware.LogEntry{}, true},
	} {
		got, err := decodeEvent(c.in, records.sensorOf)
		if d := cmp.Diff(c.want, got); d != "" || (err != nil) != c.bad {
			t.Errorf("%s: %v\n%s", name, err, d)
		}
	}
}

// TestLongLog reads the newest of many entries without walking the others.
func TestLongLog(t *testing.T) {
	for name, number := range map[string]func(i int) int{
		"one by one":           func(i int) int { return i + 1 },
		"by place in memory":   func(i int) int { return 16 * (i + 1) },
		"with entries deleted": func(i int) int { return i + 1 + i/7 },
	} {
		r := &repository{}
		for i := range 600 {
			r.events = append(r.events, event(number(i), uint32(1e9+i)))
		}
		_, o := serveWith(t, r.register)
		v, _, err := Crawl(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		l := v.Readings.Logs[0]
		if l.Entries != 600 || len(l.Newest) != newestSEL || l.Newest[0].ID != fmt.Sprintf("%#04x", number(599)) || l.Newest[63].ID != fmt.Sprintf("%#04x", number(536)) {
			t.Errorf("%s: %d entries, %d read, from %s to %s", name, l.Entries, len(l.Newest), l.Newest[0].ID, l.Newest[len(l.Newest)-1].ID)
		}
		if n := r.asked.Load(); n > 80 {
			t.Errorf("%s: %d entries were asked for", name, n)
		}
	}
}

func TestSPD(t *testing.T) {
	ddr4 := make([]byte, 512)
	copy(ddr4, []byte{0x23, 0x12, 0x0c, 1, 0x85, 0, 0, 0, 0, 0, 0, 0, 0x08, 0x0b, 0, 0, 0, 0, 5}) // 8 Gb, two ranks of x4, 625 ps
	copy(ddr4[320:], []byte{0x80, 0xce, 0, 0x23, 0x45, 1, 2, 3, 4})
	copy(ddr4[329:], "M393A4K40DB3-CWE    ")
	stacked := append([]byte(nil), ddr4...)
	stacked[6] = 0x32 // each rank is four dies
	ddr3 := make([]byte, 256)
	copy(ddr3, []byte{0x92, 0x13, 0x0b, 1, 4, 0, 0, 0x09, 0x0b, 0, 1, 8, 10}) // 4 Gb, two ranks of x8, 1.25 ns
	copy(ddr3[117:], []byte{0x80, 0x2c, 0, 0x15, 0x07, 9, 8, 7, 6})
	copy(ddr3[128:], "36KSF1G72PZ-1G6E1 ")
	ddr5 := make([]byte, 1024)
	copy(ddr5, []byte{0x30, 0x10, 0x12, 1, 4, 0, 0x20})
	ddr5[20], ddr5[21] = 0xa0, 0x01 // 416 ps
	ddr5[234], ddr5[235] = 0x08, 0x2a
	copy(ddr5[512:], []byte{0x80, 0xad, 0, 0x24, 0x12, 0xa, 0xb, 0xc, 0xd})
	copy(ddr5[521:], "HMCG88AGBRA191N               ")
	for name, c := range map[string]struct {
		in   []byte
		want hardware.DIMM
	}{
		"DDR3": {ddr3, hardware.DIMM{SizeBytes: 8 << 30, Serial: "09080706", Manufacturer: "Micron", Part: "36KSF1G72PZ-1G6E1", SpeedMTs: 1600, Type: "DDR3",
			Module: "RDIMM", Ranks: 2, ECC: hardware.Enabled, Manufactured: "2015-W07"}},
		"DDR4": {ddr4, hardware.DIMM{SizeBytes: 32 << 30, Serial: "01020304", Manufacturer: "Samsung", Part: "M393A4K40DB3-CWE", SpeedMTs: 3200, Type: "DDR4",
			Module: "RDIMM", Ranks: 2, ECC: hardware.Enabled, Manufactured: "2023-W45"}},
		"DDR4, stacked": {stacked, hardware.DIMM{SizeBytes: 128 << 30, Serial: "01020304", Manufacturer: "Samsung", Part: "M393A4K40DB3-CWE", SpeedMTs: 3200, Type: "DDR4",
			Module: "RDIMM", Ranks: 2, ECC: hardware.Enabled, Manufactured: "2023-W45"}},
		"DDR5": {ddr5, hardware.DIMM{SizeBytes: 32 << 30, Serial: "0A0B0C0D", Manufacturer: "SK hynix", Part: "HMCG88AGBRA191N", SpeedMTs: 4800, Type: "DDR5",
			Module: "RDIMM", Ranks: 2, ECC: hardware.Enabled, Manufactured: "2024-W12"}},
	} {
		got, err := DecodeSPD(c.in)
		if d := cmp.Diff(c.want, got); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, d)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 100), make([]byte, 256)} {
		if _, err := DecodeSPD(b); err == nil {
			t.Errorf("an SPD of %d zeros is taken", len(b))
		}
	}
}

func TestBoxes(t *testing.T) {
	for _, c := range []struct {
		in   string
		want hardware.BootOverride
	}{
		{"0000000000", hardware.BootOverride{Target: "none", Enabled: "disabled"}},
		{"a004000000", hardware.BootOverride{Target: "pxe", Enabled: "once", Mode: hardware.ModeUEFI}},
		{"c008000000", hardware.BootOverride{Target: "disk", Enabled: "continuous", Mode: hardware.ModeBIOS}},
		{"8018000000", hardware.BootOverride{Target: "bios-setup", Enabled: "once", Mode: hardware.ModeBIOS}},
	} {
		b, _ := hex.DecodeString(c.in)
		if got := decodeBootFlags(b); got != c.want {
			t.Errorf("boot flags %s = %+v; want %+v", c.in, got, c.want)
		}
	}
	w := decodeWatchdog([]byte{0x44, 1, 0, 0, 0x58, 2, 0, 0})
	if w.Running != hardware.Enabled || w.Use != "sms-os" || w.Action != "reset" || w.TimeoutSeconds != 60 {
		t.Errorf("watchdog = %+v; want running, sms-os, reset, 60 s", w)
	}
	if got := decodeSuites([]byte{0xc0, 3, 1, 0x41, 0x81, 0xc1, 0x80, 0x57, 1, 0, 2, 0xc0, 17, 3, 0x44, 0x81, 0xc0}); !slices.Equal(got, []int{3, 17}) {
		t.Errorf("suites = %v; want 3 and 17", got)
	}
	ip6 := append([]byte{0, 0x80, 0xfd, 0, 0, 0x78}, make([]byte, 14)...)
	ip6[17], ip6[18] = 0x11, 64
	if got := ipv6Address(ip6); got != "fd00:78::11/64" {
		t.Errorf("IPv6 address = %q", got)
	}
	for _, b := range [][]byte{nil, ip6[:18], append(slices.Clone(ip6[:19]), 1), make([]byte, 20)} {
		if got := ipv6Address(b); got != "" {
			t.Errorf("ipv6Address(% x) = %q; want none", b, got)
		}
	}
}
