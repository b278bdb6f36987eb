package host

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// aliasTable answers which modules a modalias asks for. It holds the patterns
// of modules.alias, split by bus ("pci", "virtio"), since a modalias never
// matches a pattern of another bus.
type aliasTable map[string][]aliasPattern

type aliasPattern struct {
	literal string // what stands before the first wildcard, after the bus
	rest    string // the pattern from there on
	module  string
}

func parseAliases(r io.Reader) (aliasTable, error) {
	t := aliasTable{}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		line, ok := strings.CutPrefix(sc.Text(), "alias ")
		if !ok {
			continue
		}
		pattern, module, ok := strings.Cut(line, " ")
		if !ok {
			return nil, fmt.Errorf("line %.80q is not \"alias <pattern> <module>\"", sc.Text())
		}
		bus, tail := splitBus(pattern)
		cut := strings.IndexAny(tail, `*?[\`)
		if cut < 0 {
			cut = len(tail)
		}
		t[bus] = append(t[bus], aliasPattern{literal: tail[:cut], rest: tail[cut:], module: module})
	}
	return t, sc.Err()
}

// splitBus cuts "pci:v0000…" behind the bus; a pattern without one
// ("fs-ext4"), or with a wildcard in it ("acpi*:IPI0001:*"), has the bus "".
func splitBus(alias string) (bus, tail string) {
	bus, tail, ok := strings.Cut(alias, ":")
	if !ok || strings.ContainsAny(bus, `*?[\`) {
		return "", alias
	}
	return bus, tail
}

// match lists the modules whose patterns fit, sorted, each once.
func (t aliasTable) match(modalias string) []string {
	bus, tail := splitBus(modalias)
	out := matchAll(t[bus], tail)
	if bus != "" {
		out = append(out, matchAll(t[""], modalias)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func matchAll(patterns []aliasPattern, s string) []string {
	var out []string
	for _, p := range patterns {
		if strings.HasPrefix(s, p.literal) && fnmatch(p.rest, s[len(p.literal):]) {
			out = append(out, p.module)
		}
	}
	return out
}

// fnmatch is fnmatch(3) without flags, by which kmod matches: '*' and '?' match
// any byte, '/' too; [a-z] and [!a-z] are sets; '\' takes the next byte as it
// is. Its time is bounded by the product of the lengths.
func fnmatch(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0 // where the last '*' stands, and what it has eaten up to
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, i
			p++
			continue
		}
		if n := matchOne(pattern[p:], s[i]); n > 0 {
			p += n
			i++
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, i = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches one byte against the head of a pattern and gives the length
// of that head, or 0.
func matchOne(pattern string, b byte) int {
	if pattern == "" {
		return 0
	}
	switch pattern[0] {
	case '?':
		return 1
	case '[':
		if n, in := matchSet(pattern, b); n > 0 {
			if in {
				return n
			}
			return 0
		}
	case '\\':
		if len(pattern) > 1 {
			if pattern[1] == b {
				return 2
			}
			return 0
		}
	}
	if pattern[0] == b {
		return 1
	}
	return 0
}

// matchSet reads a set at the head of a pattern: its length, and whether b is
// in it. A set that is not closed has length 0 and stands for its bracket.
func matchSet(pattern string, b byte) (n int, in bool) {
	i := 1
	negate := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negate {
		i++
	}
	for first := i; i < len(pattern); {
		if pattern[i] == ']' && i > first {
			return i + 1, in != negate
		}
		lo := pattern[i]
		hi := lo
		i++
		if i+1 < len(pattern) && pattern[i] == '-' && pattern[i+1] != ']' {
			hi = pattern[i+1]
			i += 2
		}
		in = in || (lo <= b && b <= hi)
	}
	return 0, false
}
