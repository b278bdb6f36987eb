package nvme

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bytes of an answer of size n, with texts and numbers put at their places.
func answer(n int, at map[int]any) []byte {
	b := make([]byte, n)
	for i, v := range at {
		switch v := v.(type) {
		case string:
			copy(b[i:], v)
		case byte:
			b[i] = v
		case uint16:
			binary.LittleEndian.PutUint16(b[i:], v)
		case uint32:
			binary.LittleEndian.PutUint32(b[i:], v)
		case uint64:
			binary.LittleEndian.PutUint64(b[i:], v)
		}
	}
	return b
}

func identify() []byte {
	return answer(IdentifyBytes, map[int]any{
		0: uint16(0x144d), 4: "S4EVNF0M123456      ", 24: "SAMSUNG MZQL23T8HCLS-00A07" + strings.Repeat(" ", 14), 64: "GDC5602Q",
		80: uint32(0x10400), 256: uint16(1<<4 | 1), 266: uint16(343), 268: uint16(358), 280: uint64(3840755982336), 524: byte(4),
		768: "nqn.1994-11.com.samsung:nvme:PM9A3:2.5-inch:S4EVNF0M123456\x00",
	})
}

func TestController(t *testing.T) {
	want := Controller{Vendor: 0x144d, Serial: "S4EVNF0M123456", Model: "SAMSUNG MZQL23T8HCLS-00A07", Firmware: "GDC5602Q", Version: "1.4.0",
		CapacityBytes: 3840755982336, SelfTests: true, CryptoErase: true, WarningCelsius: 70, CriticalCelsius: 85,
		NQN: "nqn.1994-11.com.samsung:nvme:PM9A3:2.5-inch:S4EVNF0M123456"}
	got, err := ParseController(identify())
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("ParseController: %v (-want +got):\n%s", err, d)
	}
	if got, err := ParseController(make([]byte, IdentifyBytes)); err != nil || got != (Controller{}) {
		t.Errorf("ParseController(zeros) = %+v, %v; want nothing known", got, err)
	}
	huge := identify()
	huge[288] = 1
	if got, _ := ParseController(huge); got.CapacityBytes != math.MaxUint64 {
		t.Errorf("a capacity of more than 64 bits = %d", got.CapacityBytes)
	}
}

func TestNamespace(t *testing.T) {
	for _, c := range []struct {
		name string
		at   map[int]any
		want Namespace
	}{
		{"512", map[int]any{0: uint64(2048), 130: byte(9), 120: "\x00\x25\x38\xbc\x21\xb1\x56\x01"},
			Namespace{SizeBytes: 1 << 20, BlockBytes: 512, WWN: "eui.002538bc21b15601"}},
		{"format 1 of 4096; NGUID first", map[int]any{0: uint64(256), 25: byte(1), 26: byte(0x11), 134: byte(12),
			104: "\x36\x42\x34\x30\x52\x50\x01\x02\x00\x25\x38\x45\x00\x00\x00\x01", 120: "\x00\x25\x38\xbc\x21\xb1\x56\x01"},
			Namespace{SizeBytes: 1 << 20, BlockBytes: 4096, WWN: "eui.36423430525001020025384500000001"}},
		{"format 17", map[int]any{0: uint64(256), 25: byte(20), 26: byte(0x21), 128 + 4*17 + 2: byte(12)}, Namespace{SizeBytes: 1 << 20, BlockBytes: 4096}},
		{"a block of 2 to the 60", map[int]any{0: uint64(256), 130: byte(60)}, Namespace{}},
		{"more than 64 bits", map[int]any{0: uint64(math.MaxUint64), 130: byte(9)}, Namespace{BlockBytes: 512}},
	} {
		got, err := ParseNamespace(answer(NamespaceBytes, c.at))
		if d := cmp.Diff(c.want, got); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, err, d)
		}
	}
}

func TestList(t *testing.T) {
	if got, err := ParseList(answer(ListBytes, map[int]any{0: uint32(1), 4: uint32(3), 12: uint32(9)})); !slices.Equal(got, []int{1, 3}) || err != nil {
		t.Errorf("ParseList = %v, %v; want [1 3]: a zero ends it", got, err)
	}
	if _, err := ParseList(answer(ListBytes, map[int]any{0: uint32(3), 4: uint32(3)})); err == nil {
		t.Error("a list that does not increase is taken")
	}
}

