// Package nic reads the network ports: sysfs says what they are, rtnetlink
// gives the permanent MAC.
package nic

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
	"github.com/vishvananda/netlink"
)

// Source is how parts name this reader.
const Source = "nic"

const class = "sys/class/net"

// The ARP hardware types of what counts as a port (linux/if_arp.h).
const (
	arpEthernet   = "1"
	arpInfiniBand = "32"
)

// Read lists the physical ports below root: those with a device behind them
// that are no SR-IOV virtual functions.
func Read(_ context.Context, root sysfs.Root) (hardware.Inventory, error) {
	var inv hardware.Inventory
	permanent, err := permanentMACs(root)
	if err != nil {
		inv.Findings = append(inv.Findings, hardware.Finding{Code: hardware.CodeSourceMalformed, Severity: hardware.Warning,
			Part: "nics", Evidence: err.Error(), Hint: "MACs are those that are set, perhaps not the permanent ones", Source: Source})
	}
	for _, name := range root.Names(class) {
		if t := root.Text(class, name, "type"); t != arpEthernet && t != arpInfiniBand {
			continue
		}
		if !root.Exists(class, name, "device") || root.Exists(class, name, "device/physfn") {
			continue
		}
		n := port(root, name)
		if m, ok := permanent[name]; ok {
			n.MAC = m
		}
		inv.NICs = append(inv.NICs, n)
	}
	return inv, nil
}

func port(root sysfs.Root, name string) hardware.NIC {
	n := hardware.NIC{
		Name:    name,
		Driver:  root.Link(class, name, "device/driver"),
		Sources: hardware.Sources{Source},
	}
	// Without rtnetlink: the address that is set is the permanent one where
	// its type is NET_ADDR_PERM (linux/netdevice.h).
	if root.Text(class, name, "addr_assign_type") == "0" {
		n.MAC = hardware.ParseMAC(root.Text(class, name, "address"))
	}
	n.BDF, n.Bus = sysfs.BusOf(root.Real(class, name, "device"))
	switch root.Text(class, name, "carrier") { // not readable while the port is down
	case "0":
		n.Carrier = hardware.Disabled
	case "1":
		n.Carrier = hardware.Enabled
		if mbps, err := strconv.Atoi(root.Text(class, name, "speed")); err == nil && mbps > 0 {
			n.LinkMbps = mbps
		}
	}
	return n
}

// permanentMACs asks the running kernel. A recorded tree has none.
func permanentMACs(root sysfs.Root) (map[string]hardware.MAC, error) {
	if !root.Live() {
		return nil, nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := map[string]hardware.MAC{}
	for _, l := range links {
		if m := hardware.ParseMAC(l.Attrs().PermHWAddr.String()); m != "" {
			out[l.Attrs().Name] = m
		}
	}
	return out, nil
}
