// Command barekexec is a first process that does no more than kexec: what lies
// beside it, kernel, initrd and cmdline, is loaded and started.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/boot/kexec"
)

func main() {
	err := run()
	fmt.Println("FLOOR kexec:", err)
	for {
		time.Sleep(time.Hour)
	}
}

func run() error {
	if err := os.MkdirAll("/proc", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	cmdline, err := os.ReadFile("/cmdline")
	if err != nil {
		return err
	}
	fmt.Println("FLOOR load")
	if err := kexec.Load("/kernel", "/initrd", strings.TrimSpace(string(cmdline))); err != nil {
		return err
	}
	fmt.Println("FLOOR jump")
	return kexec.Jump()
}
