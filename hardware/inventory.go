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
	Kernel    Kernel    `json:"kernel,omitzero" digest:"-"`

	CPUs               []CPU               `json:"cpus,omitempty" most:"64"`
	NUMANodes          []NUMANode          `json:"numa_nodes,omitempty" most:"64"`
	GPUs               []GPU               `json:"gpus,omitempty" most:"64"`
	DIMMs              []DIMM              `json:"dimms,omitempty" most:"256"`
	DIMMSlots          []DIMMSlot          `json:"dimm_slots,omitempty" most:"256"`
	Drives             []Drive             `json:"drives,omitempty" most:"512"`
	Volumes            []Volume            `json:"volumes,omitempty" most:"256"`
	StorageControllers []StorageController `json:"storage_controllers,omitempty" most:"64"`
	Enclosures         []Enclosure         `json:"enclosures,omitempty" most:"64"`
	NICs               []NIC               `json:"nics,omitempty" most:"256"`
	Adapters           []Adapter           `json:"adapters,omitempty" most:"64"`
	PCI                []PCIDevice         `json:"pci,omitempty" most:"1024"`
	USB                []USBDevice         `json:"usb,omitempty" most:"128"`
	PSUs               []PSU               `json:"psus,omitempty" most:"32"`
	Fans               []FanPart           `json:"fans,omitempty" most:"128"`
	Watchdogs          []Watchdog          `json:"watchdogs,omitempty" most:"8"`
	Firmware           []Firmware          `json:"firmware,omitempty" most:"256"`
	BootEntries        []BootEntry         `json:"boot_entries,omitempty" most:"128"`
	ChassisParts       []ChassisPart       `json:"chassis_parts,omitempty" most:"64"`
	FRUs               []FRU               `json:"frus,omitempty" most:"64"`
	Findings           []Finding           `json:"findings,omitempty" most:"128" digest:"-"`
}

// Sources names the readers that a part's facts came from, sorted.
type Sources []string

// Raw keeps, by the JSON name of a fact, what a vendor wrote where cleaning
// changed it: runs of spaces, control characters. What cleaning dropped
// altogether was no fact and is not kept.
type Raw map[string]string

// System is the machine as a whole (SMBIOS type 1).
type System struct {
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
	Version      string `json:"version,omitempty"`
	Serial       string `json:"serial,omitempty" clean:"serial"`
	UUID         UUID   `json:"uuid,omitempty"`
	SKU          string `json:"sku,omitempty"`
	Family       string `json:"family,omitempty"`
	AssetTag     string `json:"asset_tag,omitempty" clean:"serial"`
	// OEMSerials are the further numbers of a vendor: service tag, express code.
	OEMSerials map[string]string `json:"oem_serials,omitempty"`
	Sources    Sources           `json:"sources,omitempty"`
	Raw        Raw               `json:"raw,omitempty"`
}

// Baseboard is the main board (SMBIOS type 2).
type Baseboard struct {
	Manufacturer string  `json:"manufacturer,omitempty"`
	Model        string  `json:"model,omitempty"`
	Version      string  `json:"version,omitempty"`
	Serial       string  `json:"serial,omitempty" clean:"serial"`
	AssetTag     string  `json:"asset_tag,omitempty" clean:"serial"`
	Sources      Sources `json:"sources,omitempty"`
	Raw          Raw     `json:"raw,omitempty"`
}

// Chassis is the enclosure (SMBIOS type 3).
type Chassis struct {
	Manufacturer string  `json:"manufacturer,omitempty"`
	Model        string  `json:"model,omitempty"`
	Version      string  `json:"version,omitempty"`
	Serial       string  `json:"serial,omitempty" clean:"serial"`
	AssetTag     string  `json:"asset_tag,omitempty" clean:"serial"`
	Part         string  `json:"part,omitempty" clean:"serial"`
	SKU          string  `json:"sku,omitempty"`
	Type         string  `json:"type,omitempty"`
	Sources      Sources `json:"sources,omitempty"`
	Raw          Raw     `json:"raw,omitempty"`
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
	// SetupMode says that Secure Boot takes keys from anybody (UEFI 32.3).
	SetupMode Switch `json:"setup_mode,omitempty"`
	// Attributes are the firmware's settings, as the BMC has them.
	Attributes map[string]string `json:"attributes,omitempty" most:"1024"`
	Boot       BootOverride      `json:"boot,omitzero" digest:"-"`
	Sources    Sources           `json:"sources,omitempty"`
	Raw        Raw               `json:"raw,omitempty"`
}

// BootOverride is what the BMC will start next instead of the boot order.
type BootOverride struct {
	Target  string   `json:"target,omitempty"`  // none, pxe, disk, cd, uefi-http, bios-setup
	Enabled string   `json:"enabled,omitempty"` // once, continuous, disabled
	Mode    BootMode `json:"mode,omitempty"`
}

// Memory is the installed memory: the sum of the DIMMs, or what the BMC's
// summary says where they are not known.
type Memory struct {
	SizeBytes uint64  `json:"size_bytes,omitempty"`
	ECC       string  `json:"ecc,omitempty"` // none, parity, single-bit, multi-bit, crc (SMBIOS type 16)
	Sources   Sources `json:"sources,omitempty"`
}

