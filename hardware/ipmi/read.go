package ipmi

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// The IPMI 2.0 commands that are sent raw, so that a short answer is read as
// far as it goes: appendix G.
const (
	netFnApp       = 0x06
	netFnTransport = 0x0c

	cmdDeviceID    = 0x01 // 20.1
	cmdDeviceGUID  = 0x08 // 20.8
	cmdChannelInfo = 0x42 // 22.24
	cmdLANConfig   = 0x02 // 23.2

	lanIP  = 3 // 23.2, table 23-4
	lanMAC = 5
)

const (
	device      = "dev/ipmi0"
	appearLimit = 2 * time.Second
	stepLimit   = 3 * time.Second
	firstLAN    = 1
	lastLAN     = 11
	mediumLAN   = 4 // table 6-3: 802.3 LAN
	mediumMask  = 0x7f
)

// Read asks the BMC in-band. A machine without one yields nothing, and that is
// no error. One whose firmware names a BMC that the kernel does not show in
// time yields a finding.
func Read(ctx context.Context, root sysfs.Root) (hardware.Inventory, error) {
	if !root.Live() {
		return hardware.Inventory{}, nil
	}
	if !appears(ctx, root) {
		if by := promised(root); by != "" {
			return hardware.Inventory{Findings: []hardware.Finding{{Code: hardware.CodeBMCUnreachable, Severity: hardware.Warning, Part: "bmc",
				Evidence: by + " names a BMC, and there is no /" + device, Hint: "are ipmi_si and ipmi_devintf loaded, and is KCS enabled in the BMC?", Source: Source}}}, nil
		}
		return hardware.Inventory{}, nil
	}
	c, err := client.NewOpenClient()
	if err != nil {
		return hardware.Inventory{}, fmt.Errorf("open KCS: %w", err)
	}
	o := own(c.WithTimeout(stepLimit))
	defer o.close(ctx, stepLimit)
	if err := o.do(ctx, stepLimit, func(ctx context.Context, c *client.Client) error { return c.Connect(ctx) }); err != nil {
		return hardware.Inventory{}, fmt.Errorf("open /dev/ipmi0: %w", err)
	}
	return ask(ctx, o)
}

