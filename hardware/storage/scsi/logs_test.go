package scsi

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// log is a log page of parameters, written as hexadecimal "code: value".
func log(number byte, params ...string) []byte {
	b := []byte{number, 0, 0, 0}
	for _, p := range params {
		code, value, _ := strings.Cut(p, ":")
		c, err := hex.DecodeString(code)
		if err != nil {
			panic(err)
		}
		v, err := hex.DecodeString(strings.ReplaceAll(value, " ", ""))
		if err != nil {
			panic(err)
		}
		b = append(append(append(b, c...), 3, byte(len(v))), v...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-4))
	return b
}

func TestHealth(t *testing.T) {
	var h Health
	for _, p := range [][]byte{
		log(LogWriteErrors, "0000: 00000001", "0005: 0000010000000000", "0006: 00000002"),
		log(LogReadErrors, "0005: 0000000000000200", "0006: 0000000000000003"),
		log(LogVerifyErrors, "0006: 04"),
		log(LogTemperature, "0000: 001f", "0001: 0041"),
		log(LogStartStop, "0001: 323031383031", "0004: 00000010"),
		log(LogSelfTests, "0001: 2001 04d2 0000000000000000 00000000", "0002: 4702 0001 0000000000000000 00000000"),
		log(LogSolid, "0001: 00000007"),
		log(LogBackground, "0000: 0000ea60 00000000"),
		log(LogInformational, "0000: 5d10 21"),
		log(0x19, "0001: 00"),
	} {
		if err := h.Add(p[0], p); err != nil {
			t.Error(err)
		}
	}
	want := Health{Celsius: pointer(31), LimitCelsius: pointer(65), UsedPercent: pointer(7), Starts: pointer(uint64(16)), PowerOnHours: pointer(uint64(1000)),
		ReadBytes: pointer(uint64(512)), WrittenBytes: pointer(uint64(1 << 40)), Uncorrected: pointer(uint64(9)), SelfTest: "passed",
		SelfTestHours: pointer(uint64(1234)), ASC: 0x5d, ASCQ: 0x10}
	if d := cmp.Diff(want, h); d != "" {
		t.Errorf("health (-want +got):\n%s", d)
	}
	if !h.Failing() || h.Warning() != "" {
		t.Errorf("Failing, Warning = %t, %q", h.Failing(), h.Warning())
	}
	for _, c := range []struct {
		what, param string
		page        byte
		want        Health
	}{
		{"no temperature", "0000: 00ff", LogTemperature, Health{}},
		{"a temperature beside informational exceptions", "0000: 000020", LogInformational, Health{Celsius: pointer(32)}},
		{"a hot drive", "0000: 0b01", LogInformational, Health{ASC: 0x0b, ASCQ: 1}},
		{"no self-test yet", "0001: 0000 0000 00000000", LogSelfTests, Health{}},
		{"a failed self-test", "0001: 4701 0005 00000000", LogSelfTests, Health{SelfTest: "failed", SelfTestHours: pointer(uint64(5))}},
		{"a self-test that runs", "0001: 2f01 0005 00000000", LogSelfTests, Health{}},
		{"errors of more than 64 bits", "0006: 01ffffffffffffffff", LogReadErrors, Health{Uncorrected: pointer(uint64(math.MaxUint64))}},
		{"an empty counter", "0006: ", LogReadErrors, Health{}},
	} {
		var h Health
		err := h.Add(c.page, log(c.page, c.param))
		if d := cmp.Diff(c.want, h); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", c.what, err, d)
		}
	}
	for what, b := range map[string][]byte{"another page": log(LogReadErrors), "cut": log(LogTemperature, "0000: 001f")[:9], "nothing": nil} {
		if err := h.Add(LogTemperature, b); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if err := h.Add(LogTemperature, []byte{0x0d, 0, 0, 5, 0, 0, 3, 9, 0}); err == nil {
		t.Error("a parameter that is longer than its page is taken")
	}
}

func TestLogPages(t *testing.T) {
	if got, err := ParseLogPages([]byte{0, 0, 0, 3, 0, 2, 0x0d, 0x2f}); err != nil || string(got) != "\x00\x02\x0d" {
		t.Errorf("ParseLogPages = % x, %v", got, err)
	}
	if _, err := ParseLogPages([]byte{0x0d, 0, 0, 0}); err == nil {
		t.Error("another page is taken")
	}
}

func TestBlockCharacteristics(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    Characteristics
	}{
		{"\x1c\x20\x00\x02" + strings.Repeat("\x00", 56), Characteristics{RPM: 7200, FormFactor: "3.5 inch"}},
		{"\x00\x01\x00\x03" + strings.Repeat("\x00", 56), Characteristics{Solid: true, FormFactor: "2.5 inch"}},
		{"\xff\xff\x00\x0f", Characteristics{}},
		{"\x00", Characteristics{}},
	} {
		if got := BlockCharacteristics(page(0xb1, c.payload)); got != c.want {
			t.Errorf("BlockCharacteristics(% x) = %+v; want %+v", c.payload[:1], got, c.want)
		}
	}
}

func TestAsleep(t *testing.T) {
	for _, c := range []struct {
		what, sense string
		want        bool
	}{
		{"awake", "70 00 00 00 00 00 00 0a 00 00 00 00 00 00 00 00 00 00", false},
		{"idle by timer", "70 00 00 00 00 00 00 0a 00 00 00 00 5e 01 00 00 00 00", false},
		{"standby by timer", "70 00 00 00 00 00 00 0a 00 00 00 00 5e 02 00 00 00 00", true},
		{"standby by command", "72 00 5e 04 00 00 00 00", true},
		{"standby_y", "72 00 5e 09 00 00 00 00", true},
		{"stopped", "70 00 02 00 00 00 00 0a 00 00 00 00 04 02 00 00 00 00", true},
		{"becoming ready", "70 00 02 00 00 00 00 0a 00 00 00 00 04 01 00 00 00 00", false},
		{"nothing", "", false},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(c.sense, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := Asleep(b); got != c.want {
			t.Errorf("Asleep(%s) = %t; want %t", c.what, got, c.want)
		}
	}
}

// No page panics the decoder; what is told of a page was in it.
func FuzzLogs(f *testing.F) {
	f.Add(log(LogTemperature, "0000: 001f", "0001: 0041"))
	f.Add(log(LogSelfTests, "0001: 2001 04d2 0000000000000000 00000000"))
	f.Add(log(LogInformational, "0000: 5d10 21"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bytes := 0
		err := parameters(b, LogReadErrors, func(_ uint16, v []byte) { bytes += 4 + len(v) })
		if bytes > max(0, len(b)-4) {
			t.Errorf("parameters of %d bytes in %d (%v)", bytes, len(b), err)
		}
		if len(b) == 0 {
			return
		}
		var h Health
		if err := h.Add(b[0]&0x3f, b); err == nil && (h.Celsius != nil && (*h.Celsius < 0 || *h.Celsius > 254) || h.SelfTest != "" && h.SelfTestHours == nil) {
			t.Errorf("health %+v", h)
		}
		if l, err := ParseLogPages(b); err == nil && len(l) > len(b)-4 {
			t.Errorf("%d pages in %d bytes", len(l), len(b))
		}
		if Asleep(b) && len(b) < 4 {
			t.Errorf("asleep by % x", b)
		}
	})
}
