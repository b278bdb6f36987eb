package redfish

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
)

// assembly makes the record of one system out of a tree.
type assembly struct {
	*tree
	scope
	inv      hardware.Inventory
	readings hardware.Readings
	drives   map[string]string // by key: how a volume names it
	serials  map[string]bool   // of drives
	gpuPaths map[string]bool   // PCIe devices and functions that a processor stands for
}

// assemble is the view of every system, or of the one that is named.
func (t *tree) assemble(system string) []hardware.View {
	findings := t.findings()
	var out []hardware.View
	for _, sc := range t.scopes() {
		if system != "" && !strings.EqualFold(sc.system.str("Id"), system) && !strings.EqualFold(leaf(sc.system.id()), system) {
			continue
		}
		a := &assembly{tree: t, scope: sc, drives: map[string]string{}, serials: map[string]bool{}, gpuPaths: map[string]bool{}}
		a.inv.Findings = slices.Clone(findings)
		a.record()
		out = append(out, hardware.View{Inventory: a.inv, Readings: a.readings})
	}
	return out
}

func (a *assembly) record() {
	a.identity()
	a.bmc()
	a.memory()
	a.processors()
	a.pci()
	a.storage()
	a.network()
	for _, c := range a.chassis {
		a.power(c)
		a.thermal(c)
		a.sensors(c)
	}
	a.fans()
	for _, f := range a.members(a.follow(a.root, "UpdateService"), "FirmwareInventory") {
		if fw := firmwareFacts(f); first(fw.Name) != "" {
			a.inv.Firmware = append(a.inv.Firmware, fw)
		}
	}
	a.biosVersion()
	a.logs(a.system)
	a.logs(a.manager)
	a.inv.Findings = append(a.inv.Findings, a.inv.SlowLinks(Source)...)
	a.bound()
	a.readings.Normalize()
}

// bound holds the record to what an inventory may weigh. Settings of the
// firmware are the first that nobody misses.
func (a *assembly) bound() {
	b, err := a.inv.Encode()
	if err != nil {
		a.inv.BIOS.Attributes = nil
		a.inv.Findings = append(a.inv.Findings, hardware.Finding{Code: hardware.CodeInventoryTruncated, Severity: hardware.Warning, Part: "bios attributes",
			Evidence: err.Error(), Hint: "ask the BMC for them", Source: Source})
		b, err = a.inv.Encode()
	}
	a.inv.Normalize()
	if err == nil {
		if cut, err := hardware.Decode(b); err == nil {
			a.inv = cut
		}
	}
}

func (a *assembly) identity() {
	s := a.system
	a.inv.System = systemFacts(s)
	a.inv.System.OEMSerials = oemSerials(s, a.chassis)
	a.inv.Baseboard = baseboardFacts(a.inv.System.OEMSerials)
	a.inv.TPM = tpmFacts(s)
	a.inv.BIOS = biosFacts(s, a.follow(s, "Bios"), a.follow(s, "SecureBoot"))
	a.inv.BootEntries = bootEntries(s, a.members(s.obj("Boot"), "BootOptions"))
	a.readings.PowerState = powerState(s)
	a.readings.Health = health(s)
	if len(a.chassis) == 0 {
		return
	}
	a.inv.Chassis = chassisFacts(a.chassis[0])
	around := a.around()
	for _, c := range a.chassis[1:] {
		parent := a.at(around[key(c.id())])
		a.inv.ChassisParts = append(a.inv.ChassisParts, chassisPartFacts(c, first(parent.str("Name"), parent.str("Id"))))
		if c.str("ChassisType") == "StorageEnclosure" || c.str("ChassisType") == "Enclosure" && len(a.chassisDrives(c)) > 0 {
			a.inv.Enclosures = append(a.inv.Enclosures, hardware.Enclosure{Name: first(c.str("Name"), c.str("Id")), Manufacturer: c.str("Manufacturer"),
				Model: c.str("Model"), Serial: c.str("SerialNumber"), Slots: c.small("Oem", "Dell", "DellChassisEnclosure", "SlotCount"), Sources: from})
		}
	}
}

// biosVersion comes from the firmware inventory where the system lacks it.
func (a *assembly) biosVersion() {
	for _, f := range a.inv.Firmware {
		if first(a.inv.BIOS.Version) == "" && biosName.MatchString(f.ID) {
			a.inv.BIOS.Version, a.inv.BIOS.Sources = f.Version, from
		}
	}
}

var biosName = regexp.MustCompile(`(?i)^(host_?)?(bios|uefi)(_active|_?[0-9])?$|^(current|installed)-.*bios`)

