package ipmi

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

const (
	device0     = "dev/ipmi0"
	appearLimit = 2 * time.Second
	stepLimit   = 3 * time.Second
	// KCS has no smaller message than that, but for the oldest BMCs.
	kcsRead = 64
	kcsTry  = 2
)

// Read asks the BMC in-band for what the first report says of it. A machine
// without one yields nothing, and that is no error. One whose firmware names
// a BMC that the kernel does not show in time yields a finding.
func Read(ctx context.Context, root sysfs.Root) (hardware.Inventory, error) {
	if !root.Live() {
		return hardware.Inventory{}, nil
	}
	if !appears(ctx, root) {
		if by := promised(root); by != "" {
			return hardware.Inventory{Findings: []hardware.Finding{{Code: hardware.CodeBMCUnreachable, Severity: hardware.Warning, Part: "bmc",
				Evidence: by + " names a BMC, and there is no /" + device0, Hint: "are ipmi_si and ipmi_devintf loaded, and is KCS enabled in the BMC?", Source: Source}}}, nil
		}
		return hardware.Inventory{}, nil
	}
	v, err := inBand(ctx, firstSteps())
	return v.Inventory, err
}

// Late asks the BMC in-band for all the rest: sensors, the event log, the FRUs
// beside the first, accounts. It takes seconds, so no report waits for it.
func Late(ctx context.Context, root sysfs.Root) (hardware.View, error) {
	if !root.Live() || !root.Exists(device0) {
		return hardware.View{}, nil
	}
	v, err := inBand(ctx, lateSteps())
	v.Inventory.DIMMs = nil // SMBIOS knows them better
	return v, err
}

func inBand(ctx context.Context, steps []step) (hardware.View, error) {
	c, err := client.NewOpenClient()
	if err != nil {
		return hardware.View{}, fmt.Errorf("open KCS: %w", err)
	}
	o := own(c.WithTimeout(stepLimit))
	defer o.close(ctx, stepLimit)
	if err := o.do(ctx, stepLimit, func(ctx context.Context, c *client.Client) error { return c.Connect(ctx) }); err != nil {
		return hardware.View{}, fmt.Errorf("open /%s: %w", device0, err)
	}
	s := &session{own: o, send: clientTransport(c), limit: stepLimit, tries: kcsTry, big: kcsRead}
	err = s.run(ctx, steps)
	return s.view, err
}

// firstSteps are quick: about twenty commands.
func firstSteps() []step {
	return []step{{"device ID", deviceID}, {"device GUID", deviceGUID}, {"LAN configuration", firstChannel}, {"FRU 0", fru0}}
}

// lateSteps are the rest, what matters most first.
func lateSteps() []step {
	return []step{
		{"device ID", deviceID},
		{"chassis status", chassisStatus},
		{"SDR repository", sdrs},
		{"sensors", sensors},
		{"power reading", powerReading},
		{"SEL", sel},
		{"SEL time", selTime},
		{"FRUs", func(ctx context.Context, s *session) error { return s.frus(ctx, false) }},
		{"system GUID", systemGUID},
		{"LAN channels", channels},
		{"accounts", users},
		{"cipher suites", ciphers},
		{"watchdog", watchdog},
		{"boot options", bootOptions},
	}
}

// allSteps are those of a crawl over the LAN.
func allSteps() []step {
	steps := lateSteps()
	for i := range steps {
		if steps[i].name == "FRUs" {
			steps[i].f = func(ctx context.Context, s *session) error { return s.frus(ctx, true) }
		}
	}
	return append(steps, step{"device GUID", deviceGUID})
}

// appears waits for the device where there is one to wait for: the driver
// needs a moment (0.14 s in an emulated server).
func appears(ctx context.Context, root sysfs.Root) bool {
	ctx, cancel := context.WithTimeout(ctx, appearLimit)
	defer cancel()
	for !root.Exists(device0) {
		if promised(root) == "" {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return true
}

// promised says which of the firmware's tables names a system interface:
// SMBIOS type 38, or an ACPI device of IPI0001 that is present.
func promised(root sysfs.Root) string {
	for _, n := range root.Names("sys/bus/platform/devices") {
		if strings.HasPrefix(n, "dmi-ipmi-") {
			return "SMBIOS"
		}
	}
	for _, n := range root.Names("sys/bus/acpi/devices") {
		if strings.HasPrefix(n, "IPI0001:") && root.Text("sys/bus/acpi/devices", n, "status") != "0" {
			return "ACPI"
		}
	}
	return ""
}
