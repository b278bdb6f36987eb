package redfish

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// adapterFacts takes a card (NetworkAdapter, or HPE's BaseNetworkAdapter).
func adapterFacts(n node) hardware.Adapter {
	a := hardware.Adapter{
		Manufacturer: n.str("Manufacturer"), Model: n.str("Model"), Serial: n.str("SerialNumber"), Part: n.str("PartNumber"),
		Slot: first(place(n), n.str("StructuredName")), Firmware: n.str("Firmware", "Current", "VersionString"), Sources: from,
	}
	for _, c := range n.list("Controllers") {
		a.Firmware = first(a.Firmware, c.str("FirmwarePackageVersion"))
		a.Slot = first(a.Slot, place(c))
		a.Ports = max(a.Ports, c.small("ControllerCapabilities", "NetworkPortCount"))
	}
	a.Name = adapterName(n)
	return a
}

// adapterName is how ports name their card: maker and model, else the name
// unless that only says what it is, else the Id.
func adapterName(n node) string {
	maker, model := hardware.Clean(n.str("Manufacturer")), hardware.Clean(n.str("Model"))
	switch {
	case model != "" && maker != "" && strings.Contains(strings.ToLower(model), strings.ToLower(strings.Fields(maker)[0])):
		return model // it says its maker itself
	case model != "":
		return strings.TrimSpace(maker + " " + model)
	}
	if name := hardware.Clean(n.str("Name")); name != "" && !genericName.MatchString(name) {
		return name
	}
	if id := first(n.str("Id"), leaf(n.id())); id != "" {
		return strings.TrimSpace(maker + " " + id)
	}
	return maker
}

var genericName = regexp.MustCompile(`(?i)^(network ?adapter( view)?|adapter|nic|network ?card|ethernet ?adapter|((system|host|computer system) )?ethernet ?interface)( ?[0-9]+)?$`)

// portFacts takes a port of an adapter (NetworkPort, and Port since 2020).
func portFacts(n node) hardware.NIC {
	nic := hardware.NIC{Port: portNumber(n), Sources: from}
	if v, ok := n.num("MaxSpeedGbps"); ok && v > 0 && v < 1e5 {
		nic.MaxMbps = int(v * 1000)
	}
	for _, c := range n.list("SupportedLinkCapabilities") {
		nic.MaxMbps = max(nic.MaxMbps, small32(c.small("LinkSpeedMbps")))
		for _, v := range c.list2("CapableLinkSpeedMbps") {
			nic.MaxMbps = max(nic.MaxMbps, v)
		}
	}
	if v, ok := n.num("CurrentSpeedGbps"); ok && v > 0 && v < 1e5 {
		nic.LinkMbps = int(v * 1000)
	}
	nic.LinkMbps = max(nic.LinkMbps, small32(n.small("CurrentLinkSpeedMbps")), small32(n.small("SpeedMbps")))
	nic.Carrier = carrier(n.str("LinkStatus"))
	if nic.Carrier == hardware.Disabled {
		nic.LinkMbps = 0
	}
	sfp := n.obj("SFP")
	if sfp != nil && !sfp.absent() {
		nic.Transceiver = hardware.Transceiver{Type: sfp.str("Type"), Manufacturer: sfp.str("Manufacturer"), Part: sfp.str("PartNumber"),
			Serial: sfp.str("SerialNumber"), LengthMeters: sfp.small("FiberConnectionLengthMeters")}
	}
	return nic
}

// small32 drops the all-ones that some send for an unknown speed.
func small32(n int) int {
	if n >= 1<<24 {
		return 0
	}
	return n
}

func carrier(status string) hardware.Switch {
	switch strings.ToLower(status) {
	case "up", "linkup", "starting", "training":
		return hardware.Enabled
	case "down", "linkdown", "nolink":
		return hardware.Disabled
	}
	return ""
}

// portNumber is the port's place on its card, from 1.
func portNumber(n node) int {
	for _, s := range []string{n.str("PhysicalPortNumber"), n.str("PortId"), n.str("Id")} {
		if v, err := strconv.Atoi(s[strings.LastIndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })+1:]); err == nil && v > 0 && v < 256 {
			return v
		}
	}
	return 0
}

// ethernetFacts takes a port of the host (EthernetInterface); false for what
// has no address of its own: a VLAN, a bond.
func ethernetFacts(n node) (hardware.NIC, bool) {
	mac := hardware.ParseMAC(first(n.str("PermanentMACAddress"), n.str("MACAddress"), n.str("MacAddress"), n.str("FactoryMacAddress")))
	if mac == "" || n.absent() || n.str("EthernetInterfaceType") == "Virtual" || n.flag("VLAN", "VLANEnable") == hardware.Enabled && n.link("Links", "ParentInterface") != "" {
		return hardware.NIC{}, false
	}
	slot := n.str("Name")
	if genericName.MatchString(hardware.Clean(slot)) {
		slot = ""
	}
	nic := hardware.NIC{MAC: mac, Slot: first(slot, n.str("Id")), LinkMbps: small32(n.small("SpeedMbps")), Sources: from}
	if n.link("Links", "HostInterface") != "" {
		nic.Bus = "usb"
	}
	nic.Carrier = carrier(n.str("LinkStatus"))
	if nic.Carrier == hardware.Disabled {
		nic.LinkMbps = 0
	}
	if n.flag("FullDuplex") == hardware.Enabled && nic.LinkMbps > 0 {
		nic.Duplex = "full"
	}
	return nic, true
}

// functionFacts takes a NetworkDeviceFunction: its address, and the port that
// it is on.
func functionFacts(n node) (mac hardware.MAC, port string) {
	mac = hardware.ParseMAC(first(n.str("Ethernet", "PermanentMACAddress"), n.str("Ethernet", "MACAddress")))
	for _, at := range [][]string{{"Links", "PhysicalNetworkPortAssignment"}, {"Links", "PhysicalPortAssignment"}, {"PhysicalPortAssignment"}} {
		if port == "" {
			port = n.link(at...)
		}
	}
	return mac, port
}

// nicList joins what several resources say of one port, by its MAC.
type nicList []hardware.NIC

// add takes what more is said of a port, or a new port.
func (l *nicList) add(n hardware.NIC) {
	i := slices.IndexFunc(*l, func(o hardware.NIC) bool { return o.MAC == n.MAC })
	if i < 0 {
		*l = append(*l, n)
		return
	}
	o := &(*l)[i]
	o.Adapter, o.Slot, o.Bus = first(o.Adapter, n.Adapter), first(o.Slot, n.Slot), first(o.Bus, n.Bus)
	o.Firmware, o.BDF = first(o.Firmware, n.Firmware), hardware.BDF(first(string(o.BDF), string(n.BDF)))
	o.MaxMbps, o.LinkMbps, o.Port = max(o.MaxMbps, n.MaxMbps), max(o.LinkMbps, n.LinkMbps), max(o.Port, n.Port)
	if o.Carrier == "" {
		o.Carrier = n.Carrier
	}
	o.Duplex = first(o.Duplex, n.Duplex)
}
