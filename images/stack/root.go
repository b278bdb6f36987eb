package stack

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Recipe says what a root is made of: Debian packages, of which only the chosen
// files are taken, with the libraries that these need, and files of our own.
type Recipe struct {
	Name     string
	Suite    string
	Packages []string
	// Keep are patterns of paths ("usr/bin/ls", "usr/lib/udev/**"); Drop takes
	// back. A pattern that matches nothing is an error: a file has moved.
	Keep []string
	Drop []string
	// Loaded are libraries that programs open by name as they run, by soname.
	Loaded []string
	// Files and Links are added as they stand; a folder ends in "/".
	Files map[string]string
	Links map[string]string
	// Modes differ from 0644 (files) and 0755 (folders).
	Modes map[string]int64
}

// libraryDir is where Debian keeps libraries on amd64.
const libraryDir = "usr/lib/x86_64-linux-gnu"

// setIDs are the bits of setuid and setgid.
const setIDs = 0o6000

// maxRootBytes bounds what is read of a root.
const maxRootBytes = 2 << 30

// member is one file of the tar that mmdebstrap wrote.
type member struct {
	tar.Header
	data []byte
}

// Trim reads a root as a tar and writes the recipe's part of it, sorted by
// path, with one time for all, owned by root: the same packages give the same
// bytes.
func (r Recipe) Trim(in io.Reader, out io.Writer) error {
	all, err := readTar(in)
	if err != nil {
		return fmt.Errorf("root %s: %w", r.Name, err)
	}
	chosen, err := r.choose(all)
	if err != nil {
		return fmt.Errorf("root %s: %w", r.Name, err)
	}
	if err := r.addFiles(chosen); err != nil {
		return fmt.Errorf("root %s: %w", r.Name, err)
	}
	if err := writeTar(out, chosen); err != nil {
		return fmt.Errorf("root %s: write tar: %w", r.Name, err)
	}
	return nil
}

func readTar(in io.Reader) (map[string]member, error) {
	all := map[string]member{}
	tr := tar.NewReader(in)
	var total int64
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read tar: %w", err)
		}
		if total += h.Size; total > maxRootBytes {
			return nil, fmt.Errorf("read tar: is larger than %d bytes", maxRootBytes)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if name == "" {
			continue
		}
		m := member{Header: *h}
		m.Name = name
		// A plain user's mmdebstrap leaves them out; all in a root runs as root.
		m.Mode &^= setIDs
		switch h.Typeflag {
		case tar.TypeReg:
			if m.data, err = io.ReadAll(tr); err != nil {
				return nil, fmt.Errorf("read tar: %s: %w", name, err)
			}
		case tar.TypeLink:
			target, ok := all[strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")]
			if !ok {
				return nil, fmt.Errorf("read tar: %s: links to %s, which is not before it", name, h.Linkname)
			}
			m.Typeflag, m.data, m.Linkname, m.Size = tar.TypeReg, target.data, "", int64(len(target.data))
		case tar.TypeSymlink, tar.TypeDir:
		default:
			continue // device nodes: the kernel makes them
		}
		all[name] = m
	}
}

func (r Recipe) choose(all map[string]member) (map[string]member, error) {
	chosen := map[string]member{}
	drop := matcher(r.Drop)
	for _, p := range r.Keep {
		one, found := matcher([]string{p}), false
		for name, m := range all {
			if !one(name) {
				continue
			}
			found = true
			if !drop(name) {
				chosen[name] = m
			}
		}
		if !found {
			return nil, fmt.Errorf("keep %q: the packages hold no such file", p)
		}
	}
	for name, m := range all {
		if m.Typeflag == tar.TypeSymlink && !strings.Contains(name, "/") {
			chosen[name] = m // bin -> usr/bin and the like
		}
	}
	l := linker{all: all, chosen: chosen, libraries: libraries(all)}
	for _, soname := range r.Loaded {
		if err := l.need(soname, "the recipe"); err != nil {
			return nil, err
		}
	}
	return chosen, l.closure()
}

// libraries maps sonames to paths: every shared object in the usual folders.
func libraries(all map[string]member) map[string]string {
	libs := map[string]string{}
	for _, folder := range []string{libraryDir + "/", libraryDir + "/systemd/"} {
		for name := range all {
			dir, base := path.Split(name)
			if dir == folder && strings.Contains(base, ".so") && libs[base] == "" {
				libs[base] = name
			}
		}
	}
	return libs
}

