package vswitch

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
)

// streamLink speaks the framing of QEMU's "-netdev stream" and "-netdev
// socket": each frame behind its length as four bytes, big-endian.
type streamLink struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
}

// Stream makes a link of a connection to QEMU.
func Stream(conn net.Conn) Link {
	return &streamLink{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
}

func (l *streamLink) ReadFrame(buf []byte) (int, error) { return readStreamFrame(l.in, buf) }

func readStreamFrame(r io.Reader, buf []byte) (int, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, fmt.Errorf("read frame length: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > uint32(len(buf)) {
		return 0, fmt.Errorf("read frame: a length of %d bytes is over the limit of %d", n, len(buf))
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		return 0, fmt.Errorf("read frame of %d bytes: %w", n, err)
	}
	return int(n), nil
}

func (l *streamLink) WriteFrame(frame []byte) error {
	l.out = binary.BigEndian.AppendUint32(l.out[:0], uint32(len(frame)))
	l.out = append(l.out, frame...)
	if _, err := l.conn.Write(l.out); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

func (l *streamLink) Close() error { return l.conn.Close() }

// tapLink is a TAP device: one read or write is one frame.
type tapLink struct{ f *os.File }

// TAP makes a link of an open TAP device, which must be non-blocking so that
// Close can end a read.
func TAP(f *os.File) Link { return tapLink{f} }

func (l tapLink) ReadFrame(buf []byte) (int, error) { return l.f.Read(buf) }
func (l tapLink) WriteFrame(frame []byte) error     { _, err := l.f.Write(frame); return err }
func (l tapLink) Close() error                      { return l.f.Close() }
