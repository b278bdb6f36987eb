package vswitch

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

var (
	macA      = MAC{0x52, 0x54, 0, 0, 0, 0x0a}
	macB      = MAC{0x52, 0x54, 0, 0, 0, 0x0b}
	macC      = MAC{0x52, 0x54, 0, 0, 0, 0x0c}
	broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// station is the far end of a port: what QEMU would be.
type station struct {
	conn net.Conn
	link Link
	port *Port
}

func attach(t testing.TB, s *Switch, name string) *station {
	t.Helper()
	near, far := net.Pipe()
	port, err := s.Attach(name, Stream(near))
	if err != nil {
		t.Fatal(err)
	}
	return &station{conn: far, link: Stream(far), port: port}
}

func frame(to, from MAC, payload string) []byte {
	f := append(append(append([]byte{}, to[:]...), from[:]...), 0x88, 0xb5)
	return append(f, payload...)
}

func (s *station) send(t testing.TB, f []byte) {
	t.Helper()
	if err := s.conn.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := s.link.WriteFrame(f); err != nil {
		t.Fatal(err)
	}
}

// receive returns the next frame, or nil when none comes.
func (s *station) receive(t testing.TB, wait time.Duration) []byte {
	t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxFrame)
	n, err := s.link.ReadFrame(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

const soon, never = 5 * time.Second, 50 * time.Millisecond

func TestLearning(t *testing.T) {
	s := New(nil)
	defer s.Close()
	a, b, c := attach(t, s, "a"), attach(t, s, "b"), attach(t, s, "c")

	// Nobody knows B yet: the frame goes everywhere but back.
	f := frame(macB, macA, "who is B?")
	a.send(t, f)
	for name, st := range map[string]*station{"b": b, "c": c} {
		if got := st.receive(t, soon); !bytes.Equal(got, f) {
			t.Errorf("%s got %x; want the flooded frame", name, got)
		}
	}
	// B answers to where A was learned; C hears nothing of it.
	f = frame(macA, macB, "I am")
	b.send(t, f)
	if got := a.receive(t, soon); !bytes.Equal(got, f) {
		t.Errorf("a got %x; want B's answer", got)
	}
	a.send(t, frame(macB, macA, "good"))
	if got := b.receive(t, soon); got == nil {
		t.Error("b got nothing; want A's frame")
	}
	if got := c.receive(t, never); got != nil {
		t.Errorf("c got %x; want nothing, for both ends are known", got)
	}
}

func TestBroadcastAndShortFrames(t *testing.T) {
	s := New(nil)
	defer s.Close()
	a, b := attach(t, s, "a"), attach(t, s, "b")
	a.send(t, []byte("short"))
	a.send(t, frame(broadcast, macA, "hello"))
	if got := b.receive(t, soon); !bytes.Equal(got, frame(broadcast, macA, "hello")) {
		t.Errorf("b got %x; want the broadcast alone", got)
	}
	if got := a.port.Counters(); got.Received != 1 || got.Dropped != 1 {
		t.Errorf("counters = %+v; want 1 received, 1 dropped", got)
	}
}

func TestCut(t *testing.T) {
	s := New(nil)
	defer s.Close()
	a, b := attach(t, s, "a"), attach(t, s, "b")
	b.port.Cut(true)
	a.send(t, frame(broadcast, macA, "lost"))
	if got := b.receive(t, never); got != nil {
		t.Errorf("b got %x through a cut cable", got)
	}
	b.send(t, frame(broadcast, macB, "lost too"))
	if got := a.receive(t, never); got != nil {
		t.Errorf("a got %x through a cut cable", got)
	}
	b.port.Cut(false)
	// The deadline has torn b's read, not its connection.
	a.send(t, frame(broadcast, macA, "found"))
	if got := b.receive(t, soon); !bytes.Equal(got, frame(broadcast, macA, "found")) {
		t.Errorf("b got %x; want the frame after the cable is back", got)
	}
}

func TestStationMoves(t *testing.T) {
	s := New(nil)
	defer s.Close()
	a, b, c := attach(t, s, "a"), attach(t, s, "b"), attach(t, s, "c")
	b.send(t, frame(broadcast, macC, "here"))
	for _, st := range []*station{a, c} {
		st.receive(t, soon)
	}
	c.send(t, frame(broadcast, macC, "now here"))
	for _, st := range []*station{a, b} {
		st.receive(t, soon)
	}
	a.send(t, frame(macC, macA, "to C"))
	if got := c.receive(t, soon); got == nil {
		t.Error("c got nothing; want the frame at the new port")
	}
	if got := b.receive(t, never); got != nil {
		t.Errorf("b got %x; want nothing after the move", got)
	}
}

func TestAddressOf(t *testing.T) {
	s := New(nil)
	defer s.Close()
	a, b := attach(t, s, "a"), attach(t, s, "b")
	if got, ok := s.AddressOf(macA); ok {
		t.Errorf("address before any frame = %s; want none", got)
	}
	arp := append(frame(broadcast, macA, ""), make([]byte, 28)...)
	arp[12], arp[13] = 0x08, 0x06
	a.send(t, arp) // a probe: the sender has no address yet
	b.receive(t, soon)
	copy(arp[28:], []byte{10, 77, 0, 101})
	a.send(t, arp)
	b.receive(t, soon)
	if got, ok := s.AddressOf(macA); !ok || got != netip.MustParseAddr("10.77.0.101") {
		t.Errorf("address = %s, %t; want 10.77.0.101", got, ok)
	}
	a.send(t, frame(broadcast, macA, "no IP in this one"))
	b.receive(t, soon)
	if got, ok := s.AddressOf(macA); !ok || got != netip.MustParseAddr("10.77.0.101") {
		t.Errorf("address after a frame without one = %s, %t; want 10.77.0.101 still", got, ok)
	}
}

func TestTableIsBounded(t *testing.T) {
	s := New(nil)
	defer s.Close()
	a := attach(t, s, "a")
	for i := range maxAddresses + 100 {
		mac := MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
		a.send(t, frame(broadcast, mac, ""))
	}
	a.conn.Close()
	<-a.port.Done()
	b := attach(t, s, "b")
	for range maxAddresses + 100 {
		b.send(t, frame(broadcast, macB, ""))
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n := len(s.learned); n > maxAddresses {
		t.Errorf("learned addresses = %d; want %d at most", n, maxAddresses)
	}
}

func TestOversizedFrameEndsThePort(t *testing.T) {
	s := New(nil)
	defer s.Close()
	a := attach(t, s, "a")
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], maxFrame+1)
	if _, err := a.conn.Write(head[:]); err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.port.Done():
	case <-time.After(soon):
		t.Error("the port lives on after a length over the limit")
	}
}

