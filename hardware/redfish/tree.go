package redfish

import (
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// at is the resource of a path; nil where it was not read.
func (t *tree) at(path string) node {
	if r := t.res[key(path)]; r != nil && path != "" {
		return r.node
	}
	return nil
}

// follow is what a link leads to.
func (t *tree) follow(n node, path ...string) node { return t.at(n.link(path...)) }

// members are the resources that a property leads to: of the collection that
// it links, of its array of links, or those that stand in it. Their order is
// the BMC's.
func (t *tree) members(n node, at string) []node {
	var out []node
	seen := map[string]bool{}
	add := func(m node) {
		id := m.id()
		if r := t.at(id); r != nil && !seen[key(id)] {
			seen[key(id)] = true
			out = append(out, r)
		} else if r == nil && inline(m) {
			out = append(out, m)
		}
	}
	for _, l := range n.targets(at) {
		collection := t.at(l.id())
		list := collection.memberList()
		if len(list) == 0 && !collection.isCollection() {
			add(l)
		}
		for _, m := range list {
			add(m)
		}
	}
	return out
}

// memberList are the links, or resources, that a collection has; services of
// before Redfish 1.0 have them elsewhere.
func (n node) memberList() []node {
	if m := n.list("Members"); len(m) > 0 {
		return m
	}
	return append(n.list("Links", "Members"), n.list("links", "Member")...)
}

func (n node) isCollection() bool {
	_, members := n["Members"]
	return members || strings.Contains(n.str("@odata.type"), "Collection")
}

// allChassis are all of them, also those that only a link names.
func (t *tree) allChassis() []node {
	if t.boxes != nil {
		return t.boxes
	}
	all := t.members(t.root, "Chassis")
	for _, s := range t.members(t.root, "Systems") {
		all = append(all, t.members(s, "Links/Chassis")...)
	}
	all = unique(all)
	for i := 0; i < len(all) && len(all) < maxChassis; i++ {
		more := append(t.members(all[i], "Links/Contains"), t.members(all[i], "Links/ContainedBy")...)
		if len(more) > 0 {
			all = unique(append(all, more...))
		}
	}
	t.boxes = all[:min(len(all), maxChassis)]
	return t.boxes
}

// ofChassis are the members of one collection of every chassis.
func (t *tree) ofChassis(at string) []node {
	var out []node
	for _, c := range t.allChassis() {
		out = append(out, t.members(c, at)...)
	}
	return unique(out)
}

// unique drops what is there already, by its path.
func unique(nodes []node) []node {
	seen := map[string]bool{}
	return slices.DeleteFunc(nodes, func(n node) bool {
		id := key(n.id())
		again := id != "" && seen[id]
		seen[id] = true
		return again
	})
}

// has reports whether a property links to a resource.
func (n node) has(at, path string) bool {
	return slices.ContainsFunc(n.targets(at), func(l node) bool { return l.id() != "" && key(l.id()) == key(path) })
}

// hasDrives reports whether anything names drives.
func (t *tree) hasDrives(system node) bool {
	for _, s := range t.members(system, "Storage") {
		if len(s.targets("Drives")) > 0 {
			return true
		}
	}
	for _, c := range t.allChassis() {
		if len(c.targets("Links/Drives"))+len(t.follow(c, "Drives").list("Members")) > 0 {
			return true
		}
	}
	return false
}

func (t *tree) portsHaveMACs(adapter node) bool {
	ports := t.ports(adapter)
	return len(ports) > 0 && !slices.ContainsFunc(ports, func(p node) bool { return len(macsOf(p)) == 0 })
}

func (t *tree) ports(adapter node) []node {
	if p := t.members(adapter, "Ports"); len(p) > 0 {
		return p
	}
	return t.members(adapter, "NetworkPorts")
}

// macsOf are the addresses of a port (NetworkPort, and Port since 2020).
func macsOf(port node) []hardware.MAC {
	var out []hardware.MAC
	texts := append(port.texts("AssociatedNetworkAddresses"), port.texts("Ethernet", "AssociatedMACAddresses")...)
	for _, s := range append(texts, port.str("Ethernet", "MACAddress"), port.str("PermanentMACAddress"), port.str("MACAddress")) {
		if mac := hardware.ParseMAC(s); mac != "" && !slices.Contains(out, mac) {
			out = append(out, mac)
		}
	}
	return out
}

// scope is what belongs to one system: its chassis, the one that it stands in
// first, and its manager.
type scope struct {
	system  node
	chassis []node
	manager node
}

// scopes are the systems with what belongs to them. A chassis belongs to the
// systems that it or they name, else to those of the chassis around it; one
// that belongs to nobody goes to the first.
func (t *tree) scopes() []scope {
	systems := t.systems()
	owners := t.owners(systems)
	var out []scope
	for i, s := range systems {
		sc := scope{system: s, manager: t.managerOf(s)}
		for _, c := range t.allChassis() {
			own := owners[key(c.id())]
			if len(systems) == 1 || slices.Contains(own, i) || i == 0 && len(own) == 0 {
				sc.chassis = append(sc.chassis, c)
			}
		}
		if home := t.home(sc); home > 0 {
			sc.chassis = append([]node{sc.chassis[home]}, slices.Delete(slices.Clone(sc.chassis), home, home+1)...)
		}
		out = append(out, sc)
	}
	return out
}

// systems are those that are a server: some BMCs list the hypervisor on it as
// another.
func (t *tree) systems() []node {
	return slices.DeleteFunc(t.members(t.root, "Systems"), func(s node) bool { return s.str("SystemType") == "OS" })
}

// owners are the systems of each chassis, by its key.
func (t *tree) owners(systems []node) map[string][]int {
	all := t.allChassis()
	owners := map[string][]int{}
	for i, s := range systems {
		for _, c := range all {
			if c.has("Links/ComputerSystems", s.id()) || s.has("Links/Chassis", c.id()) {
				owners[key(c.id())] = append(owners[key(c.id())], i)
			}
		}
	}
	around := t.around()
	for _, c := range all {
		k := key(c.id())
		for up, depth := k, 0; len(owners[k]) == 0 && up != "" && depth < maxDepth; up, depth = around[up], depth+1 {
			owners[k] = owners[up]
		}
	}
	return owners
}

// around is the chassis around each chassis, by keys.
func (t *tree) around() map[string]string {
	out := map[string]string{}
	for _, c := range t.allChassis() {
		for _, inner := range c.targets("Links/Contains") {
			out[key(inner.id())] = key(c.id())
		}
	}
	for _, c := range t.allChassis() {
		if outer := c.link("Links", "ContainedBy"); outer != "" {
			out[key(c.id())] = key(outer)
		}
	}
	return out
}

// home is the index of the chassis that the system stands in: the first that
// it names and that is there, else the first that looks like one.
func (t *tree) home(sc scope) int {
	for _, l := range sc.system.targets("Links/Chassis") {
		if i := slices.IndexFunc(sc.chassis, func(c node) bool { return key(c.id()) == key(l.id()) }); i >= 0 {
			return i
		}
	}
	for _, looks := range []func(node) bool{
		func(c node) bool { return c.has("Links/ComputerSystems", sc.system.id()) },
		func(c node) bool {
			return slices.Contains([]string{"RackMount", "Blade", "StandAlone", "Sled"}, c.str("ChassisType"))
		},
		func(c node) bool { return first(c.str("SerialNumber")) != "" },
	} {
		if i := slices.IndexFunc(sc.chassis, looks); i >= 0 {
			return i
		}
	}
	return 0
}

// managerOf is the BMC of a system.
func (t *tree) managerOf(system node) node {
	if m := t.members(system, "Links/ManagedBy"); len(m) > 0 {
		if i := slices.IndexFunc(m, isBMC); i >= 0 {
			return m[i]
		}
		return m[0]
	}
	all := t.members(t.root, "Managers")
	for _, fits := range []func(node) bool{
		func(m node) bool { return m.has("Links/ManagerForServers", system.id()) && isBMC(m) },
		func(m node) bool { return m.has("Links/ManagerForServers", system.id()) },
		isBMC,
		func(node) bool { return true },
	} {
		if i := slices.IndexFunc(all, fits); i >= 0 {
			return all[i]
		}
	}
	return nil
}

func isBMC(m node) bool { return m.str("ManagerType") == "BMC" }
