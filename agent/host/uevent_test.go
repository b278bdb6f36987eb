package host

import (
	"strings"
	"testing"
)

func TestParseUevent(t *testing.T) {
	u, ok := parseUevent([]byte("add@/devices/pci0000:00/0000:00:02.0\x00ACTION=add\x00SUBSYSTEM=pci\x00MODALIAS=pci:v1\x00"))
	if !ok || u.Action != "add" || u.DevPath != "/devices/pci0000:00/0000:00:02.0" || u.Env["MODALIAS"] != "pci:v1" || len(u.Env) != 3 {
		t.Errorf("parseUevent = %+v, %v", u, ok)
	}
	for _, msg := range []string{"", "add@/x", "libudev\x00\xfe\xed\xca\xfe", "@/x\x00", "add@x\x00", strings.Repeat("a", maxUevent) + "@/\x00"} {
		if u, ok := parseUevent([]byte(msg)); ok {
			t.Errorf("parseUevent(%.20q) = %+v; want none", msg, u)
		}
	}
}

func FuzzUevent(f *testing.F) {
	f.Add([]byte("add@/devices/x\x00ACTION=add\x00MODALIAS=virtio:d1v2\x00"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		u, ok := parseUevent(msg)
		if !ok {
			return
		}
		if !strings.HasPrefix(u.DevPath, "/") || u.Action == "" {
			t.Errorf("parseUevent(%q) = %+v", msg, u)
		}
		// Round trip: what is written again reads the same.
		b := []byte(u.Action + "@" + u.DevPath + "\x00")
		for k, v := range u.Env {
			b = append(b, k+"="+v+"\x00"...)
		}
		if again, ok := parseUevent(b); !ok || len(again.Env) != len(u.Env) || again.DevPath != u.DevPath {
			t.Errorf("%q read again = %+v, %v; want %+v", b, again, ok, u)
		}
	})
}
