// Package pci reads the PCI bus from sysfs, by ghw, with names out of a
// pci.ids file.
package pci

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
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
func Read(ctx context.Context, root sysfs.Root) (hardware.Inventory, error) {
	var inv hardware.Inventory
	addresses := root.Names(devices)
	if len(addresses) == 0 {
		return inv, nil
	}
	vpds := readVPDs(ctx, root, addresses) // at work while the rest is read
	db, err := names(root, wantedOf(root, addresses))
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
	slots := slotsOf(root)
	for _, d := range info.Devices {
		p := device(root, d)
		p.Slot = slots.of(root, d.Address)
		inv.PCI = append(inv.PCI, p)
	}
	inv.Findings = append(inv.Findings, vpds.into(inv.PCI)...)
	inv.Findings = append(inv.Findings, reducedLinks(root, inv.PCI)...)
	inv.GPUs = gpus(root, inv.PCI)
	return inv, nil
}

func wantedOf(root sysfs.Root, addresses []string) wanted {
	want := wanted{}
	for _, a := range addresses {
		text := func(file string) string { return root.Text(devices, a, file) }
		vendor, device := text("vendor"), text("device")
		want.add(vendor, device, text("class"))
		want.addSubsystem(vendor, device, text("subsystem_vendor"), text("subsystem_device"))
	}
	return want
}

func device(root sysfs.Root, d *ghw.PCIDevice) hardware.PCIDevice {
	text := func(file string) string { return root.Text(devices, d.Address, file) }
	hex := func(file string) string { return strings.TrimPrefix(text(file), "0x") }
	p := hardware.PCIDevice{BDF: hardware.BDF(d.Address), Driver: root.Link(devices, d.Address, "driver"), Sources: hardware.Sources{Source}}
	p.VendorID, p.Vendor = d.Vendor.ID, name(d.Vendor.Name)
	p.DeviceID, p.Device = d.Product.ID, name(d.Product.Name)
	if v, s := hex("subsystem_vendor"), hex("subsystem_device"); v != "" && v != "0000" && v != "ffff" {
		p.SubsystemVendorID, p.SubsystemID, p.Subsystem = v, s, name(d.Subsystem.Name)
	}
	p.Revision, p.Class = hex("revision"), hex("class")
	p.ClassName = name(d.Subclass.Name)
	if p.ClassName == "" {
		p.ClassName = name(d.Class.Name)
	}
	p.NUMANode = number(text("numa_node"))
	p.IOMMUGroup = number(root.Link(devices, d.Address, "iommu_group"))
	p.Link = link(text)
	if n := number(text("sriov_totalvfs")); n != nil {
		p.MaxVFs = *n
		if n = number(text("sriov_numvfs")); n != nil {
			p.VFs = *n
		}
	}
	return p
}

// number is a decimal that is not negative; nil for all else: -1 is the
// kernel's word for not known.
func number(s string) *int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 1<<20 {
		return nil
	}
	return &n
}

func name(s string) string {
	if s == "unknown" { // ghw's word for what pci.ids lacks
		return ""
	}
	return hardware.Clean(s)
}
