package smbios

import (
	"strconv"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
	"github.com/u-root/u-root/pkg/smbios"
)

// withoutTables is what the kernel shows of the tables to everybody. Serials,
// UUID, DIMMs and what else the tables have are for root.
func withoutTables(root sysfs.Root) hardware.Inventory {
	text := func(file string) string { return hardware.Clean(root.Text("sys/class/dmi/id", file)) }
	inv := hardware.Inventory{
		System: hardware.System{Manufacturer: text("sys_vendor"), Model: text("product_name"), Version: text("product_version"),
			SKU: text("product_sku"), Family: text("product_family"), Sources: from},
		Baseboard: hardware.Baseboard{Manufacturer: text("board_vendor"), Model: text("board_name"), Version: text("board_version"),
			AssetTag: hardware.CleanSerial(text("board_asset_tag")), Sources: from},
		Chassis: hardware.Chassis{Manufacturer: text("chassis_vendor"), Version: text("chassis_version"),
			AssetTag: hardware.CleanSerial(text("chassis_asset_tag")), Sources: from},
		BIOS: hardware.BIOS{Vendor: text("bios_vendor"), Version: text("bios_version"), Date: date(text("bios_date")), Sources: from},
		Findings: []hardware.Finding{{Code: hardware.CodeNotPermitted, Severity: hardware.Info, Part: "system", Source: Source,
			Evidence: "read /" + dmi + ": permission denied", Hint: "serials, UUID, DIMMs and power supplies are read by root only"}},
	}
	if n, err := strconv.ParseUint(text("chassis_type"), 10, 8); err == nil {
		inv.Chassis.Type = chassisType(smbios.ChassisType(n))
	}
	return inv
}
