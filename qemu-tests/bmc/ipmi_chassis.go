package bmc

import (
	"context"
	"errors"

	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/types"
)

// powerHAL is the part of the HAL that has the power button and the boot flags.
type powerHAL board

func (c *powerHAL) PowerState(context.Context) (bool, error) { return c.b.cfg.Server.On(), nil }

func (c *powerHAL) power(ctx context.Context, action PowerAction) error {
	err := c.b.power(ctx, "ipmi", action)
	if errors.Is(err, ErrOff) {
		return types.CodeNotSupported // D5h: not in the present state
	}
	if err != nil {
		c.b.cfg.Log.Warn("ipmi power", "server", c.b.cfg.Machine.Name, "cause", err)
	}
	return err
}

func (c *powerHAL) SetPower(ctx context.Context, on bool) error {
	if on {
		return c.power(ctx, PowerOn)
	}
	return c.power(ctx, PowerOff)
}

func (c *powerHAL) PowerCycle(ctx context.Context) error { return c.power(ctx, PowerCycle) }
func (c *powerHAL) ColdReset(ctx context.Context) error  { return c.power(ctx, PowerReset) }

// WarmReset is what go-ipmi calls for the soft shutdown of Chassis Control.
func (c *powerHAL) WarmReset(ctx context.Context) error { return c.power(ctx, PowerShutdown) }

func (c *powerHAL) Identify(context.Context, uint8) error        { return nil } // there is no lamp to see
func (c *powerHAL) IntrusionState(context.Context) (bool, error) { return false, hal.ErrNotSupported }

func (c *powerHAL) SetBootInfoAcknowledge(context.Context, *types.BootOptionParam_BootInfoAcknowledge) error {
	return nil // no firmware of the lab reads it
}

func (c *powerHAL) GetBootInfoAcknowledge(context.Context) (*types.BootOptionParam_BootInfoAcknowledge, error) {
	return &types.BootOptionParam_BootInfoAcknowledge{}, nil
}

// bootDevices is the table between IPMI's boot devices (IPMI 2.0, table 28-14,
// parameter 5) and Redfish's.
var bootDevices = map[types.BootDeviceSelector]BootTarget{
	types.BootDeviceSelectorNoOverride:     BootNone,
	types.BootDeviceSelectorForcePXE:       BootPXE,
	types.BootDeviceSelectorForceHardDrive: BootHDD,
}

func (c *powerHAL) SetBootFlags(ctx context.Context, f *types.BootOptionParam_BootFlags) error {
	target, ok := bootDevices[f.BootDeviceSelector]
	if !ok {
		return types.CodeRequestDataFieldInvalid
	}
	o := BootOverride{Enabled: BootOnce, Target: target, Mode: firmwareMode(bool(f.BIOSBootType))}
	switch {
	case !f.BootFlagsValid:
		o.Enabled = BootDisabled
	case f.Persist:
		o.Enabled = BootContinuous
	}
	return c.b.SetBoot(ctx, o)
}

func (c *powerHAL) GetBootFlags(context.Context) (*types.BootOptionParam_BootFlags, error) {
	o := c.b.Boot()
	f := &types.BootOptionParam_BootFlags{
		BootFlagsValid: o.Enabled != BootDisabled,
		Persist:        o.Enabled == BootContinuous,
		BIOSBootType:   types.BIOSBootType(o.Mode == BootUEFI),
	}
	for device, target := range bootDevices {
		if target == o.Target {
			f.BootDeviceSelector = device
		}
	}
	return f, nil
}
