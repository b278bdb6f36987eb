package redfish

import (
	"net/netip"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// The functions here turn one resource into facts. They look at nothing else,
// bear any JSON, and are fuzzed together.

const gib, mib = 1 << 30, 1 << 20

func systemFacts(n node, inv *hardware.Inventory, r *hardware.Readings) {
	inv.System = hardware.System{
		Manufacturer: hardware.Clean(n.str("Manufacturer")), Model: hardware.Clean(n.str("Model")),
		Serial: hardware.CleanSerial(n.str("SerialNumber")), UUID: hardware.ParseUUID(n.str("UUID")),
		SKU: hardware.Clean(n.str("SKU")), AssetTag: hardware.CleanSerial(n.str("AssetTag")), Sources: from,
	}
	if v := hardware.Clean(n.str("BiosVersion")); v != "" {
		inv.BIOS = hardware.BIOS{Version: v, Sources: from}
	}
	if g, ok := n.num("MemorySummary", "TotalSystemMemoryGiB"); ok && g > 0 && g < 1<<20 {
		inv.Memory = hardware.Memory{SizeBytes: uint64(g * gib), Sources: from}
	}
	for _, t := range n.list("TrustedModules") {
		v := map[string]string{"TPM1_2": "1.2", "TPM2_0": "2.0"}[t.str("InterfaceType")]
		if v != "" && !t.absent() {
			inv.TPM = hardware.TPM{Version: v, Firmware: hardware.Clean(t.str("FirmwareVersion")), Sources: from}
		}
	}
	r.PowerState = powerState(n)
	r.Health = strings.ToLower(hardware.Clean(n.str("Status", "Health")))
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

func chassisFacts(n node, inv *hardware.Inventory) {
	if n == nil {
		return
	}
	inv.Chassis = hardware.Chassis{
		Manufacturer: hardware.Clean(n.str("Manufacturer")), Model: hardware.Clean(n.str("Model")),
		Serial: hardware.CleanSerial(n.str("SerialNumber")), AssetTag: hardware.CleanSerial(n.str("AssetTag")),
		Type: hardware.Clean(n.str("ChassisType")), Sources: from,
	}
}

// thermalFacts takes every sensor that is listed. One whose state is absent
// has no reading, though many BMCs then send a zero.
func thermalFacts(n node, r *hardware.Readings) {
	for _, t := range n.list("Temperatures") {
		if name := hardware.Clean(t.str("Name")); name != "" && len(r.Temperatures) < maxMembers {
			r.Temperatures = append(r.Temperatures, hardware.Temperature{Name: name, Celsius: reading(t, "ReadingCelsius")})
		}
	}
	for _, f := range n.list("Fans") {
		name := hardware.Clean(firstNonEmpty(f.str("Name"), f.str("FanName")))
		if name == "" || len(r.Fans) >= maxMembers {
			continue
		}
		fan, v := hardware.Fan{Name: name}, reading(f, "Reading")
		switch {
		case f.str("ReadingUnits") == "Percent":
			fan.Percent = v
		case v != nil:
			fan.RPM = v
		default:
			fan.RPM = reading(f, "ReadingRPM") // before Thermal 1.0
		}
		r.Fans = append(r.Fans, fan)
	}
}

func reading(n node, property string) *float64 {
	v, ok := n.num(property)
	if !ok || n.absent() {
		return nil
	}
	return &v
}

func managerFacts(n node, inv *hardware.Inventory) {
	if n == nil {
		return
	}
	inv.BMC = hardware.BMC{
		Manufacturer: hardware.Clean(n.str("Manufacturer")), Model: hardware.Clean(n.str("Model")),
		Firmware: hardware.Clean(n.str("FirmwareVersion")), GUID: hardware.ParseUUID(n.str("UUID")), Sources: from,
	}
}

// managerPortFacts takes the BMC's own port: the first that is enabled, with
// an address that others can reach.
func managerPortFacts(n node, inv *hardware.Inventory) {
	if n.absent() || n.link("Links", "HostInterface") != "" {
		return
	}
	var addresses []string
	for _, kind := range []string{"IPv4Addresses", "IPv6Addresses"} {
		for _, a := range n.list(kind) {
			if ip, err := netip.ParseAddr(a.str("Address")); err == nil && ip.IsGlobalUnicast() {
				addresses = append(addresses, ip.Unmap().WithZone("").String())
			}
		}
	}
	mac := hardware.ParseMAC(firstNonEmpty(n.str("PermanentMACAddress"), n.str("MACAddress")))
	if inv.BMC.MAC == "" || len(inv.BMC.Addresses) == 0 && len(addresses) > 0 {
		inv.BMC.MAC, inv.BMC.Addresses, inv.BMC.Sources = mac, addresses, from
	}
}

func secureBootFacts(n node, inv *hardware.Inventory) {
	switch n.str("SecureBootCurrentBoot") {
	case "Enabled":
		inv.BIOS.SecureBoot = hardware.Enabled
	case "Disabled":
		inv.BIOS.SecureBoot = hardware.Disabled
	default:
		return
	}
	inv.BIOS.Sources = from
}

func dimmFacts(n node, inv *hardware.Inventory) {
	slot := hardware.Clean(n.str("DeviceLocator"))
	for _, other := range []string{n.str("Location", "PartLocation", "ServiceLabel"), n.str("Name"), n.str("Id")} {
		slot = firstNonEmpty(slot, hardware.Clean(other))
	}
	size := n.count("CapacityMiB")
	if slot == "" && size == 0 {
		return
	}
	populated := size > 0 && size < 1<<32 && !n.absent()
	inv.DIMMSlots = append(inv.DIMMSlots, hardware.DIMMSlot{Name: slot, Populated: populated, Sources: from})
	if !populated {
		return
	}
	kind := hardware.Clean(n.str("MemoryDeviceType"))
	inv.DIMMs = append(inv.DIMMs, hardware.DIMM{
		Slot: slot, SizeBytes: size * mib, Serial: hardware.CleanSerial(n.str("SerialNumber")),
		Manufacturer: hardware.Clean(n.str("Manufacturer")), Part: hardware.CleanSerial(n.str("PartNumber")),
		SpeedMTs: n.small("OperatingSpeedMhz"), Type: strings.ReplaceAll(kind, "_", " "), Sources: from,
	})
}

// cpuFacts takes CPUs: GPUs and accelerators are processors too.
func cpuFacts(n node, inv *hardware.Inventory) {
	if t := n.str("ProcessorType"); t != "" && t != "CPU" || n.absent() {
		return
	}
	socket := hardware.Clean(n.str("Socket"))
	for _, other := range []string{n.str("Location", "PartLocation", "ServiceLabel"), n.str("Name"), n.str("Id")} {
		socket = firstNonEmpty(socket, hardware.Clean(other))
	}
	cores := n.small("TotalCores")
	if cores == 0 {
		cores = n.small("TotalEnabledCores")
	}
	inv.CPUs = append(inv.CPUs, hardware.CPU{
		Socket: socket, Manufacturer: hardware.Clean(n.str("Manufacturer")), Model: hardware.Clean(n.str("Model")),
		Serial: hardware.CleanSerial(n.str("SerialNumber")), Cores: cores, Threads: n.small("TotalThreads"),
		MaxMHz: n.small("MaxSpeedMHz"), Sources: from,
	})
}

func cpuSummary(system node, inv *hardware.Inventory) {
	s := system.obj("ProcessorSummary")
	for range min(s.count("Count"), 64) {
		inv.CPUs = append(inv.CPUs, hardware.CPU{Model: hardware.Clean(s.str("Model")), Sources: from})
	}
}

func driveFacts(n node, inv *hardware.Inventory) {
	if n.absent() {
		return
	}
	d := hardware.Drive{
		Model: hardware.Clean(n.str("Model")), Serial: hardware.CleanSerial(n.str("SerialNumber")),
		Vendor: hardware.Clean(n.str("Manufacturer")), SizeBytes: n.count("CapacityBytes"),
		Firmware:   hardware.Clean(firstNonEmpty(n.str("Revision"), n.str("FirmwareVersion"))),
		Rotational: n.str("MediaType") == "HDD", Sources: from,
		Transport: map[string]hardware.Transport{
			"NVMe": hardware.TransportNVMe, "PCIe": hardware.TransportNVMe, "SATA": hardware.TransportSATA, "SAS": hardware.TransportSAS,
			"USB": hardware.TransportUSB}[n.str("Protocol")],
	}
	for _, l := range append([]node{n.obj("PhysicalLocation")}, n.list("Location")...) {
		d.Slot = firstNonEmpty(d.Slot, hardware.Clean(firstNonEmpty(l.str("PartLocation", "ServiceLabel"), l.str("Info"))))
	}
	for _, i := range n.list("Identifiers") {
		name := strings.ToLower(hardware.CleanSerial(i.str("DurableName")))
		if prefix := map[string]string{"NAA": "naa.", "EUI": "eui."}[i.str("DurableNameFormat")]; prefix != "" && name != "" && d.WWN == "" {
			d.WWN = prefix + strings.TrimPrefix(strings.TrimPrefix(name, prefix), "0x")
		}
	}
	if d.Model == "" && d.Serial == "" && d.SizeBytes == 0 {
		return // an empty bay
	}
	inv.Drives = append(inv.Drives, d)
}

// nicFacts takes a port of the host. The one that leads to the BMC itself is
// on USB.
func nicFacts(n node, inv *hardware.Inventory) {
	mac := hardware.ParseMAC(firstNonEmpty(n.str("PermanentMACAddress"), n.str("MACAddress")))
	if mac == "" || n.absent() {
		return
	}
	nic := hardware.NIC{MAC: mac, Slot: hardware.Clean(n.str("Name")), LinkMbps: n.small("SpeedMbps"), Sources: from}
	if n.link("Links", "HostInterface") != "" {
		nic.Bus = "usb"
	}
	switch n.str("LinkStatus") {
	case "LinkUp":
		nic.Carrier = hardware.Enabled
	case "LinkDown", "NoLink":
		nic.Carrier, nic.LinkMbps = hardware.Disabled, 0
	}
	addNIC(inv, nic)
}

// portFacts takes a port of an adapter (NetworkPort, and Port since 2020).
func portFacts(adapter, n node, inv *hardware.Inventory) {
	macs := append(n.texts("AssociatedNetworkAddresses"), n.texts("Ethernet", "AssociatedMACAddresses")...)
	for _, m := range macs {
		if mac := hardware.ParseMAC(m); mac != "" {
			addNIC(inv, hardware.NIC{MAC: mac, Sources: from,
				Adapter: hardware.Clean(strings.TrimSpace(adapter.str("Manufacturer") + " " + adapter.str("Model")))})
			return // the first is the port's own, what follows are its functions
		}
	}
}

func addNIC(inv *hardware.Inventory, n hardware.NIC) {
	for i := range inv.NICs {
		if o := &inv.NICs[i]; o.MAC == n.MAC {
			if o.Adapter == "" {
				o.Adapter = n.Adapter
			}
			return
		}
	}
	inv.NICs = append(inv.NICs, n)
}
