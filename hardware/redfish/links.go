package redfish

import (
	"strings"
)

// kind is what a resource is read as. A collection of a kind is that kind and
// collectionOf.
type kind int

const (
	kindLeaf kind = iota // leads nowhere that matters
	kindRoot
	kindSystem
	kindProcessor
	kindStorage
	kindDrive
	kindChassis
	kindAdapter
	kindPCIe
	kindPower   // PowerSubsystem
	kindThermal // ThermalSubsystem
	kindPSU
	kindManager
	kindHost // HostInterface
	kindLog
	kindAccounts
	kindUpdate
	kindStep            // leads nowhere, but decides what is read instead of it
	kindSmart           // HPE's SmartStorage, before it had Storage
	kindArrayController // of SmartStorage
	kindInterface       // NetworkInterface

	collectionOf kind = 1 << 8
)

func (k kind) many() bool { return k&collectionOf != 0 }

// link is a property that leads on: an array of links, or one link, to a
// resource or to a collection.
type link struct {
	at string
	to kind
}

// links are what is followed from a resource of each kind. It is the one list
// of what a crawl asks for; the order is that of asking.
var links = map[kind][]link{
	kindRoot: {
		{"Systems", kindSystem | collectionOf}, {"Chassis", kindChassis | collectionOf}, {"Managers", kindManager | collectionOf},
		{"UpdateService", kindUpdate}, {"AccountService", kindAccounts},
	},
	kindSystem: {
		{"Links/Chassis", kindChassis}, {"Links/ManagedBy", kindManager},
		{"Storage", kindStorage | collectionOf}, {"PCIeDevices", kindPCIe}, {"Processors", kindProcessor | collectionOf},
		{"GraphicsControllers", kindLeaf | collectionOf}, {"Memory", kindLeaf | collectionOf}, {"EthernetInterfaces", kindLeaf | collectionOf}, {"Boot/BootOptions", kindLeaf | collectionOf},
		{"VirtualMedia", kindLeaf | collectionOf}, {"Bios", kindLeaf}, {"SecureBoot", kindLeaf},
		{"Oem/Hp/links/Memory", kindLeaf | collectionOf}, {"Oem/Hp/Links/Memory", kindLeaf | collectionOf},
		{"Oem/Hpe/Links/PCIDevices", kindLeaf | collectionOf}, {"Oem/Hp/Links/PCIDevices", kindLeaf | collectionOf},
		{"Oem/Hpe/Links/SmartStorage", kindSmart}, {"Oem/Hp/Links/SmartStorage", kindSmart}, {"Oem/Hp/links/SmartStorage", kindSmart},
		{"Oem/Hpe/Links/NetworkAdapters", kindLeaf | collectionOf}, {"Oem/Hp/Links/NetworkAdapters", kindLeaf | collectionOf},
		{"Oem/Hp/links/NetworkAdapters", kindLeaf | collectionOf},
	},
	kindProcessor: {{"Links/PCIeDevice", kindPCIe}, {"Links/PCIeFunctions", kindLeaf}},
	kindStorage: {
		{"Drives", kindDrive}, {"Links/Drives", kindDrive}, {"Volumes", kindLeaf | collectionOf}, {"Controllers", kindLeaf | collectionOf},
		{"StorageControllers/Links/PCIeFunctions", kindLeaf},
	},
	kindChassis: {
		{"Links/Contains", kindChassis}, {"Links/ContainedBy", kindChassis},
		{"NetworkAdapters", kindAdapter | collectionOf}, {"PCIeDevices", kindPCIe | collectionOf}, {"Links/PCIeDevices", kindPCIe},
		{"Links/Drives", kindDrive}, {"Drives", kindDrive | collectionOf}, {"Links/Storage", kindStorage},
		{"Links/Processors", kindProcessor}, {"Processors", kindProcessor | collectionOf},
		{"Power", kindStep}, {"Thermal", kindStep},
	},
	kindAdapter: {{"Controllers/Links/PCIeDevices", kindPCIe}},
	kindPCIe:    {{"Links/PCIeFunctions", kindLeaf}},
	kindPower:   {{"PowerSupplies", kindPSU | collectionOf}},
	kindThermal: {{"Fans", kindLeaf | collectionOf}, {"ThermalMetrics", kindLeaf}},
	kindManager: {
		{"EthernetInterfaces", kindLeaf | collectionOf}, {"HostInterfaces", kindHost | collectionOf}, {"VirtualMedia", kindLeaf | collectionOf},
	},
	kindHost:     {{"HostEthernetInterfaces", kindLeaf | collectionOf}},
	kindAccounts: {{"Accounts", kindLeaf | collectionOf}},
	kindUpdate:   {{"FirmwareInventory", kindLeaf | collectionOf}},
	kindSmart: {
		{"Links/ArrayControllers", kindArrayController | collectionOf}, {"links/ArrayControllers", kindArrayController | collectionOf},
	},
	kindArrayController: {
		{"Links/PhysicalDrives", kindLeaf | collectionOf}, {"links/PhysicalDrives", kindLeaf | collectionOf},
		{"Links/LogicalDrives", kindLeaf | collectionOf}, {"links/LogicalDrives", kindLeaf | collectionOf},
	},
	kindInterface: {{"Links/NetworkAdapter", kindAdapter}},
}

