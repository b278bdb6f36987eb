package ata

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// swapped puts a text into a page as ATA does, padded with spaces.
func swapped(b []byte, at, n int, s string) {
	s += strings.Repeat(" ", n-len(s))
	for i := 0; i < n; i += 2 {
		b[at+i], b[at+i+1] = s[i+1], s[i]
	}
}

func words(b []byte, at map[int]uint16) {
	for n, w := range at {
		binary.LittleEndian.PutUint16(b[2*n:], w)
	}
}

// signed gives a page the checksum in its last byte.
func summed(b []byte) []byte {
	b[511] = 0
	b[511] = -sum(b)
	return b
}

func disk() []byte {
	b := make([]byte, PageBytes)
	swapped(b, 20, 20, "ZJV0000100")
	swapped(b, 46, 8, "SN03")
	swapped(b, 54, 40, "ST4000NM0035-1V4107")
	words(b, map[int]uint16{76: 0x850e, 82: 0x306b, 84: 0x6163, 85: 0x3069, 87: 0x6163, 106: 0x6003, 108: 0x5000, 109: 0xc500, 110: 0x9501, 111: 0x0203,
		168: 2, 217: 7200})
	b[510] = 0xa5
	return summed(b)
}

func TestIdentity(t *testing.T) {
	ssd := make([]byte, PageBytes)
	swapped(ssd, 20, 20, "          S4")
	swapped(ssd, 46, 8, "HXT7404Q")
	swapped(ssd, 54, 40, "SAMSUNG MZ7LH960HAJR-00005")
	words(ssd, map[int]uint16{69: 1 << 4, 76: 0x004e, 87: 0x4000, 106: 0x5000, 117: 2048, 168: 7, 217: 1, 108: 0x5000})
	for _, c := range []struct {
		name string
		in   []byte
		want Identity
	}{
		{"disk", disk(), Identity{Model: "ST4000NM0035-1V4107", Serial: "ZJV0000100", Firmware: "SN03", WWN: "naa.5000c50095010203", RPM: 7200,
			FormFactor: "3.5 inch", LogicalBytes: 512, PhysicalBytes: 4096, MaxLinkMbps: 6000, SMART: true, Logs: true}},
		{"SSD without WWN and checksum", ssd, Identity{Model: "SAMSUNG MZ7LH960HAJR-00005", Serial: "S4", Firmware: "HXT7404Q", Solid: true,
			FormFactor: "M.2", LogicalBytes: 4096, PhysicalBytes: 4096, MaxLinkMbps: 6000, Encrypts: true}},
	} {
		got, err := ParseIdentity(c.in)
		if d := cmp.Diff(c.want, got); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, err, d)
		}
	}
	wrong := disk()
	wrong[20] ^= 1
	for name, in := range map[string][]byte{"short": disk()[:500], "a wrong checksum": wrong, "zeros": make([]byte, PageBytes)} {
		if id, err := ParseIdentity(in); err == nil {
			t.Errorf("%s is taken: %+v", name, id)
		}
	}
}

func smart(rows ...Attribute) (data, thresholds []byte) {
	data, thresholds = make([]byte, PageBytes), make([]byte, PageBytes)
	for i, a := range rows {
		d, th := data[2+i*attributeBytes:], thresholds[2+i*attributeBytes:]
		d[0], d[3], d[4], th[0], th[1] = a.ID, a.Value, a.Worst, a.ID, a.Threshold
		if a.PreFailure {
			d[1] = 1
		}
		binary.LittleEndian.PutUint32(d[5:], uint32(a.Raw))
		binary.LittleEndian.PutUint16(d[9:], uint16(a.Raw>>32))
	}
	return summed(data), summed(thresholds)
}

func TestSmart(t *testing.T) {
	rows := []Attribute{
		{ID: 5, PreFailure: true, Value: 1, Worst: 1, Raw: 4000, Threshold: 10},
		{ID: 9, Value: 90, Worst: 90, Raw: 0x0000_1234_0000_2000, Threshold: 0},
		{ID: 190, Value: 45, Worst: 40, Raw: 0x2d1c0037, Threshold: 45},
	}
	data, thresholds := smart(rows...)
	got, err := ParseSmart(data, thresholds)
	if d := cmp.Diff(Smart{Attributes: rows}, got); d != "" || err != nil {
		t.Errorf("ParseSmart: %v (-want +got):\n%s", err, d)
	}
	for i, want := range []bool{true, false, true} {
		if got := rows[i].Failing(); got != want {
			t.Errorf("%v: Failing = %t; want %t", rows[i], got, want)
		}
	}
	if got, want := rows[0].String(), "attribute 5 (reallocated sectors) is 1, its threshold 10"; got != want {
		t.Errorf("String = %q; want %q", got, want)
	}
	data[363], data[367] = 0xf9, 1<<4
	if got, err := ParseSmart(summed(data), nil); err != nil || !got.SelfTests || !got.SelfTestRunning || got.Attributes[0].Threshold != 0 {
		t.Errorf("ParseSmart while a test runs = %+v, %v", got, err)
	}
	data[5] ^= 1
	if _, err := ParseSmart(data, nil); err == nil {
		t.Error("a wrong checksum is taken")
	}
}

