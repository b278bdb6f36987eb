package initramfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Kernel is a kernel as a distribution's package lays it out.
type Kernel struct {
	Version    string // 6.12.0-amd64
	Image      string // …/boot/vmlinuz-<version>
	ModulesDir string // …/lib/modules/<version>
}

// FindKernel finds the one kernel below a root that has its modules beside it.
func FindKernel(root string) (Kernel, error) {
	images, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil {
		return Kernel{}, fmt.Errorf("find kernel: %w", err)
	}
	var found []Kernel
	for _, img := range images {
		k := Kernel{Version: strings.TrimPrefix(filepath.Base(img), "vmlinuz-"), Image: img}
		for _, lib := range []string{"usr/lib/modules", "lib/modules"} {
			k.ModulesDir = filepath.Join(root, lib, k.Version)
			if st, err := os.Stat(k.ModulesDir); err == nil && st.IsDir() {
				found = append(found, k)
				break
			}
		}
	}
	if len(found) != 1 {
		return Kernel{}, fmt.Errorf("find kernel: %d kernels with modules in %s; want one", len(found), root)
	}
	return found[0], nil
}