// BMC is the management controller.
type BMC struct {
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
	Firmware     string `json:"firmware,omitempty"`
	// FirmwareAux, and what follows up to Functions, are of IPMI's Get Device ID
	// (IPMI 2.0 20.1).
	FirmwareAux    string   `json:"firmware_aux,omitempty" clean:"word"` // hexadecimal
	IPMIVersion    string   `json:"ipmi_version,omitempty"`
	DeviceID       int      `json:"device_id,omitempty"`
	DeviceRevision int      `json:"device_revision,omitempty"`
	ManufacturerID int      `json:"manufacturer_id,omitempty"` // of IANA
	ProductID      int      `json:"product_id,omitempty"`
	Functions      []string `json:"functions,omitempty" clean:"word" most:"16"` // sensor, sdr-repository, sel, fru, chassis
	GUID           UUID     `json:"guid,omitempty"`
	MAC            MAC      `json:"mac,omitempty"`
	Addresses      []string `json:"addresses,omitempty" clean:"word" most:"16"`
	Serial         string   `json:"serial,omitempty" clean:"serial"`
	HostName       string   `json:"host_name,omitempty"`
	Protocol       string   `json:"redfish_version,omitempty"`
	// PowerRestore is what the server does when mains power comes back:
	// always-on, always-off, previous.
	PowerRestore string         `json:"power_restore,omitempty"`
	Interfaces   []BMCInterface `json:"interfaces,omitempty" most:"16"`
	Accounts     []BMCAccount   `json:"accounts,omitempty" most:"64"`
	CipherSuites []int          `json:"cipher_suites,omitempty" most:"32"`
	VirtualMedia []VirtualMedia `json:"virtual_media,omitempty" most:"16"`
	Sources      Sources        `json:"sources,omitempty"`
	Raw          Raw            `json:"raw,omitempty"`
}

// BMCInterface is one network interface of the BMC, or one LAN channel.
type BMCInterface struct {
	Name      string   `json:"name,omitempty"`
	Channel   int      `json:"channel,omitempty"` // IPMI LAN channel
	MAC       MAC      `json:"mac,omitempty"`
	Addresses []string `json:"addresses,omitempty" clean:"word" most:"16"` // with prefix length where known
	Gateway   string   `json:"gateway,omitempty" clean:"word"`
	Origin    string   `json:"origin,omitempty"` // dhcp, static, slaac, other
	VLAN      int      `json:"vlan,omitempty"`
	Enabled   Switch   `json:"enabled,omitempty"`
	Host      bool     `json:"host,omitempty"` // leads to the server itself, often over USB
	// AuthTypes are what sessions of IPMI 1.5 may authenticate with: none, md2,
	// md5, password, oem.
	AuthTypes []string `json:"auth_types,omitempty" clean:"word" most:"8"`
	// CipherLimits is the highest privilege by cipher suite.
	CipherLimits map[string]string `json:"cipher_limits,omitempty" most:"32"`
}

// BMCAccount is one user of the BMC. Its password is never read.
type BMCAccount struct {
	ID        string `json:"id,omitempty"`
	Name      string `json:"name,omitempty" clean:"text"`
	Privilege string `json:"privilege,omitempty"` // administrator, operator, user, callback, none; or the Redfish role
	Enabled   Switch `json:"enabled,omitempty"`
	Locked    bool   `json:"locked,omitempty"`
	// Access is what the account may on each IPMI channel; Privilege is the
	// highest of these.
	Access []BMCAccess `json:"access,omitempty" most:"12"`
}

// BMCAccess is what an account may on one IPMI channel (IPMI 2.0 22.27).
type BMCAccess struct {
	Channel      int    `json:"channel"`
	Privilege    string `json:"privilege,omitempty" clean:"word"`
	Messaging    Switch `json:"messaging,omitempty"` // it may open sessions
	LinkAuth     Switch `json:"link_auth,omitempty"`
	CallbackOnly bool   `json:"callback_only,omitempty"`
}

// VirtualMedia is a drive that the BMC can show to its server.
type VirtualMedia struct {
	Name     string   `json:"name,omitempty"`
	Types    []string `json:"types,omitempty" clean:"word" most:"8"`
	Inserted Switch   `json:"inserted,omitempty" digest:"-"`
}

// TPM is the trusted platform module.
type TPM struct {
	Version      string `json:"version,omitempty"` // 1.2 or 2.0
	Manufacturer string `json:"manufacturer,omitempty"`
	Firmware     string `json:"firmware,omitempty"`
	// EKCertificate and EKPublic are digests of the endorsement key's
	// certificate (DER) and public area (TPMT_PUBLIC).
	EKCertificate Digest   `json:"ek_certificate,omitempty"`
	EKPublic      Digest   `json:"ek_public,omitempty"`
	PCRBanks      []string `json:"pcr_banks,omitempty" clean:"word" most:"8"` // sha1, sha256, sha384
	Sources       Sources  `json:"sources,omitempty"`
	Raw           Raw      `json:"raw,omitempty"`
}

// Kernel is the kernel that the readers ran under; not a part of the server,
// and not in the digest.
type Kernel struct {
	Release string `json:"release,omitempty"`
	Arch    string `json:"arch,omitempty"` // as GOARCH: amd64, arm64
	Cmdline string `json:"cmdline,omitempty" clean:"text"`
	// ClockOffsetSeconds is the server's clock less the boot server's.
	ClockOffsetSeconds float64 `json:"clock_offset_seconds,omitempty"`
	Sources            Sources `json:"sources,omitempty"`
}
