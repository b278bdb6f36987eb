package redfish

import (
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

var transports = map[string]hardware.Transport{
	"NVMe": hardware.TransportNVMe, "PCIe": hardware.TransportNVMe, "NVMeOverFabrics": hardware.TransportNVMe, "SATA": hardware.TransportSATA,
	"SAS": hardware.TransportSAS, "USB": hardware.TransportUSB, "eMMC": hardware.TransportMMC, "SD": hardware.TransportMMC,
}

var forms = map[string]string{"Drive3_5": "3.5 inch", "Drive2_5": "2.5 inch", "EDSFF": "EDSFF", "M2": "M.2", "PCIeHalfLength": "PCIe card"}

// driveFacts takes a drive; false for an empty bay. HPE's own disks (before
// iLO 6) have other names for the same.
func driveFacts(n node) (hardware.Drive, bool) {
	if n.absent() {
		return hardware.Drive{}, false
	}
	d := hardware.Drive{
		Model: n.str("Model"), Serial: n.str("SerialNumber"), Vendor: n.str("Manufacturer"), Part: n.str("PartNumber"),
		SizeBytes: driveBytes(n), Firmware: first(n.str("Revision"), n.str("FirmwareVersion"), n.str("FirmwareVersion", "Current", "VersionString")),
		WWN: wwnOf(n), RPM: max(n.small("RotationSpeedRPM"), n.small("RotationalSpeedRpm")), FormFactor: driveForm(n),
		Slot: first(place(n), n.str("Location"), n.str("Oem", "Huawei", "Position")), LogicalBlockBytes: n.small("BlockSizeBytes"),
		Transport: transports[first(n.str("Protocol"), n.str("InterfaceType"))], Sources: from,
	}
	media := n.str("MediaType")
	d.Rotational = media == "HDD" || media == "" && d.RPM > 0
	if !d.Rotational {
		d.RPM = 0
	}
	if d.Transport == "" && strings.Contains(strings.ToLower(media+" "+n.str("Name")), "nvme") {
		d.Transport = hardware.TransportNVMe
	}
	if v, ok := n.num("NegotiatedSpeedGbs"); ok && v > 0 && v < 1000 {
		d.LinkMbps = int(v * 1000)
	}
	if v, ok := n.num("CapableSpeedGbs"); ok && v > 0 && v < 1000 {
		d.MaxLinkMbps = int(v * 1000)
	}
	switch n.str("EncryptionAbility") {
	case "SelfEncryptingDrive":
		d.SelfEncrypts = hardware.Enabled
	case "None":
		d.SelfEncrypts = hardware.Disabled
	}
	if first(d.Model) == "" && hardware.CleanSerial(d.Serial) == "" && d.SizeBytes == 0 {
		return d, false
	}
	return d, true
}

// driveBytes is a drive's size: drives are sold in decimal units.
func driveBytes(n node) uint64 {
	if b := n.count("CapacityBytes"); b > 0 {
		return b
	}
	if b, c := n.count("BlockSizeBytes"), n.count("CapacityLogicalBlocks"); b > 0 && b < 1<<20 && c > 0 && c < 1<<43 {
		return b * c
	}
	if b := n.bytes(mib, "CapacityMiB"); b > 0 {
		return b
	}
	if v, ok := n.num("CapacityGB"); ok && v > 0 && v < 1e9 {
		return uint64(v * 1e9)
	}
	return 0
}

func driveForm(n node) string {
	for _, k := range []string{"FormFactor", "DriveFormFactor"} {
		f := n.str(k)
		for prefix, form := range forms {
			if strings.HasPrefix(f, prefix) {
				return form
			}
		}
	}
	return ""
}

// wwnOf is the world wide name of a drive, volume or controller.
func wwnOf(n node) string {
	for _, i := range n.list("Identifiers") {
		name := strings.ToLower(hardware.CleanSerial(i.str("DurableName")))
		prefix := map[string]string{"NAA": "naa.", "EUI": "eui.", "NGUID": "eui."}[i.str("DurableNameFormat")]
		if prefix != "" && name != "" {
			return prefix + strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(name, prefix), "0x"), ":", "")
		}
	}
	if s := strings.ToLower(hardware.CleanSerial(n.str("WWID"))); len(s) == 16 {
		return "naa." + s
	}
	return ""
}

// controllerFacts takes a storage controller: a member of Controllers, or of
// the array that came before them; or HPE's array controller.
func controllerFacts(n node) (hardware.StorageController, bool) {
	c := hardware.StorageController{
		Name: first(n.str("Name"), n.str("Id"), n.str("MemberId")), Manufacturer: n.str("Manufacturer"), Model: n.str("Model"),
		Serial: n.str("SerialNumber"), Part: n.str("PartNumber"),
		Firmware:  first(n.str("FirmwareVersion"), n.str("FirmwareVersion", "Current", "VersionString")),
		Protocols: n.texts("SupportedDeviceProtocols"), Slot: first(place(n), n.str("Location")), WWN: wwnOf(n),
		CacheBytes: n.bytes(mib, "CacheSummary", "TotalCacheSizeMiB") + n.bytes(mib, "CacheMemorySizeMiB"), Sources: from,
	}
	return c, !n.absent() && first(c.Name, c.Model) != ""
}

// volumeFacts takes what a controller makes of drives. A drive that is only
// passed on is none.
func volumeFacts(n node, drives []string) (hardware.Volume, bool) {
	raid := first(n.str("RAIDType"), raidOf(n))
	v := hardware.Volume{
		Name: first(n.str("DisplayName"), n.str("LogicalDriveName"), n.str("VolumeName"), n.str("Name")), ID: first(n.str("Id"), leaf(n.id())),
		RAID: raid, SizeBytes: driveBytes(n), WWN: wwnOf(n), Drives: drives, Sources: from,
	}
	passed := n.str("VolumeType") == "RawDevice" && (raid == "" || raid == "None")
	return v, !passed && !n.absent()
}

// raidOf reads the level where there is only the older or HPE's property.
func raidOf(n node) string {
	if r := n.str("Raid"); r != "" {
		return "RAID" + r
	}
	return map[string]string{"Mirrored": "RAID1", "NonRedundant": "RAID0", "StripedWithParity": "RAID5", "SpannedMirrors": "RAID10",
		"SpannedStripesWithParity": "RAID50"}[n.str("VolumeType")]
}

func driveReading(n node, d hardware.Drive) (hardware.DriveReading, bool) {
	r := hardware.DriveReading{Name: first(d.Slot, n.str("Name")), Serial: d.Serial, Health: health(n)}
	if v, ok := n.num("PredictedMediaLifeLeftPercent"); ok && v >= 0 && v <= 100 {
		used := 100 - v
		r.WearPercent = &used
	} else if v, ok := n.num("SSDEnduranceUtilizationPercentage"); ok && v >= 0 {
		r.WearPercent = &v
	}
	if v, ok := n.num("CurrentTemperatureCelsius"); ok && v > 0 {
		r.Celsius = &v
	}
	if h := n.count("PowerOnHours"); h > 0 {
		r.PowerOnHours = &h
	}
	if n.flag("FailurePredicted") == hardware.Enabled {
		r.Warnings = append(r.Warnings, "failure predicted")
	}
	return r, r.Health != "" || r.WearPercent != nil || r.Celsius != nil || r.PowerOnHours != nil || r.Warnings != nil
}
