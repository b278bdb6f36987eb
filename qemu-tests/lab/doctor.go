package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// memoryNeeded is what a lab with one running stack takes.
const memoryNeeded = 8 * gib

// Doctor tells what this machine lacks for a lab, each with what to do about
// it; nil is nothing.
func Doctor(ctx context.Context, o Options) error {
	o, err := o.complete()
	if err != nil {
		return err
	}
	return errors.Join(tools(o.Tools).check(), checkNamespaces(ctx), checkTUN(), checkState(), checkMemory())
}

// checkNamespaces makes the lab's namespaces for a moment.
func checkNamespaces(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{probeName}
	cmd.SysProcAttr = namespaces()
	cmd.SysProcAttr.Pdeathsig = 0 // the thread that starts it may end before it
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make namespaces: %w (be root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; and call lab.MaybeInit in main)", err)
	}
	return nil
}

func checkTUN() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the TAP driver: %w (be root or get leave to open it; where it is missing: modprobe tun, in a container --device /dev/net/tun)", err)
	}
	return f.Close()
}

func checkState() error {
	st, err := os.Stat(stateDir)
	if err != nil {
		return fmt.Errorf("look for a place to mount the state: %w (make the directory)", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("look for a place to mount the state: %s: %w", stateDir, syscall.ENOTDIR)
	}
	return nil
}

func checkMemory() error {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return fmt.Errorf("read the free memory: %w", err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var kib int64
		if !strings.HasPrefix(sc.Text(), "MemAvailable:") {
			continue
		}
		if _, err := fmt.Sscanf(sc.Text(), "MemAvailable: %d kB", &kib); err != nil {
			return fmt.Errorf("read the free memory: %w", err)
		}
		if kib*1024 < memoryNeeded {
			return fmt.Errorf("free memory is %d MiB; the lab wants %d: end something large", kib/1024, memoryNeeded/mib)
		}
		return nil
	}
	return errors.New("read the free memory: /proc/meminfo has no MemAvailable")
}
