// Command ingot-agent is the one program of Ingot on a server: the first
// process of the inspecting initramfs, of a stack's initrd, and of a virtual
// machine, and the resident agent of the running stack.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/ingot-metal/ingot/agent"
	"github.com/ingot-metal/ingot/agent/resident"
	"github.com/ingot-metal/ingot/agent/stage1"
	"github.com/ingot-metal/ingot/agent/vm"
)

func main() {
	ctx := context.Background()
	say := func(line string) { fmt.Println("ingot: " + line) }
	var err error
	switch role := role(); role {
	case "agent":
		if os.Getpid() == 1 {
			agent.Run()
		}
		err = fmt.Errorf("role agent is for the first process of an initramfs")
	case "inventory":
		err = printInventory(os.Args[2:])
		if err == nil {
			return
		}
	case "snapshot":
		err = takeSnapshot(os.Args[2:])
		if err == nil {
			return
		}
	case "root", "vm-root":
		err = stage1.Run(ctx, stage1.Role(role), say)
	case "vm":
		err = vm.Run(ctx, slog.Default())
	case "resident":
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		err = resident.Run(ctx, resident.Options{Log: slog.Default()})
	default:
		err = fmt.Errorf("role %.40q is not known; want inventory or snapshot, or a role: agent, root, vm-root, vm, resident", role)
	}
	fmt.Fprintln(os.Stderr, "ingot:", err)
	if os.Getpid() == 1 {
		select {} // a first process that ends is a kernel panic
	}
	if errors.Is(err, resident.ErrNothing) {
		os.Exit(exitNothing)
	}
	os.Exit(1)
}

// exitNothing tells systemd not to start the resident again: EX_CONFIG.
const exitNothing = 78

// role is the first argument, or what the initramfs says this is. The kernel
// passes words of its cmdline on to init, so a first process looks at the file
// first.
func role() string {
	b, err := os.ReadFile("/etc/ingot/role")
	if err == nil && os.Getpid() == 1 {
		return strings.TrimSpace(string(b))
	}
	if len(os.Args) > 1 {
		return os.Args[1]
	}
	return ""
}
