// Package sysfs reads the small text files by which Linux describes hardware,
// below a root that is / on a server and a recorded tree in a test. What is
// read is bounded: these files are written by drivers and firmware.
package sysfs

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// maxText bounds one attribute: the kernel gives at most one page.
const maxText = 64 << 10

// Root is the directory below which /sys and /proc stand.
type Root string

// Live reports whether this is the running system, so that its kernel may be
// asked too.
func (r Root) Live() bool { return filepath.Clean(string(r)) == "/" }

// Path is a path below the root. Whatever is read below a root is named by it
// first, which is how [Root.Watch] knows what readers read.
func (r Root) Path(elem ...string) string {
	if w := watching.Load(); w != nil && w.root == r {
		w.told(filepath.Join(elem...))
	}
	return filepath.Join(append([]string{string(r)}, elem...)...)
}

type watch struct {
	root Root
	told func(path string)
}

// watching is the one watch at work. It stands here, and not in a context,
// because a root is a path and its files are read without one.
var watching atomic.Pointer[watch]

// Watch tells each path below the root that somebody is about to read, until
// stop is called; readers call told side by side. There is one watch at a time.
func (r Root) Watch(told func(path string)) (stop func(), err error) {
	w := &watch{r, told}
	if !watching.CompareAndSwap(nil, w) {
		return nil, fmt.Errorf("watch what is read below %s: another watch is at work", r)
	}
	return func() { watching.CompareAndSwap(w, nil) }, nil
}

// Text is a trimmed attribute; empty where it is absent or not readable.
func (r Root) Text(elem ...string) string {
	b, err := r.Bytes(maxText, elem...)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimRight(string(b), "\x00"))
}

// Bytes is a whole file of at most so many bytes.
func (r Root) Bytes(most int64, elem ...string) ([]byte, error) {
	f, err := os.Open(r.Path(elem...))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("read %s: more than %d bytes", filepath.Join(elem...), most)
	}
	return b, nil
}

// Uint is a decimal or 0x attribute.
func (r Root) Uint(elem ...string) (uint64, bool) {
	n, err := strconv.ParseUint(r.Text(elem...), 0, 64)
	return n, err == nil
}

// Names are the entries of a directory, sorted; none where it is absent.
func (r Root) Names(elem ...string) []string {
	f, err := os.Open(r.Path(elem...))
	if err != nil {
		return nil
	}
	defer f.Close()
	names, err := f.Readdirnames(65536)
	if err != nil && len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return names
}

// Link is the last element of what a symbolic link names; empty where there
// is none.
func (r Root) Link(elem ...string) string {
	to, err := os.Readlink(r.Path(elem...))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// Real is the path with its symbolic links followed; empty where it leads
// nowhere.
func (r Root) Real(elem ...string) string {
	p, err := filepath.EvalSymlinks(r.Path(elem...))
	if err != nil {
		return ""
	}
	return p
}

// Inner is [Root.Real] as a path below the root, to be read further; empty
// where it leads nowhere.
func (r Root) Inner(elem ...string) string {
	top, err := filepath.EvalSymlinks(string(r))
	if err != nil {
		return ""
	}
	p, err := filepath.Rel(top, r.Real(elem...))
	if err != nil || !filepath.IsLocal(p) {
		return ""
	}
	return p
}

// Exists reports whether there is something at the path.
func (r Root) Exists(elem ...string) bool {
	_, err := os.Lstat(r.Path(elem...))
	return err == nil
}
