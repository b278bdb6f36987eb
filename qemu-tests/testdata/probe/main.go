// Command probe is the init of a test initramfs: it prints what it was booted
// with and powers the machine off.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"syscall"
)

func main() {
	check(os.MkdirAll("/proc", 0o755))
	check(syscall.Mount("proc", "/proc", "proc", 0, ""))
	cmdline, err := os.ReadFile("/proc/cmdline")
	check(err)
	uptime, err := os.ReadFile("/proc/uptime")
	check(err)
	trust, err := os.ReadFile("/etc/ingot/trust.json")
	fmt.Printf("\nPROBE uptime %sPROBE cmdline %sPROBE trust %x err=%v\nPROBE done\n", uptime, cmdline, sha256.Sum256(trust), err)
	check(syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF))
}

func check(err error) {
	if err != nil {
		fmt.Println("PROBE", err)
	}
}
