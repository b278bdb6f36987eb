package host

import (
	"slices"
	"strings"
)

// Cmdline is a kernel command line (Documentation/admin-guide/kernel-parameters.rst).
type Cmdline []Param

// Param is one word of it. A word without "=" has Value "" and Set false.
type Param struct {
	Key, Value string
	Set        bool
}

// ParseCmdline splits a command line as the kernel does: at white space, where
// double quotes keep words together and are dropped around a value.
func ParseCmdline(line string) Cmdline {
	var c Cmdline
	for _, w := range splitWords(line) {
		w = unquote(w)
		key, value, set := strings.Cut(w, "=")
		if key = unquote(key); key == "" {
			continue
		}
		c = append(c, Param{Key: key, Value: unquote(value), Set: set})
	}
	return c
}

func splitWords(line string) []string {
	var words []string
	start, quoted := -1, false
	for i := 0; i < len(line); i++ {
		switch b := line[i]; {
		case b == '"':
			quoted = !quoted
			if start < 0 {
				start = i
			}
		case !quoted && (b == ' ' || b == '\t' || b == '\n' || b == '\r'):
			if start >= 0 {
				words = append(words, line[start:i])
				start = -1
			}
		case start < 0:
			start = i
		}
	}
	if start >= 0 {
		words = append(words, line[start:])
	}
	return words
}

// unquote drops one pair of quotes around s; the closing one may be missing.
func unquote(s string) string {
	if rest, ok := strings.CutPrefix(s, `"`); ok {
		return strings.TrimSuffix(rest, `"`)
	}
	return s
}

// Lookup gives the last value of a key.
func (c Cmdline) Lookup(key string) (string, bool) {
	for i := len(c) - 1; i >= 0; i-- {
		if c[i].Key == key {
			return c[i].Value, true
		}
	}
	return "", false
}

// All gives every value of a key, in order.
func (c Cmdline) All(key string) []string {
	var values []string
	for _, p := range c {
		if p.Key == key {
			values = append(values, p.Value)
		}
	}
	return values
}

// The words of a kernel command line that are Ingot's: who reads them is the
// agent; ingot.kernel is only the name that a boot script gives the kernel.
const (
	namespace  = "ingot."
	keyBootIf  = "ingot.bootif"
	keyKernel  = "ingot.kernel"
	maxUnknown = 16
)

// Unknown gives the keys in Ingot's own namespace that no part of it reads, each
// once: somebody mistyped one, or meant another version.
func (c Cmdline) Unknown() []string {
	var out []string
	for _, p := range c {
		if strings.HasPrefix(p.Key, namespace) && !slices.Contains(KnownKeys(), p.Key) && !slices.Contains(out, p.Key) && len(out) < maxUnknown {
			out = append(out, p.Key)
		}
	}
	return out
}

// KnownKeys are the keys that [Cmdline.Unknown] passes over.
func KnownKeys() []string { return []string{keyBootIf, keyKernel} }
