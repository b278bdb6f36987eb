package ipmi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

// relay stands between the reader and a BMC on UDP and may change what comes
// back. It counts what goes there, by RMCP+ payload type.
type relay struct {
	net.PacketConn
	sent [256]atomic.Int64
}

// newRelay passes each answer through f, which gives the datagrams that are
// delivered for the n-th one.
func newRelay(t testing.TB, o *Options, f func(n int, answer []byte) [][]byte) *relay {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{PacketConn: front}
	t.Cleanup(func() { front.Close() })
	address, n := o.Address, 0
	back := map[string]net.Conn{}
	go func() {
		buf := make([]byte, 4096)
		for {
			size, from, err := front.ReadFrom(buf)
			if err != nil {
				return
			}
			b := back[from.String()]
			if b == nil {
				if b, err = net.Dial("udp", address); err != nil {
					return
				}
				t.Cleanup(func() { b.Close() })
				back[from.String()] = b
			}
			r.sent[buf[5]].Add(1)
			if _, err := b.Write(buf[:size]); err != nil {
				return
			}
			answer := make([]byte, 4096)
			b.SetReadDeadline(time.Now().Add(time.Second)) //nolint:errcheck // a UDP socket takes any
			if size, err = b.Read(answer); err != nil {
				continue
			}
			n++
			for _, d := range f(n, answer[:size]) {
				front.WriteTo(d, from) //nolint:errcheck // what is lost is the test's matter
			}
		}
	}()
	o.Address = front.LocalAddr().String()
	return r
}

// repository answers for SDRs, sensors and the SEL out of tables.
type repository struct {
	sdrs   [][]byte
	next   func(id int) int // after which record comes which
	most   int              // bytes of one Get SDR
	lost   func() bool      // the reservation is
	asked  atomic.Int64
	events [][]byte
	after  func(id int) int
}

func (r *repository) register(reg *handlers.Registry) {
	reg.RegisterFunc(types.CommandGetSDR, func(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
		r.asked.Add(1)
		id, offset, n := le16(req[2:]), int(req[4]), int(req[5])
		if offset > 0 && r.lost != nil && r.lost() {
			return nil, types.CompletionCode(codeReservation), nil
		}
		i := max(0, id-1)
		if i >= len(r.sdrs) {
			return nil, types.CompletionCode(codeNotPresent), nil
		}
		if r.most > 0 && n > r.most {
			return nil, types.CompletionCode(codeTooManyBytes), nil
		}
		rec := r.sdrs[i][min(offset, len(r.sdrs[i])):]
		next := i + 2
		if i+1 == len(r.sdrs) {
			next = lastSDR
		}
		if r.next != nil {
			next = r.next(i + 1)
		}
		return append(binary.LittleEndian.AppendUint16(nil, uint16(next)), rec[:min(n, len(rec))]...), 0, nil
	})
	reg.RegisterFunc(types.CommandGetSensorReading, func(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
		return []byte{100, 0xc0, 0xc0}, 0, nil
	})
	reg.RegisterFunc(types.CommandGetSELInfo, func(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
		b := make([]byte, 14)
		b[0] = 0x51
		binary.LittleEndian.PutUint16(b[1:], uint16(len(r.events)))
		binary.LittleEndian.PutUint16(b[3:], 160)
		return b, 0, nil
	})
	reg.RegisterFunc(types.CommandGetSELEntry, func(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
		r.asked.Add(1)
		return r.entry(le16(req[2:]))
	})
}

func (r *repository) entry(id int) ([]byte, types.CompletionCode, error) {
	i := slices.IndexFunc(r.events, func(e []byte) bool { return le16(e) == id })
	switch {
	case len(r.events) == 0:
	case id == selFirst:
		i = 0
	case id == selLast:
		i = len(r.events) - 1
	}
	if i < 0 {
		return nil, types.CompletionCode(codeNotPresent), nil
	}
	next := selLast
	if i+1 < len(r.events) {
		next = le16(r.events[i+1])
	}
	if r.after != nil {
		next = r.after(le16(r.events[i]))
	}
	return append(binary.LittleEndian.AppendUint16(nil, uint16(next)), r.events[i]...), 0, nil
}

