package netboot

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func testScript() Script {
	return Script{Server: netip.MustParseAddrPort("10.77.0.1:8080"), Kernel: PathKernel,
		Initrds: []string{PathInitramfs, PathTrust}, Cmdline: DefaultCmdline()}
}

func TestScriptGolden(t *testing.T) {
	own := testScript()
	own.Server = netip.MustParseAddrPort("192.0.2.7:80")
	own.Initrds = own.Initrds[:1]
	own.Cmdline = []Param{{Key: "quiet"}, {Key: "ip", Value: "10.0.0.1:a=b,c/d@e%f+g-h_i.j"}, {Key: "at", Var: BootAddress}}
	for name, render := range map[string]func() ([]byte, error){
		"boot.ipxe":     testScript().Text,
		"own.ipxe":      own.Text,
		"autoexec.ipxe": testScript().AutoexecText,
	} {
		got, err := render()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatalf("%v (make it with: go test -update)", err)
		}
		if diff := cmp.Diff(string(got), string(want)); diff != "" {
			t.Errorf("%s (-got +want):\n%s", name, diff)
		}
	}
}

func TestScriptRefuses(t *testing.T) {
	for name, change := range map[string]func(*Script){
		"no server":         func(s *Script) { s.Server = netip.AddrPort{} },
		"IPv6 server":       func(s *Script) { s.Server = netip.MustParseAddrPort("[fe80::1]:80") },
		"no port":           func(s *Script) { s.Server = netip.AddrPortFrom(s.Server.Addr(), 0) },
		"no initrd":         func(s *Script) { s.Initrds = nil },
		"relative path":     func(s *Script) { s.Kernel = "vmlinuz" },
		"directory":         func(s *Script) { s.Kernel = "/boot/" },
		"path with newline": func(s *Script) { s.Initrds[0] = "/a\nshell" },
		"path expands":      func(s *Script) { s.Initrds[0] = "/${net0/mac}" },
		"value expands":     func(s *Script) { s.Cmdline = []Param{{Key: "a", Value: "${net0/mac}"}} },
		"value with blank":  func(s *Script) { s.Cmdline = []Param{{Key: "a", Value: "b init=/bin/sh"}} },
		"value runs on":     func(s *Script) { s.Cmdline = []Param{{Key: "a", Value: "b||shell"}} },
		"value with quote":  func(s *Script) { s.Cmdline = []Param{{Key: "a", Value: `"b"`}} },
		"value not ASCII":   func(s *Script) { s.Cmdline = []Param{{Key: "a", Value: "é"}} },
		"key with =":        func(s *Script) { s.Cmdline = []Param{{Key: "a=b"}} },
		"empty key":         func(s *Script) { s.Cmdline = []Param{{Value: "b"}} },
		"foreign variable":  func(s *Script) { s.Cmdline = []Param{{Key: "a", Var: "${password}"}} },
		"two values":        func(s *Script) { s.Cmdline = []Param{{Key: "a", Value: "b", Var: BootMAC}} },
		"too long":          func(s *Script) { s.Cmdline = []Param{{Key: strings.Repeat("a", maxCmdline)}} },
	} {
		s := testScript()
		change(&s)
		if got, err := s.Text(); err == nil {
			t.Errorf("%s: Text = %q; want an error", name, got)
		}
	}
}

// No value whatever may add a line, a command or an expansion to a script.
func FuzzScript(f *testing.F) {
	f.Add("console", "ttyS0,115200", "/boot/vmlinuz")
	f.Add("a", "${net0/mac}", "/x")
	f.Add("a\n", "b || shell", "/boot/#")
	plain, err := testScript().Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key, value, path string) {
		s := testScript()
		s.Cmdline = append(s.Cmdline, Param{Key: key, Value: value})
		s.Kernel = path
		got, err := s.Text()
		if err != nil {
			return
		}
		for _, c := range []string{"\n", "${", "||", "&&", ";", "#", "\"", "\r", "\t", "\x00"} {
			if g, w := bytes.Count(got, []byte(c)), bytes.Count(plain, []byte(c)); g != w {
				t.Errorf("%q occurs %d times with %q=%q at %q; want %d", c, g, key, value, path, w)
			}
		}
	})
}
