package snapshot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/hardware/inventory"
)

// packed is an archive of these entries.
func packed(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range entries {
		content := h.Uname // what the file holds
		h.Uname, h.Size, h.Mode = "", int64(len(content)), 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func regular(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: content}
}

func symlink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

func TestUnpack(t *testing.T) {
	for _, c := range []struct {
		what string
		in   []byte
		bad  string
	}{
		{"a tree", packed(t, regular("sys/devices/x/size", "1\n"), symlink("sys/block/sda", "../devices/x"), tar.Header{Typeflag: tar.TypeDir, Name: "sys/empty/"}), ""},
		{"names with a slash before", packed(t, regular("/sys/devices/x/size", "1\n"), symlink("./sys/block/sda", "../devices/x")), ""},
		{"a link that leads nowhere", packed(t, symlink("sys/block/sda", "../devices/gone")), ""},
		{"a name that climbs out", packed(t, regular("../out", "x")), "leads out"},
		{"a name that climbs out later", packed(t, regular("a/../../out", "x")), "leads out"},
		{"a link that climbs out", packed(t, symlink("a/b", "../../out")), "out of the snapshot"},
		{"an absolute link, which leads into the snapshot", packed(t, symlink("a/b", "/etc/passwd")), ""},
		{"an absolute link that climbs", packed(t, symlink("a/b", "/../../etc/passwd")), ""},
		{"a link by a way that is not straight", packed(t, symlink("d/b", ".."), symlink("d/a", "b/../x")), "not straight"},
		{"a link below a link", packed(t, symlink("d1/d2/x", "../.."), symlink("d1/d2/x/y", "../../../out")), "below another link"},
		{"a file through a link", packed(t, symlink("a", "b"), regular("a/x", "1")), "a"},
		{"a file twice", packed(t, regular("a", "1"), regular("a", "2")), "exist"},
		{"a device", packed(t, tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda"}), "type"},
		{"a hard link", packed(t, tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "/etc/passwd"}), "type"},
		{"too many bytes", packed(t, regular("a", strings.Repeat("x", 1001))), "what may be unpacked"},
		{"too many bytes in pieces", packed(t, regular("a", strings.Repeat("x", 600)), regular("b", strings.Repeat("x", 600))), "what may be unpacked"},
		{"no archive", []byte("hello"), "not a snapshot"},
		{"nothing", nil, "not a snapshot"},
	} {
		t.Run(c.what, func(t *testing.T) {
			above := t.TempDir()
			dir := filepath.Join(above, "in")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			err := Unpack(bytes.NewReader(c.in), dir, Limits{Bytes: 1000, Entries: 8})
			if (err != nil) != (c.bad != "") || err != nil && !strings.Contains(err.Error(), c.bad) {
				t.Errorf("Unpack = %v; want %q", err, c.bad)
			}
			outside(t, above)
		})
	}
	many := make([]tar.Header, 9)
	for i := range many {
		many[i] = regular(strings.Repeat("a", i+1), "")
	}
	if err := Unpack(bytes.NewReader(packed(t, many...)), t.TempDir(), Limits{Entries: 8}); err == nil || !strings.Contains(err.Error(), "entries") {
		t.Errorf("nine entries: %v; want at most eight", err)
	}
	// A header's own extensions are no way round the bound: 64 MiB of zeros in a few KiB.
	if err := Unpack(bytes.NewReader(packed(t, tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("n/", 40<<10) + "n"})), t.TempDir(), Limits{Bytes: 1000, Entries: 2}); err == nil {
		t.Error("a name of 80 KiB is taken")
	}
}

// outside fails where something stands beside the directory, or a link in it
// leads out.
func outside(t *testing.T, above string) {
	t.Helper()
	entries, err := os.ReadDir(above)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the snapshot's directory: %v, %v", entries, err)
	}
	dir := filepath.Join(above, "in")
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() && !d.IsDir() && d.Type() != fs.ModeSymlink {
			t.Errorf("%s is a %v", p, d.Type())
		}
		if real, err := filepath.EvalSymlinks(p); err == nil && real != dir && !strings.HasPrefix(real, dir+"/") {
			t.Errorf("%s leads to %s", p, real)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestUnpackOthers reads the machines that ghw's module carries, whose archives
// somebody else made.
func TestUnpackOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("reads seven machines three times: skipped with -short")
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/jaypipes/ghw").Output()
	if err != nil {
		t.Fatal(err)
	}
	archives, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "testdata/snapshots/linux-a*.tar.gz"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no snapshots: %v", err)
	}
	for _, a := range archives {
		b, err := os.ReadFile(a)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := Unpack(bytes.NewReader(b), dir, Limits{}); err != nil {
			t.Errorf("%s: %v", filepath.Base(a), err)
			continue
		}
		_, again := take(t, dir, true)
		want, got := inventory.Read(t.Context(), dir).Inventory, inventory.Read(t.Context(), again).Inventory
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s, recorded again (-want +got):\n%s", filepath.Base(a), d)
		}
	}
}

