// Package pci reads the PCI bus from sysfs, by ghw, with names out of a
// pci.ids file.
package pci

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
	"github.com/jaypipes/ghw"
	"github.com/jaypipes/pcidb"
)

// Source is how parts name this reader.
const Source = "pci"

const devices = "sys/bus/pci/devices"

// Read lists the functions on the PCI bus below root. Without a pci.ids file
// there are numbers and no names, and a finding says so.
func Read(_ context.Context, root sysfs.Root) (hardware.Inventory, error) {
	var inv hardware.Inventory
	addresses := root.Names(devices)
	if len(addresses) == 0 {
		return inv, nil
	}
	want := wanted{}
	for _, a := range addresses {
		want.add(root.Text(devices, a, "vendor"), root.Text(devices, a, "device"), root.Text(devices, a, "class"))
	}
	db, err := names(root, want)
	if err != nil {
		db = &pcidb.DB{}
		inv.Findings = append(inv.Findings, hardware.Finding{Code: hardware.CodeResourceMissing, Severity: hardware.Info,
			Part: "pci.ids", Evidence: err.Error(), Hint: "put pci.ids into /usr/share/misc of the initramfs", Source: Source})
	}
	info, err := ghw.PCI(ghw.WithChroot(string(root)), ghw.WithPCIDB(db), ghw.WithDisableTools(),
		ghw.WithDisableTopology(), ghw.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		return inv, fmt.Errorf("list PCI devices: %w", err)
	}
	if len(info.Devices) != len(addresses) {
		inv.Findings = append(inv.Findings, hardware.Finding{Code: hardware.CodeSourceMalformed, Severity: hardware.Warning,
			Part: "pci", Evidence: fmt.Sprintf("%d of %d devices were read", len(info.Devices), len(addresses)), Source: Source})
	}
	for _, d := range info.Devices {
		inv.PCI = append(inv.PCI, device(root, d))
	}
	return inv, nil
}

func device(root sysfs.Root, d *ghw.PCIDevice) hardware.PCIDevice {
	p := hardware.PCIDevice{BDF: hardware.BDF(d.Address), Driver: root.Link(devices, d.Address, "driver"), Sources: hardware.Sources{Source}}
	p.VendorID, p.Vendor = d.Vendor.ID, name(d.Vendor.Name)
	p.DeviceID, p.Device = d.Product.ID, name(d.Product.Name)
	p.Class = strings.TrimPrefix(root.Text(devices, d.Address, "class"), "0x")
	p.ClassName = name(d.Subclass.Name)
	if p.ClassName == "" {
		p.ClassName = name(d.Class.Name)
	}
	return p
}

func name(s string) string {
	if s == "unknown" { // ghw's word for what pci.ids lacks
		return ""
	}
	return hardware.Clean(s)
}
