package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware/sysfs"
)

type kind int

const (
	directory kind = iota
	file
	link
)

// entry is one thing of a tree.
type entry struct {
	kind kind
	data []byte // of a file
	to   string // of a link, as it stands there
}

// tree is what a snapshot holds, by path.
type tree map[string]entry

const (
	// maxFile bounds one file: /proc/cpuinfo of a large machine has 8 MiB.
	maxFile = 16 << 20
	// fileLimit is how long one file may take; drivers write what is in them.
	fileLimit = 2 * time.Second
	maxLinks  = 40
	// A directory of more entries is none that describes hardware.
	maxListed = 4096
)

// collector copies what readers have named.
type collector struct {
	root sysfs.Root
	tree tree
	left []string
}

// put adds an entry. What was read stands before what was only listed.
func (c *collector) put(name string, e entry) {
	if old, ok := c.tree[name]; !ok || e.kind == file && old.kind == file && len(old.data) == 0 {
		c.tree[name] = e
	}
}

// take copies what stands at a path, and the links on the way to it. Device
// nodes, and what is absent or may not be read, which gave its reader nothing
// either, are left out.
func (c *collector) take(p string) {
	p, ok := c.follow(path.Clean(p), maxLinks)
	if !ok {
		return
	}
	st, err := os.Lstat(filepath.Join(string(c.root), p))
	switch {
	case err != nil:
	case st.IsDir():
		c.list(p)
	case st.Mode().IsRegular():
		c.read(p)
	}
}

// glob takes what a pattern, with one star for a whole name, finds.
func (c *collector) glob(pattern string) {
	dir, file, _ := strings.Cut(pattern, "/*/")
	for _, name := range c.root.Names(dir) {
		c.take(path.Join(dir, name, file))
	}
}

// follow resolves the links in a path one after the other, and keeps them. It
// gives the path without them; ok is false where it leads out of the root.
func (c *collector) follow(p string, links int) (string, bool) {
	if !filepath.IsLocal(p) {
		return "", false
	}
	parts := strings.Split(p, "/")
	for i := range parts {
		at := path.Join(parts[:i+1]...)
		to, err := os.Readlink(filepath.Join(string(c.root), at))
		if err != nil {
			continue // a directory, a file, or nothing
		}
		if links == 0 {
			c.leave(p, errors.New("more links than a path has"))
			return "", false
		}
		to = relative(to, at) // /lib of some machines
		target := path.Join(path.Dir(at), to)
		if !filepath.IsLocal(target) {
			c.leave(at, errors.New("it leads out of the machine"))
			return "", false
		}
		c.put(at, entry{kind: link, to: to})
		return c.follow(path.Join(append([]string{target}, parts[i+1:]...)...), links-1)
	}
	return p, true
}

// list keeps the names of a directory, which readers may go by; the contents
// of those that nobody reads are not looked at.
func (c *collector) list(p string) {
	if p == "." || p == "proc" || p == "dev" || p == "sys" {
		return
	}
	f, err := os.Open(filepath.Join(string(c.root), p))
	if err != nil {
		return
	}
	defer f.Close()
	entries, err := f.ReadDir(maxListed)
	if err != nil && len(entries) == 0 {
		c.put(p, entry{kind: directory})
		return
	}
	for _, e := range entries {
		name := path.Join(p, e.Name())
		switch {
		case e.IsDir():
			c.put(name, entry{kind: directory})
		case e.Type().IsRegular():
			c.put(name, entry{kind: file})
		case e.Type() == fs.ModeSymlink:
			c.follow(name, 1)
		}
	}
}

// read copies a file, unless it takes too long: then it is left behind.
func (c *collector) read(p string) {
	type answer struct {
		b   []byte
		err error
	}
	got := make(chan answer, 1)
	go func() {
		b, err := c.root.Bytes(maxFile, p)
		got <- answer{b, err}
	}()
	timer := time.NewTimer(fileLimit)
	defer timer.Stop()
	select {
	case a := <-got:
		if a.err == nil { // else it gave its reader nothing either
			c.put(p, entry{kind: file, data: a.b})
		}
	case <-timer.C:
		c.leave(p, fmt.Errorf("it was not read within %v", fileLimit))
	}
}

func (c *collector) leave(p string, err error) {
	c.left = append(c.left, fmt.Sprintf("%s: %v", p, err))
}