func TestSelfTests(t *testing.T) {
	log := func(newest, status byte) []byte {
		b := make([]byte, PageBytes)
		b[0], b[508] = 1, newest
		if newest > 0 && newest <= selfTests {
			e := b[2+(int(newest)-1)*selfTestBytes:]
			e[0], e[1] = 2, status
			binary.LittleEndian.PutUint16(e[2:], 4711)
		}
		return summed(b)
	}
	for _, c := range []struct {
		newest, status byte
		want           SelfTest
	}{
		{1, 0x00, SelfTest{"passed", 4711}}, {21, 0x70, SelfTest{"failed", 4711}}, {3, 0x10, SelfTest{"aborted", 4711}},
		{2, 0xf4, SelfTest{}}, {0, 0, SelfTest{}}, {22, 0, SelfTest{}},
	} {
		if got, err := ParseSelfTests(log(c.newest, c.status)); got != c.want || err != nil {
			t.Errorf("entry %d, status %#x: %+v, %v; want %+v", c.newest, c.status, got, err, c.want)
		}
	}
	if _, err := ParseSelfTests(append(log(1, 0)[:511], 9)); err == nil {
		t.Error("a wrong checksum is taken")
	}
}

func TestStatistics(t *testing.T) {
	const valid = 0xc0
	page := func(n byte, at map[int]uint64) []byte {
		b := make([]byte, PageBytes)
		b[0], b[2] = 1, n
		for i, v := range at {
			binary.LittleEndian.PutUint64(b[i:], v)
		}
		return b
	}
	v := func(n uint64) uint64 { return n | valid<<56 }
	var s Statistics
	for n, at := range map[byte]map[int]uint64{
		StatisticsGeneral:     {8: v(12), 16: v(0xff_0000_2000 & 0xffffffff), 24: v(1 << 40), 40: v(7)},
		StatisticsRotating:    {32: v(3)},
		StatisticsErrors:      {8: 0x80<<56 | 9}, // supported, not valid
		StatisticsTemperature: {8: v(0xfb), 88: v(0x80)},
		StatisticsSolid:       {8: v(101)},
	} {
		if err := s.Add(n, page(n, at)); err != nil {
			t.Error(err)
		}
	}
	p := func(n uint64) *uint64 { return &n }
	i := func(n int) *int { return &n }
	want := Statistics{PowerOnResets: p(12), PowerOnHours: p(0x2000), BlocksWritten: p(1 << 40), BlocksRead: p(7), Reallocated: p(3), Celsius: i(-5), UsedPercent: i(101)}
	if d := cmp.Diff(want, s); d != "" {
		t.Errorf("statistics (-want +got):\n%s", d)
	}
	if err := s.Add(StatisticsErrors, page(StatisticsSolid, nil)); err == nil {
		t.Error("another page is taken")
	}
	list := page(0, nil)
	copy(list[8:], []byte{4, 0, 1, 5, 7})
	if got, err := StatisticsPages(list); !bytes.Equal(got, []byte{0, 1, 5, 7}) || err != nil {
		t.Errorf("StatisticsPages = %v, %v", got, err)
	}
}

func TestDirectory(t *testing.T) {
	b := make([]byte, PageBytes)
	words(b, map[int]uint16{0: 1, 4: 8, 255: 2})
	pages, err := ParseDirectory(b)
	if err != nil || pages(4) != 8 || pages(0) != 1 || pages(5) != 0 || pages(255) != 2 {
		t.Errorf("ParseDirectory: %v", err)
	}
	if _, err := ParseDirectory(make([]byte, PageBytes)); err == nil {
		t.Error("a directory of no version is taken")
	}
}

