package host

import (
	"path"
	"slices"
	"strings"
	"testing"
)

func TestFnmatch(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"*", "", true},
		{"", "a", false},
		{"v00008086d000010D3sv*sd*bc*sc*i*", "v00008086d000010D3sv00008086sd00000000bc02sc00i00", true},
		{"v00008086d000010D4sv*sd*bc*sc*i*", "v00008086d000010D3sv00008086sd00000000bc02sc00i00", false},
		{"v*d*sv*sd*bc01sc08i02*", "v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", true},
		{"a*b*c", "aXXbYYbZc", true},
		{"a*b*c", "aXXbYYbZ", false},
		{"a/*", "a/b/c", true}, // '/' is a byte like any
		{"?[0-9a-c]", "x7", true},
		{"?[0-9a-c]", "xd", false},
		{"[!a]", "b", true},
		{"[!a]", "a", false},
		{"[]a]", "]", true},
		{"[a", "[a", true}, // not closed: a bracket
		{`\*`, "*", true},
		{`\*`, "x", false},
		{"p0,*", "p0,1", true},
	} {
		if got := fnmatch(c.pattern, c.s); got != c.want {
			t.Errorf("fnmatch(%q, %q) = %v; want %v", c.pattern, c.s, got, c.want)
		}
	}
}

func TestAliasMatch(t *testing.T) {
	table, err := parseAliases(strings.NewReader(`# comment
alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias virtio:d00000001v* virtio_net
alias acpi*:IPI0001:* ipmi_si
alias platform:dmi-ipmi-si ipmi_si
alias fs-ext4 ext4
alias pci:v*d*sv*sd*bc01sc08i02* nvme
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		modalias string
		want     []string
	}{
		{"pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00", []string{"e1000e"}},
		{"pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", []string{"nvme"}},
		{"virtio:d00000001v00001AF4", []string{"virtio_net"}},
		{"virtio:d00000002v00001AF4", nil},
		{"platform:dmi-ipmi-si", []string{"ipmi_si"}},
		{"acpi:IPI0001:", []string{"ipmi_si"}},
		{"fs-ext4", []string{"ext4"}},
		{"", nil},
	} {
		if got := table.match(c.modalias); !slices.Equal(got, c.want) {
			t.Errorf("match(%q) = %q; want %q", c.modalias, got, c.want)
		}
	}
	if _, err := parseAliases(strings.NewReader("alias lonely\n")); err == nil {
		t.Error("parseAliases of a line without a module = nil; want an error")
	}
}

// FuzzFnmatch holds fnmatch against path.Match, where both mean the same.
func FuzzFnmatch(f *testing.F) {
	f.Add("v*d[0-9]?", "v1d2x")
	f.Add("a*b*c*", "aabbcc")
	f.Add("[a-]", "-")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern)+len(s) > 200 {
			return
		}
		got := fnmatch(pattern, s)
		for _, text := range []string{pattern, s} {
			for _, r := range text {
				if r >= 0x80 || r == '/' {
					return // runes, and path separators
				}
			}
		}
		if strings.ContainsAny(pattern, `[]\`) {
			return // what is malformed differs
		}
		if want, err := path.Match(pattern, s); err == nil && got != want {
			t.Errorf("fnmatch(%q, %q) = %v; path.Match = %v", pattern, s, got, want)
		}
	})
}

func BenchmarkAliasMatch(b *testing.B) {
	var lines strings.Builder
	for i := range 6000 {
		lines.WriteString("alias pci:v00008086d0000")
		lines.WriteString(strings.Repeat("0", 4-len(hex4(i))) + hex4(i) + "sv*sd*bc*sc*i* driver\n")
	}
	table, err := parseAliases(strings.NewReader(lines.String()))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		table.match("pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00")
	}
}

func hex4(i int) string {
	const digits = "0123456789ABCDEF"
	s := ""
	for ; i > 0; i /= 16 {
		s = string(digits[i%16]) + s
	}
	return s
}