// linker follows what programs are linked against.
type linker struct {
	all, chosen map[string]member
	libraries   map[string]string
}

// need adds a library by its soname, with the file that its link leads to.
func (l *linker) need(soname, by string) error {
	name, ok := l.libraries[soname]
	if !ok {
		return fmt.Errorf("library %s, which %s needs, is in no package", soname, by)
	}
	for range 8 {
		m := l.all[name]
		l.chosen[name] = m
		if m.Typeflag != tar.TypeSymlink {
			return nil
		}
		if name = path.Join(path.Dir(name), m.Linkname); strings.HasPrefix(m.Linkname, "/") {
			name = strings.TrimPrefix(m.Linkname, "/")
		}
		if _, ok := l.all[name]; !ok {
			return fmt.Errorf("library %s: its link leads to %s, which is in no package", soname, name)
		}
	}
	return fmt.Errorf("library %s: its links run in a circle", soname)
}

// closure adds libraries until no program lacks one.
func (l *linker) closure() error {
	done := map[string]bool{}
	for {
		var fresh []string
		for name, m := range l.chosen {
			if m.Typeflag == tar.TypeReg && !done[name] {
				fresh = append(fresh, name)
			}
		}
		if len(fresh) == 0 {
			return nil
		}
		slices.Sort(fresh)
		for _, name := range fresh {
			done[name] = true
			for _, soname := range needed(l.chosen[name].data) {
				if err := l.need(soname, name); err != nil {
					return err
				}
			}
		}
	}
}

// needed lists the sonames that an ELF file is linked against; what is no ELF
// file, or a static one, needs none.
func needed(b []byte) []string {
	if !bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
		return nil
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return nil
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			raw, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			if err == nil {
				libs = append(libs, path.Base(strings.TrimRight(string(raw), "\x00")))
			}
		}
	}
	return libs
}

func (r Recipe) addFiles(chosen map[string]member) error {
	add := func(name string, h tar.Header, data []byte) error {
		clean := strings.TrimSuffix(name, "/")
		if clean != strings.TrimPrefix(path.Clean("/"+clean), "/") {
			return fmt.Errorf("file %q: not a clean relative path", name)
		}
		h.Name, h.Size = clean, int64(len(data))
		if m, ok := r.Modes[name]; ok {
			h.Mode = m
		}
		chosen[clean] = member{Header: h, data: data}
		return nil
	}
	for name, text := range r.Files {
		h := tar.Header{Typeflag: tar.TypeReg, Mode: 0o644}
		if strings.HasSuffix(name, "/") {
			h = tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}
		}
		if err := add(name, h, []byte(text)); err != nil {
			return err
		}
	}
	for name, target := range r.Links {
		if err := add(name, tar.Header{Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: target}, nil); err != nil {
			return err
		}
	}
	return nil
}

// writeTar writes the files with every folder that they need before them.
func writeTar(out io.Writer, files map[string]member) error {
	for name := range files {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := files[dir]; !ok {
				files[dir] = member{Header: tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}}
			}
		}
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	tw := tar.NewWriter(out)
	for _, name := range names {
		m := files[name]
		h := tar.Header{
			Name: name, Typeflag: m.Typeflag, Mode: m.Mode & 0o7777, Linkname: m.Linkname,
			Size: int64(len(m.data)), ModTime: time.Unix(0, 0).UTC(), Format: tar.FormatPAX,
		}
		if m.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
		if err := tw.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := tw.Write(m.data); err != nil {
			return err
		}
	}
	return tw.Close()
}

// matcher tells whether a path matches one of the patterns: "*" is anything
// but a slash, "**" anything.
func matcher(patterns []string) func(string) bool {
	if len(patterns) == 0 {
		return func(string) bool { return false }
	}
	var all []string
	for _, p := range patterns {
		q := regexp.QuoteMeta(p)
		q = strings.ReplaceAll(q, `\*\*`, `.*`)
		q = strings.ReplaceAll(q, `\*`, `[^/]*`)
		all = append(all, q)
	}
	re := regexp.MustCompile(`^(?:` + strings.Join(all, "|") + `)$`)
	return re.MatchString
}
