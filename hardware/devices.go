package hardware

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
	Name       string    `json:"name,omitempty" digest:"-"` // the kernel's name, which moves between boots
	Model      string    `json:"model,omitempty"`
	Serial     string    `json:"serial,omitempty" clean:"serial"`
	Vendor     string    `json:"vendor,omitempty"`
	Part       string    `json:"part,omitempty" clean:"serial"`
	SizeBytes  uint64    `json:"size_bytes,omitempty"`
	Transport  Transport `json:"transport,omitempty"`
	Firmware   string    `json:"firmware,omitempty"`
	WWN        string    `json:"wwn,omitempty"`
	Rotational bool      `json:"rotational,omitempty"`
	RPM        int       `json:"rpm,omitempty"`
	FormFactor string    `json:"form_factor,omitempty"` // 2.5 inch, M.2
	BDF        BDF       `json:"bdf,omitempty"`         // of the controller
	Slot       string    `json:"slot,omitempty"`
	// LogicalBlockBytes and PhysicalBlockBytes are the units of reading and of
	// the medium.
	LogicalBlockBytes  int `json:"logical_block_bytes,omitempty"`
	PhysicalBlockBytes int `json:"physical_block_bytes,omitempty"`
	// LinkMbps is what the drive's own link runs at, MaxLinkMbps what it can.
	LinkMbps      int         `json:"link_mbps,omitempty" digest:"-"`
	MaxLinkMbps   int         `json:"max_link_mbps,omitempty"`
	SelfEncrypts  Switch      `json:"self_encrypts,omitempty"`
	Removable     bool        `json:"removable,omitempty"`
	Enclosure     string      `json:"enclosure,omitempty"`
	NUMANode      *int        `json:"numa_node,omitempty"`
	Namespaces    []Namespace `json:"namespaces,omitempty" most:"64"`
	NVMeVersion   string      `json:"nvme_version,omitempty"`
	CapacityBytes uint64      `json:"capacity_bytes,omitempty"` // of the NVMe subsystem, over all namespaces
	Sources       Sources     `json:"sources,omitempty"`
	Raw           Raw         `json:"raw,omitempty"`
}

// Namespace is one NVMe namespace.
type Namespace struct {
	ID         int    `json:"id"`
	Name       string `json:"name,omitempty" digest:"-"`
	SizeBytes  uint64 `json:"size_bytes,omitempty"`
	BlockBytes int    `json:"block_bytes,omitempty"`
	WWN        string `json:"wwn,omitempty"`
}

// Volume is a logical drive that a controller makes of drives.
type Volume struct {
	Name      string   `json:"name,omitempty"`
	ID        string   `json:"id,omitempty"`
	RAID      string   `json:"raid,omitempty"` // RAID1
	SizeBytes uint64   `json:"size_bytes,omitempty"`
	WWN       string   `json:"wwn,omitempty"`
	Drives    []string `json:"drives,omitempty" most:"128"` // their serials, or slots
	Sources   Sources  `json:"sources,omitempty"`
	Raw       Raw      `json:"raw,omitempty"`
}

// StorageController is what drives hang on.
type StorageController struct {
	Name         string   `json:"name,omitempty"`
	Manufacturer string   `json:"manufacturer,omitempty"`
	Model        string   `json:"model,omitempty"`
	Serial       string   `json:"serial,omitempty" clean:"serial"`
	Part         string   `json:"part,omitempty" clean:"serial"`
	Firmware     string   `json:"firmware,omitempty"`
	Protocols    []string `json:"protocols,omitempty" clean:"word" most:"16"`
	Slot         string   `json:"slot,omitempty"`
	BDF          BDF      `json:"bdf,omitempty"`
	WWN          string   `json:"wwn,omitempty"`
	Driver       string   `json:"driver,omitempty" digest:"-"`
	CacheBytes   uint64   `json:"cache_bytes,omitempty"`
	Sources      Sources  `json:"sources,omitempty"`
	Raw          Raw      `json:"raw,omitempty"`
}

// Enclosure is a shelf of drives with a processor of its own (SES).
type Enclosure struct {
	Name         string  `json:"name,omitempty"`
	Manufacturer string  `json:"manufacturer,omitempty"`
	Model        string  `json:"model,omitempty"`
	Serial       string  `json:"serial,omitempty" clean:"serial"`
	Firmware     string  `json:"firmware,omitempty"`
	WWN          string  `json:"wwn,omitempty"`
	Slots        int     `json:"slots,omitempty"`
	Sources      Sources `json:"sources,omitempty"`
	Raw          Raw     `json:"raw,omitempty"`
}

// NIC is one network port.
type NIC struct {
	Name     string `json:"name,omitempty" digest:"-"` // the kernel's name, which moves between boots
	MAC      MAC    `json:"mac,omitempty"`             // permanent
	Driver   string `json:"driver,omitempty" digest:"-"`
	Bus      string `json:"bus,omitempty" clean:"word"` // pci, usb, platform
	BDF      BDF    `json:"bdf,omitempty"`
	Adapter  string `json:"adapter,omitempty"`
	Slot     string `json:"slot,omitempty"`
	Port     int    `json:"port,omitempty"` // of the adapter, from 1
	Firmware string `json:"firmware,omitempty"`
	MaxMbps  int    `json:"max_mbps,omitempty"`
	// Modes are the link modes that the port supports: 1000baseT/Full.
	Modes       []string    `json:"modes,omitempty" clean:"word" most:"128"`
	RDMA        string      `json:"rdma,omitempty"` // protocol: ib, roce, iwarp
	NUMANode    *int        `json:"numa_node,omitempty"`
	Transceiver Transceiver `json:"transceiver,omitzero"`
	// Carrier, LinkMbps, Duplex and Neighbor are as they were at the time of
	// reading. They are no part of the digest.
	Carrier  Switch   `json:"carrier,omitempty" digest:"-"`
	LinkMbps int      `json:"link_mbps,omitempty" digest:"-"`
	Duplex   string   `json:"duplex,omitempty" clean:"word" digest:"-"` // full, half
	Neighbor Neighbor `json:"neighbor,omitzero" digest:"-"`
	Sources  Sources  `json:"sources,omitempty"`
	Raw      Raw      `json:"raw,omitempty"`
}

