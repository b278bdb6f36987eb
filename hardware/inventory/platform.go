package inventory

import (
	"context"
	"runtime"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

func kernel(_ context.Context, root sysfs.Root) (hardware.Inventory, error) {
	release := root.Text("proc/sys/kernel/osrelease")
	if release == "" {
		return hardware.Inventory{}, nil
	}
	k := hardware.Kernel{Release: release, Sources: hardware.Sources{"kernel"}}
	if arch := root.Text("proc/sys/kernel/arch"); arch != "" { // since 6.1
		k.Arch = map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[arch]
		if k.Arch == "" {
			k.Arch = arch
		}
	} else if root.Live() {
		k.Arch = runtime.GOARCH
	}
	return hardware.Inventory{Kernel: k}, nil
}

func tpm(_ context.Context, root sysfs.Root) (hardware.Inventory, error) {
	major := root.Text("sys/class/tpm/tpm0/tpm_version_major")
	version := map[string]string{"1": "1.2", "2": "2.0"}[major]
	if version == "" {
		return hardware.Inventory{}, nil
	}
	return hardware.Inventory{TPM: hardware.TPM{Version: version, Sources: hardware.Sources{"tpm"}}}, nil
}

// memory counts the blocks of memory that the kernel knows, for machines
// whose firmware has no type 17.
func memory(_ context.Context, root sysfs.Root) (hardware.Inventory, error) {
	const dir = "sys/devices/system/memory"
	block, err := strconv.ParseUint(root.Text(dir, "block_size_bytes"), 16, 48)
	if err != nil || block == 0 {
		return hardware.Inventory{}, nil // a kernel without memory hotplug
	}
	n := 0
	for _, name := range root.Names(dir) {
		if rest, ok := strings.CutPrefix(name, "memory"); ok && rest != "" && strings.Trim(rest, "0123456789") == "" {
			n++
		}
	}
	if n == 0 {
		return hardware.Inventory{}, nil
	}
	return hardware.Inventory{Memory: hardware.Memory{SizeBytes: uint64(n) * block, Sources: hardware.Sources{"memory"}}}, nil
}