// Whatever comes, nothing is written outside, no link leads out, and what was
// unpacked is within the limits.
func FuzzUnpack(f *testing.F) {
	f.Add(packed(f, regular("sys/devices/x/size", "1\n"), symlink("sys/block/sda", "../devices/x")), true)
	f.Add(packed(f, symlink("d1/d2/x", "../.."), symlink("d1/d2/x/y", "../../../out")), true)
	f.Add([]byte("d1/d2/x\x00../..\nd1/d2/x/y\x00../../../out\na\x01content"), false)
	f.Add([]byte("b\x00.\nd/a\x00b/../x\n../up\x01x"), false)
	f.Fuzz(func(t *testing.T, b []byte, whole bool) {
		if !whole { // lines of names with their targets or contents, so that the mutations reach the names
			var entries []tar.Header
			for line := range strings.SplitSeq(string(b), "\n") {
				if name, to, ok := strings.Cut(line, "\x00"); ok && !strings.Contains(to, "\x00") && len(line) < 90 && !strings.HasSuffix(name, "/") {
					entries = append(entries, symlink(name, to))
				} else if name, content, ok := strings.Cut(line, "\x01"); ok && len(line) < 90 && !strings.Contains(name, "\x00") && !strings.HasSuffix(name, "/") {
					entries = append(entries, regular(name, content))
				}
			}
			b = packed(t, entries...)
		}
		above := t.TempDir()
		dir := filepath.Join(above, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = Unpack(bytes.NewReader(b), dir, Limits{Bytes: 4096, Entries: 32}) // its answer is what it likes
		outside(t, above)
	})
}

// Scrubbing what anybody may have put into a table neither panics nor changes
// a length.
func FuzzScrub(f *testing.F) {
	f.Add("sys/firmware/dmi/tables/DMI", []byte("\x01\x1b\x00\x01\x01\x02\x03\x04D3\"\x11fU\x88G\x99\xaa\xbb\xcc\xdd\xee\xff\x01\x06\x00\x05Ingot Lab\x00LS-1\x001\x00LAB-0001\x00\x00"))
	f.Add("a/vpd_pg83", []byte("\x00\x83\x00\x0c\x01\x03\x00\x08\x50\x00\xcc\xa2\x5a\x01\x02\x03"))
	f.Add("answers/ata/sda/identify", make([]byte, 512))
	f.Add("answers/tpm/tpm0/ek-public", []byte("0\x82\x01\x00abc"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if name == "" || name == "proc/cmdline" {
			return
		}
		was := bytes.Clone(b)
		out, s := scrub(tree{name: {kind: file, data: b}}, inventory.Result{}, "host", [32]byte{1})
		if !bytes.Equal(was, b) {
			t.Errorf("%q: its own bytes were changed", name)
		}
		for _, e := range out {
			if len(e.data) != len(b) {
				t.Errorf("%q: %d bytes became %d", name, len(b), len(e.data))
			}
		}
		for was, now := range s.pairs {
			if len(was) != len(now) {
				t.Errorf("%q has the stand-in %q", was, now)
			}
		}
	})
}
