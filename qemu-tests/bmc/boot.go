package bmc

import (
	"context"
	"fmt"
)

// BootTarget, BootEnabled and BootMode carry Redfish's own words
// (DSP0266, ComputerSystem.Boot).
type (
	BootTarget  string
	BootEnabled string
	BootMode    string
)

// What a boot override may say.
const (
	BootNone BootTarget = "None"
	BootPXE  BootTarget = "Pxe"
	BootHDD  BootTarget = "Hdd"

	BootDisabled   BootEnabled = "Disabled"
	BootOnce       BootEnabled = "Once"
	BootContinuous BootEnabled = "Continuous"

	BootUEFI   BootMode = "UEFI"
	BootLegacy BootMode = "Legacy"
)

// BootOverride is where the firmware shall boot from, against its own order.
// Mode is kept and read back; the firmware of a lab server is of one kind.
type BootOverride struct {
	Enabled BootEnabled
	Target  BootTarget
	Mode    BootMode
}

var (
	bootTargets  = []BootTarget{BootNone, BootPXE, BootHDD}
	bootEnableds = []BootEnabled{BootDisabled, BootOnce, BootContinuous}
	bootModes    = []BootMode{BootUEFI, BootLegacy}
)

func firmwareMode(uefi bool) BootMode {
	if uefi {
		return BootUEFI
	}
	return BootLegacy
}

// Boot is the override in force.
func (b *BMC) Boot() BootOverride {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.boot
}

// SetBoot puts an override in force for the next start of the firmware.
func (b *BMC) SetBoot(ctx context.Context, o BootOverride) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o.Enabled == BootDisabled || o.Target == BootNone {
		o.Enabled, o.Target = BootDisabled, BootNone
	}
	target := o.Target
	if target == BootNone {
		target = ""
	}
	if err := b.cfg.Server.SetBoot(ctx, target); err != nil {
		return fmt.Errorf("set boot override %s: %w", o.Target, err)
	}
	b.boot = o
	return nil
}
