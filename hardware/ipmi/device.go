package ipmi

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/ingot-metal/ingot/hardware"
)

// Network functions (table 5-1).
const (
	netFnChassis   = 0x00
	netFnSensor    = 0x04
	netFnApp       = 0x06
	netFnStorage   = 0x0a
	netFnTransport = 0x0c
	netFnGroup     = 0x2c
)

var (
	cmdDeviceID   = command{netFn: netFnApp, id: 0x01, name: "Get Device ID"}
	cmdDeviceGUID = command{netFn: netFnApp, id: 0x08, name: "Get Device GUID"}
)

// device is what the BMC can, as far as it changes what is asked.
type device struct {
	repository bool // it keeps an SDR repository
	deviceSDRs bool // it gives its own records
	fru        bool
}

func deviceID(ctx context.Context, s *session) error {
	b, err := s.ask(ctx, cmdDeviceID)
	if err != nil {
		return err
	}
	bmc, err := DecodeDeviceID(b)
	if err != nil {
		return err
	}
	s.view.Inventory.BMC = bmc
	support := byte(0xff) // a BMC that does not say is asked
	if len(b) > 5 {
		support = b[5]
	}
	s.device = device{repository: support&0x02 != 0, fru: support&0x08 != 0, deviceSDRs: b[1]&0x80 != 0}
	return nil
}

// DecodeDeviceID reads the answer to Get Device ID (20.1) without its
// completion code. Some BMCs leave out the end.
func DecodeDeviceID(b []byte) (hardware.BMC, error) {
	bmc := hardware.BMC{Sources: hardware.Sources{Source}}
	if len(b) < 5 {
		return bmc, fmt.Errorf("device ID of %d bytes, want 11 or 15", len(b))
	}
	bmc.DeviceID, bmc.DeviceRevision = int(b[0]), int(b[1]&0xf)
	bmc.Firmware = fmt.Sprintf("%d.%02x", b[2]&0x7f, b[3]) // the minor number is BCD
	major, minor := b[4]&0xf, b[4]>>4
	if major == 0 && minor > 0 {
		major, minor = minor, major // 0x20 for 2.0, against table 20-2, is often seen
	}
	if major > 0 {
		bmc.IPMIVersion = fmt.Sprintf("%d.%d", major, minor)
	}
	if len(b) >= 6 {
		bmc.Functions = functions(b[1], b[5])
	}
	if len(b) >= 9 {
		id := uint32(b[6]) | uint32(b[7])<<8 | uint32(b[8]&0xf)<<16
		bmc.Manufacturer, bmc.ManufacturerID = manufacturer(id), int(id)
	}
	if len(b) >= 11 {
		bmc.ProductID = le16(b[9:])
	}
	if len(b) >= 15 && le32(b[11:]) != 0 {
		bmc.FirmwareAux = hex.EncodeToString(b[11:15])
	}
	return bmc, nil
}

// functions are the "additional device support" of table 20-2.
func functions(revision, support byte) []string {
	var out []string
	for i, name := range []string{"sensor", "sdr-repository", "sel", "fru", "ipmb-receiver", "ipmb-generator", "bridge", "chassis"} {
		if support&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	if revision&0x80 != 0 {
		out = append(out, "device-sdrs")
	}
	return out
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

func deviceGUID(ctx context.Context, s *session) error {
	b, err := s.ask(ctx, cmdDeviceGUID)
	if err != nil {
		return err
	}
	s.view.Inventory.BMC.GUID = DecodeGUID(b)
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
