package resident

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/fleet"
)

// ioctls of linux/kvm.h, and the only version of that interface.
const (
	kvmGetAPIVersion = 0xAE00
	kvmCreateVM      = 0xAE01
	kvmAPIVersion    = 12
)

// runHypervisor brings KVM up and then all virtual machines.
func (r *resident) runHypervisor(ctx context.Context) {
	m := r.handoff.Manifest
	free := sync.OnceFunc(func() { close(r.kvmLoaded) })
	defer free()
	if m.Hypervisor == nil {
		return
	}
	kind := m.Hypervisor.Kind
	start := time.Now()
	flag, module, err := virtualization("/proc/cpuinfo")
	if err == nil {
		err = r.modules.Load(ctx, module, "tun")
	}
	free()
	if err != nil {
		r.set(fleet.LayerHypervisor, kind, fleet.LayerDown, fleet.ReasonModulesMissing, err.Error(), nil)
		return
	}
	if err := probeKVM("/dev/kvm"); err != nil {
		r.set(fleet.LayerHypervisor, kind, fleet.LayerDown, fleet.ReasonKVMMissing, err.Error(), nil)
		return
	}
	for _, l := range r.modules.Loads() {
		r.log.Info("module", "name", l.Name, "ms", l.Took.Milliseconds())
	}
	r.log.Info("hypervisor", "ms", time.Since(start).Milliseconds())
	r.set(fleet.LayerHypervisor, kind, fleet.LayerUp, "", "", map[string]string{"boot_id": r.bootID, "cpu_flag": flag, "module": module})
	var wg sync.WaitGroup
	for i, vm := range m.VMs {
		wg.Go(func() {
			r.guard(ctx, "vm "+vm.Name, func(ctx context.Context) { r.runVM(ctx, i, vm) })
		})
	}
	wg.Wait()
}

// virtualization names the processor's feature and the module that uses it.
func virtualization(cpuinfo string) (flag, module string, err error) {
	b, err := os.ReadFile(cpuinfo)
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) != "flags" {
			continue
		}
		for _, f := range strings.Fields(value) {
			switch f {
			case "svm":
				return f, "kvm_amd", nil
			case "vmx":
				return f, "kvm_intel", nil
			}
		}
		break
	}
	return "", "", errors.New("the processor offers neither svm nor vmx: virtualization is switched off in the firmware, or missing")
}

// probeKVM creates a virtual machine, which is the only proof that it can be.
func probeKVM(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	v, err := unix.IoctlRetInt(int(f.Fd()), kvmGetAPIVersion)
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", path, err)
	}
	if v != kvmAPIVersion {
		return fmt.Errorf("%s speaks version %d, want %d", path, v, kvmAPIVersion)
	}
	var vm int
	err = host.Uninterrupted(func() (err error) {
		vm, err = unix.IoctlRetInt(int(f.Fd()), kvmCreateVM)
		return err
	})
	if err != nil {
		return fmt.Errorf("create a virtual machine by %s: %w", path, err)
	}
	return unix.Close(vm)
}
