package hardware

// CPU is one populated socket (SMBIOS type 4).
type CPU struct {
	Socket       string   `json:"socket,omitempty"`
	Manufacturer string   `json:"manufacturer,omitempty"`
	Model        string   `json:"model,omitempty"`
	Serial       string   `json:"serial,omitempty" clean:"serial"`
	Part         string   `json:"part,omitempty" clean:"serial"`
	Cores        int      `json:"cores,omitempty"`
	Threads      int      `json:"threads,omitempty"`
	MaxMHz       int      `json:"max_mhz,omitempty"`
	Microcode    string   `json:"microcode,omitempty"` // 0x2b000590
	Family       int      `json:"family,omitempty"`    // CPUID's, with the extended one added
	ModelNumber  int      `json:"model_number,omitempty"`
	Stepping     int      `json:"stepping,omitempty"`
	Caches       []Cache  `json:"caches,omitempty" most:"8"`
	Flags        []string `json:"flags,omitempty" clean:"word" most:"512"`
	NUMANodes    []int    `json:"numa_nodes,omitempty" most:"64"`
	Sources      Sources  `json:"sources,omitempty"`
	Raw          Raw      `json:"raw,omitempty"`
}

// Cache is all the memory of one level and kind that a socket has.
type Cache struct {
	Level     int    `json:"level"`
	Kind      string `json:"kind,omitempty"` // data, instruction, unified
	SizeBytes uint64 `json:"size_bytes,omitempty"`
}

// NUMANode is one node of the kernel's topology.
type NUMANode struct {
	ID        int     `json:"id"`
	CPUs      string  `json:"cpus,omitempty"`                  // the kernel's list: 0-15,32-47
	SizeBytes uint64  `json:"size_bytes,omitempty" digest:"-"` // a kernel keeps some for itself
	Distances []int   `json:"distances,omitempty" most:"64"`
	Sources   Sources `json:"sources,omitempty"`
}

// GPU is a graphics processor or an accelerator of another kind.
type GPU struct {
	Name         string  `json:"name,omitempty"`
	Kind         string  `json:"kind,omitempty"` // gpu, accelerator, fpga, dpu
	Manufacturer string  `json:"manufacturer,omitempty"`
	Model        string  `json:"model,omitempty"`
	Serial       string  `json:"serial,omitempty" clean:"serial"`
	Part         string  `json:"part,omitempty" clean:"serial"`
	UUID         UUID    `json:"uuid,omitempty"`
	Firmware     string  `json:"firmware,omitempty"`
	MemoryBytes  uint64  `json:"memory_bytes,omitempty"`
	Slot         string  `json:"slot,omitempty"`
	BDF          BDF     `json:"bdf,omitempty"`
	NUMANode     *int    `json:"numa_node,omitempty"`
	Driver       string  `json:"driver,omitempty" digest:"-"`
	Sources      Sources `json:"sources,omitempty"`
	Raw          Raw     `json:"raw,omitempty"`
}

