package ipmi

import (
	"math"
	"testing"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

func FuzzDecodeFRU(f *testing.F) {
	f.Add(fru(f))
	f.Add(fruOf(map[int][]byte{2: area([]byte{0x17}, "CP", "CS", "Extra"), 3: area([]byte{25, 1, 2, 3}, "ACME", "MB"),
		4: area([]byte{30}, "A\x00", "B\x00"), 5: append(multirecord(recordPSU, false, make([]byte, 24)...),
			append(multirecord(recordDCOutput, false, make([]byte, 13)...), multirecord(recordDCLoad, true, make([]byte, 13)...)...)...)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, problems := decodeFRU(0, b)
		if len(problems) > 1+len(fruAreas) {
			t.Errorf("%d problems of a header and four areas", len(problems))
		}
		for _, p := range problems {
			if len(p.Error()) > 200 || containsPanic(p) {
				t.Errorf("problem %v", p)
			}
		}
		if len(b) < fruHeader && cmp.Diff(hardware.FRU{}, c.fru) != "" {
			t.Errorf("facts out of %d bytes: %+v", len(b), c.fru)
		}
		if len(c.fru.Other) > 4*mostFields+2*mostRecords {
			t.Errorf("%d further facts", len(c.fru.Other))
		}
		var inv hardware.Inventory
		c.partOf(locator{entity: entityMemoryDevice}, &inv)
		fruParts(c.fru, &inv)
		inv.FRUs = []hardware.FRU{c.fru}
		inv.Normalize()
		if d, err := DecodeSPD(b); err == nil && (d.Ranks > 8 || d.SpeedMTs < 0 || d.Type == "") {
			t.Errorf("DecodeSPD = %+v", d)
		}
		if _, err := DecodeDeviceID(b); err == nil && len(b) < 5 {
			t.Error("a device ID of nothing")
		}
		if g := DecodeGUID(b); g != hardware.ParseUUID(string(g)) {
			t.Errorf("DecodeGUID = %q", g)
		}
		for _, id := range decodeSuites(b) {
			if id < 0 || id > 255 {
				t.Errorf("suite %d", id)
			}
		}
	})
}

func containsPanic(err error) bool {
	return len(err.Error()) >= 6 && err.Error()[:6] == "panic:"
}

// FuzzDecodeSDR takes a record, the factors of one that is not linear, and a
// reading of each sensor that it describes.
func FuzzDecodeSDR(f *testing.F) {
	f.Add(volts(1, "12V"), []byte{200, 0xc0, 0xc0})
	f.Add([]byte{9, 0, 0x51, sdrCompact, 28, 0x20, 0, 40, 26, 1, 0, 0, 0x0d, 0x6f, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0xc1, 'B'}, []byte{0, 0x40, 0xff, 0xff})
	f.Add([]byte{9, 0, 0x51, sdrFRULocator, 12, 0x20, 1, 0x80, 0, 0, 0x10, 0, 10, 1, 0, 0xc1, 'P'}, []byte{})
	f.Fuzz(func(t *testing.T, record, reading []byte) {
		r, err := decodeSDR(record)
		if err != nil {
			return
		}
		if len(r.sensors) > mostShared || len(r.name) > 64 {
			t.Errorf("%d sensors of one record, name %q", len(r.sensors), r.name)
		}
		s := &session{}
		for _, x := range r.sensors {
			if len(reading) >= 8 {
				x.factors(reading[2:8])
			}
			d := x.describe()
			x.read(&d, reading)
			for _, v := range []*float64{d.Value, x.value(0), x.value(255)} {
				if v != nil && (math.IsNaN(*v) || math.IsInf(*v, 0)) {
					t.Errorf("%+v reads %v, which no JSON holds", x, *v)
				}
			}
			if len(d.States) > mostStates {
				t.Errorf("%d states", len(d.States))
			}
			s.place(x, d)
		}
		s.view.Readings.Normalize()
		s.view.Inventory.Normalize()
	})
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(event(1, 1e9), volts(1, "12V"))
	f.Add(event(2, 42), []byte{})
	f.Add([]byte{3, 0, 0xc0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, []byte{})
	f.Add([]byte{3, 0, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, []byte{})
	f.Fuzz(func(t *testing.T, b, record []byte) {
		s := &session{}
		if r, err := decodeSDR(record); err == nil {
			s.records = []sdrRecord{r}
		}
		e, err := decodeEvent(b, s.sensorOf)
		if (err == nil) != (len(b) >= selRecord) {
			t.Errorf("an event of %d bytes: %v", len(b), err)
		}
		if err == nil && (e.ID == "" || e.Text == "" || e.Severity == "" || len(e.Text) > 300) {
			t.Errorf("event %+v", e)
		}
	})
}

// FuzzGuard has datagrams at every stage of a session. What the guard takes,
// go-ipmi has to bear.
func FuzzGuard(f *testing.F) {
	signedHeader := []byte{6, 0, 0xff, 7, 6, payloadIPMI | signed | encrypted, 1, 2, 3, 4, 1, 0, 0, 0, 32, 0}
	f.Add(append(signedHeader, make([]byte, 50)...), byte(0))
	f.Add([]byte{6, 0, 0xff, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0x81, 0x1c, 0x63, 0x20, 4, 0x38, 0, 0xa4}, byte(0))
	f.Add(append([]byte{6, 0, 0xff, 7, 6, payloadOpened, 0, 0, 0, 0, 0, 0, 0, 0, 36, 0}, make([]byte, 36)...), byte(payloadOpened))
	f.Add(append([]byte{6, 0, 0xff, 7, 6, payloadRAKP2, 0, 0, 0, 0, 0, 0, 0, 0, 72, 0}, make([]byte, 72)...), byte(payloadRAKP2))
	f.Fuzz(func(t *testing.T, b []byte, expects byte) {
		g := &guardedConn{guard: &guard{user: "u", password: "p", cipher: 17}, consoleRandom: make([]byte, 16), console: make([]byte, 4), expects: expects}
		if g.takes(b) {
			var r types.Rmcp
			if err := r.Unpack(b); err == nil && r.Session15 != nil {
				_ = new(types.IPMIResponse).Unpack(r.Session15.Payload)
			} else if err == nil && r.Session20 != nil && b[5] == payloadIPMI {
				_ = new(types.IPMIResponse).Unpack(r.Session20.SessionPayload)
			}
		}
		// Inside a session nothing unsigned is taken.
		g.k1, g.k2 = make([]byte, 32), make([]byte, 32)
		if g.expects = 0; g.takes(b) {
			t.Errorf("% x is taken inside a session", b)
		}
		// What a hostile BMC signs is well formed all the same.
		if len(b) < plusHeader {
			return
		}
		b = append([]byte{6, 0, 0xff, 7, rmcpPlus, payloadIPMI | signed | encrypted}, b[6:]...)
		mac, err := crypto.SessionIntegrityAuthCode(suites[17].integrity, b[rmcpHeader:], g.k1, "")
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, mac...)
		if !g.takes(b) {
			return
		}
		var r types.Rmcp
		if err := r.Unpack(b); err != nil {
			return
		}
		plain, err := crypto.DecryptAES(r.Session20.SessionPayload[16:], g.k2[:16], r.Session20.SessionPayload[:16])
		if err != nil {
			t.Fatal(err)
		}
		plain = plain[:len(plain)-1-int(plain[len(plain)-1])] // as go-ipmi does it
		if err := new(types.IPMIResponse).Unpack(plain); err != nil {
			t.Errorf("% x is taken, and is no message: %v", b, err)
		}
	})
}
