// Package kexec loads a kernel and jumps to it. It is the only caller of those
// system calls.
package kexec

import (
	"fmt"
	"os"

	"github.com/u-root/u-root/pkg/boot/kexec"
	"golang.org/x/sys/unix"
)

// Load hands kernel and initrd to the running kernel (kexec_file_load). Neither
// initrd nor cmdline is checked by the kernel: their digests were, before.
func Load(kernelPath, initrdPath, cmdline string) error {
	kernel, err := os.Open(kernelPath)
	if err != nil {
		return fmt.Errorf("load kernel: %w", err)
	}
	defer kernel.Close()
	initrd, err := os.Open(initrdPath)
	if err != nil {
		return fmt.Errorf("load initrd: %w", err)
	}
	defer initrd.Close()
	if err := kexec.FileLoad(kernel, initrd, cmdline); err != nil {
		return fmt.Errorf("kexec_file_load: %w", err)
	}
	return nil
}

// Jump starts the loaded kernel. It returns only when that did not happen.
func Jump() error {
	unix.Sync()
	if err := kexec.Reboot(); err != nil {
		return fmt.Errorf("reboot into the loaded kernel: %w", err)
	}
	return fmt.Errorf("reboot into the loaded kernel: the call came back")
}