// volts is a full record: y = 0.06 x, upper critical at 13.2.
func volts(id int, name string) []byte {
	b := make([]byte, 48, 64)
	copy(b, []byte{byte(id), byte(id >> 8), 0x51, sdrFull, 0, 0x20, 0, byte(id), 7, 1, 0x7f, 0x44, 2, byThreshold})
	b[18], b[21], b[24], b[29], b[37], b[47] = 0x10, 4, 6, 0xe0, 220, 0xc0|byte(len(name))
	b = append(b, name...)
	b[4] = byte(len(b) - sdrHeader)
	return b
}

func voltages(n int) (all [][]byte) {
	for i := range n {
		all = append(all, volts(i+1, fmt.Sprintf("V%d", i+1)))
	}
	return all
}

func event(id int, t uint32) []byte {
	b := []byte{byte(id), byte(id >> 8), selStandard, 0, 0, 0, 0, 0x20, 0, 4, 2, 1, byThreshold, 0x59, 221, 220}
	binary.LittleEndian.PutUint32(b[3:], t)
	return b
}

func codes(findings []hardware.Finding) (out []string) {
	for _, f := range findings {
		out = append(out, string(f.Code))
	}
	return out
}

func hasFinding(v hardware.View, code hardware.Code, words string) bool {
	return slices.ContainsFunc(v.Inventory.Findings, func(f hardware.Finding) bool {
		return f.Code == code && strings.Contains(f.Evidence+" "+f.Hint, words)
	})
}

