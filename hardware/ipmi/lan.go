package ipmi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/ingot-metal/ingot/hardware"
)

// Options say how to reach a BMC over the LAN.
type Options struct {
	Address  string // host, or host:port; the port is 623 by default
	User     string
	Password hardware.Secret
	Timeout  time.Duration // of one session, with all that is done in it; 20 s by default
}

const (
	defaultPort    = 623
	defaultTimeout = 20 * time.Second
	closeLimit     = 3 * time.Second
)

// ErrRefused says that the BMC refused the account. Asking again is what locks
// accounts.
var ErrRefused = errors.New("the BMC refused the account")

// Power reads whether the server is on.
func Power(ctx context.Context, o Options) (hardware.PowerState, error) {
	var state hardware.PowerState
	err := o.session(ctx, "read power state", func(ctx context.Context, c *client.Client) error {
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
	return o.session(ctx, "set power "+string(action), func(ctx context.Context, c *client.Client) error {
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
	return o.session(ctx, "boot once by PXE", func(ctx context.Context, c *client.Client) error {
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

// ReadLAN is what the BMC says of itself and of FRU 0, over the LAN.
func ReadLAN(ctx context.Context, o Options) (hardware.Inventory, error) {
	var inv hardware.Inventory
	own, cancel, err := o.open(ctx)
	if err != nil {
		return inv, fmt.Errorf("read BMC %s: %w", o.Address, err)
	}
	defer cancel()
	ctx, done := context.WithTimeout(ctx, o.timeout())
	defer done()
	inv, err = ask(ctx, own)
	if err != nil {
		return inv, fmt.Errorf("read BMC %s: %w", o.Address, err)
	}
	inv.Normalize()
	return inv, nil
}

// session does one thing in a session of its own, which is closed whatever
// happens.
func (o Options) session(ctx context.Context, what string, f func(context.Context, *client.Client) error) error {
	own, closeSession, err := o.open(ctx)
	if err != nil {
		return fmt.Errorf("%s: BMC %s: %w", what, o.Address, err)
	}
	defer closeSession()
	if err := own.do(ctx, o.timeout(), f); err != nil {
		return fmt.Errorf("%s: BMC %s: %w", what, o.Address, err)
	}
	return nil
}

func (o Options) timeout() time.Duration {
	if o.Timeout <= 0 {
		return defaultTimeout
	}
	return o.Timeout
}

// open connects and logs in. Where that fails, the half-open session is closed
// too.
func (o Options) open(ctx context.Context) (*owner, func(), error) {
	host, port := o.Address, defaultPort
	if h, p, err := net.SplitHostPort(o.Address); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return nil, nil, fmt.Errorf("port %.10q: %w", p, err)
		}
		host, port = h, int(n)
	}
	if host == "" {
		return nil, nil, errors.New("no address")
	}
	c, err := client.NewClient(host, port, o.User, o.Password.Reveal())
	if err != nil {
		return nil, nil, err
	}
	own := own(c)
	closeSession := func() { own.close(ctx, closeLimit) }
	if err := own.do(ctx, o.timeout(), func(ctx context.Context, c *client.Client) error { return c.Connect(ctx) }); err != nil {
		closeSession()
		// go-ipmi does not wrap what each cipher suite met.
		if text := err.Error(); strings.Contains(text, client.ErrRAKPAuthentication.Error()) || strings.Contains(text, types.RmcpStatusCodeUnauthorizedName.String()) {
			return nil, nil, fmt.Errorf("log in as %q: %w", o.User, ErrRefused)
		}
		return nil, nil, fmt.Errorf("log in as %q: %s", o.User, strings.Join(strings.Fields(err.Error()), " "))
	}
	return own, closeSession, nil
}
