// Package nic reads the network ports: sysfs says what they are, their drivers
// are asked by ethtool's ioctls for what sysfs lacks.
package nic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/ethtool"
	"github.com/ingot-metal/ingot/hardware/sysfs"
	"golang.org/x/sys/unix"
)

// Source is how parts name this reader.
const Source = "nic"

const (
	class    = "sys/class/net"
	maxPorts = 256
	// portDeadline is how long all drivers may take. A transceiver answers
	// over a slow bus: some ten milliseconds a page.
	portDeadline = 3 * time.Second
)

// The ARP hardware types of what counts as a port (linux/if_arp.h).
const (
	arpEthernet   = "1"
	arpInfiniBand = "32"
)

// Ports are the names of the physical ports below root: those with a device
// behind them that are no SR-IOV virtual functions.
func Ports(root sysfs.Root) []string {
	var out []string
	for _, name := range root.Names(class) {
		if t := root.Text(class, name, "type"); t != arpEthernet && t != arpInfiniBand {
			continue
		}
		if root.Exists(class, name, "device") && !root.Exists(class, name, "device/physfn") && len(out) < maxPorts {
			out = append(out, name)
		}
	}
	return out
}

// Read lists the ports below root. Their drivers are asked side by side; one
// that hangs costs what it alone knows, and a finding.
func Read(ctx context.Context, root sysfs.Root) (hardware.Inventory, error) {
	ctx, cancel := context.WithTimeout(ctx, portDeadline)
	defer cancel()
	var inv hardware.Inventory
	names, rdma := Ports(root), protocols(root)
	answers := make([]chan answer, len(names))
	for i, name := range names {
		answers[i] = make(chan answer, 1)
		go func() { answers[i] <- ask(ctx, root, name) }()
	}
	denied := 0
	for i, name := range names {
		n := port(root, name)
		n.RDMA = rdma[root.Real(class, name, "device")]
		a := wait(ctx, answers[i])
		a.into(&n)
		if a.denied {
			denied++
		}
		if a.err != nil {
			inv.Findings = append(inv.Findings, malformed(name, a.err))
		}
		inv.NICs = append(inv.NICs, n)
	}
	if denied > 0 {
		inv.Findings = append(inv.Findings, hardware.Finding{Code: hardware.CodeNotPermitted, Severity: hardware.Info, Part: "nics",
			Evidence: fmt.Sprintf("transceivers of %d ports: permission denied", denied), Hint: "transceivers are read by root only", Source: Source})
	}
	return inv, nil
}

// wait takes an answer that is there, also when the time is over.
func wait(ctx context.Context, c chan answer) answer {
	select {
	case a := <-c:
		return a
	case <-ctx.Done():
	}
	select {
	case a := <-c:
		return a
	default:
		return answer{err: fmt.Errorf("its driver did not answer within %v", portDeadline)}
	}
}

func malformed(name string, err error) hardware.Finding {
	return hardware.Finding{Code: hardware.CodeSourceMalformed, Severity: hardware.Warning, Part: "nic " + name, Evidence: err.Error(),
		Hint: "what the driver alone knows of this port is missing", Source: Source}
}

// port is what sysfs says.
func port(root sysfs.Root, name string) hardware.NIC {
	text := func(file string) string { return root.Text(class, name, file) }
	n := hardware.NIC{Name: name, Driver: root.Link(class, name, "device/driver"), Sources: hardware.Sources{Source}}
	// The address that is set is the permanent one where its type is
	// NET_ADDR_PERM (linux/netdevice.h).
	if text("addr_assign_type") == "0" {
		n.MAC = hardware.ParseMAC(text("address"))
	}
	n.BDF, n.Bus = sysfs.BusOf(root.Real(class, name, "device"))
	switch text("carrier") { // not readable while the port is down
	case "0":
		n.Carrier = hardware.Disabled
	case "1":
		n.Carrier = hardware.Enabled
		if mbps, err := strconv.Atoi(text("speed")); err == nil && mbps > 0 {
			n.LinkMbps = mbps
		}
		if d := text("duplex"); d == "full" || d == "half" {
			n.Duplex = d
		}
	}
	if node, err := strconv.Atoi(text("device/numa_node")); err == nil && node >= 0 {
		n.NUMANode = &node
	}
	n.Port = portNumber(text("phys_port_name"), text("dev_port"), n)
	return n
}

// portNumber counts from 1: the driver's name of the port (p0), its number
// within the device, or the PCI function of a card that has one for each port.
func portNumber(physName, devPort string, n hardware.NIC) int {
	if rest, ok := strings.CutPrefix(physName, "p"); ok {
		if i, err := strconv.Atoi(rest); err == nil && i >= 0 && i < 1024 {
			return i + 1
		}
	}
	i, err := strconv.Atoi(devPort)
	if err != nil || i < 0 || i >= 1024 {
		return 0
	}
	if i == 0 && n.Bus == "pci" && n.BDF != "" {
		_, function, _ := strings.Cut(string(n.BDF), ".")
		if f, err := strconv.Atoi(function); err == nil {
			return f + 1
		}
	}
	return i + 1
}

// protocols are the RDMA protocols by the real path of their device.
func protocols(root sysfs.Root) map[string]string {
	const class = "sys/class/infiniband"
	out := map[string]string{}
	for _, name := range root.Names(class) {
		kind, _, _ := strings.Cut(root.Text(class, name, "node_type"), ":")
		protocol := map[string]string{"InfiniBand": "ib", "Ethernet": "roce"}[root.Text(class, name, "ports/1/link_layer")]
		if kind == "4" { // RNIC
			protocol = "iwarp"
		}
		if device := root.Real(class, name, "device"); device != "" && protocol != "" {
			out[device] = protocol
		}
	}
	return out
}

// answer is what one port's driver said.
type answer struct {
	permanent, driver, link, module []byte
	denied                          bool
	err                             error
}

// ask puts the questions to one driver. What a driver does not have is absent.
func ask(ctx context.Context, root sysfs.Root, name string) (a answer) {
	for _, q := range []struct {
		what string
		to   *[]byte
		live func(string) ([]byte, error)
	}{
		{"permaddr", &a.permanent, ethtool.PermanentAddress},
		{"drvinfo", &a.driver, ethtool.DriverInfo},
		{"linksettings", &a.link, ethtool.LinkSettings},
		{"module", &a.module, ethtool.ModuleEEPROM},
	} {
		b, err := root.Ask(ctx, "nic/"+name+"/"+q.what, ethtool.MaxAnswer, func() ([]byte, error) { return q.live(name) })
		switch {
		case err == nil:
			*q.to = b
		case errors.Is(err, unix.EPERM):
			a.denied = true
		case ethtool.None(err), errors.Is(err, sysfs.ErrNotRecorded), errors.Is(err, fs.ErrPermission):
		default:
			a.err = fmt.Errorf("ask for %s: %w", q.what, err)
		}
	}
	return a
}

func (a answer) into(n *hardware.NIC) {
	if len(a.permanent) == 6 {
		if m := hardware.ParseMAC(fmt.Sprintf("%x", a.permanent)); m != "" {
			n.MAC = m
		}
	}
	n.Firmware = hardware.Clean(ethtool.Firmware(a.driver))
	n.Modes, n.MaxMbps = ethtool.Modes(a.link)
	n.Transceiver = Module(a.module)
}