func TestRegisters(t *testing.T) {
	for _, c := range []struct {
		name, sense string
		want        Registers
		bad         bool
	}{
		{"descriptor", "72 01 00 1d 00 00 00 0e 09 0c 00 00 00 ff 00 00 00 4f 00 c2 00 50", Registers{Status: 0x50, Count: 0xff, LBAMid: 0x4f, LBAHigh: 0xc2}, false},
		{"behind another descriptor", "72 01 00 1d 00 00 00 1a 00 0a 80 00 00 00 00 00 00 00 00 00 09 0c 00 04 00 01 00 00 00 f4 00 2c 00 51", Registers{Error: 4, Status: 0x51, Count: 1, LBAMid: 0xf4, LBAHigh: 0x2c}, false},
		{"fixed", "70 00 01 00 50 00 80 0a 00 00 4f c2 00 1d 00 00 00 00", Registers{Status: 0x50, Count: 0x80, LBAMid: 0x4f, LBAHigh: 0xc2}, false},
		{"illegal request", "70 00 05 00 00 00 00 0a 00 00 00 00 20 00 00 00 00 00", Registers{}, true},
		{"cut", "72 01 00 1d 00 00 00 0e 09 0c 00 00", Registers{}, true},
		{"nothing", "", Registers{}, true},
	} {
		sense, err := hex.DecodeString(strings.ReplaceAll(c.sense, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseRegisters(sense); got != c.want || (err != nil) != c.bad {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
}

func TestCDB(t *testing.T) {
	for _, c := range []struct {
		what string
		in   Command
		want string
	}{
		{"IDENTIFY DEVICE", Command{Command: 0xec, Data: true}, "85080e000000010000000000 0000ec00"},
		{"CHECK POWER MODE", Command{Command: 0xe5}, "850620000000000000000000 0000e500"},
		{"SMART READ LOG 06h", Command{Command: 0xb0, Feature: 0xd5, LBALow: 6, LBAMid: 0x4f, LBAHigh: 0xc2, Data: true}, "85080e00d500010006004f00 c200b000"},
		{"READ LOG EXT 04h page 5", Command{Command: 0x2f, LBALow: 4, LBAMid: 5, Data: true}, "85090e000000010004000500 00002f00"},
	} {
		if got := hex.EncodeToString(c.in.CDB()); got != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s = %s; want %s", c.what, got, c.want)
		}
	}
}

func TestPower(t *testing.T) {
	for p, want := range map[Power]bool{0: true, 1: true, 0x40: true, 0x41: false, 0x80: false, 0x83: false, 0xff: false} {
		if got := p.Standby(); got != want {
			t.Errorf("Power(%#x).Standby = %t; want %t", byte(p), got, want)
		}
	}
}

// No answer panics a decoder, one of another length is refused, and what is
// read is within what the format can say.
func FuzzATA(f *testing.F) {
	f.Add(disk())
	data, thresholds := smart(Attribute{ID: 5, Value: 1, Threshold: 10})
	f.Add(data)
	f.Add(thresholds)
	f.Add([]byte{0x72, 1, 0, 0x1d, 0, 0, 0, 0xe, 9, 0xc, 0, 0, 0, 0xff, 0, 0, 0, 0x4f, 0, 0xc2, 0, 0x50})
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := ParseIdentity(b); err == nil && (id.Model == "" || id.PhysicalBytes < id.LogicalBytes || id.LogicalBytes < 512 || id.PhysicalBytes > 1<<24) {
			t.Errorf("identity %+v", id)
		}
		s, err := ParseSmart(b, b)
		if err == nil && (len(b) != PageBytes || len(s.Attributes) > attributes) {
			t.Errorf("SMART of %d bytes: %d attributes", len(b), len(s.Attributes))
		}
		for _, a := range s.Attributes { // what was read stands in the bytes
			if raw := binary.LittleEndian.AppendUint64(nil, a.Raw); !bytes.Contains(b, raw[:6]) || a.ID == 0 {
				t.Errorf("attribute %+v", a)
			}
		}
		if st, err := ParseSelfTests(b); err == nil && (st.Hours > 0xffff || st.Result == "" && st.Hours != 0) {
			t.Errorf("self-test %+v", st)
		}
		if pages, err := StatisticsPages(b); err == nil && len(pages) > PageBytes-9 {
			t.Errorf("%d pages", len(pages))
		}
		for page := range byte(8) {
			var st Statistics
			if err := st.Add(page, b); err == nil && st.BlocksWritten != nil && *st.BlocksWritten >= 1<<48 {
				t.Errorf("page %d: %+v", page, st)
			}
		}
		if pages, err := ParseDirectory(b); err == nil && pages(4) != int(b[8])|int(b[9])<<8 {
			t.Errorf("log 4 has %d pages", pages(4))
		}
		if r, err := ParseRegisters(b); err == nil && !bytes.Contains(b, []byte{r.LBAHigh}) {
			t.Errorf("registers %+v", r)
		}
	})
}
