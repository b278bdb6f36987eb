package pci

import (
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// consoles are display controllers that only show a console: those of BMCs
// and of virtual machines, by vendor, or by vendor and device. They are no GPU.
var consoles = map[string]bool{
	"1a03":     true, // ASPEED
	"102b":     true, // Matrox G200 in iLO, iDRAC and others
	"18ca":     true, // XGI Volari Z
	"126f":     true, // Silicon Motion
	"19e51711": true, // HiSilicon iBMC
	"19a20800": true, // Emulex Pilot
	"1002515e": true, // ATI ES1000
	"10025159": true, // ATI RV100
	"1013":     true, // Cirrus, as QEMU has it
	"1234":     true, // QEMU
	"1b36":     true, // Red Hat QXL
	"1af4":     true, // virtio
	"15ad":     true, // VMware
	"80ee":     true, // VirtualBox
	"1414":     true, // Hyper-V
}

// kind is what a device computes, by its class; empty for what is no GPU and
// no accelerator.
func kind(p hardware.PCIDevice) string {
	switch {
	case len(p.Class) < 4:
		return ""
	case p.Class[:2] == "03" && !consoles[p.VendorID] && !consoles[p.VendorID+p.DeviceID]:
		return "gpu"
	case p.Class[:4] == "1200" && p.VendorID == "10ee":
		return "fpga"
	case p.Class[:4] == "1200", p.Class[:4] == "0b40": // processing accelerators, co-processors
		return "accelerator"
	}
	return ""
}

// gpus are the GPUs and accelerators on the bus, without their virtual
// functions, with what their drivers say of them.
func gpus(root sysfs.Root, all []hardware.PCIDevice) []hardware.GPU {
	var out []hardware.GPU
	for _, p := range all {
		k := kind(p)
		if k == "" || root.Exists(devices, string(p.BDF), "physfn") {
			continue
		}
		g := hardware.GPU{
			Kind: k, Manufacturer: p.Vendor, Model: p.Device, Slot: p.Slot, BDF: p.BDF, NUMANode: p.NUMANode, Driver: p.Driver,
			Serial: p.VPD.Serial, Part: p.VPD.Part, Sources: hardware.Sources{Source},
		}
		g.Name = strings.TrimSpace(p.Vendor + " " + p.Device)
		switch p.VendorID {
		case "1002":
			amdgpu(root, &g)
		case "10de":
			nvidia(root, &g)
		}
		out = append(out, g)
	}
	return out
}

// amdgpu has files of its own beside those of the bus.
func amdgpu(root sysfs.Root, g *hardware.GPU) {
	text := func(file string) string { return root.Text(devices, string(g.BDF), file) }
	if n, ok := root.Uint(devices, string(g.BDF), "mem_info_vram_total"); ok {
		g.MemoryBytes = n
	}
	g.Firmware = text("vbios_version")
	if s := hardware.CleanSerial(text("serial_number")); s != "" {
		g.Serial = s
	}
	if s := hardware.CleanSerial(text("product_number")); s != "" {
		g.Part = s
	}
	if s := hardware.Clean(text("product_name")); s != "" {
		g.Model = s
	}
}

// nvidia is what its driver shows below /proc.
func nvidia(root sysfs.Root, g *hardware.GPU) {
	for line := range strings.Lines(root.Text("proc/driver/nvidia/gpus", string(g.BDF), "information")) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "Model":
			if s := hardware.Clean(value); s != "" {
				g.Model = s
			}
		case "GPU UUID":
			g.UUID = hardware.ParseUUID(strings.TrimPrefix(value, "GPU-"))
		case "Video BIOS":
			if !strings.Contains(value, "?") { // ??.??.??.?? until the driver has started it
				g.Firmware = hardware.Clean(value)
			}
		}
	}
}
