package snapshot

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Limits bound what is unpacked; zero values are the defaults.
type Limits struct {
	Bytes   int64 // of all files, 256 MiB
	Entries int   // 200,000
}

// ErrNotSnapshot says that a file is no snapshot.
var ErrNotSnapshot = errors.New("not a snapshot (tar, packed with gzip)")

// Unpack writes the snapshot's tree into an empty directory. The file may come
// from anybody: no name leads out of the directory, no link either, and no
// more is written than the limits allow.
func Unpack(r io.Reader, dir string, l Limits) error {
	if l.Bytes <= 0 {
		l.Bytes = 256 << 20
	}
	if l.Entries <= 0 {
		l.Entries = 200_000
	}
	z, err := gzip.NewReader(bufio.NewReader(r))
	if err != nil {
		return fmt.Errorf("unpack: %w: %v", ErrNotSnapshot, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer root.Close()
	// The tar's own padding and headers count too: a reader of this many bytes
	// ends early, and that is told.
	bounded := &io.LimitedReader{R: z, N: l.Bytes + int64(l.Entries)*2048}
	u := unpacker{root: root, left: l.Bytes}
	t := tar.NewReader(bounded)
	for n := 0; ; n++ {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return u.links()
		case err != nil && bounded.N <= 0:
			return fmt.Errorf("unpack: more than %d bytes", l.Bytes)
		case err != nil && n == 0:
			return fmt.Errorf("unpack: %w: %v", ErrNotSnapshot, err)
		case err != nil:
			return fmt.Errorf("unpack: entry %d: %w", n+1, err)
		case n == l.Entries:
			return fmt.Errorf("unpack: more than %d entries", l.Entries)
		}
		if err := u.take(h, t); err != nil {
			return fmt.Errorf("unpack: %.200q: %w", h.Name, err)
		}
	}
}

type unpacker struct {
	root *os.Root
	left int64
	// Links are made last, so that no file is written through one.
	late []*tar.Header
}

func (u *unpacker) take(h *tar.Header, r io.Reader) error {
	name, err := inside(h.Name)
	if err != nil || name == "." {
		return err
	}
	h.Name = name
	switch h.Typeflag {
	case tar.TypeDir:
		return u.root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		u.late = append(u.late, h)
		return nil
	case tar.TypeReg:
	default:
		return fmt.Errorf("type %q: a snapshot has files, directories and symbolic links", h.Typeflag)
	}
	if h.Size > u.left {
		return fmt.Errorf("%d bytes, %d are left of what may be unpacked", h.Size, u.left)
	}
	u.left -= h.Size
	if err := u.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, r, h.Size)
	return errors.Join(err, f.Close())
}

// links makes the symbolic links. Each stands in a directory that is no link
// itself and goes up before it goes down, so that every step of whoever follows
// it stays inside.
func (u *unpacker) links() error {
	for _, h := range u.late {
		to, dir := relative(h.Linkname, h.Name), path.Dir(h.Name)
		target := path.Join(dir, to)
		if path.Clean(to) != to || !filepath.IsLocal(target) || strings.Contains(to, "\x00") {
			return fmt.Errorf("unpack: %.200q: its link leads to %.200q, out of the snapshot or by a way that is not straight", h.Name, to)
		}
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("unpack: %.200q: %w", h.Name, err)
		}
		for at := dir; at != "."; at = path.Dir(at) {
			if st, err := u.root.Lstat(at); err != nil || !st.IsDir() {
				return fmt.Errorf("unpack: %.200q: it stands below another link", h.Name)
			}
		}
		if err := u.root.Symlink(to, h.Name); err != nil {
			return fmt.Errorf("unpack: %.200q: %w", h.Name, err)
		}
	}
	return nil
}

// relative is where a link at a path leads to, from there. An absolute one was
// meant for the recorded machine's root.
func relative(to, at string) string {
	if !path.IsAbs(to) {
		return to
	}
	return path.Join(strings.Repeat("../", strings.Count(at, "/")), path.Clean(to)[1:])
}

// inside is the name as a path below the directory. Some archivers write it
// with a slash or a dot before it.
func inside(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if name == "" || !filepath.IsLocal(clean) || strings.Contains(name, "\x00") {
		return "", errors.New("the name leads out of the snapshot")
	}
	return clean, nil
}