// moving are the links that only readings need.
var moving = map[kind][]link{
	kindSystem:  {{"LogServices", kindLog | collectionOf}},
	kindManager: {{"LogServices", kindLog | collectionOf}},
	kindChassis: {{"Sensors", kindLeaf | collectionOf}, {"EnvironmentMetrics", kindLeaf}},
	kindLog:     {{"Entries", kindLeaf}},
	kindPSU:     {{"Metrics", kindLeaf}},
	kindDrive:   {{"EnvironmentMetrics", kindLeaf}},
}

// instead are links that are followed where another, the better or the
// cheaper, is not there.
var instead = map[kind][]struct{ without, at string }{
	kindChassis: {{"Power", "PowerSubsystem"}, {"Thermal", "ThermalSubsystem"}},
	kindAdapter: {{"", "Ports"}, {"Ports", "NetworkPorts"}},
	kindPCIe:    {{"Links/PCIeFunctions", "PCIeFunctions"}},
}

var insteadKinds = map[string]kind{
	"PowerSubsystem": kindPower, "ThermalSubsystem": kindThermal, "Ports": kindStep | collectionOf,
	"NetworkPorts": kindStep | collectionOf, "PCIeFunctions": kindLeaf | collectionOf,
}

// follow visits what a resource leads to.
func (g *gatherer) follow(n node, k kind, depth int) {
	if n == nil {
		return
	}
	if k.many() {
		g.followMembers(n, k&^collectionOf, depth)
		return
	}
	if k == kindManager {
		g.learn(n)
	}
	if k == kindSystem && !g.wanted(n) {
		return
	}
	for _, l := range links[k] {
		g.followLink(n, l, depth)
	}
	for _, i := range instead[k] {
		if i.without == "" || len(n.targets(i.without)) == 0 {
			g.followLink(n, link{i.at, insteadKinds[i.at]}, depth)
		}
	}
	if g.options.Readings {
		for _, l := range moving[k] {
			g.followLink(n, l, depth)
		}
	}
}

func (g *gatherer) followLink(n node, l link, depth int) {
	for _, t := range n.targets(l.at) {
		switch {
		case inline(t) && t.id() != "" && !strings.Contains(t.str("@odata.id"), "#"):
			g.take(t, l.to, depth+1)
		case !inline(t):
			g.visit(t.id(), l.to, depth+1)
		}
	}
}

func (g *gatherer) followMembers(n node, k kind, depth int) {
	for _, m := range n.memberList() {
		if id := m.id(); id != "" && inline(m) {
			g.take(m, k, depth+1)
		} else {
			g.visit(id, k, depth+1)
		}
	}
}

// take is a visit to a resource that came within another.
func (g *gatherer) take(n node, k kind, depth int) {
	path := n.id()
	g.mu.Lock()
	r := g.tree.res[key(path)]
	if r == nil && len(g.tree.res) < maxResources {
		n, _ = prune(n, nil) // never an error of its own
		g.tree.res[key(path)] = &resource{path: path, node: n, loaded: true, kinds: map[kind]bool{k: true}}
		g.mu.Unlock()
		g.follow(n, k, depth)
		return
	}
	g.mu.Unlock()
	g.visit(path, k, depth)
}

// wanted reports whether a system is one that was asked for.
func (g *gatherer) wanted(n node) bool {
	want := g.options.System
	return want == "" || strings.EqualFold(n.str("Id"), want) || strings.EqualFold(leaf(n.id()), want)
}

// targets are the links, or the resources in their place, at a path of
// properties; arrays on the way are gone through.
func (n node) targets(at string) []node {
	here := []node{n}
	for _, k := range strings.Split(at, "/") {
		var next []node
		for _, h := range here {
			if s, ok := h[k].(string); ok {
				next = append(next, node{"@odata.id": s})
			}
			next = append(next, h.list(k)...)
		}
		here = next
	}
	return here
}

// otherwise visits what stands in for what is not there. Its turn comes when
// nothing is under way any more that leads on, while leaves are still read.
func (g *gatherer) otherwise() {
	g.mu.Lock()
	list := g.tree.standIns(g.wanted)
	g.mu.Unlock()
	for _, s := range list {
		g.followLink(s.of, s.link, 3)
	}
}

// standIn is a link that is followed because others led nowhere.
type standIn struct {
	of   node
	link link
}

func (t *tree) standIns(wanted func(node) bool) []standIn {
	var out []standIn
	add := func(n node, to kind, at ...string) {
		for _, a := range at {
			out = append(out, standIn{n, link{a, to}})
		}
	}
	adapters := t.ofChassis("NetworkAdapters")
	for _, s := range t.members(t.root, "Systems") {
		if !wanted(s) {
			continue
		}
		if !t.hasDrives(s) {
			add(s, kindLeaf|collectionOf, "SimpleStorage")
		}
		if len(adapters) == 0 {
			add(s, kindInterface|collectionOf, "NetworkInterfaces")
		}
	}
	for _, c := range t.allChassis() {
		if c.link("Power") != "" && len(t.follow(c, "Power").list("PowerSupplies")) == 0 {
			add(c, kindPower, "PowerSubsystem")
		}
		if c.link("Thermal") != "" && len(t.follow(c, "Thermal").list("Fans")) == 0 {
			add(c, kindThermal, "ThermalSubsystem")
		}
	}
	for _, a := range adapters {
		if !t.portsHaveMACs(a) {
			add(a, kindLeaf|collectionOf, "NetworkDeviceFunctions")
		}
	}
	return out
}
