package stage1

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/vmlink"
)

// Paths in the initrd that a stack is built with.
const (
	// OverlayDir holds files that are laid over the root.
	OverlayDir = "/overlay"
	// HandoffDir is where the agent before the jump put the root, the payload
	// and the handoff; the running stack sees it as RunDir.
	HandoffDir = "/ingot"
	RunDir     = "/run/ingot"
	// AgentPath is where the root sees this very program.
	AgentPath = "/usr/bin/ingot-agent"
)

const (
	lowerDir = "/lower"
	upperDir = "/upper"
	newRoot  = "/newroot"
)

// Role says where stage 1 runs.
type Role string

const (
	// RoleRoot is the server: a squashfs file, then systemd.
	RoleRoot Role = "root"
	// RoleVMRoot is a virtual machine: a virtio disk, then the VM's agent.
	RoleVMRoot Role = "vm-root"
)

// plan is what differs between the roles.
type plan struct {
	// device gives the block device that holds the squashfs.
	device func(context.Context) (string, error)
	// tmpfsSize bounds what may be written over the root.
	tmpfsSize string
	modules   []string
	argv      []string
}

var plans = map[Role]plan{
	RoleRoot: {
		device:    func(context.Context) (string, error) { return attachLoop(HandoffDir + "/root.squashfs") },
		tmpfsSize: "25%",
		modules:   []string{"loop", "squashfs", "overlay", "autofs4"},
		argv:      []string{"/usr/lib/systemd/systemd"},
	},
	RoleVMRoot: {
		device:    func(ctx context.Context) (string, error) { return WaitForDrive(ctx, vmlink.RootDrive) },
		tmpfsSize: "50%",
		modules:   []string{"virtio_mmio", "virtio_blk", "squashfs", "overlay", "virtio_net"},
		argv:      []string{AgentPath, "vm"},
	},
}

// Run builds the root for the role and executes its first process. It returns
// only with what went wrong; the caller is PID 1 and decides how to end.
// say is given one line for every step, for the console.
func Run(ctx context.Context, role Role, say func(string)) error {
	p, ok := plans[role]
	if !ok {
		return fmt.Errorf("stage 1: role %.40q is not %q or %q", role, RoleRoot, RoleVMRoot)
	}
	steps := []struct {
		name string
		run  func() error
	}{
		{"mounts", mountKernelFilesystems},
		{"modules", func() error { return loadModules(ctx, p.modules) }},
		{"root", func() error { return mountRoot(ctx, p) }},
		{"files", layFiles},
		{"move", moveMounts},
	}
	for _, s := range steps {
		start := time.Now()
		if err := s.run(); err != nil {
			return fmt.Errorf("stage 1: %s: %w", s.name, err)
		}
		say(fmt.Sprintf("stage 1: %s done in %d ms", s.name, time.Since(start).Milliseconds()))
	}
	return switchRoot(p.argv)
}

// mountPoint is one mount(2).
type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func (m mountPoint) mount() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
	}
	return nil
}

func mountKernelFilesystems() error {
	for _, m := range []mountPoint{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755,size=10%"},
	} {
		// Whoever called may have mounted some of them to speak on the console.
		if mounted(m.target) {
			continue
		}
		if err := m.mount(); err != nil {
			return err
		}
	}
	return nil
}

// mounted says whether another filesystem than that of its parent is at path.
func mounted(path string) bool {
	var here, parent unix.Stat_t
	if unix.Stat(path, &here) != nil || unix.Stat(filepath.Dir(path), &parent) != nil {
		return false
	}
	return here.Dev != parent.Dev
}

func mountRoot(ctx context.Context, p plan) error {
	dev, err := p.device(ctx)
	if err != nil {
		return err
	}
	for _, m := range []mountPoint{
		{dev, lowerDir, "squashfs", unix.MS_RDONLY, ""},
		{"tmpfs", upperDir, "tmpfs", 0, "mode=0755,size=" + p.tmpfsSize},
	} {
		if err := m.mount(); err != nil {
			return err
		}
	}
	for _, d := range []string{"/data", "/work"} {
		if err := os.Mkdir(upperDir+d, 0o755); err != nil {
			return err
		}
	}
	if err := copyTree(OverlayDir, upperDir+"/data"); err != nil {
		return err
	}
	options := "lowerdir=" + lowerDir + ",upperdir=" + upperDir + "/data,workdir=" + upperDir + "/work"
	return mountPoint{"overlay", newRoot, "overlay", 0, options}.mount()
}

// layFiles makes this program, the modules and what the agent handed over
// visible in the new root. They are bound, not copied: the initramfs keeps
// them in memory either way.
func layFiles() error {
	for _, b := range []struct {
		source, target string
		required       bool
	}{
		{"/init", newRoot + AgentPath, true},
		{"/lib/modules", newRoot + "/usr/lib/modules", false},
		{HandoffDir, RunDir, false},
	} {
		if err := bind(b.source, b.target); err != nil {
			if !b.required && os.IsNotExist(err) {
				continue
			}
			return err
		}
	}
	return nil
}

// bind makes source visible at target, which is created as what source is.
func bind(source, target string) error {
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	if st.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
		err = os.WriteFile(target, nil, 0o755)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s on %s: %w", source, target, err)
	}
	return nil
}

func moveMounts() error {
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := os.MkdirAll(newRoot+dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", dir, err)
		}
	}
	return nil
}

// switchRoot makes the new root the root of everything and executes argv.
func switchRoot(argv []string) error {
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("stage 1: move the new root to /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("stage 1: change root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb"}
	if err := unix.Exec(argv[0], argv, env); err != nil {
		return fmt.Errorf("stage 1: execute %s: %w", argv[0], err)
	}
	return nil
}

// copyTree copies folders, regular files and symbolic links; a missing source
// is an empty one.
func copyTree(source, target string) error {
	return filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path == source && os.IsNotExist(err) {
				return nil
			}
			return err
		}
		to := filepath.Join(target, strings.TrimPrefix(path, source))
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(to, info.Mode().Perm())
		case d.Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, to)
		case d.Type().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(to, b, info.Mode().Perm())
		}
		return fmt.Errorf("copy %s: is neither a folder, a file nor a link", path)
	})
}
