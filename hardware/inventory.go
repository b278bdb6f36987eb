package hardware

// InventorySchema is the schema of an [Inventory].
const InventorySchema = "ingot.inventory/v1"

// MaxInventoryBytes bounds the JSON of an inventory; [Inventory.Encode] holds
// to it. A bus message is at most 256 KiB; what is left is for its headers.
const MaxInventoryBytes = 248 << 10

// Inventory is one server as it stays from boot to boot.
type Inventory struct {
	Schema    string    `json:"schema"`
	System    System    `json:"system,omitzero"`
	Baseboard Baseboard `json:"baseboard,omitzero"`
	Chassis   Chassis   `json:"chassis,omitzero"`
	BIOS      BIOS      `json:"bios,omitzero"`
	Memory    Memory    `json:"memory,omitzero"`
	BMC       BMC       `json:"bmc,omitzero"`
	TPM       TPM       `json:"tpm,omitzero"`
	Kernel    Kernel    `json:"kernel,omitzero"`

	CPUs      []CPU       `json:"cpus,omitempty"`
	DIMMs     []DIMM      `json:"dimms,omitempty"`
	DIMMSlots []DIMMSlot  `json:"dimm_slots,omitempty"`
	Drives    []Drive     `json:"drives,omitempty"`
	NICs      []NIC       `json:"nics,omitempty"`
	PCI       []PCIDevice `json:"pci,omitempty"`
	FRUs      []FRU       `json:"frus,omitempty"`
	Findings  []Finding   `json:"findings,omitempty"`
}

// Sources names the readers that a part's facts came from, sorted.
type Sources []string

// System is the machine as a whole (SMBIOS type 1).
type System struct {
	Manufacturer string  `json:"manufacturer,omitempty"`
	Model        string  `json:"model,omitempty"`
	Version      string  `json:"version,omitempty"`
	Serial       string  `json:"serial,omitempty"`
	UUID         UUID    `json:"uuid,omitempty"`
	SKU          string  `json:"sku,omitempty"`
	Family       string  `json:"family,omitempty"`
	AssetTag     string  `json:"asset_tag,omitempty"`
	Sources      Sources `json:"sources,omitempty"`
}

// Baseboard is the main board (SMBIOS type 2).
type Baseboard struct {
	Manufacturer string  `json:"manufacturer,omitempty"`
	Model        string  `json:"model,omitempty"`
	Version      string  `json:"version,omitempty"`
	Serial       string  `json:"serial,omitempty"`
	AssetTag     string  `json:"asset_tag,omitempty"`
	Sources      Sources `json:"sources,omitempty"`
}

// Chassis is the enclosure (SMBIOS type 3).
type Chassis struct {
	Manufacturer string  `json:"manufacturer,omitempty"`
	Model        string  `json:"model,omitempty"`
	Version      string  `json:"version,omitempty"`
	Serial       string  `json:"serial,omitempty"`
	AssetTag     string  `json:"asset_tag,omitempty"`
	Type         string  `json:"type,omitempty"`
	Sources      Sources `json:"sources,omitempty"`
}

// BootMode is how the firmware started the kernel.
type BootMode string

// The boot modes.
const (
	ModeBIOS BootMode = "bios"
	ModeUEFI BootMode = "uefi"
)

// Switch has three answers: enabled, disabled, and, when empty, not known.
type Switch string

// The answers of a [Switch].
const (
	Enabled  Switch = "enabled"
	Disabled Switch = "disabled"
)

// SwitchOf is Enabled or Disabled.
func SwitchOf(on bool) Switch {
	if on {
		return Enabled
	}
	return Disabled
}

// BIOS is the firmware (SMBIOS type 0).
type BIOS struct {
	Vendor     string   `json:"vendor,omitempty"`
	Version    string   `json:"version,omitempty"`
	Date       string   `json:"date,omitempty"` // 2006-01-02 where it could be read
	Mode       BootMode `json:"mode,omitempty"`
	SecureBoot Switch   `json:"secure_boot,omitempty"`
	Sources    Sources  `json:"sources,omitempty"`
}

// Memory is the installed memory: the sum of the DIMMs, or what the BMC's
// summary says where they are not known.
type Memory struct {
	SizeBytes uint64  `json:"size_bytes,omitempty"`
	Sources   Sources `json:"sources,omitempty"`
}

// BMC is the management controller.
type BMC struct {
	Manufacturer string   `json:"manufacturer,omitempty"`
	Model        string   `json:"model,omitempty"`
	Firmware     string   `json:"firmware,omitempty"`
	IPMIVersion  string   `json:"ipmi_version,omitempty"`
	GUID         UUID     `json:"guid,omitempty"`
	MAC          MAC      `json:"mac,omitempty"`
	Addresses    []string `json:"addresses,omitempty"`
	Sources      Sources  `json:"sources,omitempty"`
}

// TPM is the trusted platform module.
type TPM struct {
	Version      string  `json:"version,omitempty"` // 1.2 or 2.0
	Manufacturer string  `json:"manufacturer,omitempty"`
	Firmware     string  `json:"firmware,omitempty"`
	Sources      Sources `json:"sources,omitempty"`
}