// DIMM is a populated memory device (SMBIOS type 17, DSP0134 7.18).
type DIMM struct {
	Slot         string `json:"slot,omitempty"`
	SizeBytes    uint64 `json:"size_bytes,omitempty"`
	Serial       string `json:"serial,omitempty" clean:"serial"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Part         string `json:"part,omitempty" clean:"serial"`
	// SpeedMTs is what the module is rated for, ConfiguredMTs what it runs at.
	SpeedMTs      int     `json:"speed_mts,omitempty"`
	ConfiguredMTs int     `json:"configured_mts,omitempty"`
	Type          string  `json:"type,omitempty"`        // DDR4, DDR5
	Module        string  `json:"module,omitempty"`      // RDIMM, LRDIMM, UDIMM
	FormFactor    string  `json:"form_factor,omitempty"` // DIMM, SODIMM
	Ranks         int     `json:"ranks,omitempty"`
	ECC           Switch  `json:"ecc,omitempty"`
	Bank          string  `json:"bank,omitempty"`
	Manufactured  string  `json:"manufactured,omitempty" clean:"word"` // year and week: 2026-W02
	NUMANode      *int    `json:"numa_node,omitempty"`
	Sources       Sources `json:"sources,omitempty"`
	Raw           Raw     `json:"raw,omitempty"`
}

// DIMMSlot is a place for a DIMM.
type DIMMSlot struct {
	Name      string  `json:"name"`
	Populated bool    `json:"populated"`
	Sources   Sources `json:"sources,omitempty"`
}

// PSU is one power supply.
type PSU struct {
	Name         string  `json:"name,omitempty"`
	Slot         string  `json:"slot,omitempty"`
	Manufacturer string  `json:"manufacturer,omitempty"`
	Model        string  `json:"model,omitempty"`
	Serial       string  `json:"serial,omitempty" clean:"serial"`
	Part         string  `json:"part,omitempty" clean:"serial"`
	Firmware     string  `json:"firmware,omitempty"`
	CapacityWatt int     `json:"capacity_watts,omitempty"`
	Kind         string  `json:"kind,omitempty"` // ac, dc
	Sources      Sources `json:"sources,omitempty"`
	Raw          Raw     `json:"raw,omitempty"`
}

// FanPart is a fan as a part; how fast it turns is in [Readings].
type FanPart struct {
	Name    string  `json:"name,omitempty"`
	Slot    string  `json:"slot,omitempty"`
	Model   string  `json:"model,omitempty"`
	Serial  string  `json:"serial,omitempty" clean:"serial"`
	Part    string  `json:"part,omitempty" clean:"serial"`
	HotPlug Switch  `json:"hot_plug,omitempty"`
	Sources Sources `json:"sources,omitempty"`
	Raw     Raw     `json:"raw,omitempty"`
}

// Watchdog is a timer that resets the server.
type Watchdog struct {
	Name           string  `json:"name,omitempty"`
	Identity       string  `json:"identity,omitempty"` // iTCO_wdt, IPMI
	TimeoutSeconds int     `json:"timeout_seconds,omitempty" digest:"-"`
	Running        Switch  `json:"running,omitempty" digest:"-"`
	Use            string  `json:"use,omitempty" clean:"word" digest:"-"`    // bios-frb2, bios-post, os-load, sms-os, oem
	Action         string  `json:"action,omitempty" clean:"word" digest:"-"` // when it expires: none, reset, power-off, power-cycle
	Sources        Sources `json:"sources,omitempty"`
}

// Firmware is one entry of the BMC's firmware inventory.
type Firmware struct {
	Name         string  `json:"name,omitempty"`
	Version      string  `json:"version,omitempty"`
	Manufacturer string  `json:"manufacturer,omitempty"`
	Date         string  `json:"date,omitempty"`
	ID           string  `json:"id,omitempty"`
	Updateable   Switch  `json:"updateable,omitempty"`
	Sources      Sources `json:"sources,omitempty"`
	Raw          Raw     `json:"raw,omitempty"`
}

// BootEntry is one boot option of the firmware (UEFI 3.1.3).
type BootEntry struct {
	ID      string  `json:"id,omitempty"` // Boot0001
	Name    string  `json:"name,omitempty"`
	Path    string  `json:"path,omitempty" clean:"text"` // UEFI device path as text
	Order   int     `json:"order,omitempty"`             // from 1; absent where it is not in the boot order
	Active  Switch  `json:"active,omitempty"`
	Current bool    `json:"current,omitempty" digest:"-"` // this boot came from it
	Next    bool    `json:"next,omitempty" digest:"-"`    // the next boot will, once
	Sources Sources `json:"sources,omitempty"`
	Raw     Raw     `json:"raw,omitempty"`
}

// ChassisPart is a chassis within, around or beside the first: a blade's
// enclosure, a GPU tray, a drive cage, a riser.
type ChassisPart struct {
	Name         string  `json:"name,omitempty"`
	Parent       string  `json:"parent,omitempty"` // the name of the one around it
	Type         string  `json:"type,omitempty"`
	Manufacturer string  `json:"manufacturer,omitempty"`
	Model        string  `json:"model,omitempty"`
	Serial       string  `json:"serial,omitempty" clean:"serial"`
	Part         string  `json:"part,omitempty" clean:"serial"`
	Sources      Sources `json:"sources,omitempty"`
	Raw          Raw     `json:"raw,omitempty"`
}

// FRU is what one FRU device says (IPMI Platform Management FRU Information
// Storage Definition 1.0).
type FRU struct {
	ID                  int    `json:"id"`
	Name                string `json:"name,omitempty"` // of its locator record
	ChassisType         string `json:"chassis_type,omitempty"`
	ChassisPart         string `json:"chassis_part,omitempty" clean:"serial"`
	ChassisSerial       string `json:"chassis_serial,omitempty" clean:"serial"`
	BoardManufacturer   string `json:"board_manufacturer,omitempty"`
	BoardProduct        string `json:"board_product,omitempty"`
	BoardSerial         string `json:"board_serial,omitempty" clean:"serial"`
	BoardPart           string `json:"board_part,omitempty" clean:"serial"`
	BoardDate           string `json:"board_date,omitempty"`
	ProductManufacturer string `json:"product_manufacturer,omitempty"`
	ProductName         string `json:"product_name,omitempty"`
	ProductPart         string `json:"product_part,omitempty" clean:"serial"`
	ProductVersion      string `json:"product_version,omitempty"`
	ProductSerial       string `json:"product_serial,omitempty" clean:"serial"`
	AssetTag            string `json:"asset_tag,omitempty" clean:"serial"`
	// Other are the custom fields by area and place ("board 1"), and what
	// further records say ("psu input volts").
	Other   map[string]string `json:"other,omitempty" most:"64"`
	Sources Sources           `json:"sources,omitempty"`
	Raw     Raw               `json:"raw,omitempty"`
}
