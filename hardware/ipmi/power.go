package ipmi

import (
	"context"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/ingot-metal/ingot/hardware"
)

// Power reads whether the server is on.
func Power(ctx context.Context, o Options) (hardware.PowerState, error) {
	var state hardware.PowerState
	err := o.one(ctx, "read power state", func(ctx context.Context, c *client.Client) error {
		res, err := c.GetChassisStatus(ctx)
		if err != nil {
			return err
		}
		if state = hardware.PowerOff; res.PowerIsOn {
			state = hardware.PowerOn
		}
		return nil
	})
	return state, err
}

// SetPower asks for a power action. It returns when the BMC has taken the
// command; a server may take seconds to obey.
func SetPower(ctx context.Context, o Options, action hardware.PowerAction) error {
	control, ok := map[hardware.PowerAction]chassis.ChassisControl{
		hardware.ActionOn:       chassis.ChassisControlPowerUp,
		hardware.ActionOff:      chassis.ChassisControlPowerDown,
		hardware.ActionShutdown: chassis.ChassisControlSoftShutdown,
		hardware.ActionReset:    chassis.ChassisControlHardReset,
		hardware.ActionCycle:    chassis.ChassisControlPowerCycle,
	}[action]
	if !ok {
		return fmt.Errorf("set power: action %.20q is not known", action)
	}
	return o.one(ctx, "set power "+string(action), func(ctx context.Context, c *client.Client) error {
		_, err := c.ChassisControl(ctx, control)
		return err
	})
}

// BootOncePXE makes the next boot, and only that, a PXE boot in the given
// mode, and reads it back: see [hardware.ErrNotKept].
func BootOncePXE(ctx context.Context, o Options, mode hardware.BootMode) error {
	kind, ok := map[hardware.BootMode]types.BIOSBootType{
		hardware.ModeBIOS: types.BIOSBootTypeLegacy, hardware.ModeUEFI: types.BIOSBootTypeEFI}[mode]
	if !ok {
		return fmt.Errorf("boot once by PXE: mode %.20q is not known", mode)
	}
	return o.one(ctx, "boot once by PXE", func(ctx context.Context, c *client.Client) error {
		if err := c.SetBootDevice(ctx, types.BootDeviceSelectorForcePXE, kind, false); err != nil {
			return err
		}
		var got types.BootOptionParam_BootFlags
		if err := c.GetSystemBootOptionsParamFor(ctx, &got); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		if !got.BootFlagsValid || got.Persist || got.BootDeviceSelector != types.BootDeviceSelectorForcePXE || got.BIOSBootType != kind {
			return fmt.Errorf("%w: valid %t, persistent %t, device %v, type %v", hardware.ErrNotKept,
				got.BootFlagsValid, got.Persist, got.BootDeviceSelector, got.BIOSBootType)
		}
		return nil
	})
}
