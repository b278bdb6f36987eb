package host

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// modIndex is what modules.dep and its like say (modules.dep(5)).
type modIndex struct {
	dir     string
	path    map[string]string   // name → file, absolute
	deps    map[string][]string // name → all it needs
	soft    map[string][]string // name → what should come before, if it can
	builtin map[string]bool
	aliases aliasTable
}

// canonical is the kernel's name of a module: with underscores, without suffix.
func canonical(name string) string {
	base := filepath.Base(name)
	base, _, _ = strings.Cut(base, ".ko")
	return strings.ReplaceAll(base, "-", "_")
}

func readModIndex(dir string) (*modIndex, error) {
	x := &modIndex{dir: dir, path: map[string]string{}, deps: map[string][]string{}, soft: map[string][]string{}, builtin: map[string]bool{}}
	for _, f := range []struct {
		name string
		read func([]byte) error
	}{
		{"modules.dep", x.readDep},
		{"modules.softdep", x.readSoft},
		{"modules.builtin", x.readBuiltin},
		{"modules.alias", x.readAliases},
	} {
		data, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil {
			return nil, err
		}
		if err := f.read(data); err != nil {
			return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, f.name), err)
		}
	}
	return x, nil
}

func (x *modIndex) readDep(data []byte) error {
	return eachLine(data, func(line string) error {
		file, needs, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("line %.80q has no colon", line)
		}
		name := canonical(file)
		x.path[name] = filepath.Join(x.dir, file)
		for _, d := range strings.Fields(needs) {
			x.deps[name] = append(x.deps[name], canonical(d))
		}
		return nil
	})
}

func (x *modIndex) readSoft(data []byte) error {
	return eachLine(data, func(line string) error {
		w := strings.Fields(line)
		if len(w) < 3 || w[0] != "softdep" {
			return nil
		}
		pre := false
		for _, s := range w[2:] {
			switch {
			case strings.HasSuffix(s, ":"):
				pre = s == "pre:"
			case pre:
				x.soft[canonical(w[1])] = append(x.soft[canonical(w[1])], canonical(s))
			}
		}
		return nil
	})
}

func (x *modIndex) readBuiltin(data []byte) error {
	return eachLine(data, func(line string) error {
		x.builtin[canonical(line)] = true
		return nil
	})
}

func (x *modIndex) readAliases(data []byte) (err error) {
	x.aliases, err = parseAliases(bytes.NewReader(data))
	return err
}

func eachLine(data []byte, f func(string) error) error {
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := f(line); err != nil {
			return err
		}
	}
	return sc.Err()
}