// appears waits for the device where there is one to wait for: the driver
// needs a moment (0.14 s in an emulated server).
func appears(ctx context.Context, root sysfs.Root) bool {
	ctx, cancel := context.WithTimeout(ctx, appearLimit)
	defer cancel()
	for !root.Exists(device) {
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

// ask runs the steps. One that fails costs its facts; without a device ID
// there is no BMC to speak of.
func ask(ctx context.Context, o *owner) (hardware.Inventory, error) {
	var inv hardware.Inventory
	steps := []struct {
		name string
		f    func(context.Context, *client.Client, *hardware.Inventory) error
	}{
		{"device ID", deviceID},
		{"device GUID", deviceGUID},
		{"LAN configuration", lanConfig},
		{"FRU 0", fru0},
	}
	for i, s := range steps {
		part := inv
		err := o.do(ctx, stepLimit, func(ctx context.Context, c *client.Client) error { return s.f(ctx, c, &part) })
		if err != nil && i == 0 {
			return hardware.Inventory{}, fmt.Errorf("read %s: %w", s.name, err)
		}
		if !o.stuck {
			inv = part
		}
		if err != nil {
			inv.Findings = append(inv.Findings, hardware.Finding{Code: hardware.CodeSourceMalformed, Severity: hardware.Info,
				Part: "bmc", Evidence: fmt.Sprintf("read %s: %v", s.name, err), Source: Source})
		}
	}
	return inv, nil
}

func raw(ctx context.Context, c *client.Client, netFn types.NetFn, cmd byte, name string, data ...byte) ([]byte, error) {
	res, err := c.RawCommand(ctx, netFn, cmd, data, name)
	if err != nil {
		return nil, err
	}
	return res.Response, nil
}

func deviceID(ctx context.Context, c *client.Client, inv *hardware.Inventory) error {
	b, err := raw(ctx, c, netFnApp, cmdDeviceID, "Get Device ID")
	if err != nil {
		return err
	}
	bmc, err := DecodeDeviceID(b)
	if err != nil {
		return err
	}
	inv.BMC = bmc
	return nil
}

// DecodeDeviceID reads the answer to Get Device ID (20.1) without its
// completion code. Some BMCs leave out the end.
func DecodeDeviceID(b []byte) (hardware.BMC, error) {
	bmc := hardware.BMC{Sources: hardware.Sources{Source}}
	if len(b) < 5 {
		return bmc, fmt.Errorf("device ID of %d bytes, want 11 or 15", len(b))
	}
	bmc.Firmware = fmt.Sprintf("%d.%02x", b[2]&0x7f, b[3]) // the minor number is BCD
	major, minor := b[4]&0xf, b[4]>>4
	if major == 0 && minor > 0 {
		major, minor = minor, major // 0x20 for 2.0, against table 20-2, is often seen
	}
	if major > 0 {
		bmc.IPMIVersion = fmt.Sprintf("%d.%d", major, minor)
	}
	if len(b) >= 9 {
		id := uint32(b[6]) | uint32(b[7])<<8 | uint32(b[8]&0xf)<<16
		bmc.Manufacturer = manufacturer(id)
	}
	return bmc, nil
}

// manufacturer names the IANA enterprise numbers of those who make BMCs.
func manufacturer(id uint32) string {
	names := map[uint32]string{
		2: "IBM", 11: "HPE", 42: "Oracle", 119: "NEC", 343: "Intel", 674: "Dell", 3704: "Cisco", 5771: "Cisco",
		7154: "IPMI forum", 7244: "Quanta", 10368: "Fujitsu", 10876: "Supermicro", 15370: "Gigabyte", 19046: "Lenovo",
		20301: "Lenovo", 20974: "AMI", 2011: "Huawei", 4413: "Broadcom", 47488: "Supermicro", 49622: "OpenBMC", 40981: "Wiwynn",
	}
	if n, ok := names[id]; ok {
		return n
	}
	if id == 0 || id == 0xfffff {
		return ""
	}
	return fmt.Sprintf("IANA %d", id)
}

func deviceGUID(ctx context.Context, c *client.Client, inv *hardware.Inventory) error {
	b, err := raw(ctx, c, netFnApp, cmdDeviceGUID, "Get Device GUID")
	if err != nil {
		return err
	}
	inv.BMC.GUID = DecodeGUID(b)
	return nil
}

// DecodeGUID reads 16 bytes as a GUID. The specification sends them last byte
// first (20.8); BMCs send them also as SMBIOS or RFC 4122 do. The order under
// which version and variant are valid wins, the specification's first.
func DecodeGUID(b []byte) hardware.UUID {
	if len(b) < 16 {
		return ""
	}
	b = b[:16]
	var first hardware.UUID
	for _, mode := range []types.GUIDMode{types.GUIDModeIPMI, types.GUIDModeSMBIOS, types.GUIDModeRFC4122} {
		u, err := types.ParseGUID(b, mode)
		if err != nil {
			return ""
		}
		id := hardware.ParseUUID(u.String())
		if first == "" {
			first = id
		}
		if v := u[6] >> 4; v >= 1 && v <= 5 && u[8]>>6 == 2 {
			return id
		}
	}
	return first
}

// lanConfig finds the first LAN channel and reads its MAC and IPv4 address.
func lanConfig(ctx context.Context, c *client.Client, inv *hardware.Inventory) error {
	for ch := byte(firstLAN); ch <= lastLAN; ch++ {
		info, err := raw(ctx, c, netFnApp, cmdChannelInfo, "Get Channel Info", ch)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || len(info) < 2 || info[1]&mediumMask != mediumLAN {
			continue // no such channel, or another medium
		}
		b, err := lanParam(ctx, c, ch, lanMAC)
		if err != nil {
			return fmt.Errorf("channel %d MAC: %w", ch, err)
		}
		if len(b) < 6 {
			continue
		}
		if inv.BMC.MAC = hardware.ParseMAC(fmt.Sprintf("%x", b[:6])); inv.BMC.MAC == "" {
			continue // a channel that is not fitted
		}
		if b, err = lanParam(ctx, c, ch, lanIP); err != nil {
			return fmt.Errorf("channel %d address: %w", ch, err)
		}
		if len(b) >= 4 {
			if a := netip.AddrFrom4([4]byte(b[:4])); !a.IsUnspecified() {
				inv.BMC.Addresses = []string{a.String()}
			}
		}
		return nil
	}
	return nil
}

// lanParam is a LAN parameter's value, after its revision byte.
func lanParam(ctx context.Context, c *client.Client, channel, param byte) ([]byte, error) {
	b, err := raw(ctx, c, netFnTransport, cmdLANConfig, "Get LAN Configuration Parameters", channel, param, 0, 0)
	if err != nil || len(b) < 1 {
		return nil, err
	}
	return b[1:], nil
}
