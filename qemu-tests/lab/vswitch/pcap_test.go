package vswitch

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"time"
)

// TestCapture reads a capture back by the format's own words, both directions
// of one port and no other's.
func TestCapture(t *testing.T) {
	s := New(nil)
	defer s.Close()
	a, b, c := attach(t, s, "a"), attach(t, s, "b"), attach(t, s, "c")
	for _, p := range []*station{a, b, c} { // nobody may block the switch
		go io.Copy(io.Discard, p.conn) //nolint:errcheck // it ends with the switch
	}
	r, w := io.Pipe()
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := s.Capture("b", w, done)
		ended <- err
	}()
	header := make([]byte, 24)
	if _, err := io.ReadFull(r, header); err != nil {
		t.Fatal(err)
	}
	if binary.LittleEndian.Uint32(header) != 0xa1b2c3d4 || binary.LittleEndian.Uint32(header[20:]) != 1 {
		t.Errorf("header = %x", header)
	}
	for _, want := range []struct {
		by    *station
		frame []byte
		seen  bool
	}{
		{a, frame(broadcast, macA, "flooded: b gets it"), true},
		{b, frame(macA, macB, "b says where it is"), true},
		{a, frame(macB, macA, "to b alone"), true},
		{c, frame(macA, macC, "none of b's"), false},
		{b, frame(macC, macB, "from b"), true},
	} {
		want.by.send(t, want.frame)
		if !want.seen {
			continue
		}
		record := make([]byte, 16)
		if _, err := io.ReadFull(r, record); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, binary.LittleEndian.Uint32(record[8:]))
		if _, err := io.ReadFull(r, got); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(binary.LittleEndian.Uint32(record)), int64(binary.LittleEndian.Uint32(record[4:]))*1000)
		if !bytes.Equal(got, want.frame) || time.Since(at).Abs() > time.Minute {
			t.Errorf("captured %x at %v; want %x", got, at, want.frame)
		}
	}
	close(done)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
