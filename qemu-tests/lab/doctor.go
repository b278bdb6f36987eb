package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// memoryNeeded is what a lab with one running stack takes.
	memoryNeeded = 8 * gib
	// diskToBuild is for what the builds write, and what they need meanwhile.
	diskToBuild = 3 * gib
	// diskToRun is for consoles and logs.
	diskToRun = 100 * mib

	tunDevice = "/dev/net/tun"
	keyring   = "/usr/share/keyrings/debian-archive-keyring.gpg"
	install   = "sudo apt-get install -y --no-install-recommends "
)

// State is how it stands with one thing that a lab needs.
type State string

// States. A lab does not run with a thing missing; it does without others.
const (
	StateOK      State = "ok"
	StateMissing State = "missing"
	StateWithout State = "without"
)

// Check is one thing that a lab needs of this machine: what was seen, and the
// one line that mends it.
type Check struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Seen  string `json:"seen"`
	Mend  string `json:"mend,omitempty"`
}

func ok(seen string) Check              { return Check{State: StateOK, Seen: seen} }
func missing(seen, mend string) Check   { return Check{State: StateMissing, Seen: seen, Mend: mend} }
func without(seen, mend string) Check   { return Check{State: StateWithout, Seen: seen, Mend: mend} }
func (c Check) named(name string) Check { c.Name = name; return c }

// err is what a missing thing means to who wants to start a lab.
func (c Check) err() error {
	if c.State != StateMissing {
		return nil
	}
	return fmt.Errorf("%s: %s (%s)", c.Name, c.Seen, c.Mend)
}

// host is the machine as far as checks read its files: root is "", or in tests
// a directory that stands for it.
type host struct {
	root string
	euid int
}

func thisHost() host { return host{euid: os.Geteuid()} }

func (h host) path(p string) string { return filepath.Join(h.root, p) }

// read is a small file's content without its newline; "" where there is none.
func (h host) read(p string) string {
	b, err := os.ReadFile(h.path(p))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Checks tells of each thing that a lab needs how it stands with it. It starts
// a guest to see whether KVM works, which takes up to ten seconds.
func Checks(ctx context.Context, o Options) ([]Check, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	h := thisHost()
	return append(toRun(ctx, h, o), append(toBuild(h, o), checkKVM(ctx, h, o).named("kvm"))...), nil
}

// Doctor tells what this machine lacks for a lab, each with what to do about
// it; nil is nothing.
func Doctor(ctx context.Context, o Options) error {
	o, err := o.complete()
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range toRun(ctx, thisHost(), o) {
		errs = append(errs, c.err())
	}
	return errors.Join(errs...)
}

// toRun checks what a lab cannot run without.
func toRun(ctx context.Context, h host, o Options) []Check {
	tun := h.checkTUN().named("tun")
	all := []Check{
		checkPlatform(runtime.GOOS, runtime.GOARCH).named("platform"),
		h.checkMemory().named("memory"),
		checkDisk(o).named("disk"),
		h.checkNamespaces(ctx, tun.State == StateOK).named("namespaces"),
		tun,
		checkFiles("unpacked in "+o.Tools, "make build/tools/.stamp", tools(o.Tools).files()...).named("tools"),
	}
	if o.Serve == nil {
		return all
	}
	return append(all,
		checkFiles("built", "make image", filepath.Join(o.Build, "agent", "vmlinuz"), filepath.Join(o.Build, "agent", "initramfs.cpio.zst")).named("image"),
		checkFiles("built", "make stack", filepath.Join(o.Build, "stacks", "index.json")).named("stack"))
}

// toBuild checks what tools, image and stack are made with, which nobody needs
// where they are.
func toBuild(h host, o Options) []Check {
	var all []Check
	built := isBuilt(o)
	for _, p := range []struct{ name, command, pkg string }{
		{"mmdebstrap", "mmdebstrap", "mmdebstrap"}, {"sqfstar", "sqfstar", "squashfs-tools"},
	} {
		c := ok("")
		path, err := exec.LookPath(p.command)
		if c.Seen = path; err != nil {
			c = missing(p.command+" is not installed", install+p.pkg)
		}
		all = append(all, c.unless(built).named(p.name))
	}
	c := ok(keyring)
	if _, err := os.Stat(h.path(keyring)); err != nil {
		c = missing(keyring+" is not there", install+"debian-archive-keyring")
	}
	return append(all, c.unless(built).named("keyring"))
}

// unless makes a missing thing one that the lab does without.
func (c Check) unless(built bool) Check {
	if built && c.State == StateMissing {
		c.State = StateWithout
		c.Seen += "; all is built already"
	}
	return c
}

func isBuilt(o Options) bool {
	for _, f := range []string{filepath.Join(o.Tools, ".stamp"), filepath.Join(o.Build, "agent", ".stamp"), filepath.Join(o.Build, "stacks", ".stamp")} {
		if _, err := os.Stat(f); err != nil {
			return false
		}
	}
	return true
}

func checkPlatform(os, arch string) Check {
	seen := os + " " + arch
	if os != "linux" || arch != "amd64" {
		return missing(seen, "take a machine or a virtual machine with Linux on x86-64")
	}
	return ok(seen)
}

func checkFiles(seen, mend string, files ...string) Check {
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			return missing(fmt.Sprintf("look for %s: %v", f, errors.Unwrap(err)), mend)
		}
	}
	return ok(seen)
}