func TestSlowPortDoesNotStopTheOthers(t *testing.T) {
	s := New(nil)
	defer s.Close()
	a, slow, b := attach(t, s, "a"), attach(t, s, "slow"), attach(t, s, "b")
	// One frame at a time, so that only the port that does not read falls behind.
	for i := range queueFrames * 4 {
		a.send(t, frame(broadcast, macA, "x"))
		if b.receive(t, soon) == nil {
			t.Fatalf("b did not get frame %d beside a port that does not read", i)
		}
	}
	if d := slow.port.Counters().Dropped; d == 0 {
		t.Error("the slow port has dropped nothing; want its queue to be bounded")
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	s := New(nil)
	for range 8 {
		attach(t, s, "p")
	}
	s.Close()
	if _, err := s.Attach("late", Stream(func() net.Conn { c, _ := net.Pipe(); return c }())); err == nil {
		t.Error("attach to a closed switch = nil; want an error")
	}
	for end := time.Now().Add(soon); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("goroutines = %d; want %d as before", runtime.NumGoroutine(), before)
		}
	}
}

// FuzzStreamFrame feeds the framing with foreign bytes: a frame that is read
// must be the bytes that its length announced.
func FuzzStreamFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 3, 1, 2, 3})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1, 9})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		buf := make([]byte, maxFrame)
		at := 0
		for {
			n, err := readStreamFrame(r, buf)
			if err != nil {
				return
			}
			if want := in[at+4 : at+4+n]; !bytes.Equal(buf[:n], want) {
				t.Fatalf("frame = %x; want %x", buf[:n], want)
			}
			at += 4 + n
		}
	})
}

// BenchmarkForward is one full frame from a port to another.
func BenchmarkForward(b *testing.B) {
	s := New(nil)
	defer s.Close()
	from, to := loopback(b, s, "from"), loopback(b, s, "to")
	to.send(b, frame(broadcast, macB, "here"))
	from.receive(b, soon)
	f := frame(macB, macA, string(make([]byte, 1500)))
	b.SetBytes(int64(len(f)))
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, maxFrame)
		for range b.N {
			if _, err := to.link.ReadFrame(buf); err != nil {
				return
			}
		}
	}()
	if err := from.conn.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	window := uint64(queueFrames / 2)
	for i := range b.N {
		for uint64(i) > to.port.Counters().Sent+window { // the queue drops what is over
			runtime.Gosched()
		}
		if err := from.link.WriteFrame(f); err != nil {
			b.Fatal(err)
		}
	}
	<-done
}

// loopback attaches a port by a real unix socket.
func loopback(b *testing.B, s *Switch, name string) *station {
	b.Helper()
	l, err := net.Listen("unix", b.TempDir()+"/s")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	port, err := s.Attach(name, Stream(near))
	if err != nil {
		b.Fatal(err)
	}
	return &station{conn: far, link: Stream(far), port: port}
}
