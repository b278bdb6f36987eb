package stack

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// elfFile makes a shared object that is linked against the given libraries: a
// dynamic section and its strings, nothing else.
func elfFile(t *testing.T, needed ...string) string {
	t.Helper()
	names := []byte{0}
	var dynamic []elf.Dyn64
	for _, n := range needed {
		dynamic = append(dynamic, elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: uint64(len(names))})
		names = append(append(names, n...), 0)
	}
	dynamic = append(dynamic, elf.Dyn64{})
	dyn := encode(t, dynamic)
	const head = 64
	sections := []elf.Section64{
		{},
		{Type: uint32(elf.SHT_DYNAMIC), Off: head, Size: uint64(len(dyn)), Link: 2, Entsize: 16},
		{Type: uint32(elf.SHT_STRTAB), Off: head + uint64(len(dyn)), Size: uint64(len(names))},
	}
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: head, Phentsize: 56,
		Shoff: head + uint64(len(dyn)+len(names)), Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: 2,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	return string(slices.Concat(encode(t, h), dyn, names, encode(t, sections)))
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// debian is a tar as mmdebstrap writes it.
func debian(t *testing.T, files map[string]string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, name := range sortedKeys(files) {
		h := tar.Header{Name: "./" + name, Typeflag: tar.TypeReg, Mode: 0o644, Uid: 7, Size: int64(len(files[name]))}
		text := files[name]
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			h.Typeflag, h.Linkname, h.Size, text = tar.TypeSymlink, target, 0, ""
		}
		if target, ok := strings.CutPrefix(text, "= "); ok {
			h.Typeflag, h.Linkname, h.Size, text = tar.TypeLink, "./"+target, 0, ""
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func listing(t *testing.T, r io.Reader) []string {
	t.Helper()
	var out []string
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
			t.Errorf("%s: owner %d:%d, time %v; want root's and none", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		name := h.Name
		if h.Linkname != "" {
			name += " -> " + h.Linkname
		}
		out = append(out, name)
	}
}

func TestTrimTakesWhatIsChosenAndItsLibraries(t *testing.T) {
	in := map[string]string{
		"bin":                               "-> usr/bin",
		"usr/bin/tool":                      elfFile(t, "liba.so.1"),
		"usr/bin/twin":                      "= usr/bin/tool",
		"usr/bin/unwanted":                  elfFile(t, "libz.so.9"),
		"usr/share/doc/tool/copyright":      "…",
		"usr/share/kept/one":                "1",
		"usr/share/kept/deep/two":           "2",
		libraryDir + "/liba.so.1":           "-> liba.so.1.2",
		libraryDir + "/liba.so.1.2":         elfFile(t, "libb.so.1"),
		libraryDir + "/systemd/libb.so.1":   elfFile(t),
		libraryDir + "/liboddments.so.1":    elfFile(t),
		libraryDir + "/libopenedlater.so.3": elfFile(t),
	}
	r := Recipe{
		Name: "t", Keep: []string{"usr/bin/t*", "usr/share/kept/**"}, Drop: []string{"usr/share/kept/deep/*"},
		Loaded: []string{"libopenedlater.so.3"},
		Files:  map[string]string{"etc/hostname": "x\n", "proc/": ""}, Links: map[string]string{"etc/mtab": "../proc/mounts"},
	}
	var out bytes.Buffer
	if err := r.Trim(debian(t, in), &out); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"bin -> usr/bin", "etc/", "etc/hostname", "etc/mtab -> ../proc/mounts", "proc/", "usr/", "usr/bin/", "usr/bin/tool", "usr/bin/twin",
		"usr/lib/", libraryDir + "/", libraryDir + "/liba.so.1 -> liba.so.1.2", libraryDir + "/liba.so.1.2", libraryDir + "/libopenedlater.so.3",
		libraryDir + "/systemd/", libraryDir + "/systemd/libb.so.1", "usr/share/", "usr/share/kept/", "usr/share/kept/one",
	}
	if d := cmp.Diff(want, listing(t, bytes.NewReader(out.Bytes()))); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	var again bytes.Buffer
	if err := r.Trim(debian(t, in), &again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the same packages gave other bytes")
	}
}

func TestTrimSaysWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		r     Recipe
		want  string
	}{
		"moved file":    {map[string]string{"usr/bin/a": ""}, Recipe{Keep: []string{"usr/bin/b"}}, `"usr/bin/b"`},
		"library":       {map[string]string{"usr/bin/a": elfFile(t, "libmissing.so.1")}, Recipe{Keep: []string{"usr/bin/a"}}, "libmissing.so.1"},
		"circle":        {map[string]string{libraryDir + "/l.so": "-> m.so", libraryDir + "/m.so": "-> l.so"}, Recipe{Loaded: []string{"l.so"}}, "circle"},
		"dangling link": {map[string]string{libraryDir + "/l.so": "-> m.so"}, Recipe{Loaded: []string{"l.so"}}, "in no package"},
		"unclean name":  {nil, Recipe{Files: map[string]string{"../etc/x": ""}}, "clean"},
	} {
		err := c.r.Trim(debian(t, c.files), io.Discard)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want an error with %s", name, err, c.want)
		}
	}
}