func (h host) checkMemory() Check {
	const mend = "end something large, or give this machine more memory"
	kib, err := h.availableKiB()
	if err != nil {
		return missing(err.Error(), "mount -t proc proc /proc")
	}
	free, where := kib<<10, "free"
	// A container may be allowed less than the machine has: cgroups of version 2,
	// and of 1.
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if limit, err := strconv.ParseInt(h.read(file), 10, 64); err == nil && limit < free {
			free, where = limit, "allowed to this container"
		}
	}
	seen := fmt.Sprintf("%d MiB %s, %d wanted", free/mib, where, memoryNeeded/mib)
	if free < memoryNeeded {
		return missing(seen, mend)
	}
	return ok(seen)
}

func (h host) availableKiB() (int64, error) {
	for line := range strings.Lines(h.read("/proc/meminfo")) {
		var kib int64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); err == nil {
			return kib, nil
		}
	}
	return 0, errors.New("read the free memory: /proc/meminfo has no MemAvailable")
}

// checkDisk looks at the file system that the build directory is on, or will
// be.
func checkDisk(o Options) Check {
	dir, want := o.Build, int64(diskToBuild)
	if isBuilt(o) {
		want = diskToRun
	}
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return missing(fmt.Sprintf("look at the disk of %s: %v", dir, err), "name another directory with --build")
		}
		return diskVerdict(dir, int64(st.Bavail)*st.Bsize, want)
	}
}

func diskVerdict(dir string, free, want int64) Check {
	seen := fmt.Sprintf("%d MiB free in %s, %d wanted", free/mib, dir, want/mib)
	if free < want {
		return missing(seen, "make room there, or name another directory with --build")
	}
	return ok(seen)
}

func (h host) checkTUN() Check {
	f, err := os.OpenFile(h.path(tunDevice), os.O_RDWR, 0)
	if err == nil {
		err = f.Close()
	}
	switch {
	case err == nil:
		return ok(tunDevice + " opens")
	case errors.Is(err, fs.ErrNotExist):
		return missing(tunDevice+" is not there", "sudo modprobe tun; in a container: start it with --device "+tunDevice)
	case errors.Is(err, fs.ErrPermission):
		return missing("this user may not open "+tunDevice, "sudo chmod 0666 "+tunDevice)
	}
	return missing(err.Error(), "sudo modprobe tun")
}

// checkNamespaces makes the lab's namespaces for a moment, and in them what
// the lab's init makes first.
func (h host) checkNamespaces(ctx context.Context, withTAP bool) Check {
	if os.Getenv(probeVariable) != "" {
		// This is the probe, and it runs on as the program that it is of.
		return missing("this program's main does not call lab.MaybeInit", "call it first in main")
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), probeVariable+"=1")
	cmd.Args = []string{probeName}
	if withTAP {
		cmd.Args = append(cmd.Args, "tap")
	}
	var said bytes.Buffer
	cmd.Stderr = &limited{w: &said, left: 4096}
	cmd.SysProcAttr = namespaces()
	cmd.SysProcAttr.Pdeathsig = 0 // the thread that starts it may end before it
	if err := cmd.Run(); err != nil {
		return missing(strings.TrimSpace(fmt.Sprintf("make namespaces: %v %s", err, said.String())), h.mendNamespaces())
	}
	if h.euid == 0 {
		return ok("made, as root")
	}
	return ok("made, as a plain user")
}

// mendNamespaces finds out what forbids a user to make namespaces.
func (h host) mendNamespaces() string {
	if h.euid == 0 {
		return "in a container: start it with --privileged"
	}
	for _, knob := range []struct{ file, forbids, line string }{
		{"/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
	} {
		if h.read(knob.file) == knob.forbids {
			return knob.line
		}
	}
	return "be root; in a container: start it with --privileged"
}

// probe is what [host.checkNamespaces] runs inside.
func probe(args []string) error {
	if err := makeMounts(); err != nil {
		return err
	}
	if err := configure("lo", nil, noPrefix); err != nil {
		return err
	}
	if err := inNewNetns(func() error { return nil }); err != nil || len(args) == 0 {
		return err
	}
	tap, err := openTAP("prov0", nil, provPrefix)
	if err != nil {
		return err
	}
	return tap.Close()
}

// checkKVM starts a guest. Only who asks for KVM cannot do without.
func checkKVM(ctx context.Context, h host, o Options) Check {
	if o.Accel == AccelTCG {
		return ok("not asked for: servers run under TCG")
	}
	v := judgeKVM(ctx, h, o, true)
	switch {
	case v.Works:
		return ok(v.Why)
	case o.Accel == AccelKVM:
		return missing(v.Why, orElse(v.Mend, "use --accel tcg"))
	}
	return without(v.Why+": servers run under TCG", v.Mend)
}