func TestSmart(t *testing.T) {
	b := answer(SmartBytes, map[int]any{0: byte(0b101), 1: uint16(311), 3: byte(98), 4: byte(10), 5: byte(3), 32: uint64(2), 48: uint64(3), 112: uint64(12),
		128: uint64(4321), 144: uint64(5), 160: uint64(6), 176: uint64(7), 192: uint32(8), 196: uint32(9)})
	want := Smart{Warning: 5, Celsius: 38, SparePercent: 98, SpareThreshold: 10, UsedPercent: 3, ReadBytes: 1_024_000, WrittenBytes: 1_536_000,
		PowerCycles: 12, PowerOnHours: 4321, UnsafeShutdowns: 5, MediaErrors: 6, ErrorLogEntries: 7, WarningMinutes: 8, CriticalMinutes: 9}
	got, err := ParseSmart(b)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("ParseSmart: %v (-want +got):\n%s", err, d)
	}
	texts, fails := got.Warnings()
	if len(texts) != 2 || !fails || !strings.Contains(texts[0], "spare") || !strings.Contains(texts[1], "reliability") {
		t.Errorf("Warnings = %q, %t", texts, fails)
	}
	if texts, fails := (Smart{Warning: 2}).Warnings(); len(texts) != 1 || fails {
		t.Errorf("hot: Warnings = %q, %t; want one, and no failing drive", texts, fails)
	}
	most := answer(SmartBytes, map[int]any{32: uint64(math.MaxUint64)})
	if got, _ := ParseSmart(most); got.ReadBytes != math.MaxUint64 {
		t.Errorf("more than 64 bits of bytes = %d", got.ReadBytes)
	}
}

func TestSelfTest(t *testing.T) {
	for _, c := range []struct {
		first, status byte
		want          SelfTest
	}{
		{0, 0x10, SelfTest{Result: "passed", Hours: 77}},
		{1, 0x20, SelfTest{Running: true, Result: "passed", Hours: 77}},
		{0, 0x27, SelfTest{Result: "failed", Hours: 77}},
		{0, 0x11, SelfTest{Result: "aborted", Hours: 77}},
		{0, 0x0f, SelfTest{}},
		{0, 0x00, SelfTest{}},
	} {
		got, err := ParseSelfTest(answer(SelfTestBytes, map[int]any{0: c.first, 4: c.status, 8: uint64(77)}))
		if got != c.want || err != nil {
			t.Errorf("ParseSelfTest(%#x, %#x) = %+v, %v; want %+v", c.first, c.status, got, err, c.want)
		}
	}
}

func TestSlots(t *testing.T) {
	for afi, want := range map[byte]string{0x21: "FW2", 0x11: "", 0x01: "", 0x20: "", 0x00: "", 0x31: ""} {
		s, err := ParseSlots(answer(SlotsBytes, map[int]any{0: afi, 8: "FW1     ", 16: "FW2     ", 24: "FW1     "}))
		if got := s.Pending(); got != want || err != nil {
			t.Errorf("Pending of %#x = %q, %v; want %q", afi, got, err, want)
		}
	}
}

// Every answer of another length is refused, whole ones never panic, and what
// was read is bounded by what was given.
func FuzzNVMe(f *testing.F) {
	f.Add(identify())
	f.Add(make([]byte, SmartBytes))
	f.Add(make([]byte, SelfTestBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseController(b)
		if (err == nil) != (len(b) == IdentifyBytes) || len(c.Model) > 40*3 || len(c.Serial) > 20*3 || len(c.NQN) > 256*3 {
			t.Errorf("controller of %d bytes: %+v, %v", len(b), c, err)
		}
		if n, err := ParseNamespace(b); (err == nil) != (len(b) == NamespaceBytes) || n.BlockBytes > 1<<16 || n.BlockBytes > 0 && n.SizeBytes%uint64(n.BlockBytes) != 0 {
			t.Errorf("namespace of %d bytes: %+v, %v", len(b), n, err)
		}
		if l, _ := ParseList(b); !slices.IsSorted(l) || len(l) > len(b)/4 {
			t.Errorf("list of %d bytes: %d", len(b), len(l))
		}
		s, err := ParseSmart(b)
		if (err == nil) != (len(b) == SmartBytes) || s.UsedPercent > 255 {
			t.Errorf("SMART of %d bytes: %+v, %v", len(b), s, err)
		}
		if texts, _ := s.Warnings(); len(texts) > 8 {
			t.Errorf("%d warnings", len(texts))
		}
		if st, err := ParseSelfTest(b); (err == nil) != (len(b) == SelfTestBytes) || st.Result == "" && st.Hours != 0 {
			t.Errorf("self-test of %d bytes: %+v, %v", len(b), st, err)
		}
		sl, err := ParseSlots(b)
		if p := sl.Pending(); (err == nil) != (len(b) == SlotsBytes) || len(p) > 8*3 {
			t.Errorf("slots of %d bytes: %+v, %v", len(b), sl, err)
		}
	})
}
