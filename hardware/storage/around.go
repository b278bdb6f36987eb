package storage

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/storage/scsi"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

const (
	hosts  = "sys/class/scsi_host"
	shelfs = "sys/class/enclosure"
)

// hostAttributes are where drivers of SCSI hosts show what their card is:
// mpt3sas, megaraid_sas, smartpqi, hpsa, aacraid, lpfc, qla2xxx, arcmsr.
var hostAttributes = map[string][]string{
	"model":    {"board_name", "model_name", "modelname", "model", "host_fw_model"},
	"maker":    {"vendor"},
	"firmware": {"version_fw", "firmware_revision", "firmware_version", "fw_version", "fwrev", "hba_monitor_version", "host_fw_version"},
	"serial":   {"board_tracer", "serial_number", "serial_num", "serialnum"},
	"part":     {"board_assembly"},
	"address":  {"host_sas_address"},
}

// controllers are one for each PCI function that drives hang on, whatever the
// number of SCSI hosts that its driver makes.
func controllers(root sysfs.Root) []hardware.StorageController {
	var out []hardware.StorageController
	add := func(c hardware.StorageController) {
		i := slices.IndexFunc(out, func(o hardware.StorageController) bool { return o.BDF == c.BDF })
		if i < 0 {
			out = append(out, c)
			return
		}
		out[i].WWN = cmp.Or(out[i].WWN, c.WWN)
	}
	for _, name := range root.Names(hosts) {
		if bdf, bus := sysfs.BusOf(root.Real(hosts, name)); bdf != "" && bus != "usb" {
			add(host(root, name, bdf))
		}
	}
	for _, name := range root.Names(nvmeClass) {
		bdf, _ := sysfs.BusOf(root.Real(nvmeClass, name))
		if bdf == "" || !controllerName.MatchString(name) {
			continue
		}
		text := func(file string) string { return root.Text(nvmeClass, name, file) }
		add(hardware.StorageController{Model: hardware.Clean(text("model")), Serial: hardware.CleanSerial(text("serial")), Firmware: hardware.Clean(text("firmware_rev")),
			Protocols: []string{"nvme"}, BDF: bdf, Driver: "nvme", Sources: hardware.Sources{Source}})
	}
	return out
}

func host(root sysfs.Root, name string, bdf hardware.BDF) hardware.StorageController {
	fact := func(what string) string {
		for _, file := range hostAttributes[what] {
			if s := hardware.Clean(root.Text(hosts, name, file)); s != "" {
				return s
			}
		}
		return ""
	}
	c := hardware.StorageController{Model: fact("model"), Manufacturer: fact("maker"), Firmware: fact("firmware"), Serial: fact("serial"), Part: fact("part"),
		BDF: bdf, Driver: root.Link("sys/bus/pci/devices", string(bdf), "driver"), Sources: hardware.Sources{Source}}
	if proc := root.Text(hosts, name, "proc_name"); proc != "" && !strings.ContainsAny(proc, "()<> ") {
		c.Driver = proc // virtio_scsi rather than virtio-pci
	}
	address := fact("address")
	switch {
	case root.Exists("sys/class/fc_host", name):
		c.Protocols, address = []string{"fc"}, root.Text("sys/class/fc_host", name, "port_name")
	case root.Exists("sys/class/sas_host", name):
		c.Protocols = []string{"sas", "sata"}
		number := strings.TrimPrefix(name, "host")
		address = cmp.Or(address, root.Text("sys/class/sas_phy/phy-"+number+":0/sas_address"))
	case root.Exists("sys/class/iscsi_host", name):
		c.Protocols = []string{"iscsi"}
	case ataPort.MatchString(root.Inner(hosts, name)):
		c.Protocols = []string{"sata"}
	default:
		c.Protocols = []string{"scsi"}
	}
	c.WWN = naa(address)
	return c
}

// naa is an address of SAS or Fibre Channel, 0x500605b00d0a1b2c, as a name.
func naa(address string) string {
	if digits := strings.TrimPrefix(address, "0x"); len(digits) == 16 && strings.Trim(strings.ToLower(digits), "0123456789abcdef") == "" {
		return scsi.Unique("naa." + strings.ToLower(digits))
	}
	return ""
}

