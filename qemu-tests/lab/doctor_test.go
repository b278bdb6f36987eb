package lab

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a directory that stands for a machine, with these files in it.
func machine(t *testing.T, euid int, files map[string]string) host {
	t.Helper()
	h := host{root: t.TempDir(), euid: euid}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(h.path(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.path(name), []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestDoctorNamesWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	err := Doctor(t.Context(), Options{Build: dir})
	if err == nil || !strings.Contains(err.Error(), "make build/tools/.stamp") {
		t.Fatalf("doctor without tools = %v; want what makes them", err)
	}
	if strings.Contains(err.Error(), "make stack") {
		t.Errorf("doctor of a lab that serves nothing = %v; want no stack asked for", err)
	}
	err = Doctor(t.Context(), Options{Build: dir, Serve: []string{"ingot"}})
	for _, line := range []string{"make build/tools/.stamp", "make image", "make stack"} {
		if err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("doctor of an empty build directory = %v; want %q", err, line)
		}
	}
	// Each file is asked for: with all but one there, it is that one.
	files := tools(dir).files()
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if c := toolsCheck(tools(dir)); c.State != StateOK {
		t.Errorf("check of all files = %v; want ok", c)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
		if c := toolsCheck(tools(dir)); c.State != StateMissing || !strings.Contains(c.Seen, f) {
			t.Errorf("check without %s = %v; want it named", f, c)
		}
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUpRefusesWithoutTools(t *testing.T) {
	if _, err := Up(t.Context(), Options{Name: "none", Build: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "cannot run here") {
		t.Errorf("up without tools = %v; want it refused", err)
	}
	if _, err := Up(t.Context(), Options{Name: "none", Accel: "xen"}); err == nil || !strings.Contains(err.Error(), "want auto, tcg or kvm") {
		t.Errorf("up under xen = %v; want it refused", err)
	}
}

func TestPortsOfALab(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	for _, tt := range []struct {
		ports map[string]int
		want  string
	}{
		{map[string]int{"r1u9.redfish": 8443}, `port of "r1u9.redfish": this lab has no such way in: want one of nats, http, r1u1.redfish`},
		{map[string]int{"nats": 70000}, "70000 is no port"},
		{map[string]int{"http": taken}, `open the way in "http": listen tcp ` + l.Addr().String() + ": bind: address already in use (name another port"},
	} {
		o := Options{Name: "ports", Ports: tt.ports, Serve: []string{"ingot"}, SkipDoctor: true, Accel: AccelTCG}
		if _, err := Up(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ports %v: %v; want %q", tt.ports, err, tt.want)
		}
	}
	// A lab that is up already keeps its name.
	o := Options{Name: "ports", Serve: []string{"ingot"}, SkipDoctor: true, Accel: AccelTCG}
	files, _, err := openListeners(must(o.complete()))
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(files)
	if _, err := Up(t.Context(), o); err == nil || !strings.Contains(err.Error(), `"ports" is up already`) {
		t.Errorf("a second lab of one name = %v; want it refused", err)
	}
}

func must(o Options, err error) Options {
	if err != nil {
		panic(err)
	}
	return o
}

// A thing that is missing says the line that mends it, and not another.
func TestMends(t *testing.T) {
	const userns, clone, apparmor = "/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
	for _, tt := range []struct {
		name  string
		euid  int
		files map[string]string
		want  string
	}{
		{"root in a container", 0, nil, "--privileged"},
		{"namespaces counted down to none", 1000, map[string]string{userns: "0"}, "sysctl -w user.max_user_namespaces="},
		{"Debian's switch", 1000, map[string]string{userns: "96365", clone: "0"}, "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"Ubuntu's, since 24.04", 1000, map[string]string{userns: "96365", clone: "1", apparmor: "1"}, "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{"nothing forbids it", 1000, map[string]string{userns: "96365", clone: "1", apparmor: "0"}, "be root"},
	} {
		if got := machine(t, tt.euid, tt.files).mendNamespaces(); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q; want %q", tt.name, got, tt.want)
		}
	}
}

func TestMemoryAndDisk(t *testing.T) {
	const enough = "MemTotal: 16000000 kB\nMemAvailable: 9000000 kB"
	for _, tt := range []struct {
		name  string
		files map[string]string
		state State
		seen  string
	}{
		{"enough", map[string]string{"/proc/meminfo": enough}, StateOK, "8789 MiB free"},
		{"too little", map[string]string{"/proc/meminfo": "MemAvailable: 1000000 kB"}, StateMissing, "976 MiB free, 8192 wanted"},
		{"a container that may take less", map[string]string{"/proc/meminfo": enough, "/sys/fs/cgroup/memory.max": "2147483648"}, StateMissing, "2048 MiB allowed"},
		{"one on a machine with cgroups of version 1", map[string]string{"/proc/meminfo": enough, "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824"}, StateMissing, "1024 MiB allowed"},
		{"one of them without a limit", map[string]string{"/proc/meminfo": enough, "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, StateOK, "free"},
		{"a container without a limit", map[string]string{"/proc/meminfo": enough, "/sys/fs/cgroup/memory.max": "max"}, StateOK, "free"},
		{"no /proc", nil, StateMissing, "MemAvailable"},
	} {
		if c := machine(t, 0, tt.files).checkMemory(); c.State != tt.state || !strings.Contains(c.Seen, tt.seen) {
			t.Errorf("%s: %v; want %s, %q", tt.name, c, tt.state, tt.seen)
		}
	}
	if c := diskVerdict("/x", 2*gib, diskToBuild); c.State != StateMissing || !strings.Contains(c.Seen, "2048 MiB free in /x") || c.Mend == "" {
		t.Errorf("a small disk: %v; want it missing", c)
	}
	if c := checkDisk(Options{Build: "/none/such"}); !strings.Contains(c.Seen, "free in /,") {
		t.Errorf("disk of a directory that is not made yet: %v; want that of /", c)
	}
}

func TestPlatformAndBuilders(t *testing.T) {
	for _, p := range [][2]string{{"linux", "arm64"}, {"darwin", "amd64"}} {
		if c := checkPlatform(p[0], p[1]); c.State != StateMissing {
			t.Errorf("%v: %v; want it missing", p, c)
		}
	}
	t.Setenv("PATH", t.TempDir())
	for _, built := range []bool{false, true} {
		o := Options{Build: t.TempDir()}
		o.Tools = filepath.Join(o.Build, "tools")
		want := StateMissing
		if built {
			want = StateWithout
			machine := host{root: o.Build}
			for _, stamp := range []string{"tools/.stamp", "agent/.stamp", "stacks/.stamp"} {
				if err := os.MkdirAll(filepath.Dir(machine.path(stamp)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(machine.path(stamp), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, c := range toBuild(machine(t, 0, nil), o) {
			if c.State != want || !strings.Contains(c.Mend, "apt-get install") {
				t.Errorf("built %v: %v; want %s and the line that installs it", built, c, want)
			}
		}
	}
}

func TestTUN(t *testing.T) {
	if c := machine(t, 0, nil).checkTUN(); c.State != StateMissing || !strings.Contains(c.Mend, "modprobe tun") {
		t.Errorf("no driver: %v; want modprobe", c)
	}
	if c := machine(t, 0, map[string]string{tunDevice: ""}).checkTUN(); c.State != StateOK {
		t.Errorf("a driver: %v; want ok", c)
	}
	if os.Geteuid() == 0 {
		return // who may open all
	}
	h := machine(t, 1000, map[string]string{tunDevice: ""})
	if err := os.Chmod(h.path(tunDevice), 0); err != nil {
		t.Fatal(err)
	}
	if c := h.checkTUN(); c.State != StateMissing || !strings.Contains(c.Mend, "chmod 0666") {
		t.Errorf("a driver of root's: %v; want chmod", c)
	}
}
