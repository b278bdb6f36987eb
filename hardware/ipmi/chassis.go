package ipmi

import (
	"context"
	"errors"
	"time"

	"github.com/ingot-metal/ingot/hardware"
)

// The commands of the chassis (28), of the watchdog (27) and of the system's
// GUID (22.14).
var (
	cmdChassisStatus = command{netFn: netFnChassis, id: 0x01, name: "Get Chassis Status"}
	cmdBootOptions   = command{netFn: netFnChassis, id: 0x09, name: "Get System Boot Options"}
	cmdWatchdog      = command{netFn: netFnApp, id: 0x25, name: "Get Watchdog Timer"}
	cmdSystemGUID    = command{netFn: netFnApp, id: 0x37, name: "Get System GUID"}
	cmdPowerReading  = command{netFn: netFnGroup, id: 0x02, name: "Get Power Reading"} // DCMI 1.5, 6.6.1
)

// dcmi is the group that DCMI's commands and answers begin with.
const dcmi = 0xdc

const bootFlags = 5 // table 28-14

// chassisStatus is the power state, and what is done when mains power returns
// (28.2).
func chassisStatus(ctx context.Context, s *session) error {
	b, err := s.ask(ctx, cmdChassisStatus)
	if b, err = want(b, err, 1); err != nil {
		return err
	}
	s.view.Readings.PowerState = hardware.PowerOff
	if b[0]&1 != 0 {
		s.view.Readings.PowerState = hardware.PowerOn
	}
	s.view.Inventory.BMC.PowerRestore = [...]string{"always-off", "previous", "always-on", ""}[b[0]>>5&3]
	return nil
}

// watchdog is the BMC's timer (27.7).
func watchdog(ctx context.Context, s *session) error {
	b, err := s.ask(ctx, cmdWatchdog)
	if b, err = want(b, err, 6); err != nil {
		return err
	}
	s.view.Inventory.Watchdogs = append(s.view.Inventory.Watchdogs, decodeWatchdog(b))
	return nil
}

func decodeWatchdog(b []byte) hardware.Watchdog {
	return hardware.Watchdog{
		Name: "bmc", Identity: "IPMI", Running: hardware.SwitchOf(b[0]&0x40 != 0),
		Use:            [...]string{"", "bios-frb2", "bios-post", "os-load", "sms-os", "oem", "", ""}[b[0]&7],
		Action:         [...]string{"none", "reset", "power-off", "power-cycle", "", "", "", ""}[b[1]&7],
		TimeoutSeconds: int(time.Duration(le16(b[4:])) * 100 * time.Millisecond / time.Second),
		Sources:        hardware.Sources{Source},
	}
}

// bootOptions is the boot device that the BMC will ask the firmware for.
func bootOptions(ctx context.Context, s *session) error {
	const unsupported CompletionCode = 0x80
	b, err := s.ask(ctx, cmdBootOptions, bootFlags, 0, 0)
	if errors.Is(err, unsupported) {
		return nil
	}
	if b, err = want(b, err, 4); err != nil {
		return err
	}
	s.view.Inventory.BIOS.Boot = decodeBootFlags(b[2:])
	return nil
}

func decodeBootFlags(b []byte) hardware.BootOverride {
	if b[0]&0x80 == 0 {
		return hardware.BootOverride{Target: "none", Enabled: "disabled"}
	}
	o := hardware.BootOverride{Enabled: "once", Mode: hardware.ModeBIOS}
	if b[0]&0x40 != 0 {
		o.Enabled = "continuous"
	}
	if b[0]&0x20 != 0 {
		o.Mode = hardware.ModeUEFI
	}
	o.Target = [...]string{"none", "pxe", "disk", "disk", "diagnostic", "cd", "bios-setup", "floppy",
		"cd", "usb", "", "disk", "", "", "", "floppy"}[b[1]>>2&0xf]
	return o
}

// powerReading is what the whole server draws, where the BMC speaks DCMI and
// measures.
func powerReading(ctx context.Context, s *session) error {
	const systemPower, measuring = 1, 0x40
	b, err := s.ask(ctx, cmdPowerReading, dcmi, systemPower, 0, 0)
	var code CompletionCode
	if errors.As(err, &code) {
		return nil // it does not, or not now
	}
	if b, err = want(b, err, 18); err != nil {
		return err
	}
	if b[0] == dcmi && b[17]&measuring != 0 {
		watts := float64(le16(b[1:]))
		s.view.Readings.Watts = &watts
	}
	return nil
}

// systemGUID is the server's UUID, where the BMC knows it.
func systemGUID(ctx context.Context, s *session) error {
	b, err := s.ask(ctx, cmdSystemGUID)
	if err != nil {
		return err
	}
	if id := DecodeGUID(b); id != "" {
		s.view.Inventory.System.UUID = id
		s.view.Inventory.System.Sources = hardware.Sources{Source}
	}
	return nil
}
