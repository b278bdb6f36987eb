package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/qemu-tests/bmc"
)

// Server describes one server of the lab's rack.
type Server struct {
	Name       string  `json:"name"`
	RackNumber int     `json:"rack_number"`
	Unit       int     `json:"unit"`
	UEFI       bool    `json:"uefi"` // OVMF; else SeaBIOS
	CPUs       int     `json:"cpus"`
	DIMMs      []int64 `json:"dimms"` // bytes
	DriveBytes int64   `json:"drive_bytes"`
	// Rich gives it two NUMA nodes, a NIC of another kind, and a SATA and a
	// SCSI drive.
	Rich bool `json:"rich,omitempty"`
	// Disagrees has its BMC count a DIMM that the kernel does not see, and tell
	// the UUID in the other byte order.
	Disagrees bool `json:"disagrees,omitempty"`
}

const (
	mib = 1 << 20
	gib = 1 << 30
)

// Rack is what a lab has when nobody says otherwise: one server with a PC BIOS
// and one with UEFI.
func Rack() []Server { return shelf()[:2] }

// kinds are the servers that a rack can have, by what is asked for.
var kinds = []string{"bios", "uefi", "rich", "disagree"}

// shelf has one server of each kind, in their order.
func shelf() []Server {
	dimms := []int64{2 * gib, 1 * gib}
	return []Server{
		{Name: "r1u1", RackNumber: 1, Unit: 1, CPUs: 2, DIMMs: dimms, DriveBytes: 4 * gib},
		{Name: "r1u2", RackNumber: 1, Unit: 2, UEFI: true, CPUs: 2, DIMMs: dimms, DriveBytes: 4 * gib},
		{Name: "r1u3", RackNumber: 1, Unit: 3, UEFI: true, CPUs: 2, DIMMs: []int64{gib, gib / 2, gib, gib / 2}, DriveBytes: 4 * gib, Rich: true},
		{Name: "r1u4", RackNumber: 1, Unit: 4, CPUs: 1, DIMMs: dimms, DriveBytes: 4 * gib, Disagrees: true},
	}
}

// Choose is a rack of servers of these kinds: bios, uefi, rich (two NUMA nodes,
// four DIMMs, two NICs, NVMe, SATA and SCSI drives) and disagree (its BMC and
// its kernel do not see the same).
func Choose(names []string) ([]Server, error) {
	var out []Server
	for _, name := range names {
		i := slices.Index(kinds, name)
		if i < 0 {
			return nil, fmt.Errorf("server %q: want one of %s", name, strings.Join(kinds, ", "))
		}
		if s := shelf()[i]; !slices.ContainsFunc(out, func(o Server) bool { return o.Name == s.Name }) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("a rack without a server: want at least one")
	}
	return out, nil
}

// Firmware is "bios" or "uefi".
func (s Server) Firmware() string {
	if s.UEFI {
		return "uefi"
	}
	return "bios"
}

// MAC is the address of the NIC that the server boots from.
func (s Server) MAC() net.HardwareAddr { return s.nic(1) }

// nic is the address of the server's i-th NIC.
func (s Server) nic(i int) net.HardwareAddr {
	return net.HardwareAddr{0x52, 0x54, 0x00, byte(s.RackNumber), byte(s.Unit), byte(i)}
}

// Serial is the system's serial number.
func (s Server) Serial() string { return fmt.Sprintf("LS1-%02d%02d-0001", s.RackNumber, s.Unit) }

// UUID is the system's, in the order of RFC 9562. It ends in the NIC's MAC.
func (s Server) UUID() [16]byte {
	u := [16]byte{0x1a, 0xb0, 0x00, 0x01, 0x00, byte(s.RackNumber), 0x40, byte(s.Unit), 0x80}
	copy(u[10:], s.MAC())
	return u
}

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

func (s Server) memoryBytes() int64 {
	var sum int64
	for _, d := range s.DIMMs {
		sum += d
	}
	return sum
}

// bmcAddress is where the i-th server's BMC listens.
func bmcAddress(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 78, 0, byte(11 + i)}), 24)
}

