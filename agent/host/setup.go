package host

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Host is the machine as the first process finds it.
type Host struct {
	Kernel  string        // release: 6.12.0-amd64
	BootID  string        // the kernel's; a new one each boot
	Cmdline Cmdline       // of the running kernel
	Console *Console      // every console of the kernel
	Started time.Duration // since the kernel's start, when Setup was called
}

// Setup makes the machine usable: mounts, environment, consoles. It is called
// once, first, by PID 1. The Host is never nil: with an error its console
// still writes somewhere.
func Setup() (*Host, error) {
	h := &Host{Started: Uptime(), Console: newConsole(os.Stdout)}
	if err := mountAll(kernelMounts); err != nil {
		return h, fmt.Errorf("setup: %w", err)
	}
	h.Console = openConsoles()
	unix.Umask(0o022)
	for _, kv := range [][2]string{{"PATH", "/usr/bin:/usr/sbin:/bin:/sbin"}, {"HOME", "/"}, {"TMPDIR", "/tmp"}} {
		if err := os.Setenv(kv[0], kv[1]); err != nil {
			return h, fmt.Errorf("setup: %w", err)
		}
	}
	release, err := kernelRelease()
	if err != nil {
		return h, fmt.Errorf("setup: %w", err)
	}
	h.Kernel = release
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return h, fmt.Errorf("setup: boot ID: %w", err)
	}
	h.BootID = string(bytes.TrimSpace(id))
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return h, fmt.Errorf("setup: %w", err)
	}
	h.Cmdline = ParseCmdline(strings.TrimSpace(string(line)))
	if err := loopbackUp(); err != nil {
		return h, fmt.Errorf("setup: %w", err)
	}
	return h, nil
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// Uptime is the time since the kernel's start.
func Uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // the call has no way to fail with this clock on any kernel that we boot
	}
	return time.Duration(ts.Nano())
}
