package initramfs

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// The index is in kmod's own formats (modules.dep(5), modprobe.d(5)), so that
// the agent and any other loader find a module without opening 400 of them.
const (
	indexDep     = "modules.dep"
	indexAlias   = "modules.alias"
	indexSoftdep = "modules.softdep"
	indexBuiltin = "modules.builtin"
)

// index writes the files of lib/modules/<version>/ for these modules.
func (t *tree) index(mods []ModInfo) (map[string][]byte, error) {
	byName := map[string]ModInfo{}
	for _, m := range mods {
		byName[m.Name] = m
	}
	var dep, alias, soft bytes.Buffer
	sorted := slices.SortedFunc(slices.Values(mods), func(a, b ModInfo) int { return strings.Compare(a.Path, b.Path) })
	for _, m := range sorted {
		fmt.Fprintf(&dep, "%s:", m.Path)
		for _, d := range hardDeps(byName, m.Name) {
			fmt.Fprintf(&dep, " %s", byName[d].Path)
		}
		dep.WriteByte('\n')
		for _, a := range m.Aliases {
			fmt.Fprintf(&alias, "alias %s %s\n", a, m.Name)
		}
		names, err := t.resolve(m.SoftPre)
		if err != nil {
			return nil, err
		}
		names = slices.DeleteFunc(names, func(n string) bool { _, ok := byName[n]; return !ok })
		if len(names) > 0 {
			fmt.Fprintf(&soft, "softdep %s pre: %s\n", m.Name, strings.Join(names, " "))
		}
	}
	var builtin bytes.Buffer
	for _, n := range sortedKeys(t.builtin) {
		fmt.Fprintf(&builtin, "kernel/%s.ko\n", n)
	}
	return map[string][]byte{
		indexDep: dep.Bytes(), indexAlias: alias.Bytes(), indexSoftdep: soft.Bytes(), indexBuiltin: builtin.Bytes(),
	}, nil
}

// hardDeps lists all that a module needs, nearest first: the last is to be
// loaded first, as depmod writes it.
func hardDeps(byName map[string]ModInfo, name string) []string {
	var order []string // dependencies first
	seen := map[string]bool{name: true}
	var visit func(string)
	visit = func(n string) {
		for _, d := range byName[n].Depends {
			if _, ok := byName[d]; !ok || seen[d] {
				continue // built in, or done
			}
			seen[d] = true
			visit(d)
			order = append(order, d)
		}
	}
	visit(name)
	slices.Reverse(order)
	return order
}

func sortedKeys(set map[string]bool) []string {
	keys := make([]string, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
