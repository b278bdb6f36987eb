package initramfs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/images/cpio"
	"github.com/klauspost/compress/zstd"
)

// Where things stand in the initramfs.
const (
	RolePath     = "/etc/ingot/role"     // what the program is: "agent"
	BuiltPath    = "/etc/ingot/built"    // RFC 3339; the floor of the clock
	ManifestPath = "/etc/ingot/manifest" // "<size> <path>" a line: an initramfs that overflowed is found out
	ModulesDir   = "/lib/modules"        // <version>/modules.dep and the files that it names
)

// Options say what goes into an initramfs.
type Options struct {
	Agent      string    // the static binary that becomes /init
	ModulesDir string    // …/lib/modules/<version> of the kernel that will boot it
	PCIIDs     string    // the pci.ids database; empty leaves it out
	Role       string    // default "agent"
	Groups     []Group   // default Rack()
	Built      time.Time // default: the agent binary's modification time
	Output     string    // initramfs.cpio.zst
}

// Result says what was built.
type Result struct {
	KernelVersion string
	Modules       []ModInfo // in the order of loading
	Files         int
	ArchiveBytes  int64 // the cpio
	SizeBytes     int64 // packed
}

// Build writes the initramfs. Kernel modules stay packed as the distribution
// has them: unpacked they cost 130 MiB of memory and 4 s of boot, and the
// archive would be no smaller. The output appears only when it is whole.
func Build(ctx context.Context, o Options) (Result, error) {
	if o.Role == "" {
		o.Role = "agent"
	}
	if o.Groups == nil {
		o.Groups = Rack()
	}
	if o.Built.IsZero() {
		st, err := os.Stat(o.Agent)
		if err != nil {
			return Result{}, fmt.Errorf("initramfs: agent: %w", err)
		}
		o.Built = st.ModTime()
	}
	entries, res, err := o.collect()
	if err != nil {
		return Result{}, fmt.Errorf("initramfs: %w", err)
	}
	res.Files = len(entries)
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	if err := write(ctx, o.Output, entries, &res); err != nil {
		return Result{}, fmt.Errorf("initramfs: write %s: %w", o.Output, err)
	}
	return res, nil
}

// entry is one regular file of the archive: from memory, or from a path.
type entry struct {
	name string
	perm fs.FileMode
	data []byte
	from string
	size int64
}

func (o Options) collect() ([]entry, Result, error) {
	t, err := openTree(o.ModulesDir)
	if err != nil {
		return nil, Result{}, err
	}
	names, err := t.names(o.Groups)
	if err != nil {
		return nil, Result{}, err
	}
	mods, err := t.closure(names)
	if err != nil {
		return nil, Result{}, err
	}
	version := filepath.Base(o.ModulesDir)
	base := strings.TrimPrefix(ModulesDir, "/") + "/" + version + "/"
	entries := []entry{
		{name: "init", perm: 0o755, from: o.Agent},
		{name: RolePath[1:], perm: 0o644, data: []byte(o.Role + "\n")},
		{name: BuiltPath[1:], perm: 0o644, data: []byte(o.Built.UTC().Format(time.RFC3339) + "\n")},
	}
	index, err := t.index(mods)
	if err != nil {
		return nil, Result{}, err
	}
	for name, data := range index {
		entries = append(entries, entry{name: base + name, perm: 0o644, data: data})
	}
	for _, m := range mods {
		entries = append(entries, entry{name: base + m.Path, perm: 0o644, from: filepath.Join(o.ModulesDir, m.Path)})
	}
	if o.PCIIDs != "" {
		ids, err := packed(o.PCIIDs)
		if err != nil {
			return nil, Result{}, err
		}
		entries = append(entries, entry{name: "usr/share/misc/pci.ids.gz", perm: 0o644, data: ids})
	}
	entries, err = manifest(entries)
	return entries, Result{KernelVersion: version, Modules: mods}, err
}

// manifest sorts the entries and puts the list of them first.
func manifest(entries []entry) ([]entry, error) {
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	var list bytes.Buffer
	for i := range entries {
		e := &entries[i]
		e.size = int64(len(e.data))
		if e.from != "" {
			st, err := os.Stat(e.from)
			if err != nil {
				return nil, err
			}
			e.size = st.Size()
		}
		fmt.Fprintf(&list, "%d /%s\n", e.size, e.name)
	}
	first := entry{name: ManifestPath[1:], perm: 0o644, data: list.Bytes(), size: int64(list.Len())}
	return append([]entry{first}, entries...), nil
}

// packed reads a file and packs it with gzip, without a name or a time.
func packed(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	zw, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := zw.Write(raw); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func write(ctx context.Context, output string, entries []entry, res *Result) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(output), ".initramfs-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	if err = archive(ctx, tmp, entries, res); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err = errors.Join(tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	st, err := os.Stat(tmp.Name())
	if err != nil {
		return err
	}
	res.SizeBytes = st.Size()
	return os.Rename(tmp.Name(), output)
}

// archive packs with one goroutine: with more, block borders would depend on
// the machine.
func archive(ctx context.Context, w io.Writer, entries []entry, res *Result) error {
	zw, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression),
		zstd.WithWindowSize(8<<20))
	if err != nil {
		return err
	}
	count := &counting{w: zw}
	cw := cpio.NewWriter(count)
	// The kernel opens the console for init before anything is mounted.
	if err := cw.CharDev("dev/console", 0o600, 5, 1); err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.writeTo(cw); err != nil {
			return err
		}
	}
	if err := cw.Close(); err != nil {
		return err
	}
	res.ArchiveBytes = count.n
	return zw.Close()
}

func (e entry) writeTo(cw *cpio.Writer) error {
	if e.from == "" {
		return cw.Bytes(e.name, e.perm, e.data)
	}
	f, err := os.Open(e.from)
	if err != nil {
		return err
	}
	defer f.Close()
	return cw.File(e.name, e.perm, e.size, f)
}

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