// TestPieces has BMCs that give less than a record at a time, and one that
// loses the reservation on the way.
func TestPieces(t *testing.T) {
	want := []string{"V1 6 13.2", "V2 6 13.2", "V3 6 13.2"}
	losses := 0
	for name, r := range map[string]*repository{
		"whole records": {},
		"64 bytes":      {most: 64},
		"22 bytes":      {most: 22},
		"16 bytes":      {most: 16},
		"loses reservations": {most: 20, lost: func() bool {
			losses++
			return losses%4 == 1
		}},
	} {
		r.sdrs = voltages(3)
		_, o := serveWith(t, r.register)
		v, _, err := Crawl(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range v.Readings.Sensors {
			got = append(got, fmt.Sprintf("%s %v %v", s.Name, *s.Value, *s.Thresholds.UpperCritical))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s\n%v", name, d, v.Inventory.Findings)
		}
	}
	if losses < 6 {
		t.Errorf("only %d reservations were checked", losses)
	}
}

// TestFaults has a BMC that answers, and answers wrong. The crawl ends soon,
// with the rest of the facts and a finding.
func TestFaults(t *testing.T) {
	always := func(cc byte) func(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
		return func(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
			return nil, types.CompletionCode(cc), nil
		}
	}
	for _, c := range []struct {
		name   string
		repo   *repository
		change func(*handlers.Registry)
		code   hardware.Code
		words  string
		most   int64 // Get SDR and Get SEL Entry
	}{
		{"SDR in a circle", &repository{sdrs: voltages(4), next: func(id int) int { return id%3 + 1 }}, nil,
			hardware.CodeSourceMalformed, "0x0003 is followed by 0x0001", 5},
		{"SDR that stands still", &repository{sdrs: voltages(4), next: func(int) int { return 2 }}, nil, hardware.CodeSourceMalformed, "runs in a circle", 4},
		{"reservation always lost", &repository{sdrs: voltages(2), most: 16, lost: func() bool { return true }}, nil,
			hardware.CodeSourceMalformed, "reservation was lost 8 times", 40},
		{"SDR that is shorter than it says", &repository{sdrs: [][]byte{volts(1, "V1")[:40]}}, nil, hardware.CodeSourceMalformed, "SDR repository", 4},
		{"SEL in a circle", &repository{events: [][]byte{event(1, 1e9), event(2, 1e9)}, after: func(id int) int { return 3 - id }}, nil,
			hardware.CodeSourceMalformed, "comes again", 6},
		{"SEL that is busy for ever", &repository{}, func(r *handlers.Registry) { r.RegisterFunc(types.CommandGetSELInfo, always(0xc3)) },
			hardware.CodeSourceMalformed, "read SEL: completion code 0xc3", 1},
		{"accounts not for us", &repository{}, func(r *handlers.Registry) { r.RegisterFunc(types.CommandGetUsername, always(0xd4)) },
			hardware.CodeSourceMalformed, "administrator privilege", 1},
		{"FRU that is not read", &repository{}, func(r *handlers.Registry) {
			r.RegisterFunc(types.CommandGetFRUInventoryAreaInfo, always(0xc1))
			r.RegisterFunc(types.CommandReadFRUData, always(0xc9))
		},
			hardware.CodeSourceMalformed, "common header: at 0: completion code 0xc9", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, o := serveWith(t, func(r *handlers.Registry) {
				c.repo.register(r)
				if c.change != nil {
					c.change(r)
				}
			})
			v, _, err := Crawl(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if !hasFinding(v, c.code, c.words) {
				t.Errorf("no finding %s with %q in %v", c.code, c.words, v.Inventory.Findings)
			}
			if n := c.repo.asked.Load(); n > c.most {
				t.Errorf("%d records were asked for, at most %d", n, c.most)
			}
			if v.Inventory.BMC.Firmware != "2.17" || v.Inventory.BMC.MAC == "" {
				t.Errorf("the rest was not read: %+v", v.Inventory.BMC)
			}
			if n := b.Sessions.Count(); n != 0 {
				t.Errorf("%d sessions are left open", n)
			}
		})
	}
}

// TestBusy has a BMC that takes each command at its third try.
func TestBusy(t *testing.T) {
	var n atomic.Int64
	r := &repository{sdrs: voltages(2)}
	_, o := serveWith(t, func(reg *handlers.Registry) {
		reg.Use(func(h handlers.Handler) handlers.Handler {
			return handlers.HandlerFunc(func(ctx context.Context, c *handlers.HandlerContext, b []byte) ([]byte, types.CompletionCode, error) {
				if c.Session != nil && c.Command.NetFn == netFnStorage && n.Add(1)%3 != 0 {
					return nil, types.CompletionCode(codeBusy), nil
				}
				return h.Handle(ctx, c, b)
			})
		})
		handlers.RegisterAllHandlers(reg)
		r.register(reg)
	})
	v, stats, err := Crawl(t.Context(), o)
	if err != nil || len(v.Readings.Sensors) != 2 || stats.Repeated < 4 {
		t.Errorf("Crawl = %d sensors, %+v, %v; want 2, after repeating", len(v.Readings.Sensors), stats, err)
	}
}

// TestShort has every answer cut after so many bytes.
func TestShort(t *testing.T) {
	t.Parallel()
	for most := range 24 {
		r := &repository{sdrs: voltages(2), events: [][]byte{event(1, 1e9)}}
		_, o := serveWith(t, func(reg *handlers.Registry) {
			reg.Use(func(h handlers.Handler) handlers.Handler {
				return handlers.HandlerFunc(func(ctx context.Context, c *handlers.HandlerContext, b []byte) ([]byte, types.CompletionCode, error) {
					out, cc, err := h.Handle(ctx, c, b)
					if c.Session != nil && c.Command.ID != types.CommandSetSessionPrivilegeLevel.ID && c.Command.ID != types.CommandCloseSession.ID {
						out = out[:min(len(out), most)]
					}
					return out, cc, err
				})
			})
			handlers.RegisterAllHandlers(reg)
			r.register(reg)
		})
		v, stats, err := Crawl(t.Context(), o)
		if (err != nil) != (most < 5) || stats.Requests > 400 {
			t.Errorf("answers of %d bytes: %v, %+v", most, err, stats)
		}
		for _, f := range v.Inventory.Findings {
			if strings.Contains(f.Evidence, "panic") {
				t.Errorf("answers of %d bytes: %v", most, f)
			}
		}
	}
}

// TestGarbage has each answer come after datagrams that are none, and twice.
func TestGarbage(t *testing.T) {
	t.Parallel()
	r := &repository{sdrs: voltages(2), events: [][]byte{event(1, 1e9)}}
	_, o := serveWith(t, r.register)
	clean, _, err := Crawl(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	newRelay(t, &o, func(_ int, answer []byte) [][]byte {
		flipped := slices.Clone(answer)
		if answer[5]&signed == 0 {
			flipped[0]++ // before the session nothing is signed
		}
		flipped[rng.IntN(len(flipped)-4)+4] ^= 1 << rng.IntN(8)
		noise := make([]byte, 16+rng.IntN(100))
		for i := range noise {
			noise[i] = byte(rng.Uint32())
		}
		// A header of the session with random bytes behind it is what makes
		// go-ipmi panic in a goroutine of its own.
		posed := append(slices.Clone(answer[:min(len(answer), plusHeader)]), noise...)
		if len(answer) > plusHeader && answer[4] == rmcpPlus {
			binary.LittleEndian.PutUint16(posed[14:], 32)
			posed = append(posed, noise...)
		}
		return [][]byte{noise, posed, answer[:len(answer)/2], flipped, {6, 0, 0xff, 7}, {}, answer, answer}
	})
	v, stats, err := Crawl(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Dropped < 100 || !hasFinding(v, hardware.CodeSourceMalformed, "not signed by the BMC") {
		t.Errorf("%d datagrams were dropped, findings %v", stats.Dropped, v.Inventory.Findings)
	}
	v.Inventory.Findings = clean.Inventory.Findings
	if d := cmp.Diff(clean.Inventory, v.Inventory); d != "" {
		t.Errorf("garbage changes the record (-clean +got):\n%s", d)
	}
	if d := cmp.Diff(clean.Readings.Sensors, v.Readings.Sensors); d != "" {
		t.Errorf("garbage changes the readings (-clean +got):\n%s", d)
	}
}

// TestLost has a network that loses datagrams, also of the handshake.
func TestLost(t *testing.T) {
	t.Parallel()
	r := &repository{sdrs: voltages(3)}
	_, o := serveWith(t, r.register)
	o.Timeout = time.Minute
	newRelay(t, &o, func(n int, answer []byte) [][]byte {
		if n == 3 || n == 12 || n == 20 {
			return nil
		}
		return [][]byte{answer}
	})
	v, stats, err := Crawl(t.Context(), o)
	if err != nil || len(v.Readings.Sensors) != 3 || stats.Repeated != 2 || hasFinding(v, hardware.CodeBMCStopped, "") {
		t.Errorf("Crawl = %v, %d sensors, %+v, %v; want all, after asking twice again", err, len(v.Readings.Sensors), stats, v.Inventory.Findings)
	}
}

// TestHang has a BMC that goes silent in the middle.
func TestHang(t *testing.T) {
	t.Parallel()
	r := &repository{sdrs: voltages(20)}
	_, o := serveWith(t, r.register)
	o.Timeout = time.Minute
	newRelay(t, &o, func(n int, answer []byte) [][]byte {
		if n > 30 {
			return nil
		}
		return [][]byte{answer}
	})
	begin := time.Now()
	v, _, err := Crawl(t.Context(), o)
	if err != nil || !hasFinding(v, hardware.CodeBMCStopped, "was not asked") || v.Inventory.BMC.Firmware == "" {
		t.Errorf("Crawl of a BMC that hangs: %v, %+v", err, v.Inventory)
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestTimeUp has a crawl end at its own time, and say so.
func TestTimeUp(t *testing.T) {
	r := &repository{sdrs: voltages(100)}
	b, o := serveWith(t, r.register)
	newRelay(t, &o, func(_ int, answer []byte) [][]byte {
		time.Sleep(30 * time.Millisecond)
		return [][]byte{answer}
	})
	o.Timeout = time.Second
	begin := time.Now()
	v, _, err := Crawl(t.Context(), o)
	if took := time.Since(begin); err != nil || took > 4*time.Second || !hasFinding(v, hardware.CodeReaderDeadline, "the time was up at") {
		t.Errorf("Crawl = %v after %v, findings %v", err, took, v.Inventory.Findings)
	}
	if n := b.Sessions.Count(); n != 0 {
		t.Errorf("%d sessions are left open", n)
	}
}

// TestInterrupted has Ctrl-C in the middle: the session is closed.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &repository{sdrs: voltages(100)}
	b, o := serveWith(t, r.register)
	newRelay(t, &o, func(n int, answer []byte) [][]byte {
		if n == 40 {
			cancel()
		}
		return [][]byte{answer}
	})
	_, _, err := Crawl(ctx, o)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Crawl = %v; want it canceled", err)
	}
	if n := b.Sessions.Count(); n != 0 {
		t.Errorf("%d sessions are left open", n)
	}
}

// TestRefusedOnce counts how often a wrong password is tried.
func TestRefusedOnce(t *testing.T) {
	_, o := serve(t)
	r := newRelay(t, &o, func(_ int, answer []byte) [][]byte { return [][]byte{answer} })
	o.Password = "wrong"
	_, _, err := Crawl(t.Context(), o)
	if !errors.Is(err, ErrRefused) {
		t.Errorf("Crawl with a wrong password = %v; want %v", err, ErrRefused)
	}
	if n := r.sent[payloadRAKP1].Load(); n != 1 {
		t.Errorf("the account was tried %d times; want once", n)
	}
}

// TestNoSession has a BMC whose sessions are all in use, and then one free.
func TestNoSession(t *testing.T) {
	t.Parallel()
	_, o := serve(t)
	full := 0
	newRelay(t, &o, func(_ int, answer []byte) [][]byte {
		if answer[4] == rmcpPlus && answer[5] == payloadOpened && full == 0 {
			full++
			answer[plusHeader+1] = byte(types.RmcpStatusCodeNoResToCreateSess)
		}
		return [][]byte{answer}
	})
	if _, _, err := Crawl(t.Context(), o); err != nil || full != 1 {
		t.Errorf("Crawl of a BMC that has a session at the second try = %v", err)
	}
	for status, refused := range map[types.RmcpStatusCode]bool{0x01: false, 0x0a: true, 0x0d: true, 0x11: false} {
		if err := loginError(types.NewRmcpStatusError(status)); errors.Is(err, ErrRefused) != refused {
			t.Errorf("status %#02x = %v", byte(status), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Crawl(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("Crawl that was interrupted before its login = %v", err)
	}
}

// TestSuites has BMCs that offer, or take, other suites.
func TestSuites(t *testing.T) {
	for _, c := range []struct {
		has    []types.CipherSuiteID
		cipher int
		want   int
		err    string
	}{
		{[]types.CipherSuiteID{3, 17}, 0, 17, ""},
		{[]types.CipherSuiteID{3}, 0, 3, ""},
		{[]types.CipherSuiteID{3, 17}, 3, 3, ""},
		{[]types.CipherSuiteID{0, 1}, 0, 0, "neither 3 nor 17"},
		{[]types.CipherSuiteID{3}, 17, 0, "RMCP+ status"},
		{[]types.CipherSuiteID{3}, 2, 0, "want 3 or 17"},
	} {
		_, o := serveWith(t, nil, bmc.WithCipherSuites(c.has))
		o.Cipher = c.cipher
		_, stats, err := Crawl(t.Context(), o)
		if stats.Cipher != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("suites %v, asked for %d: %d, %v; want %d, %q", c.has, c.cipher, stats.Cipher, err, c.want, c.err)
		}
	}
}

// TestDowngrade has a man in the middle answer Open Session with no
// authentication at all, which go-ipmi would take.
func TestDowngrade(t *testing.T) {
	t.Parallel()
	g := &guardedConn{guard: &guard{cipher: 17}}
	opened := make([]byte, 36)
	opened[16], opened[24], opened[32] = byte(suites[17].auth), byte(suites[17].integrity), byte(types.CryptAlg_AES_CBC_128)
	if !g.opened(opened) {
		t.Error("what was asked for is not taken")
	}
	for _, at := range []int{16, 24, 32} {
		weaker := slices.Clone(opened)
		if weaker[at] = 0; g.opened(weaker) {
			t.Errorf("byte %d = 0, no algorithm, is taken", at)
		}
	}
	_, o := serve(t)
	o.Timeout = 2 * time.Second
	newRelay(t, &o, func(_ int, answer []byte) [][]byte {
		if answer[4] == rmcpPlus && answer[5] == payloadOpened {
			answer[plusHeader+16], answer[plusHeader+24], answer[plusHeader+32] = 0, 0, 0
		}
		return [][]byte{answer}
	})
	if _, _, err := Crawl(t.Context(), o); err == nil {
		t.Error("a session without authentication was taken")
	}
}

// TestWeak has a BMC in every weak state, and one in none.
func TestWeak(t *testing.T) {
	weak := []hardware.Code{hardware.CodeAnonymousUser, hardware.CodeCipherZero, hardware.CodeDefaultAccount, hardware.CodeNullAuthentication}
	b, o := serveWith(t, nil, bmc.WithCipherSuites([]types.CipherSuiteID{0, 3, 17}), bmc.WithV15AuthTypes([]bmc.V15AuthType{bmc.V15AuthTypeNone}))
	if err := b.Users.Update(1, func(u *bmc.User) error {
		u.Enabled = true
		u.ChannelAccess[1] = bmc.UserChannelAccess{MaxPrivilege: bmc.PrivilegeLevelOperator, Enabled: true}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	v, _, err := Crawl(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range weak {
		if !hasFinding(v, code, "") {
			t.Errorf("no finding %s in %v", code, v.Inventory.Findings)
		}
	}
	for _, f := range v.Inventory.Findings {
		if f.Evidence == "" || f.Hint == "" || f.Severity == "" {
			t.Errorf("a finding without evidence, hint or severity: %+v", f)
		}
	}
	if d := cmp.Diff([]string{"none"}, v.Inventory.BMC.Interfaces[0].AuthTypes); d != "" {
		t.Error(d)
	}
	b, o = serveWith(t, nil, bmc.WithV15Disabled())
	for id, change := range map[uint8]func(*bmc.User) error{
		1: func(u *bmc.User) error {
			u.Enabled = false
			u.ChannelAccess[1] = bmc.UserChannelAccess{MaxPrivilege: bmc.PrivilegeLevelOperator, Enabled: true}
			return nil
		},
		2: func(u *bmc.User) error { u.Name = "hilda"; return nil },
	} {
		if err := b.Users.Update(id, change); err != nil {
			t.Fatal(err)
		}
	}
	o.User = "hilda"
	if v, _, err = Crawl(t.Context(), o); err != nil || slices.ContainsFunc(codes(v.Inventory.Findings), func(c string) bool {
		return slices.Contains(weak, hardware.Code(c))
	}) {
		t.Errorf("a sound BMC: %v, %v", v.Inventory.Findings, err)
	}
}
