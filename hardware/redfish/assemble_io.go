package redfish

import (
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// storage takes drives, volumes and controllers, each once however many ways
// lead to it.
func (a *assembly) storage() {
	storages := a.members(a.system, "Storage")
	for _, c := range a.chassis {
		storages = append(storages, a.members(c, "Links/Storage")...)
	}
	storages = unique(storages)
	var drives []node
	for _, s := range storages {
		drives = append(drives, a.members(s, "Drives")...)
		drives = append(drives, a.members(s, "Links/Drives")...)
	}
	for _, c := range a.chassis {
		drives = append(drives, a.chassisDrives(c)...)
	}
	for _, n := range unique(drives) {
		a.drive(n)
	}
	for _, s := range storages {
		list := a.members(s, "Controllers")
		if len(list) == 0 {
			list = s.list("StorageControllers")
		}
		for _, n := range list {
			if c, ok := controllerFacts(n); ok {
				a.controller(c)
				a.unhealthy("storage controller "+c.Name, n)
			}
		}
		for _, v := range a.members(s, "Volumes") {
			a.volume(v, "Links/Drives")
		}
	}
	a.smartStorage()
	if len(a.inv.Drives) == 0 {
		a.simpleStorage()
	}
}

// controller takes one that is not there yet, by its serial.
func (a *assembly) controller(c hardware.StorageController) {
	serial := hardware.CleanSerial(c.Serial)
	if serial == "" || !slices.ContainsFunc(a.inv.StorageControllers, func(o hardware.StorageController) bool { return hardware.CleanSerial(o.Serial) == serial }) {
		a.inv.StorageControllers = append(a.inv.StorageControllers, c)
	}
}

func (a *assembly) drive(n node) {
	d, ok := driveFacts(n)
	if !ok {
		return
	}
	serial := hardware.CleanSerial(d.Serial)
	a.drives[key(n.id())] = first(serial, d.Slot)
	if a.serials[serial] {
		return // a second way to the same drive
	}
	a.serials[serial] = serial != ""
	a.inv.Drives = append(a.inv.Drives, d)
	a.unhealthy("drive "+first(d.Slot, d.Serial), n)
	if r, ok := driveReading(n, d); ok {
		a.readings.Drives = append(a.readings.Drives, r)
	}
}

func (a *assembly) volume(n node, drivesAt string) {
	var drives []string
	for _, l := range n.targets(drivesAt) {
		if name := a.drives[key(l.id())]; name != "" {
			drives = append(drives, name)
		}
	}
	if v, ok := volumeFacts(n, drives); ok {
		a.inv.Volumes = append(a.inv.Volumes, v)
		a.unhealthy("volume "+first(v.Name, v.ID), n)
	}
}

// smartStorage is where HPE had its array controllers before iLO 6.
func (a *assembly) smartStorage() {
	for _, at := range []string{"Oem/Hpe/Links/SmartStorage", "Oem/Hp/Links/SmartStorage", "Oem/Hp/links/SmartStorage"} {
		for _, smart := range a.system.targets(at) {
			for _, c := range a.either(a.at(smart.id()), "ArrayControllers") {
				a.arrayController(c)
			}
		}
	}
}

// either are the members of a link as HPE writes it, before and since
// Redfish.
func (a *assembly) either(n node, at string) []node {
	return append(a.members(n, "Links/"+at), a.members(n, "links/"+at)...)
}

func (a *assembly) arrayController(c node) {
	if f, ok := controllerFacts(c); ok {
		f.Name = first(f.Model, f.Name)
		a.controller(f)
	}
	for _, d := range a.either(c, "PhysicalDrives") {
		a.drive(d)
	}
	for _, v := range a.either(c, "LogicalDrives") {
		a.volume(v, "Links/DataDrives")
	}
}

// simpleStorage stands in where nothing else names drives.
func (a *assembly) simpleStorage() {
	for _, s := range a.members(a.system, "SimpleStorage") {
		for _, d := range s.list("Devices") {
			if f, ok := driveFacts(d); ok {
				f.Slot = first(f.Slot, d.str("Name"))
				a.inv.Drives = append(a.inv.Drives, f)
			}
		}
	}
}

// network takes cards and their ports, then what only the host's interfaces
// know.
func (a *assembly) network() {
	var adapters []node
	for _, c := range a.chassis {
		adapters = append(adapters, a.members(c, "NetworkAdapters")...)
	}
	for _, i := range a.members(a.system, "NetworkInterfaces") {
		adapters = append(adapters, a.members(i, "Links/NetworkAdapter")...)
	}
	for _, at := range []string{"Oem/Hpe/Links/NetworkAdapters", "Oem/Hp/Links/NetworkAdapters", "Oem/Hp/links/NetworkAdapters"} {
		adapters = append(adapters, a.members(a.system, at)...)
	}
	var nics nicList
	adapters = slices.DeleteFunc(unique(adapters), node.absent)
	for _, n := range adapters {
		a.adapter(n, &nics)
	}
	hosts := map[string]bool{}
	for _, h := range a.members(a.manager, "HostInterfaces") {
		for _, n := range a.members(h, "HostEthernetInterfaces") {
			hosts[key(n.id())] = true
		}
		for _, l := range a.at(h.link("HostEthernetInterfaces")).list("Members") {
			hosts[key(l.id())] = true
		}
	}
	for _, n := range a.members(a.system, "EthernetInterfaces") {
		nic, ok := ethernetFacts(n)
		if !ok {
			continue
		}
		if hosts[key(n.id())] {
			nic.Bus = "usb"
		}
		nic.Adapter = adapterOf(n, adapters)
		nics.add(nic)
	}
	a.inv.NICs = nics
	for _, n := range nics {
		if n.Carrier != "" || n.LinkMbps > 0 {
			a.readings.Links = append(a.readings.Links, hardware.Link{MAC: n.MAC, Carrier: n.Carrier, LinkMbps: n.LinkMbps})
		}
	}
}

// adapterOf is the card of a host interface whose Id begins with the card's:
// NIC.Embedded.1-1-1.
func adapterOf(n node, adapters []node) string {
	for _, a := range adapters {
		if id := a.str("Id"); id != "" && strings.HasPrefix(n.str("Id"), id+"-") {
			return adapterName(a)
		}
	}
	return ""
}

// adapter takes a card and its ports. A port's first address is its own, what
// follows are its functions'. Where ports have none, the first function of
// each stands in.
func (a *assembly) adapter(n node, nics *nicList) {
	card := adapterFacts(n)
	for _, d := range a.members(n, "Controllers/Links/PCIeDevices") {
		card.Slot = first(card.Slot, place(d))
		card.Manufacturer, card.Model = first(card.Manufacturer, d.str("Manufacturer")), first(card.Model, d.str("Model"))
		for _, f := range a.functions(d) {
			if b := bdfOf(d, f); card.BDF == "" || b != "" && b < card.BDF {
				card.BDF = b // of its first function
			}
		}
	}
	base := hardware.NIC{Adapter: card.Name, Slot: card.Slot, Firmware: card.Firmware, Sources: from}
	ports := a.ports(n)
	for _, p := range ports {
		if macs := macsOf(p); len(macs) > 0 && !p.absent() {
			nic := portFacts(p)
			nic.MAC, nic.Adapter, nic.Slot, nic.Firmware = macs[0], base.Adapter, base.Slot, base.Firmware
			nics.add(nic)
		}
	}
	a.functionNICs(n, base, nics)
	known := false
	for i, p := range n.list("PhysicalPorts") { // HPE's BaseNetworkAdapter
		if nic, ok := ethernetFacts(p); ok {
			known = known || slices.ContainsFunc(*nics, func(o hardware.NIC) bool { return o.MAC == nic.MAC })
			nic.Adapter, nic.Slot, nic.Firmware, nic.Port = base.Adapter, base.Slot, base.Firmware, i+1
			nics.add(nic)
		}
		card.Ports = max(card.Ports, i+1)
	}
	if known {
		return // a NetworkAdapter stands for the same card
	}
	card.Ports = max(card.Ports, len(ports))
	a.inv.Adapters = append(a.inv.Adapters, card)
	a.unhealthy("adapter "+card.Name, n)
}

// functionNICs are the ports that only functions give an address to.
func (a *assembly) functionNICs(adapter node, base hardware.NIC, nics *nicList) {
	done := map[string]bool{}
	for _, p := range a.ports(adapter) {
		if len(macsOf(p)) > 0 {
			done[key(p.id())] = true
		}
	}
	for _, f := range a.members(adapter, "NetworkDeviceFunctions") {
		mac, port := functionFacts(f)
		if mac == "" || f.absent() || port != "" && done[key(port)] {
			continue
		}
		done[key(port)] = true
		nic := base
		if p := a.at(port); p != nil {
			nic = portFacts(p)
			nic.Adapter, nic.Slot, nic.Firmware = base.Adapter, base.Slot, base.Firmware
		}
		nic.MAC = mac
		nics.add(nic)
	}
}

func (a *assembly) power(chassis node) {
	old := a.follow(chassis, "Power")
	list := old.list("PowerSupplies")
	if len(list) == 0 {
		list = a.members(a.follow(chassis, "PowerSubsystem"), "PowerSupplies")
	}
	for _, n := range list {
		p, ok := psuFacts(n)
		if !ok || slices.ContainsFunc(a.inv.PSUs, func(o hardware.PSU) bool {
			return hardware.CleanSerial(p.Serial) != "" && o.Serial == p.Serial
		}) {
			continue
		}
		a.inv.PSUs = append(a.inv.PSUs, p)
		a.unhealthy("psu "+first(p.Name, p.Slot), n)
		if r, ok := psuReading(n, a.follow(n, "Metrics")); ok {
			a.readings.PSUs = append(a.readings.PSUs, r)
		}
	}
	for _, c := range old.list("PowerControl") {
		if w := reading(c, "PowerConsumedWatts"); w != nil && a.readings.Watts == nil {
			a.readings.Watts = w
		}
	}
	if w := reading(a.follow(chassis, "EnvironmentMetrics"), "PowerWatts", "Reading"); w != nil && a.readings.Watts == nil {
		a.readings.Watts = w
	}
	for _, v := range old.list("Voltages") {
		if s, ok := voltageFacts(v); ok {
			a.readings.Sensors = append(a.readings.Sensors, s)
		}
	}
}

// thermal takes temperatures and how fast fans turn.
func (a *assembly) thermal(chassis node) {
	for _, t := range a.follow(chassis, "Thermal").list("Temperatures") {
		if f, ok := temperatureFacts(t); ok {
			a.readings.Temperatures = append(a.readings.Temperatures, f)
		}
	}
	for _, t := range a.follow(a.follow(chassis, "ThermalSubsystem"), "ThermalMetrics").list("TemperatureReadingsCelsius") {
		name := first(t.str("DeviceName"), leaf(t.str("DataSourceUri")))
		if name != "" {
			a.readings.Temperatures = append(a.readings.Temperatures, hardware.Temperature{Name: name, Celsius: reading(t, "Reading")})
		}
	}
	for _, f := range a.fansOf(chassis) {
		if r := fanReading(f); r.Name != "" {
			a.readings.Fans = append(a.readings.Fans, r)
		}
	}
}

func (a *assembly) fansOf(chassis node) []node {
	if old := a.follow(chassis, "Thermal").list("Fans"); len(old) > 0 {
		return old
	}
	return a.members(a.follow(chassis, "ThermalSubsystem"), "Fans")
}

// fans takes those that are there. Where a BMC calls each of its fans absent,
// and each of its temperatures, it speaks of what it reads, not of what is
// fitted: its sensors sleep.
func (a *assembly) fans() {
	for _, c := range a.chassis {
		list := a.fansOf(c)
		present := func(n node) bool { return !n.absent() }
		asleep := !slices.ContainsFunc(list, present) && !slices.ContainsFunc(a.follow(c, "Thermal").list("Temperatures"), present)
		for _, n := range list {
			if n.absent() && !asleep {
				continue
			}
			if f := fanFacts(n); f.Name != "" {
				a.inv.Fans = append(a.inv.Fans, f)
				a.unhealthy("fan "+f.Name, n)
			}
		}
	}
}

// sensors takes what Sensors list, where they were asked for.
func (a *assembly) sensors(chassis node) {
	celsius := len(a.readings.Temperatures) == 0
	for _, n := range a.members(chassis, "Sensors") {
		s, ok := sensorFacts(n)
		if !ok {
			continue
		}
		a.readings.Sensors = append(a.readings.Sensors, s)
		if s.Kind == "temperature" && celsius {
			t := hardware.Temperature{Name: s.Name, Celsius: s.Value}
			if s.Thresholds != nil {
				t.UpperCelsius = s.Thresholds.UpperCritical
			}
			a.readings.Temperatures = append(a.readings.Temperatures, t)
		}
	}
}
