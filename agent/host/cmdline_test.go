package host

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCmdline(t *testing.T) {
	got := ParseCmdline(`console=ttyS0 quiet  ingot.note="two words" "ingot.x=a b" empty= console=tty0 q="open end`)
	want := Cmdline{
		{"console", "ttyS0", true}, {"quiet", "", false}, {"ingot.note", "two words", true}, {"ingot.x", "a b", true},
		{"empty", "", true}, {"console", "tty0", true}, {"q", "open end", true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseCmdline (-want +got):\n%s", diff)
	}
	if v, ok := got.Lookup("console"); v != "tty0" || !ok {
		t.Errorf("Lookup(console) = %q, %v; want the last", v, ok)
	}
	if all := got.All("console"); len(all) != 2 {
		t.Errorf("All(console) = %q; want two", all)
	}
	if _, ok := got.Lookup("absent"); ok {
		t.Error("Lookup(absent) = true")
	}
}

func TestUnknownKeys(t *testing.T) {
	for line, want := range map[string][]string{
		"console=ttyS0 quiet ingot.bootif=52:54:00:01:01:01 ingot.kernel root=/dev/sda foo.bar=1": nil,
		"ingot.bootiff=52:54:00:01:01:01 quiet ingot.debug ingot.bootiff=2":                       {"ingot.bootiff", "ingot.debug"},
		`ingot.x="a b" "ingot.y"`: {"ingot.x", "ingot.y"},
	} {
		if got := ParseCmdline(line).Unknown(); !slices.Equal(got, want) {
			t.Errorf("ParseCmdline(%q).Unknown() = %q; want %q", line, got, want)
		}
	}
}

func TestBootMAC(t *testing.T) {
	for line, want := range map[string]string{
		"ingot.bootif=52:54:00:ab:12:cd":             "52:54:00:ab:12:cd",
		"ingot.bootif=52-54-00-AB-12-CD":             "52:54:00:ab:12:cd",
		"BOOTIF=01-52-54-00-ab-12-cd":                "52:54:00:ab:12:cd",
		"BOOTIF=garbage":                             "",
		"BOOTIF=20-00-52-54-00-ab-12-cd-00":          "",
		"":                                           "",
		"ingot.bootif=x BOOTIF=01-52-54-00-ab-12-cd": "52:54:00:ab:12:cd",
	} {
		if got := ParseCmdline(line).BootMAC().String(); got != want {
			t.Errorf("BootMAC of %q = %q; want %q", line, got, want)
		}
	}
}

func FuzzCmdline(f *testing.F) {
	f.Add(`a=b "c d" e="f g" h`)
	f.Add(`"`)
	f.Fuzz(func(t *testing.T, line string) {
		c := ParseCmdline(line)
		for _, p := range c {
			if p.Key == "" {
				t.Errorf("ParseCmdline(%q) has an empty key", line)
			}
			if v, ok := c.Lookup(p.Key); !ok || len(v) > len(line) {
				t.Errorf("Lookup(%q) = %q, %v", p.Key, v, ok)
			}
			if !p.Set && p.Value != "" {
				t.Errorf("%+v has a value and is not set", p)
			}
		}
		c.BootMAC()
	})
}
