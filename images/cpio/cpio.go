// Package cpio writes archives in the newc format, which is what the kernel
// unpacks as an initramfs (Documentation/driver-api/early-userspace/
// buffer-format.rst). It streams, so that a root of 90 MB becomes an initrd
// without standing in memory twice, and it is reproducible: no times, no
// owners, inode numbers in order of writing.
package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"strings"
)

// File modes of the format (cpio(5)), the upper half of the mode field.
const (
	typeRegular   = 0o100000
	typeDirectory = 0o040000
	typeSymlink   = 0o120000
	typeCharDev   = 0o020000
)

// trailer is the name of the record that ends an archive.
const trailer = "TRAILER!!!"

// Writer writes one archive. Folders that a name needs are written before it
// with mode 0755. It keeps the first error: all later calls return it.
type Writer struct {
	w    io.Writer
	pos  int64
	ino  uint32
	seen map[string]bool
	err  error
}

// NewWriter writes an archive to w. Close ends it.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, seen: map[string]bool{}}
}

// File adds a regular file of exactly size bytes from r. A name is relative
// ("etc/ingot/role"; a leading slash is dropped), clean, and stands once.
// perm is the permission bits alone.
func (w *Writer) File(name string, perm fs.FileMode, size int64, r io.Reader) error {
	if size < 0 || size > math.MaxUint32 {
		return w.fail(name, fmt.Errorf("%d bytes do not fit into newc", size))
	}
	if !w.begin(name, header{mode: typeRegular | uint32(perm.Perm()), size: uint32(size)}) {
		return w.err
	}
	n, err := io.Copy(w.raw(), io.LimitReader(r, size))
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes instead of %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return w.fail(name, err)
	}
	return w.pad(name)
}

// Bytes adds a regular file that stands in memory.
func (w *Writer) Bytes(name string, perm fs.FileMode, data []byte) error {
	return w.File(name, perm, int64(len(data)), bytes.NewReader(data))
}

// Dir adds a folder, unless it stands there already.
func (w *Writer) Dir(name string, perm fs.FileMode) error {
	if w.err == nil && w.seen[clean(name)] {
		return nil
	}
	w.begin(name, header{mode: typeDirectory | uint32(perm.Perm())})
	return w.err
}

// Symlink adds a symbolic link.
func (w *Writer) Symlink(name, target string) error {
	if !w.begin(name, header{mode: typeSymlink | 0o777, size: uint32(len(target))}) {
		return w.err
	}
	if _, err := io.WriteString(w.raw(), target); err != nil {
		return w.fail(name, err)
	}
	return w.pad(name)
}

// CharDev adds a character device; the kernel opens /dev/console for init
// before anything is mounted on /dev.
func (w *Writer) CharDev(name string, perm fs.FileMode, major, minor uint32) error {
	w.begin(name, header{mode: typeCharDev | uint32(perm.Perm()), major: major, minor: minor})
	return w.err
}

// Close writes the trailer and pads the archive to 512 bytes, so that another
// may follow. It does not close the writer below.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	w.header(trailer, header{})
	if w.err != nil {
		return w.err
	}
	return w.fill(trailer, 512)
}

type header struct {
	mode, size   uint32
	major, minor uint32
}

// clean gives a name the form in which it stands in the archive.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// begin writes the folders above name and its header.
func (w *Writer) begin(name string, h header) bool {
	if w.err != nil {
		return false
	}
	c := clean(name)
	if c == "" || c == trailer || strings.TrimPrefix(name, "/") != c || strings.ContainsRune(c, 0) {
		w.err = w.fail(name, errors.New("not a clean name"))
		return false
	}
	if w.seen[c] {
		w.err = w.fail(name, fs.ErrExist)
		return false
	}
	if up := path.Dir(c); up != "." {
		if err := w.Dir(up, 0o755); err != nil {
			return false
		}
	}
	w.seen[c] = true
	w.header(c, h)
	return w.err == nil
}

// header writes "070701", thirteen fields of eight hex digits, the name with
// its NUL, and padding to four bytes.
func (w *Writer) header(name string, h header) {
	links, ino := uint32(1), uint32(0)
	if name != trailer {
		w.ino++
		ino = w.ino
	}
	if h.mode&typeDirectory == typeDirectory {
		links = 2
	}
	_, err := fmt.Fprintf(w.raw(), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		ino, h.mode, 0, 0, links, 0, h.size, 0, 0, h.major, h.minor, len(name)+1, 0, name)
	if err != nil {
		w.err = w.fail(name, err)
		return
	}
	if err := w.pad(name); err != nil {
		w.err = err
	}
}

func (w *Writer) pad(name string) error { return w.fill(name, 4) }

// fill writes zeros up to a multiple of to.
func (w *Writer) fill(name string, to int64) error {
	if over := w.pos % to; over != 0 {
		if _, err := w.raw().Write(make([]byte, to-over)); err != nil {
			return w.fail(name, err)
		}
	}
	return nil
}

func (w *Writer) fail(name string, err error) error {
	if w.err == nil {
		w.err = fmt.Errorf("write cpio record %q: %w", name, err)
	}
	return w.err
}

// raw counts what is written.
func (w *Writer) raw() io.Writer { return (*counter)(w) }

type counter Writer

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.pos += int64(n)
	return n, err
}
