package initramfs

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// ErrNoModule is a module that the folder does not hold.
var ErrNoModule = errors.New("no such module")

// Closure gives the module files that the named modules need, themselves
// included, in the order in which they must be loaded. Paths are relative to
// modulesDir (…/lib/modules/<version>). What is built into the kernel counts as
// there. A soft dependency that the folder does not hold is left out.
func Closure(modulesDir string, names []string) ([]string, error) {
	t, err := openTree(modulesDir)
	if err != nil {
		return nil, err
	}
	mods, err := t.closure(names)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(mods))
	for i, m := range mods {
		paths[i] = m.Path
	}
	return paths, nil
}

// tree is one kernel's modules folder; .modinfo sections are read when asked for.
type tree struct {
	dir     string
	paths   map[string]string // name → path relative to dir
	builtin map[string]bool

	mu   sync.Mutex
	info map[string]ModInfo

	crypto map[string][]string // alias → names; read when first asked for
}

func openTree(dir string) (*tree, error) {
	t := &tree{dir: dir, paths: map[string]string{}, builtin: map[string]bool{}, info: map[string]ModInfo{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || !isModule(d.Name()) {
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		t.paths[moduleName(rel)] = filepath.ToSlash(rel)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	if len(t.paths) == 0 {
		return nil, fmt.Errorf("list modules: none in %s", dir)
	}
	f, err := os.Open(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("list builtin modules: %w", err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		t.builtin[moduleName(sc.Text())] = true
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("list builtin modules: %w", err)
	}
	return t, nil
}

func isModule(name string) bool {
	return strings.HasSuffix(name, ".ko") || strings.HasSuffix(name, ".ko.xz")
}

// read gives a module's own words, from memory the second time.
func (t *tree) read(name string) (ModInfo, error) {
	t.mu.Lock()
	m, ok := t.info[name]
	t.mu.Unlock()
	if ok {
		return m, nil
	}
	m, err := readModInfo(t.dir, t.paths[name])
	if err != nil {
		return ModInfo{}, err
	}
	t.mu.Lock()
	t.info[name] = m
	t.mu.Unlock()
	return m, nil
}

// readAll reads many modules at once: unpacking is what takes the time.
func (t *tree) readAll(names []string) error {
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	for _, n := range names {
		if t.paths[n] == "" {
			continue
		}
		g.Go(func() error {
			_, err := t.read(n)
			return err
		})
	}
	return g.Wait()
}

// closure walks the dependencies depth first; a module stands after what it needs.
func (t *tree) closure(names []string) ([]ModInfo, error) {
	roots := make([]string, len(names))
	for i, n := range names {
		roots[i] = strings.ReplaceAll(n, "-", "_")
	}
	if err := t.readAll(roots); err != nil {
		return nil, err
	}
	w := walk{tree: t, seen: map[string]bool{}}
	for _, n := range roots {
		if err := w.visit(n, nil); err != nil {
			return nil, err
		}
	}
	return w.out, nil
}

// resolve names the modules that soft dependencies mean. Those of the crypto
// kind are aliases ("crc32c" is crc32c_generic and crc32c_intel): without them
// ext4 does not mount where no modprobe answers the kernel. A name that nothing
// here bears is left out.
func (t *tree) resolve(soft []string) ([]string, error) {
	var names []string
	for _, s := range soft {
		if t.builtin[s] || t.paths[s] != "" {
			names = append(names, s)
			continue
		}
		if err := t.readCrypto(); err != nil {
			return nil, err
		}
		names = append(names, t.crypto[s]...)
	}
	return names, nil
}

// readCrypto fills t.crypto from the folders where algorithms live.
func (t *tree) readCrypto() error {
	if t.crypto != nil {
		return nil
	}
	var algorithms []string
	for name, path := range t.paths {
		if strings.Contains(path, "/crypto/") && !strings.Contains(path, "/drivers/") {
			algorithms = append(algorithms, name)
		}
	}
	slices.Sort(algorithms)
	if err := t.readAll(algorithms); err != nil {
		return err
	}
	t.crypto = map[string][]string{}
	for _, name := range algorithms {
		m, err := t.read(name)
		if err != nil {
			return err
		}
		for _, a := range m.Aliases {
			a = strings.ReplaceAll(a, "-", "_")
			t.crypto[a] = append(t.crypto[a], name)
		}
	}
	return nil
}

type walk struct {
	tree *tree
	seen map[string]bool
	out  []ModInfo
}

func (w *walk) visit(name string, from []string) error {
	if w.seen[name] || w.tree.builtin[name] {
		return nil
	}
	if w.tree.paths[name] == "" {
		err := fmt.Errorf("module %s: %w in %s", name, ErrNoModule, w.tree.dir)
		if len(from) > 0 {
			err = fmt.Errorf("%w (wanted by %s)", err, strings.Join(from, " ← "))
		}
		return err
	}
	w.seen[name] = true // also ends a circle, which soft dependencies may form
	m, err := w.tree.read(name)
	if err != nil {
		return err
	}
	soft, err := w.tree.resolve(m.SoftPre)
	if err != nil {
		return err
	}
	for _, s := range soft {
		if err := w.visit(s, append([]string{name}, from...)); err != nil {
			return err
		}
	}
	for _, d := range m.Depends {
		if err := w.visit(d, append([]string{name}, from...)); err != nil {
			return err
		}
	}
	w.out = append(w.out, m)
	return nil
}