// enclosureName is how drives name the shelf that they sit in.
func enclosureName(root sysfs.Root, dir string) string {
	return hardware.Clean(root.Text(dir, "device/vendor") + " " + root.Text(dir, "device/model"))
}

// enclosures are the shelves, as the kernel's ses driver shows them. A slot
// that reports a fault is a finding.
func enclosures(root sysfs.Root) (out []hardware.Enclosure, findings []hardware.Finding) {
	for _, name := range root.Names(shelfs) {
		e := hardware.Enclosure{Name: enclosureName(root, filepath.Join(shelfs, name)), Manufacturer: hardware.Clean(root.Text(shelfs, name, "device/vendor")),
			Model: hardware.Clean(root.Text(shelfs, name, "device/model")), Firmware: hardware.Clean(root.Text(shelfs, name, "device/rev")),
			WWN: naa(root.Text(shelfs, name, "id")), Sources: hardware.Sources{Source}}
		if b, err := root.Bytes(scsi.MaxVPD, shelfs, name, "device/vpd_pg80"); err == nil {
			e.Serial = scsi.UnitSerial(b)
		}
		for _, slot := range root.Names(shelfs, name) {
			if kind := root.Text(shelfs, name, slot, "type"); kind != "device" && kind != "array device" {
				continue
			}
			e.Slots++
			if fault := root.Text(shelfs, name, slot, "fault"); fault != "" && fault != "0" {
				findings = append(findings, hardware.Finding{Code: hardware.CodeEnclosureFault, Severity: hardware.Warning, Part: "enclosure " + e.Name, Source: Source,
					Evidence: "slot " + slot + " reports a fault", Hint: "look at the drive in it and at its light; replace the drive, or clear the fault"})
			}
		}
		out = append(out, e)
	}
	return out, findings
}

var arrays = regexp.MustCompile(`^md[0-9_a-z]+$`)

// volumes are the kernel's own arrays (md), and those of controllers whose
// driver says so (raid_level of hpsa and smartpqi). Their drives are kernel
// names, until [nameMembers].
func volumes(root sysfs.Root) (out []hardware.Volume, findings []hardware.Finding) {
	for _, name := range root.Names(block) {
		v := hardware.Volume{Name: name, SizeBytes: size(root, name), Sources: hardware.Sources{Source}}
		if level := root.Text(block, name, "device/raid_level"); level != "" && level != "N/A" && !arrays.MatchString(name) {
			v.RAID, v.WWN = hardware.Clean(level), scsi.Unique(root.Text(block, name, "device/wwid"))
			out = append(out, v)
			continue
		}
		level := root.Text(block, name, "md/level")
		if !arrays.MatchString(name) || level == "" {
			continue
		}
		v.RAID, v.ID = strings.ToUpper(hardware.Clean(level)), hardware.Clean(root.Text(block, name, "md/uuid"))
		v.Drives = members(root, name)
		out = append(out, v)
		if missing, _ := root.Uint(block, name, "md/degraded"); missing > 0 {
			findings = append(findings, hardware.Finding{Code: hardware.CodeVolumeDegraded, Severity: hardware.Warning, Part: "volume " + name, Source: Source,
				Evidence: fmt.Sprintf("%s lacks %d of its %s drives", v.RAID, missing, root.Text(block, name, "md/raid_disks")), Hint: "replace the drive that failed, and add the new one to the array"})
		}
	}
	return out, findings
}

// members are the drives that an array has, or that its members are partitions
// of.
func members(root sysfs.Root, name string) []string {
	var out []string
	for _, dev := range root.Names(block, name, "md") {
		if !strings.HasPrefix(dev, "dev-") {
			continue
		}
		path := root.Inner(block, name, "md", dev, "block")
		if root.Exists(path, "partition") {
			path = filepath.Dir(path)
		}
		if path != "" && path != "." {
			out = append(out, filepath.Base(path))
		}
	}
	return out
}

// nameMembers puts the serials of the drives in place of their kernel names,
// which move between boots, where they have some.
func nameMembers(v *hardware.Volume, serials map[string]string) {
	for i, name := range v.Drives {
		v.Drives[i] = cmp.Or(serials[name], name)
	}
	slices.Sort(v.Drives)
}
