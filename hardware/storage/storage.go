// Package storage reads the drives from sysfs alone: no device node is
// opened, so that no drive is woken and none can be written.
package storage

import (
	"context"
	"regexp"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// Source is how parts name this reader.
const Source = "storage"

const block = "sys/block"

// A sector in sysfs is 512 bytes, whatever the drive's own is
// (Documentation/ABI/stable/sysfs-block).
const sectorBytes = 512

// The whole drives among the block devices; what else stands there (loop, md,
// dm, zram, optical drives, hidden NVMe paths) is no drive.
var drives = regexp.MustCompile(`^(sd[a-z]+|vd[a-z]+|xvd[a-z]+|hd[a-z]+|nvme[0-9]+n[0-9]+|mmcblk[0-9]+|pmem[0-9]+|dasd[a-z]+)$`)

// A port of libata in a device's path.
var ataPort = regexp.MustCompile(`/ata[0-9]+/`)

// An NVMe controller among the entries of its subsystem.
var controller = regexp.MustCompile(`^nvme[0-9]+$`)

// Read lists the drives below root.
func Read(_ context.Context, root sysfs.Root) (hardware.Inventory, error) {
	var inv hardware.Inventory
	for _, name := range root.Names(block) {
		if !drives.MatchString(name) || root.Text(block, name, "hidden") == "1" {
			continue
		}
		d := hardware.Drive{Name: name, Sources: hardware.Sources{Source}}
		sectors, ok := root.Uint(block, name, "size")
		if ok && sectors < 1<<54 {
			d.SizeBytes = sectors * sectorBytes
		}
		if sectors == 0 && root.Text(block, name, "removable") == "1" {
			continue // a card reader without a card
		}
		d.BDF, _ = sysfs.BusOf(root.Real(block, name))
		switch {
		case strings.HasPrefix(name, "nvme"):
			nvme(root, &d)
		case strings.HasPrefix(name, "sd"):
			scsi(root, &d)
		case strings.HasPrefix(name, "vd"):
			d.Transport = hardware.TransportVirtio
			d.Serial = root.Text(block, name, "serial")
		case strings.HasPrefix(name, "mmcblk"):
			d.Transport = hardware.TransportMMC
			d.Model, d.Serial = root.Text(block, name, "device/name"), root.Text(block, name, "device/serial")
		}
		d.Model, d.Serial = hardware.Clean(d.Model), hardware.CleanSerial(d.Serial)
		d.Vendor, d.Firmware = hardware.Clean(d.Vendor), hardware.Clean(d.Firmware)
		inv.Drives = append(inv.Drives, d)
	}
	return inv, nil
}

// nvme reads a namespace. Its device is the controller, or, under native
// multipath, the subsystem, which has the same attributes.
func nvme(root sysfs.Root, d *hardware.Drive) {
	d.Transport = hardware.TransportNVMe
	d.Model = root.Text(block, d.Name, "device/model")
	d.Serial = root.Text(block, d.Name, "device/serial")
	d.Firmware = root.Text(block, d.Name, "device/firmware_rev")
	d.WWN = worldWide(root.Text(block, d.Name, "wwid"))
	if d.BDF != "" {
		return
	}
	for _, c := range root.Names(block, d.Name, "device") {
		if controller.MatchString(c) {
			if bdf, _ := sysfs.BusOf(root.Real(block, d.Name, "device", c)); bdf != "" {
				d.BDF = bdf
				return
			}
		}
	}
}

// scsi reads an sd drive: SCSI, SAS, SATA behind libata or an HBA, USB.
func scsi(root sysfs.Root, d *hardware.Drive) {
	path := root.Real(block, d.Name)
	d.Model = root.Text(block, d.Name, "device/model")
	d.Vendor = root.Text(block, d.Name, "device/vendor")
	d.Firmware = root.Text(block, d.Name, "device/rev")
	d.Rotational = root.Text(block, d.Name, "queue/rotational") == "1"
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
		b, err := root.Bytes(maxVPD, block, d.Name, "device", name)
		if err != nil {
			return nil // a drive need not have the page
		}
		return b
	}
	d.Serial = UnitSerial(page("vpd_pg80"))
	if d.WWN = WorldWideName(page("vpd_pg83")); d.WWN == "" {
		d.WWN = worldWide(root.Text(block, d.Name, "device/wwid"))
	}
	if id, ok := ATAIdentity(page("vpd_pg89")); ok {
		d.Model, d.Serial, d.Firmware = id.Model, id.Serial, id.Firmware
	}
}

// worldWide keeps only names that are unique in the world; t10 names repeat
// vendor, model and serial.
func worldWide(s string) string {
	for _, p := range []string{"naa.", "eui.", "nvme.", "uuid."} {
		if strings.HasPrefix(s, p) && strings.Trim(s[len(p):], "0-") != "" {
			return hardware.Clean(s)
		}
	}
	return ""
}
