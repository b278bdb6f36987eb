package cpio

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ucpio "github.com/u-root/u-root/pkg/cpio"
)

type entry struct {
	Name, Data string
	Mode       uint64
	Rdev       [2]uint64
}

// read is the oracle: u-root's reader.
func read(t testing.TB, archive []byte) []entry {
	t.Helper()
	var got []entry
	err := ucpio.ForEachRecord(ucpio.Newc.Reader(bytes.NewReader(archive)), func(r ucpio.Record) error {
		data, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		got = append(got, entry{r.Name, string(data), r.Mode, [2]uint64{r.Rmajor, r.Rminor}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	big := strings.Repeat("squashfs", 100_000)
	for _, err := range []error{
		w.CharDev("dev/console", 0o600, 5, 1),
		w.File("init", 0o755, 5, strings.NewReader("hello, and more than was announced")),
		w.Bytes("/etc/ingot/role", 0o644, []byte("agent\n")),
		w.Bytes("etc/ingot/empty", 0o400, nil),
		w.Symlink("sbin", "usr/sbin"),
		w.Dir("etc", 0o700), // stands there already
		w.File("ingot/root.squashfs", 0o444, int64(len(big)), strings.NewReader(big)),
		w.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []entry{
		{Name: "dev", Mode: 0o40755}, {Name: "dev/console", Mode: 0o20600, Rdev: [2]uint64{5, 1}},
		{Name: "init", Data: "hello", Mode: 0o100755},
		{Name: "etc", Mode: 0o40755}, {Name: "etc/ingot", Mode: 0o40755},
		{Name: "etc/ingot/role", Data: "agent\n", Mode: 0o100644}, {Name: "etc/ingot/empty", Mode: 0o100400},
		{Name: "sbin", Data: "usr/sbin", Mode: 0o120777},
		{Name: "ingot", Mode: 0o40755}, {Name: "ingot/root.squashfs", Data: big, Mode: 0o100444},
	}
	if diff := cmp.Diff(want, read(t, b.Bytes())); diff != "" {
		t.Errorf("archive differs (-want +got):\n%s", diff)
	}
	if b.Len()%512 != 0 {
		t.Errorf("archive is %d bytes; want a multiple of 512", b.Len())
	}
}

func TestArchiveIsReproducible(t *testing.T) {
	files := []File{{Name: "etc/ingot/trust.json", Data: []byte("{}")}, {Name: "ingot/handoff.json", Perm: 0o400, Data: []byte("{}")}}
	a, err := Archive(files...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Archive(files...)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("two archives of the same files differ")
	}
	if got := read(t, a); got[len(got)-1].Mode != 0o100400 || got[2].Mode != 0o100644 {
		t.Errorf("modes of %+v; want 0400 for the handoff, 0644 by default", got)
	}
}

func TestRefusals(t *testing.T) {
	for _, name := range []string{"", "/", "../etc/passwd", "a/../b", "a//b", "TRAILER!!!", "a\x00b", "."} {
		w := NewWriter(io.Discard)
		if err := w.Bytes(name, 0o644, nil); err == nil {
			t.Errorf("Bytes(%q) = nil; want an error", name)
		}
		if err := w.Close(); err == nil {
			t.Errorf("Close after Bytes(%q) = nil; want the first error", name)
		}
	}
	w := NewWriter(io.Discard)
	if err := w.File("short", 0o644, 10, strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("File with too few bytes = %v; want %v", err, io.ErrUnexpectedEOF)
	}
	w = NewWriter(io.Discard)
	if err := w.Bytes("twice", 0o644, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Bytes("twice", 0o644, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same name again = %v; want %v", err, fs.ErrExist)
	}
}

func FuzzArchive(f *testing.F) {
	f.Add("etc/ingot/role", []byte("agent"))
	f.Add("a", []byte{})
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if len(name) > 4000 {
			return
		}
		b, err := Archive(File{Name: name, Data: data})
		if err != nil {
			return
		}
		got := read(t, b)
		last := got[len(got)-1]
		if last.Data != string(data) || last.Name != strings.TrimPrefix(name, "/") {
			t.Errorf("read back %q with %d bytes; want %q with %d", last.Name, len(last.Data), name, len(data))
		}
	})
}