// Transceiver is the module in a port (SFF-8472, SFF-8636, CMIS).
type Transceiver struct {
	Type         string `json:"type,omitempty"` // SFP, QSFP28
	Manufacturer string `json:"manufacturer,omitempty"`
	Part         string `json:"part,omitempty" clean:"serial"`
	Revision     string `json:"revision,omitempty"`
	Serial       string `json:"serial,omitempty" clean:"serial"`
	LengthMeters int    `json:"length_meters,omitempty"`
}

// Neighbor is what stands at the other end of the cable, by LLDP
// (IEEE 802.1AB).
type Neighbor struct {
	ChassisID       string   `json:"chassis_id,omitempty"`
	PortID          string   `json:"port_id,omitempty"`
	PortDescription string   `json:"port_description,omitempty"`
	SystemName      string   `json:"system_name,omitempty"`
	SystemText      string   `json:"system_description,omitempty"`
	Management      []string `json:"management_addresses,omitempty" clean:"word" most:"8"`
	VLAN            int      `json:"vlan,omitempty"` // port VLAN
	VLANs           []int    `json:"vlans,omitempty" most:"64"`
	// VLANNames are by the VLAN's number.
	VLANNames map[string]string `json:"vlan_names,omitempty" most:"64"`
}

// Adapter is the card that carries ports.
type Adapter struct {
	Name         string  `json:"name,omitempty"`
	Manufacturer string  `json:"manufacturer,omitempty"`
	Model        string  `json:"model,omitempty"`
	Serial       string  `json:"serial,omitempty" clean:"serial"`
	Part         string  `json:"part,omitempty" clean:"serial"`
	Firmware     string  `json:"firmware,omitempty"`
	Slot         string  `json:"slot,omitempty"`
	BDF          BDF     `json:"bdf,omitempty"` // of its first function
	Ports        int     `json:"ports,omitempty"`
	Sources      Sources `json:"sources,omitempty"`
	Raw          Raw     `json:"raw,omitempty"`
}

// PCIDevice is one function on the PCI bus. IDs are four hexadecimal digits,
// the class is six (class, subclass, programming interface).
type PCIDevice struct {
	BDF               BDF      `json:"bdf,omitempty"`
	VendorID          string   `json:"vendor_id,omitempty" clean:"word"`
	DeviceID          string   `json:"device_id,omitempty" clean:"word"`
	SubsystemVendorID string   `json:"subsystem_vendor_id,omitempty" clean:"word"`
	SubsystemID       string   `json:"subsystem_id,omitempty" clean:"word"`
	Revision          string   `json:"revision,omitempty" clean:"word"`
	Vendor            string   `json:"vendor,omitempty"`
	Device            string   `json:"device,omitempty"`
	Subsystem         string   `json:"subsystem,omitempty"`
	Class             string   `json:"class,omitempty" clean:"word"`
	ClassName         string   `json:"class_name,omitempty"`
	Driver            string   `json:"driver,omitempty" digest:"-"`
	Slot              string   `json:"slot,omitempty"`
	NUMANode          *int     `json:"numa_node,omitempty"`
	IOMMUGroup        *int     `json:"iommu_group,omitempty" digest:"-"`
	Link              PCIeLink `json:"link,omitzero"`
	// VFs are the SR-IOV virtual functions that exist, MaxVFs those that may.
	VFs     int     `json:"vfs,omitempty" digest:"-"`
	MaxVFs  int     `json:"max_vfs,omitempty"`
	VPD     VPD     `json:"vpd,omitzero"`
	Sources Sources `json:"sources,omitempty"`
	Raw     Raw     `json:"raw,omitempty"`
}

// PCIeLink is the link towards the root (of a port: away from it): what it
// runs at, which power saving changes, and what the device can do at most.
// Speeds are in GT/s.
type PCIeLink struct {
	SpeedGTs    float64 `json:"speed_gts,omitempty" digest:"-"`
	Width       int     `json:"width,omitempty" digest:"-"`
	MaxSpeedGTs float64 `json:"max_speed_gts,omitempty"`
	MaxWidth    int     `json:"max_width,omitempty"`
}

// VPD is a device's vital product data (PCI 3.0 appendix I).
type VPD struct {
	Product  string            `json:"product,omitempty"`
	Part     string            `json:"part,omitempty" clean:"serial"`
	Serial   string            `json:"serial,omitempty" clean:"serial"`
	Revision string            `json:"revision,omitempty"`
	Other    map[string]string `json:"other,omitempty" most:"32"` // by keyword: MN, V0
}

// USBDevice is one device on USB.
type USBDevice struct {
	Port         string  `json:"port,omitempty"` // bus and ports: 1-4.2
	VendorID     string  `json:"vendor_id,omitempty" clean:"word"`
	DeviceID     string  `json:"device_id,omitempty" clean:"word"`
	Manufacturer string  `json:"manufacturer,omitempty"`
	Product      string  `json:"product,omitempty"`
	Serial       string  `json:"serial,omitempty" clean:"serial"`
	Class        string  `json:"class,omitempty" clean:"word"`
	LinkMbps     int     `json:"link_mbps,omitempty"`
	Sources      Sources `json:"sources,omitempty"`
	Raw          Raw     `json:"raw,omitempty"`
}