// chassisDrives are the drives that a chassis lists.
func (a *assembly) chassisDrives(c node) []node {
	return append(a.members(c, "Drives"), a.members(c, "Links/Drives")...)
}

func (a *assembly) bmc() {
	m := a.manager
	a.inv.BMC = bmcFacts(m, a.root)
	if m == nil {
		return
	}
	b := &a.inv.BMC
	b.PowerRestore = powerPolicies[a.system.str("PowerRestorePolicy")]
	hosts := map[string]bool{}
	for _, h := range a.members(m, "HostInterfaces") {
		hosts[key(h.link("ManagerEthernetInterface"))] = true
	}
	for _, n := range a.members(m, "EthernetInterfaces") {
		if n.absent() {
			continue
		}
		i := bmcInterface(n, hosts[key(n.id())])
		b.Interfaces = append(b.Interfaces, i)
		if !i.Host {
			b.HostName = first(b.HostName, n.str("HostName"))
		}
	}
	reachable(b)
	for _, n := range a.members(a.follow(a.root, "AccountService"), "Accounts") {
		if acc, ok := accountFacts(n); ok {
			b.Accounts = append(b.Accounts, acc)
		}
	}
	for _, n := range append(a.members(m, "VirtualMedia"), a.members(a.system, "VirtualMedia")...) {
		b.VirtualMedia = append(b.VirtualMedia, mediaFacts(n))
	}
	if at, err := time.Parse(time.RFC3339, m.str("DateTime")); err == nil {
		at = at.UTC()
		a.readings.BMCTime = &at
	}
}

// memory takes every DIMM. The size is their sum, or what the summary says
// where they cannot all be read.
func (a *assembly) memory() {
	var sum uint64
	list := a.members(a.system, "Memory")
	for _, at := range []string{"Oem/Hp/links/Memory", "Oem/Hp/Links/Memory"} {
		if len(list) == 0 {
			list = a.members(a.system, at)
		}
	}
	for _, n := range list {
		slot, dimm, ok := dimmFacts(n)
		if !ok {
			continue
		}
		a.inv.DIMMSlots = append(a.inv.DIMMSlots, slot)
		if slot.Populated {
			a.inv.DIMMs = append(a.inv.DIMMs, dimm)
			a.unhealthy("dimm "+dimm.Slot, n)
			if !persistent(n) {
				sum += dimm.SizeBytes
			}
		}
	}
	summary := max(a.system.bytes(gib, "MemorySummary", "TotalSystemMemoryGiB"), a.system.bytes(gib, "Memory", "TotalSystemMemoryGB"))
	size := sum
	if size == 0 || a.lacks(a.system.link("Memory")) && summary > size {
		size = summary
	}
	if size > 0 {
		a.inv.Memory = hardware.Memory{SizeBytes: size, Sources: from}
	}
}

// lacks reports whether a collection, or a member of it, was not to be had.
func (a *assembly) lacks(collection string) bool {
	r := a.res[key(collection)]
	return r != nil && (r.err != nil || slices.ContainsFunc(r.node.list("Members"), func(m node) bool {
		return m.id() != "" && a.at(m.id()) == nil
	}))
}

// processors takes CPUs and what else is listed among them. Where no CPU can
// be read the summary says at least how many there are.
func (a *assembly) processors() {
	list := a.members(a.system, "Processors")
	for _, c := range a.chassis {
		list = append(list, a.members(c, "Processors")...)
		list = append(list, a.members(c, "Links/Processors")...)
	}
	for _, n := range unique(list) {
		switch kind := processorKind(n); kind {
		case "":
		case "cpu":
			cpu := cpuFacts(n)
			a.inv.CPUs = append(a.inv.CPUs, cpu)
			a.unhealthy("cpu "+cpu.Socket, n)
		default:
			a.gpu(n, kind)
		}
	}
	a.graphicsControllers()
	if len(a.inv.CPUs) == 0 {
		a.inv.CPUs = cpuSummary(a.system)
	}
}

// graphicsControllers are GPUs where the BMC lists none among the processors.
// The BMC's own screen is none.
func (a *assembly) graphicsControllers() {
	if len(a.inv.GPUs) > 0 {
		return
	}
	for _, n := range a.members(a.system, "GraphicsControllers") {
		if n.absent() || ownScreen.MatchString(n.str("Id")+" "+n.str("Manufacturer")+" "+n.str("Model")+" "+n.str("Name")) {
			continue
		}
		g := gpuFacts(n, "gpu")
		g.Firmware = first(g.Firmware, n.str("BiosVersion"))
		a.inv.GPUs = append(a.inv.GPUs, g)
	}
}

var ownScreen = regexp.MustCompile(`(?i)embedded|onboard|on-board|integrated|matrox|aspeed|ast[0-9]{4}`)

