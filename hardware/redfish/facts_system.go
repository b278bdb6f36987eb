package redfish

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// The functions of the facts_ files turn one resource into facts. They look at
// nothing else, bear any JSON, and are fuzzed together. Texts are cleaned when
// the record is normalized.

var from = hardware.Sources{Source}

func systemFacts(n node) hardware.System {
	return hardware.System{
		Manufacturer: n.str("Manufacturer"), Model: n.str("Model"), Serial: n.str("SerialNumber"), UUID: hardware.ParseUUID(n.str("UUID")),
		SKU: hardware.CleanSerial(n.str("SKU")), Family: n.str("SubModel"), AssetTag: n.str("AssetTag"), Sources: from,
	}
}

// oemNumbers are where vendors keep further numbers of a server, in its
// system or its chassis.
var oemNumbers = []struct{ at, name string }{
	{"Oem/Dell/DellSystem/ChassisServiceTag", "chassis_service_tag"},
	{"Oem/Dell/DellSystem/ExpressServiceCode", "express_service_code"},
	{"Oem/Dell/DellSystem/NodeID", "service_tag"},
	{"Oem/Dell/ServiceTag", "service_tag"},
	{"Oem/Hpe/PCASerialNumber", "board_serial"},
	{"Oem/Hpe/PCAPartNumber", "board_part"},
	{"Oem/Hp/PCASerialNumber", "board_serial"},
	{"Oem/Hp/PCAPartNumber", "board_part"},
	{"Oem/Lenovo/ProductSerialNumber", "product_serial"},
	{"Oem/Lenovo/PartNumber", "part"},
	{"Oem/Supermicro/BoardSerialNumber", "board_serial"},
	{"Oem/Supermicro/BoardID", "board_id"},
	{"Oem/Huawei/BoardSerialNumber", "board_serial"},
	{"Oem/Huawei/MainboardSerialNumber", "board_serial"},
	{"Oem/Huawei/ProductAlias", "product_alias"},
	{"Oem/Public/BoardSerialNumber", "board_serial"},
	{"Oem/ts_fujitsu/SystemBoard/SerialNumber", "board_serial"},
	{"Oem/Ami/BoardSerialNumber", "board_serial"},
}

