package stack

import "github.com/ingot-metal/ingot/images/initramfs"

// hypervisorModules is what a server's kernel needs once the agent has done its
// work: the root, the NIC, KVM.
func hypervisorModules() []initramfs.Group {
	return []initramfs.Group{
		{Why: "the root", Names: []string{"loop", "squashfs", "overlay", "autofs4"}},
		{Why: "the hypervisor", Names: []string{"kvm_amd", "kvm_intel", "tun", "vhost_net"}},
		{
			Why:     "NICs of rack servers",
			Dirs:    []string{"drivers/net/ethernet/intel", "drivers/net/ethernet/broadcom", "drivers/net/ethernet/mellanox/mlx5"},
			Without: []string{"e100", "igbvf", "iavf", "i40evf", "ixgbevf", "libeth", "b44", "bcm63xx", "bgmac", "cnic", "sb1250_mac"},
			Names:   []string{"virtio_net", "bonding", "8021q"},
		},
		{Why: "drives", Names: []string{"nvme", "virtio_blk", "ahci", "sd_mod"}},
		{Why: "the transport of virtual servers", Names: []string{"virtio_pci", "virtio_rng"}},
		{Why: "the power button", Names: []string{"button", "evdev"}},
		{Why: "the BMC from inside", Names: []string{"ipmi_msghandler", "ipmi_devintf", "ipmi_si"}},
	}
}

// vmModules is what a virtual machine's kernel needs.
func vmModules() []initramfs.Group {
	return []initramfs.Group{
		{Why: "the root", Names: []string{"squashfs", "overlay"}},
		{Why: "the machine", Names: []string{"virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "virtio_console"}},
	}
}

const residentUnit = `[Unit]
Description=Ingot resident agent
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/bin/ingot-agent resident
StandardInput=null
StandardOutput=journal
StandardError=journal
# Virtual machines outlive the resident; the next one takes them up.
KillMode=process
TimeoutStopSec=20s
OOMScoreAdjust=-900
LimitNOFILE=65536
Restart=always
RestartSec=500ms
# Nothing to take up: another try would find nothing either.
RestartPreventExitStatus=78
`

// overlay is what stage 1 lays over the hypervisor's root. The resident starts
// with systemd itself: it waits for nothing.
func overlay() map[string]string {
	return map[string]string{
		"overlay/etc/systemd/system/ingot-resident.service":                      residentUnit,
		"overlay/etc/systemd/system/sysinit.target.wants/ingot-resident.service": "-> ../ingot-resident.service",
	}
}