// machine is all that SMBIOS, FRU and Redfish tell of a server.
func (s Server) machine(bmcAddr netip.Prefix) bmc.Machine {
	id := fmt.Sprintf("%02d%02d", s.RackNumber, s.Unit)
	m := bmc.Machine{
		Name: s.Name, Manufacturer: "Ingot Lab", Product: "LS-1", Version: "1.0", SKU: "LS-1-" + s.Firmware(),
		Serial: s.Serial(), AssetTag: "ASSET-" + id, UUID: s.UUID(), UEFI: s.UEFI,
		BIOS:      bmc.BIOS{Vendor: "Ingot Lab", Version: "1.2." + s.Firmware(), Date: "01/05/2026"},
		Board:     bmc.Board{Manufacturer: "Ingot Lab", Product: "LS-1 board", PartNumber: "LB-100", Serial: "BRD-" + id},
		Enclosure: bmc.Enclosure{Manufacturer: "Ingot Lab", PartNumber: "LC-1U", Serial: "CHS-" + id},
		CPUs:      []bmc.CPU{{Socket: "CPU 0", Manufacturer: "Ingot Lab", Model: "Lab TCG CPU", Cores: s.CPUs, Threads: s.CPUs}},
		Drives: []bmc.Drive{{
			Slot: "Bay 0", Protocol: "NVMe", Media: "SSD", Model: "QEMU NVMe Ctrl", Serial: "NVME-" + id, SizeBytes: s.DriveBytes,
		}},
		NICs: []bmc.NIC{{Name: "Port 1", MAC: s.MAC(), LinkMbps: 1000}},
		PSUs: []bmc.PSU{
			{Slot: "PSU1", Manufacturer: "Ingot Lab", Model: "LP-800", PartNumber: "LP-800-A", Serial: "PSU-" + id + "-1", Firmware: "1.0", Watts: 800},
			{Slot: "PSU2", Manufacturer: "Ingot Lab", Model: "LP-800", PartNumber: "LP-800-A", Serial: "PSU-" + id + "-2", Firmware: "1.0", Watts: 800},
		},
		Controller: bmc.Controller{
			Model: "LS-1 BMC", Firmware: "1.04", Address: bmcAddr, Gateway: mgmtGateway,
			MAC: net.HardwareAddr{0x52, 0x54, 0x00, byte(s.RackNumber), byte(s.Unit), 0xbc},
		},
	}
	for i, size := range s.DIMMs {
		m.DIMMs = append(m.DIMMs, bmc.DIMM{
			Slot: fmt.Sprintf("DIMM_%c1", 'A'+i), Bank: fmt.Sprintf("Channel %c", 'A'+i), SizeBytes: size, Type: "DDR4", SpeedMTs: 3200,
			Manufacturer: "Ingot Lab", PartNumber: fmt.Sprintf("LM-%d", size/mib), Serial: fmt.Sprintf("DIMM-%s-%d", id, i+1),
		})
	}
	if s.Rich {
		m.CPUs = nil
		for i := range s.CPUs {
			m.CPUs = append(m.CPUs, bmc.CPU{Socket: fmt.Sprintf("CPU %d", i), Manufacturer: "Ingot Lab", Model: "Lab TCG CPU", Cores: 1, Threads: 1})
		}
		m.NICs = append(m.NICs, bmc.NIC{Name: "Port 2", MAC: s.nic(2), LinkMbps: 1000})
		m.Drives = append(m.Drives,
			bmc.Drive{Slot: "Bay 1", Protocol: "SATA", Media: "HDD", Model: "QEMU HARDDISK", Serial: "SATA-" + id, SizeBytes: s.DriveBytes},
			bmc.Drive{Slot: "Bay 2", Protocol: "SAS", Media: "HDD", Model: "LAB DISK", Serial: "SCSI-" + id, SizeBytes: s.DriveBytes})
	}
	return m
}

// told is the machine as its BMC tells of it.
func (s Server) told(m bmc.Machine) bmc.Machine {
	if !s.Disagrees {
		return m
	}
	last := m.DIMMs[len(m.DIMMs)-1]
	last.Slot, last.Bank, last.Serial = "DIMM_C1", "Channel C", last.Serial+"-lost"
	m.DIMMs = append(slices.Clone(m.DIMMs), last)
	slices.Reverse(m.UUID[0:4])
	slices.Reverse(m.UUID[4:6])
	slices.Reverse(m.UUID[6:8])
	return m
}