func (a *assembly) gpu(n node, kind string) {
	g := gpuFacts(n, kind)
	device := a.follow(n, "Links", "PCIeDevice")
	a.gpuPaths[key(device.id())] = true
	for _, f := range a.members(n, "Links/PCIeFunctions") {
		a.gpuPaths[key(f.id())] = true
		g.BDF = cmp.Or(g.BDF, bdfOf(device, f))
	}
	for _, f := range a.functions(device) {
		a.gpuPaths[key(f.id())] = true
		g.BDF = cmp.Or(g.BDF, bdfOf(device, f))
	}
	g.Slot = first(g.Slot, place(device))
	g.Serial = first(g.Serial, device.str("SerialNumber"))
	a.inv.GPUs = append(a.inv.GPUs, g)
	a.unhealthy("gpu "+g.Name, n)
}

// functions are those of a PCIe device that exist in it: virtual ones do not.
func (a *assembly) functions(device node) []node {
	list := append(a.members(device, "Links/PCIeFunctions"), a.members(device, "PCIeFunctions")...)
	return slices.DeleteFunc(unique(list), func(f node) bool { return f.str("FunctionType") == "Virtual" })
}

// pci takes every function of every PCIe device; HPE before iLO 6 has a list
// of its own. A GPU that no processor stands for is found here.
func (a *assembly) pci() {
	list := a.members(a.system, "PCIeDevices")
	for _, c := range a.chassis {
		list = append(list, a.members(c, "PCIeDevices")...)
		list = append(list, a.members(c, "Links/PCIeDevices")...)
	}
	for _, d := range unique(list) {
		if d.absent() {
			continue
		}
		functions := a.functions(d)
		if len(functions) == 0 {
			functions = []node{nil}
		}
		found := a.gpuPaths[key(d.id())]
		for _, f := range functions {
			p := pciFacts(d, f)
			a.inv.PCI = append(a.inv.PCI, p)
			if !found && !a.gpuPaths[key(f.id())] && graphics(p) && !a.knownGPU(p, d) {
				found = true
				a.inv.GPUs = append(a.inv.GPUs, hardware.GPU{Name: first(d.str("Name"), d.str("Id")), Kind: gpuKind(p), Manufacturer: d.str("Manufacturer"),
					Model: d.str("Model"), Serial: d.str("SerialNumber"), Part: d.str("PartNumber"), Firmware: d.str("FirmwareVersion"),
					Slot: p.Slot, BDF: p.BDF, Sources: from})
			}
		}
	}
	if len(a.inv.PCI) > 0 {
		return
	}
	for _, at := range []string{"Oem/Hpe/Links/PCIDevices", "Oem/Hp/Links/PCIDevices"} {
		for _, f := range a.members(a.system, at) {
			if p := pciFacts(f, f); p.BDF != "" {
				p.Device, p.VPD = first(f.str("Name")), hardware.VPD{}
				a.inv.PCI = append(a.inv.PCI, p)
			}
		}
	}
}

func gpuKind(p hardware.PCIDevice) string {
	if strings.HasPrefix(p.Class, "12") && p.VendorID != "10de" && p.VendorID != "1002" {
		return "accelerator"
	}
	return "gpu"
}

func (a *assembly) knownGPU(p hardware.PCIDevice, device node) bool {
	serial := hardware.CleanSerial(device.str("SerialNumber"))
	return slices.ContainsFunc(a.inv.GPUs, func(g hardware.GPU) bool {
		return p.BDF != "" && g.BDF == p.BDF || serial != "" && g.Serial == serial
	})
}

// unhealthy names a part that its BMC calls critical.
func (a *assembly) unhealthy(part string, n node) {
	predicted := n.flag("FailurePredicted") == hardware.Enabled
	if !predicted && health(n) != "critical" {
		return
	}
	what := "health is critical"
	if predicted {
		what = "failure is predicted"
	}
	a.inv.Findings = append(a.inv.Findings, hardware.Finding{Code: hardware.CodePartUnhealthy, Severity: hardware.Warning,
		Part: hardware.Clean(part), Evidence: fmt.Sprintf("%s: %s", n.id(), what), Hint: "look at the BMC's log, and replace the part", Source: Source})
}

func (a *assembly) logs(n node) {
	for _, l := range a.members(n, "LogServices") {
		if log, ok := logFacts(l, a.follow(l, "Entries")); ok {
			a.readings.Logs = append(a.readings.Logs, log)
		}
	}
}

// sorted are the resources by path.
func (t *tree) sorted() []*resource {
	var out []*resource
	for _, k := range slices.Sorted(maps.Keys(t.res)) {
		out = append(out, t.res[k])
	}
	return out
}
