package vswitch

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// captureFrames is how many frames a capture may lag behind; more are left out
// and counted.
const captureFrames = 4096

// capture is somebody who looks at one port.
type capture struct {
	port   string
	frames chan seen
	missed uint64 // guarded by the switch's mu
}

type seen struct {
	at    time.Time
	frame []byte
}

// Capture writes the frames that pass a port, in both directions, as a pcap
// file (libpcap's classic format, microseconds, Ethernet) until done is
// closed. The port is called by its name, and need not be plugged yet. It
// returns how many frames it had to leave out because w was too slow.
func (s *Switch) Capture(port string, w io.Writer, done <-chan struct{}) (missed uint64, err error) {
	c := &capture{port: port, frames: make(chan seen, captureFrames)}
	s.mu.Lock()
	if s.captures == nil {
		s.captures = map[*capture]struct{}{}
	}
	s.captures[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.captures, c)
		missed = c.missed
	}()
	header := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	header = binary.LittleEndian.AppendUint16(header, 2)
	header = binary.LittleEndian.AppendUint16(header, 4)
	header = append(header, make([]byte, 8)...) // time zone, accuracy: always 0
	header = binary.LittleEndian.AppendUint32(header, maxFrame)
	header = binary.LittleEndian.AppendUint32(header, 1) // LINKTYPE_ETHERNET
	if _, err := w.Write(header); err != nil {
		return 0, fmt.Errorf("write capture of %s: %w", port, err)
	}
	for {
		select {
		case <-done:
			return 0, nil
		case f := <-c.frames:
			record := binary.LittleEndian.AppendUint32(nil, uint32(f.at.Unix()))
			record = binary.LittleEndian.AppendUint32(record, uint32(f.at.Nanosecond()/1000))
			record = binary.LittleEndian.AppendUint32(record, uint32(len(f.frame)))
			record = binary.LittleEndian.AppendUint32(record, uint32(len(f.frame)))
			if _, err := w.Write(append(record, f.frame...)); err != nil {
				return 0, fmt.Errorf("write capture of %s: %w", port, err)
			}
		}
	}
}

// show gives a frame that passed a port to those who look at it.
func (s *Switch) show(port string, frame []byte) {
	s.mu.RLock()
	look := len(s.captures) > 0
	s.mu.RUnlock()
	if !look {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.captures {
		if c.port != port {
			continue
		}
		select {
		case c.frames <- seen{time.Now(), frame}:
		default:
			c.missed++
		}
	}
}
