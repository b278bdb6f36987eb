package storage

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/storage/scsi"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

const block = "sys/block"

// A sector in sysfs is 512 bytes, whatever the drive's own is
// (Documentation/ABI/stable/sysfs-block).
const sectorBytes = 512

// The whole drives among the block devices; what else stands there (loop, md,
// dm, zram, optical drives, hidden NVMe paths) is no drive.
var drives = regexp.MustCompile(`^(sd[a-z]+|vd[a-z]+|xvd[a-z]+|hd[a-z]+|nvme[0-9]+n[0-9]+|mmcblk[0-9]+|pmem[0-9]+|dasd[a-z]+)$`)

// A port of libata in a device's path.
var ataPort = regexp.MustCompile(`^(.*/ata([0-9]+))/`)

// unit is one drive: the block devices that it shows itself as, which are
// several only for NVMe, and how its facts are read.
type unit struct {
	names []string
	facts func(sysfs.Root, *result)
	ask   func(*questions, *result)
}

// units are the drives that sysfs knows.
func units(root sysfs.Root) []unit {
	out := nvmeUnits(root)
	for _, name := range root.Names(block) {
		if !drives.MatchString(name) || strings.HasPrefix(name, "nvme") || root.Text(block, name, "hidden") == "1" {
			continue
		}
		if sectors, _ := root.Uint(block, name, "size"); sectors == 0 && root.Text(block, name, "removable") == "1" {
			continue // a card reader without a card
		}
		u := unit{names: []string{name}, facts: plainFacts, ask: func(*questions, *result) {}}
		if strings.HasPrefix(name, "sd") {
			u.facts, u.ask = scsiFacts, askSCSI
		}
		out = append(out, u)
	}
	return out
}

// blockFacts are those that every block device has.
func blockFacts(root sysfs.Root, d *hardware.Drive) {
	d.SizeBytes = size(root, d.Name)
	d.LogicalBlockBytes, d.PhysicalBlockBytes = blockBytes(root, d.Name, "logical"), blockBytes(root, d.Name, "physical")
	d.Rotational = root.Text(block, d.Name, "queue/rotational") == "1"
	d.Removable = root.Text(block, d.Name, "removable") == "1"
	d.BDF, _ = sysfs.BusOf(root.Real(block, d.Name))
	d.NUMANode = numaNode(root, d.BDF)
}

func size(root sysfs.Root, name string) uint64 {
	sectors, ok := root.Uint(block, name, "size")
	if !ok || sectors >= 1<<54 {
		return 0
	}
	return sectors * sectorBytes
}

func blockBytes(root sysfs.Root, name, kind string) int {
	n, ok := root.Uint(block, name, "queue", kind+"_block_size")
	if !ok || n > 1<<30 {
		return 0
	}
	return int(n)
}

func numaNode(root sysfs.Root, bdf hardware.BDF) *int {
	n, err := strconv.Atoi(root.Text("sys/bus/pci/devices", string(bdf), "numa_node"))
	if bdf == "" || err != nil || n < 0 {
		return nil
	}
	return &n
}

// plainFacts reads a drive that has no SMART: virtio, MMC, Xen, persistent
// memory.
func plainFacts(root sysfs.Root, r *result) {
	d := &r.drive
	blockFacts(root, d)
	switch {
	case strings.HasPrefix(d.Name, "vd"):
		d.Transport, d.Rotational = hardware.TransportVirtio, false // the kernel's guess
		d.Serial = hardware.CleanSerial(root.Text(block, d.Name, "serial"))
	case strings.HasPrefix(d.Name, "mmcblk"):
		d.Transport = hardware.TransportMMC
		d.Model, d.Serial = hardware.Clean(root.Text(block, d.Name, "device/name")), hardware.CleanSerial(root.Text(block, d.Name, "device/serial"))
	}
}

// scsiFacts reads an sd drive: SCSI, SAS, SATA behind libata or an HBA, USB.
func scsiFacts(root sysfs.Root, r *result) {
	d := &r.drive
	blockFacts(root, d)
	path := root.Inner(block, d.Name)
	d.Model = hardware.Clean(root.Text(block, d.Name, "device/model"))
	d.Vendor = hardware.Clean(root.Text(block, d.Name, "device/vendor"))
	d.Firmware = hardware.Clean(root.Text(block, d.Name, "device/rev"))
	_, bus := sysfs.BusOf(path)
	switch {
	case bus == "usb":
		d.Transport = hardware.TransportUSB
	case d.Vendor == "ATA", ataPort.MatchString(path):
		d.Transport = hardware.TransportSATA
	case strings.Contains(path, "/end_device-"):
		d.Transport = hardware.TransportSAS
	default:
		d.Transport = hardware.TransportSCSI
	}
	if d.Vendor == "ATA" { // what libata puts where a vendor belongs
		d.Vendor = ""
	}
	page := func(name string) []byte {
		b, err := root.Bytes(scsi.MaxVPD, block, d.Name, "device", name)
		if err != nil {
			return nil // a drive need not have the page
		}
		return b
	}
	d.Serial = scsi.UnitSerial(page("vpd_pg80"))
	if d.WWN = scsi.WorldWideName(page("vpd_pg83")); d.WWN == "" {
		d.WWN = scsi.Unique(root.Text(block, d.Name, "device/wwid"))
	}
	characteristics(d, page("vpd_pgb1"))
	if b := scsi.ATAIdentify(page("vpd_pg89")); b != nil && d.Transport == hardware.TransportSATA {
		r.identity(b)
	}
	r.link(root, path)
	place(root, d)
}

// characteristics adds what page 0xb1 says, where it says so.
func characteristics(d *hardware.Drive, page []byte) {
	c := scsi.BlockCharacteristics(page)
	if c.Solid {
		d.Rotational = false
	}
	if c.RPM > 0 {
		d.RPM, d.Rotational = c.RPM, true
	}
	if c.FormFactor != "" {
		d.FormFactor = c.FormFactor
	}
}

// link reads what the drive's cable runs at: a libata link, or a SAS phy.
func (r *result) link(root sysfs.Root, path string) {
	if m := ataPort.FindStringSubmatch(path); m != nil {
		link := []string{m[1], "link" + m[2], "ata_link", "link" + m[2]}
		r.drive.LinkMbps = mbps(root.Text(append(link, "sata_spd")...))
		r.portMbps = mbps(root.Text(append(link, "hw_sata_spd_limit")...))
		return
	}
	port, _, ok := strings.Cut(path, "/end_device-")
	if !ok {
		return
	}
	for _, name := range root.Names(port) {
		if strings.HasPrefix(name, "phy-") {
			r.drive.LinkMbps = max(r.drive.LinkMbps, mbps(root.Text(port, name, "sas_phy", name, "negotiated_linkrate")))
		}
	}
}

// mbps reads "6.0 Gbps" and "12.0 Gbit"; 0 for <unknown>.
func mbps(s string) int {
	number, unit, _ := strings.Cut(s, " ")
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !(f > 0 && f < 1000) || unit != "Gbps" && unit != "Gbit" {
		return 0
	}
	return int(f*1000 + 0.5)
}

// place reads the enclosure's slot that the drive sits in.
func place(root sysfs.Root, d *hardware.Drive) {
	for _, name := range root.Names(block, d.Name, "device") {
		if slot, ok := strings.CutPrefix(name, "enclosure_device:"); ok {
			d.Slot = hardware.Clean(slot)
			d.Enclosure = enclosureName(root, filepath.Dir(root.Inner(block, d.Name, "device", name)))
			return
		}
	}
}