// Kernel is the kernel that the readers ran under; not a part of the server,
// and not in the digest.
type Kernel struct {
	Release string  `json:"release,omitempty"`
	Arch    string  `json:"arch,omitempty"` // as GOARCH: amd64, arm64
	Sources Sources `json:"sources,omitempty"`
}

// CPU is one populated socket (SMBIOS type 4).
type CPU struct {
	Socket       string  `json:"socket,omitempty"`
	Manufacturer string  `json:"manufacturer,omitempty"`
	Model        string  `json:"model,omitempty"`
	Serial       string  `json:"serial,omitempty"`
	Cores        int     `json:"cores,omitempty"`
	Threads      int     `json:"threads,omitempty"`
	MaxMHz       int     `json:"max_mhz,omitempty"`
	Sources      Sources `json:"sources,omitempty"`
}

// DIMM is a populated memory device (SMBIOS type 17, DSP0134 7.18).
type DIMM struct {
	Slot         string  `json:"slot,omitempty"`
	SizeBytes    uint64  `json:"size_bytes,omitempty"`
	Serial       string  `json:"serial,omitempty"`
	Manufacturer string  `json:"manufacturer,omitempty"`
	Part         string  `json:"part,omitempty"`
	SpeedMTs     int     `json:"speed_mts,omitempty"`
	Type         string  `json:"type,omitempty"` // DDR4, DDR5
	Sources      Sources `json:"sources,omitempty"`
}

// DIMMSlot is a place for a DIMM.
type DIMMSlot struct {
	Name      string  `json:"name"`
	Populated bool    `json:"populated"`
	Sources   Sources `json:"sources,omitempty"`
}

// Transport is how a drive is attached.
type Transport string

// The transports.
const (
	TransportNVMe   Transport = "nvme"
	TransportSATA   Transport = "sata"
	TransportSAS    Transport = "sas"
	TransportSCSI   Transport = "scsi"
	TransportVirtio Transport = "virtio"
	TransportUSB    Transport = "usb"
	TransportMMC    Transport = "mmc"
)

// Drive is one whole block device.
type Drive struct {
	Name       string    `json:"name,omitempty"` // the kernel's name, which moves between boots
	Model      string    `json:"model,omitempty"`
	Serial     string    `json:"serial,omitempty"`
	Vendor     string    `json:"vendor,omitempty"`
	SizeBytes  uint64    `json:"size_bytes,omitempty"`
	Transport  Transport `json:"transport,omitempty"`
	Firmware   string    `json:"firmware,omitempty"`
	WWN        string    `json:"wwn,omitempty"`
	Rotational bool      `json:"rotational,omitempty"`
	BDF        BDF       `json:"bdf,omitempty"` // of the controller
	Slot       string    `json:"slot,omitempty"`
	Sources    Sources   `json:"sources,omitempty"`
}

// NIC is one network port.
type NIC struct {
	Name    string `json:"name,omitempty"` // the kernel's name, which moves between boots
	MAC     MAC    `json:"mac,omitempty"`  // permanent
	Driver  string `json:"driver,omitempty"`
	Bus     string `json:"bus,omitempty"` // pci, usb, platform
	BDF     BDF    `json:"bdf,omitempty"`
	Adapter string `json:"adapter,omitempty"`
	Slot    string `json:"slot,omitempty"`
	// Carrier and LinkMbps are as they were at the time of reading. They are
	// no part of the digest.
	Carrier  Switch  `json:"carrier,omitempty"`
	LinkMbps int     `json:"link_mbps,omitempty"`
	Sources  Sources `json:"sources,omitempty"`
}

// PCIDevice is one function on the PCI bus. IDs are four hexadecimal digits,
// the class is six (class, subclass, programming interface).
type PCIDevice struct {
	BDF       BDF     `json:"bdf"`
	VendorID  string  `json:"vendor_id,omitempty"`
	DeviceID  string  `json:"device_id,omitempty"`
	Vendor    string  `json:"vendor,omitempty"`
	Device    string  `json:"device,omitempty"`
	Class     string  `json:"class,omitempty"`
	ClassName string  `json:"class_name,omitempty"`
	Driver    string  `json:"driver,omitempty"`
	Sources   Sources `json:"sources,omitempty"`
}

// FRU is what one FRU device says (IPMI Platform Management FRU Information
// Storage Definition 1.0).
type FRU struct {
	ID                  int     `json:"id"`
	ChassisPart         string  `json:"chassis_part,omitempty"`
	ChassisSerial       string  `json:"chassis_serial,omitempty"`
	BoardManufacturer   string  `json:"board_manufacturer,omitempty"`
	BoardProduct        string  `json:"board_product,omitempty"`
	BoardSerial         string  `json:"board_serial,omitempty"`
	BoardPart           string  `json:"board_part,omitempty"`
	ProductManufacturer string  `json:"product_manufacturer,omitempty"`
	ProductName         string  `json:"product_name,omitempty"`
	ProductPart         string  `json:"product_part,omitempty"`
	ProductVersion      string  `json:"product_version,omitempty"`
	ProductSerial       string  `json:"product_serial,omitempty"`
	AssetTag            string  `json:"asset_tag,omitempty"`
	Sources             Sources `json:"sources,omitempty"`
}
