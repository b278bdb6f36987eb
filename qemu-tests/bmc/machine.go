package bmc

import (
	"net"
	"net/netip"
)

// Machine is the hardware that a BMC tells of. The same value makes the
// SMBIOS tables of the virtual server, so that all sources agree.
type Machine struct {
	Name         string
	Manufacturer string
	Product      string
	Version      string
	SKU          string
	Serial       string
	AssetTag     string
	UUID         [16]byte // in the order of RFC 9562
	UEFI         bool     // false: the firmware is a PC BIOS
	BIOS         BIOS
	Board        Board
	Enclosure    Enclosure
	CPUs         []CPU
	DIMMs        []DIMM
	Drives       []Drive
	NICs         []NIC
	PSUs         []PSU
	Controller   Controller
}

// BIOS is the system firmware (SMBIOS type 0).
type BIOS struct {
	Vendor  string
	Version string
	Date    string // mm/dd/yyyy, as in DSP0134 7.1
}

// Board is the baseboard (SMBIOS type 2).
type Board struct {
	Manufacturer string
	Product      string
	PartNumber   string
	Serial       string
}

// Enclosure is the chassis (SMBIOS type 3).
type Enclosure struct {
	Manufacturer string
	PartNumber   string
	Serial       string
}

// CPU is one processor package.
type CPU struct {
	Socket       string
	Manufacturer string
	Model        string
	Cores        int
	Threads      int
}

// DIMM is one populated memory slot.
type DIMM struct {
	Slot         string
	Bank         string
	SizeBytes    int64
	Type         string // as Redfish names it: "DDR4"
	SpeedMTs     int
	Manufacturer string
	PartNumber   string
	Serial       string
}

// Drive is one disk.
type Drive struct {
	Slot      string
	Protocol  string // as Redfish names it: "NVMe"
	Media     string // "SSD" or "HDD"
	Model     string
	Serial    string
	SizeBytes int64
}

// NIC is one network port of the host.
type NIC struct {
	Name     string
	MAC      net.HardwareAddr
	LinkMbps int
}

// PSU is one power supply.
type PSU struct {
	Slot         string
	Manufacturer string
	Model        string
	PartNumber   string
	Serial       string
	Firmware     string
	Watts        int
}

// Controller is the BMC itself and its own network port.
type Controller struct {
	Model    string
	Firmware string // "major.minor"
	MAC      net.HardwareAddr
	Address  netip.Prefix
	Gateway  netip.Addr
	Address6 netip.Prefix // none where it is zero
	Gateway6 netip.Addr
	VLAN     int
}

func (m *Machine) memoryBytes() int64 {
	var sum int64
	for _, d := range m.DIMMs {
		sum += d.SizeBytes
	}
	return sum
}

func (m *Machine) threads() int {
	sum := 0
	for _, c := range m.CPUs {
		sum += c.Threads
	}
	return sum
}
