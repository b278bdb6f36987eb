package initramfs

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Group is a set of kernel modules that are in the initramfs for one reason.
type Group struct {
	Why     string
	Dirs    []string // every module below these folders of kernel/
	Without []string // … except modules or folders of these names
	Names   []string // and these, each of which must exist or be built in
}

// Rack is what the agent's initramfs holds: what a rack server may have between
// its firmware and its first report. No wireless, no sound, no graphics, and
// none of what stood in servers before PCI Express.
func Rack() []Group {
	return []Group{
		{
			Why:  "every wired NIC with a driver in the kernel",
			Dirs: []string{"drivers/net/ethernet", "drivers/net/phy", "drivers/net/mdio", "drivers/net/pcs"},
			// PCI and PCMCIA cards of 10 to 100 Mbit/s and the first of 1 Gbit/s.
			Without: []string{"3com", "8390", "adaptec", "agere", "alteon", "dec", "dlink", "fujitsu", "micrel",
				"natsemi", "neterion", "packetengines", "rdc", "silan", "sis", "smsc", "tehuti", "ti", "via", "xircom"},
			Names: []string{"virtio_net", "vmxnet3", "hv_netvsc", "xen_netfront", "bonding", "8021q"},
		},
		{
			Why:   "NICs on USB: a BMC's host interface is one (Redfish DSP0270)",
			Names: []string{"cdc_ether", "cdc_ncm", "cdc_eem", "cdc_subset", "rndis_host", "r8152", "ax88179_178a", "asix", "smsc95xx", "lan78xx", "aqc111"},
		},
		{
			Why:  "SCSI, SAS, RAID and Fibre Channel adapters, to see the drives behind them",
			Dirs: []string{"drivers/scsi", "drivers/message"},
			// Parallel SCSI and the first IDE RAIDs; test devices; network file
			// storage that no agent opens.
			Without: []string{"3w_xxxx", "BusLogic", "a100u2w", "advansys", "aic7xxx", "aic94xx", "am53c974", "atp870u",
				"bfa", "bnx2fc", "bnx2i", "be2iscsi", "ch", "cxgbi", "csiostor", "dc395x", "dmx3191d", "esp_scsi", "fcoe",
				"initio", "iscsi_tcp", "megaraid_mbox", "megaraid_mm", "mptctl", "mptlan", "pcmcia", "qedi", "qla1280", "qla4xxx",
				"qlogicfas408", "scsi_debug", "st", "sym53c8xx_2", "wd719x", "xen_scsifront"},
			Names: []string{"sd_mod", "sg", "ses", "virtio_scsi"},
		},
		{
			Why:   "SATA, and the few IDE controllers that virtual machines and BMCs still show",
			Names: []string{"ahci", "libahci", "ata_piix", "ata_generic", "pata_jmicron", "pata_marvell", "sata_mv", "sata_nv", "sata_sil24", "sata_via", "sr_mod"},
		},
		{Why: "NVMe, local and over TCP", Names: []string{"nvme", "nvme_tcp"}},
		{Why: "drives of virtual machines", Names: []string{"virtio_blk", "vmw_pvscsi", "hv_storvsc", "xen_blkfront"}},
		{Why: "the transport of virtual machines", Names: []string{"virtio_pci", "virtio_mmio", "virtio_rng", "virtio_console", "hv_vmbus"}},
		{
			Why: "the BMC from inside. Never ipmi_watchdog: it arms on load and takes the BMC's only timer",
			Names: []string{"ipmi_msghandler", "ipmi_devintf", "ipmi_si", "ipmi_ssif",
				"i2c_i801", "i2c_piix4"}, // SSIF runs over these
		},
		{Why: "TPM", Names: []string{"tpm_tis", "tpm_crb", "tpm_infineon"}},
		{Why: "what lies on the drives", Names: []string{"md_mod", "raid0", "raid1", "raid10", "raid456", "dm_mod", "dm_crypt", "dm_thin_pool", "dm_raid", "dm_verity"}},
		{
			Why: "file systems: our roots, the operator's, the EFI partition, the BMC's virtual CD",
			Names: []string{"squashfs", "overlay", "erofs", "loop", "ext4", "xfs", "vfat", "nls_cp437", "nls_ascii",
				"nls_iso8859_1", "isofs", "efivarfs"},
		},
		{
			Why: "a keyboard at the machine, real or the BMC's, and its USB stick",
			Names: []string{"xhci_pci", "xhci_pci_renesas", "ehci_pci", "ohci_pci", "uhci_hcd", "usbhid", "hid_generic",
				"usb_storage", "uas"},
		},
		{Why: "memory errors", Dirs: []string{"drivers/edac"}},
		{Why: "temperatures", Names: []string{"coretemp", "k10temp", "drivetemp"}},
	}
}

// names resolves groups against a kernel. A folder that this kernel does not
// have is left out; a name must be there.
func (t *tree) names(groups []Group) ([]string, error) {
	var out []string
	for _, g := range groups {
		for _, n := range g.Names {
			n = strings.ReplaceAll(n, "-", "_")
			if t.paths[n] == "" && !t.builtin[n] {
				return nil, fmt.Errorf("module %s (%s): %w in %s", n, g.Why, ErrNoModule, t.dir)
			}
			out = append(out, n)
		}
		for name, p := range t.paths {
			if g.holds(p) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// holds tells whether a module's path lies in the group's folders and outside
// what the group leaves out.
func (g Group) holds(file string) bool {
	for _, d := range g.Dirs {
		rest, ok := strings.CutPrefix(file, "kernel/"+d+"/")
		if !ok {
			continue
		}
		if slices.Contains(g.Without, moduleName(file)) {
			return false
		}
		for dir := path.Dir(rest); dir != "."; dir = path.Dir(dir) {
			if slices.Contains(g.Without, path.Base(dir)) {
				return false
			}
		}
		return true
	}
	return false
}