// oemSerials are what the table finds. On a Dell the SKU is the service tag,
// and the serial is the main board's.
func oemSerials(system node, chassis []node) map[string]string {
	out := map[string]string{}
	for _, n := range append([]node{system}, chassis...) {
		for _, o := range oemNumbers {
			path := strings.Split(o.at, "/")
			if v := hardware.CleanSerial(n.str(path...)); v != "" && out[o.name] == "" {
				out[o.name] = v
			}
		}
	}
	if sku := hardware.CleanSerial(system.str("SKU")); sku != "" && strings.HasPrefix(system.str("Manufacturer"), "Dell") {
		out["service_tag"] = sku
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func baseboardFacts(numbers map[string]string) hardware.Baseboard {
	if numbers["board_serial"] == "" {
		return hardware.Baseboard{}
	}
	return hardware.Baseboard{Serial: numbers["board_serial"], Sources: from}
}

func tpmFacts(system node) hardware.TPM {
	for _, t := range system.list("TrustedModules") {
		v := map[string]string{"TPM1_2": "1.2", "TPM2_0": "2.0"}[t.str("InterfaceType")]
		if v != "" && !t.absent() {
			return hardware.TPM{Version: v, Firmware: t.str("FirmwareVersion"), Sources: from}
		}
	}
	return hardware.TPM{}
}

// powerState counts the ways up and down as what they lead away from.
func powerState(n node) hardware.PowerState {
	switch n.str("PowerState") {
	case "On", "PoweringOff", "Paused":
		return hardware.PowerOn
	case "Off", "PoweringOn":
		return hardware.PowerOff
	}
	return ""
}

func health(n node) string {
	return strings.ToLower(hardware.Clean(first(n.str("Status", "Health"), n.str("Status", "HealthRollup"))))
}

// biosFacts takes the version from the system, the settings from the BIOS
// resource, and Secure Boot from its own.
func biosFacts(system, bios, secure node) hardware.BIOS {
	b := hardware.BIOS{Version: system.str("BiosVersion"), Attributes: attributes(bios)}
	b.Mode = bootMode(b.Attributes)
	boot := system.obj("Boot")
	b.Boot = hardware.BootOverride{
		Target:  bootTargets[boot.str("BootSourceOverrideTarget")],
		Enabled: strings.ToLower(boot.str("BootSourceOverrideEnabled")),
		Mode:    map[string]hardware.BootMode{"UEFI": hardware.ModeUEFI, "Legacy": hardware.ModeBIOS}[boot.str("BootSourceOverrideMode")],
	}
	switch secure.str("SecureBootCurrentBoot") {
	case "Enabled":
		b.SecureBoot = hardware.Enabled
	case "Disabled":
		b.SecureBoot = hardware.Disabled
	default:
		b.SecureBoot = secure.flag("SecureBootEnable")
	}
	switch secure.str("SecureBootMode") {
	case "SetupMode":
		b.SetupMode = hardware.Enabled
	case "UserMode", "DeployedMode", "AuditMode":
		b.SetupMode = hardware.Disabled
	}
	if hardware.Clean(b.Version) != "" || b.Attributes != nil || b.SecureBoot != "" || b.Boot != (hardware.BootOverride{}) {
		b.Sources = from
	}
	return b
}

// bootTargets are those of DSP0268 ComputerSystem, as a record words them.
var bootTargets = map[string]string{
	"None": "none", "Pxe": "pxe", "Hdd": "disk", "Cd": "cd", "Usb": "usb", "Floppy": "floppy", "BiosSetup": "bios-setup",
	"UefiHttp": "uefi-http", "UefiTarget": "uefi-target", "UefiShell": "uefi-shell", "UefiBootNext": "uefi-boot-next",
	"Diags": "diags", "Utilities": "utilities", "SDCard": "sd-card", "RemoteDrive": "remote-drive", "Recovery": "recovery",
}

// attributes are the firmware's settings; what may be a password is not one.
func attributes(bios node) map[string]string {
	from := bios.obj("Attributes")
	out := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(from)) {
		if strings.Contains(strings.ToLower(k), "password") || strings.HasPrefix(k, "@") {
			continue
		}
		switch from[k].(type) {
		case bool:
			out[k] = map[hardware.Switch]string{hardware.Enabled: "true", hardware.Disabled: "false"}[from.flag(k)]
		default:
			if v := from.str(k); v != "" {
				out[k] = v
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// bootMode reads the setting that vendors have for it.
func bootMode(attributes map[string]string) hardware.BootMode {
	for _, k := range []string{"BootMode", "BootModes_SystemBootMode", "SystemBootMode", "BootModeSelect", "BootType"} {
		switch v := strings.ToLower(attributes[k]); {
		case strings.HasPrefix(v, "uefi"):
			return hardware.ModeUEFI
		case strings.HasPrefix(v, "legacy"), v == "bios":
			return hardware.ModeBIOS
		}
	}
	return ""
}

// bootEntries are the options, and their places in the boot order. Where
// only the order can be read, they are names without more.
func bootEntries(system node, options []node) []hardware.BootEntry {
	order := map[string]int{}
	var names []string
	for _, ref := range system.texts("Boot", "BootOrder") {
		if order[ref] == 0 {
			names = append(names, ref)
			order[ref] = len(names)
		}
	}
	var out []hardware.BootEntry
	for _, o := range options {
		id := first(o.str("BootOptionReference"), o.str("Id"))
		out = append(out, hardware.BootEntry{ID: id, Name: first(o.str("DisplayName"), o.str("Name")), Path: o.str("UefiDevicePath"),
			Order: order[id], Active: o.flag("BootOptionEnabled"), Sources: from})
	}
	if len(out) > 0 {
		return out
	}
	for _, ref := range names {
		out = append(out, hardware.BootEntry{ID: ref, Order: order[ref], Sources: from})
	}
	return out
}

func chassisFacts(n node) hardware.Chassis {
	if n == nil {
		return hardware.Chassis{}
	}
	return hardware.Chassis{
		Manufacturer: n.str("Manufacturer"), Model: n.str("Model"), Serial: n.str("SerialNumber"), AssetTag: n.str("AssetTag"),
		Part: n.str("PartNumber"), SKU: n.str("SKU"), Type: n.str("ChassisType"), Sources: from,
	}
}

func chassisPartFacts(n node, parent string) hardware.ChassisPart {
	return hardware.ChassisPart{
		Name: first(n.str("Name"), n.str("Id")), Parent: parent, Type: n.str("ChassisType"), Manufacturer: n.str("Manufacturer"),
		Model: n.str("Model"), Serial: n.str("SerialNumber"), Part: n.str("PartNumber"), Sources: from,
	}
}

func bmcFacts(n, root node) hardware.BMC {
	if n == nil {
		return hardware.BMC{}
	}
	model, firmware := n.str("Model"), n.str("FirmwareVersion")
	for _, m := range append(root.list("Oem", "Hpe", "Manager"), root.list("Oem", "Hp", "Manager")...) {
		model, firmware = first(model, m.str("ManagerType")), first(firmware, m.str("ManagerFirmwareVersion"))
	}
	return hardware.BMC{
		Manufacturer: n.str("Manufacturer"), Model: model, Firmware: firmware, GUID: hardware.ParseUUID(n.str("UUID")),
		Serial: n.str("SerialNumber"), Protocol: root.str("RedfishVersion"), Sources: from,
	}
}

var powerPolicies = map[string]string{"AlwaysOn": "always-on", "AlwaysOff": "always-off", "LastState": "previous"}

// bmcInterface is one network interface of the BMC. host is true where a host
// interface names it; names and addresses tell the others.
func bmcInterface(n node, host bool) hardware.BMCInterface {
	i := hardware.BMCInterface{
		Name: first(n.str("Id"), n.str("Name")), MAC: hardware.ParseMAC(first(n.str("PermanentMACAddress"), n.str("MACAddress"))),
		Enabled: n.flag("InterfaceEnabled"), Host: host || n.link("Links", "HostInterface") != "" || hostNames.MatchString(n.str("Id")),
	}
	if n.flag("VLAN", "VLANEnable") == hardware.Enabled {
		i.VLAN = n.small("VLAN", "VLANId")
	}
	for _, kind := range []string{"IPv4Addresses", "IPv6Addresses"} {
		for _, a := range n.list(kind) {
			ip, err := netip.ParseAddr(a.str("Address"))
			if err != nil || !ip.IsGlobalUnicast() {
				continue
			}
			if address := withPrefix(ip.Unmap().WithZone(""), a); !slices.Contains(i.Addresses, address) {
				i.Addresses = append(i.Addresses, address)
			}
			if i.Origin == "" {
				i.Origin = strings.ToLower(a.str("AddressOrigin"))
			}
			if gw, err := netip.ParseAddr(a.str("Gateway")); err == nil && !gw.IsUnspecified() && i.Gateway == "" {
				i.Gateway = gw.String()
			}
		}
	}
	return i
}

// withPrefix is an address with its prefix length, where that is known.
func withPrefix(ip netip.Addr, n node) string {
	length := n.small("PrefixLength")
	if mask, err := netip.ParseAddr(n.str("SubnetMask")); err == nil && mask.Is4() {
		b := mask.As4()
		length = bits.LeadingZeros32(^binary.BigEndian.Uint32(b[:]))
	}
	if length == 0 || length > ip.BitLen() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, length).String()
}

var hostNames = regexp.MustCompile(`(?i)^(tohost|host.*|usb[0-9]*|hostusb.*|.*usbnic.*|rndis.*)$`)

// reachable fills in where the BMC is to be found: its own ports that are
// not switched off. The MAC is that of the first with an address.
func reachable(b *hardware.BMC) {
	for withAddress := range 2 {
		for _, i := range b.Interfaces {
			if i.Host || i.Enabled == hardware.Disabled {
				continue
			}
			if b.MAC == "" && (len(i.Addresses) > 0 || withAddress == 1) {
				b.MAC = i.MAC
			}
			for _, a := range i.Addresses {
				if address, _, _ := strings.Cut(a, "/"); !slices.Contains(b.Addresses, address) {
					b.Addresses = append(b.Addresses, address)
				}
			}
		}
	}
}

func accountFacts(n node) (hardware.BMCAccount, bool) {
	name := n.str("UserName")
	if name == "" || n.absent() {
		return hardware.BMCAccount{}, false // a slot for one
	}
	return hardware.BMCAccount{ID: n.str("Id"), Name: name, Privilege: strings.ToLower(n.str("RoleId")), Enabled: n.flag("Enabled"),
		Locked: n.flag("Locked") == hardware.Enabled}, true
}

func mediaFacts(n node) hardware.VirtualMedia {
	return hardware.VirtualMedia{Name: first(n.str("Id"), n.str("Name")), Types: n.texts("MediaTypes"), Inserted: n.flag("Inserted")}
}

func firmwareFacts(n node) hardware.Firmware {
	return hardware.Firmware{Name: first(n.str("Name"), n.str("Id")), Version: n.str("Version"), Manufacturer: n.str("Manufacturer"),
		Date: date(n.str("ReleaseDate")), ID: n.str("Id"), Updateable: n.flag("Updateable"), Sources: from}
}

// date is the day of a time; zero times are none.
func date(s string) string {
	day, _, _ := strings.Cut(s, "T")
	if strings.HasPrefix(day, "0000") || strings.HasPrefix(day, "1970-01-01") || strings.HasPrefix(day, "0001") {
		return ""
	}
	return day
}
