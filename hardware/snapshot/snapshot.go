// Package snapshot records a machine in one file, and unpacks it again: the
// files that the readers read, and what kernel and devices answered to their
// questions (package sysfs, Root.Ask). Read from the file, the inventory is
// what it was on the machine.
//
// Unless told otherwise it scrubs: serials, MACs, UUIDs, world wide names,
// host names, addresses and keys become stand-ins of the same length and
// shape, the same one wherever the same value stands, in text and inside
// binary tables. A serial of fewer than four characters, or six digits, which
// names no machine, is kept.
package snapshot

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/ingot-metal/ingot/hardware/inventory"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// Options are how a machine is recorded.
type Options struct {
	Keep    bool               // serials and all the rest, as they are
	Readers []inventory.Reader // nil for those of [inventory.Readers]
}

// Report says what a snapshot holds.
type Report struct {
	Files, Answers int
	Bytes          int64            // unpacked
	Standins       int              // values that were replaced
	Result         inventory.Result // as it was read
	Left           []string         // what was not recorded, and why
}

// libraries are the files that libraries read by themselves, where no watch
// sees them: ghw's list of PCI functions.
var libraries = []string{"sys/bus/pci/devices/*/modalias", "sys/bus/pci/devices/*/revision", "sys/bus/pci/devices/*/driver", "sys/bus/pci/devices/*/iommu_group"}

// Take reads the machine below root, "/" for the running one, and writes the
// snapshot.
func Take(ctx context.Context, root string, w io.Writer, o Options) (Report, error) {
	if o.Readers == nil {
		o.Readers = inventory.Readers()
	}
	paths, answers, res, err := record(ctx, sysfs.Root(root), o.Readers)
	if err != nil {
		return Report{}, err
	}
	rep := Report{Result: res, Answers: len(answers)}
	c := collector{root: sysfs.Root(root), tree: tree{}}
	for _, p := range paths {
		c.take(p)
	}
	for _, p := range libraries {
		c.glob(p)
	}
	for name, b := range answers {
		c.put(sysfs.Answers+"/"+name, entry{kind: file, data: b})
	}
	rep.Left = c.left
	if !o.Keep {
		var key [32]byte
		_, _ = rand.Read(key[:]) // never fails
		var s *standins
		c.tree, s = scrub(c.tree, res, sysfs.Root(root).Text("proc/sys/kernel/hostname"), key)
		rep.Standins = s.count
	}
	rep.Files = len(c.tree) - rep.Answers
	rep.Bytes, err = write(w, c.tree)
	return rep, err
}

// record runs the readers and keeps the paths that they name and the answers
// that they get.
func record(ctx context.Context, root sysfs.Root, readers []inventory.Reader) (paths []string, answers map[string][]byte, res inventory.Result, err error) {
	var mu sync.Mutex
	named := map[string]bool{}
	answers = map[string][]byte{}
	stop, err := root.Watch(func(path string) { mu.Lock(); defer mu.Unlock(); named[path] = true })
	if err != nil {
		return nil, nil, res, err
	}
	ctx = sysfs.WithRecorder(ctx, func(name string, answer []byte) { mu.Lock(); defer mu.Unlock(); answers[name] = slices.Clone(answer) })
	res = inventory.Run(ctx, string(root), readers)
	stop()
	mu.Lock() // readers that were left behind may still be at work
	defer mu.Unlock()
	return slices.Sorted(maps.Keys(named)), maps.Clone(answers), res, nil
}

// write packs the tree, in the order of its names and without times, so that
// the same tree gives the same bytes.
func write(w io.Writer, t tree) (total int64, err error) {
	z := gzip.NewWriter(w)
	tw := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		e := t[name]
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(e.data)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		switch e.kind {
		case link:
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.to, 0
		case directory:
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o755, 0
		}
		if err := tw.WriteHeader(h); err != nil {
			return total, fmt.Errorf("write snapshot: %s: %w", name, err)
		}
		if _, err := tw.Write(e.data); err != nil {
			return total, fmt.Errorf("write snapshot: %s: %w", name, err)
		}
		total += int64(len(e.data))
	}
	if err := tw.Close(); err != nil {
		return total, fmt.Errorf("write snapshot: %w", err)
	}
	if err := z.Close(); err != nil {
		return total, fmt.Errorf("write snapshot: %w", err)
	}
	return total, nil
}