func TestCutTarIsRefused(t *testing.T) {
	b, err := io.ReadAll(debian(t, map[string]string{"usr/bin/a": strings.Repeat("x", 4096)}))
	if err != nil {
		t.Fatal(err)
	}
	if err := (Recipe{Keep: []string{"usr/bin/a"}}).Trim(bytes.NewReader(b[:2048]), io.Discard); err == nil {
		t.Error("a tar that ends in the middle of a file was taken")
	}
}

// A plain user's mmdebstrap drops setuid bits and root's keeps them: both give
// the same bytes.
func TestTrimIsTheSameForEveryUser(t *testing.T) {
	var trimmed []string
	for _, mode := range []int64{0o4755, 0o755} {
		var in, out bytes.Buffer
		tw := tar.NewWriter(&in)
		if err := tw.WriteHeader(&tar.Header{Name: "./usr/bin/mount", Typeflag: tar.TypeReg, Mode: mode, Size: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte("m")); err != nil {
			t.Fatal(err)
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		if err := (Recipe{Keep: []string{"usr/bin/mount"}}).Trim(&in, &out); err != nil {
			t.Fatal(err)
		}
		trimmed = append(trimmed, out.String())
	}
	if trimmed[0] != trimmed[1] {
		t.Error("a root made by root differs from a plain user's")
	}
}

// A machine that is not Debian trusts no Debian archive by itself, and not every
// network reaches Debian's own mirror.
func TestUnpackArgs(t *testing.T) {
	r := Recipe{Suite: "trixie", Packages: []string{"a", "b"}}
	args := unpackArgs(r, "", "x.tar", 0)
	for _, want := range []string{"--keyring=" + debianKeyring, "--include=a,b", "--variant=extract"} {
		if !slices.Contains(args, want) {
			t.Errorf("unpackArgs = %q; want %s among them", args, want)
		}
	}
	if end := args[len(args)-2:]; !slices.Equal(end, []string{"trixie", "x.tar"}) {
		t.Errorf("unpackArgs end with %q; want suite and tar", end)
	}
	const mirror = "http://mirror.example/debian"
	if args := unpackArgs(r, mirror, "x.tar", 1000); args[len(args)-1] != mirror || args[len(args)-2] != "x.tar" {
		t.Errorf("unpackArgs = %q; want the mirror at the end", args)
	}
}

func TestExtractMode(t *testing.T) {
	if root, user := extractMode(0), extractMode(1000); root != "root" || user != "chrootless" {
		t.Errorf("modes of root and user = %s, %s; want root, chrootless", root, user)
	}
}
