package fleet

import (
	"strings"
	"testing"
)

func TestCovers(t *testing.T) {
	whole := []string{"uuid:a", "uuid:a2", "serial:s1", "mac:1", "mac:2"}
	for _, tt := range []struct {
		name, missing   string
		approved, asked []string
		want            bool
	}{
		{"the same server", "", whole, whole, true},
		{"the UUID in the other byte order", "", whole, []string{"uuid:a2", "serial:s1", "mac:1"}, true},
		{"one NIC more, one less", "", whole, []string{"uuid:a", "serial:s1", "mac:2", "mac:3"}, true},
		{"one MAC address, typed by an attacker", "uuid:a", whole, []string{"uuid:x", "serial:s2", "mac:1"}, false},
		{"another serial", "serial:s1", whole, []string{"uuid:a", "serial:s2", "mac:1"}, false},
		{"a serial that is not told", "serial:s1", whole, []string{"uuid:a", "mac:1"}, false},
		{"another network", "mac:1", whole, []string{"uuid:a", "serial:s1", "mac:9"}, false},
		{"approved by its MAC alone", "", []string{"mac:1"}, whole, true},
		{"nothing was approved", "", nil, whole, false},
	} {
		missing, got := Approval{Aliases: tt.approved}.Covers(tt.asked)
		if got != tt.want || missing != tt.missing {
			t.Errorf("%s: Covers = %q, %t; want %q, %t", tt.name, missing, got, tt.missing, tt.want)
		}
	}
}

func TestCheckMessage(t *testing.T) {
	for _, tt := range []struct{ name, in, wrong string }{
		{"an event", `{"a":[{"b":"[[[[{{{{\"[[["}]}`, ""},
		{"brackets in text", `"` + strings.Repeat("[", 1000) + `"`, ""},
		{"64 deep", strings.Repeat("[", 64) + strings.Repeat("]", 64), ""},
		{"65 deep", strings.Repeat("[", 65) + strings.Repeat("]", 65), "nested deeper than 64 at byte 64"},
		{"ten thousand deep", strings.Repeat(`{"a":`, 10000), "nested deeper"},
		{"after an escaped quote", `"\"", ` + strings.Repeat("[", 65), "nested deeper"},
		{"bad UTF-8", "{\"a\":\"\xff\xfe\"}", "not UTF-8 from byte 6"},
		{"a surrogate", "\xed\xa0\x80", "not UTF-8 from byte 0"},
		{"1 MB", strings.Repeat(" ", 1<<20), "1048576 bytes"},
		{"nothing", "", ""},
	} {
		err := CheckMessage([]byte(tt.in))
		if tt.wrong == "" && err != nil || tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)) {
			t.Errorf("%s: CheckMessage = %v; want %q", tt.name, err, tt.wrong)
		}
	}
}
