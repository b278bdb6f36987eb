// Package lldp reads what stands at the other end of each cable: the LLDP
// frames (IEEE 802.1AB) that a switch sends every half a minute. It only
// listens, on all ports with a link side by side.
package lldp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/ingot-metal/ingot/hardware"
)

// Source is how parts name this reader.
const Source = "lldp"

// Bounds of one frame: no LLDPDU is longer than an Ethernet frame.
const (
	maxFrame = 1600
	maxTLVs  = 256
	maxVLANs = 64
	header   = 14 // two addresses and the EtherType
)

// etherType is that of LLDP (802.1AB 7.2).
const etherType = 0x88cc

// The types of TLVs (802.1AB table 8-1), and the subtypes of 802.1 (802.1Q
// annex D).
const (
	tlvEnd             = 0
	tlvChassis         = 1
	tlvPort            = 2
	tlvTTL             = 3
	tlvPortDescription = 4
	tlvSystemName      = 5
	tlvSystemText      = 6
	tlvManagement      = 8
	tlvOrganization    = 127

	subPortVLAN = 1
	subVLANName = 3
)

var oui8021 = [3]byte{0x00, 0x80, 0xc2}

// Decode reads one Ethernet frame. An error says why it names no neighbor; a
// frame by which a neighbor takes its leave (TTL 0) is one of them.
func Decode(frame []byte) (hardware.Neighbor, error) {
	var n hardware.Neighbor
	switch {
	case len(frame) < header || len(frame) > maxFrame:
		return n, fmt.Errorf("decode LLDP: a frame of %d bytes", len(frame))
	case binary.BigEndian.Uint16(frame[12:]) != etherType:
		return n, fmt.Errorf("decode LLDP: EtherType 0x%04x", binary.BigEndian.Uint16(frame[12:]))
	}
	b := frame[header:]
	for i := 0; len(b) >= 2 && i < maxTLVs; i++ {
		kind, size := b[0]>>1, int(binary.BigEndian.Uint16(b)&0x1ff)
		if 2+size > len(b) {
			return hardware.Neighbor{}, fmt.Errorf("decode LLDP: TLV %d of type %d has %d bytes of %d", i, kind, size, len(b)-2)
		}
		value := b[2 : 2+size]
		b = b[2+size:]
		if kind == tlvEnd {
			break
		}
		if kind == tlvTTL && size >= 2 && binary.BigEndian.Uint16(value) == 0 {
			return hardware.Neighbor{}, errors.New("decode LLDP: the neighbor takes its leave")
		}
		tlv(kind, value, &n)
	}
	if n.ChassisID == "" || n.PortID == "" {
		return hardware.Neighbor{}, errors.New("decode LLDP: no chassis or no port")
	}
	return n, nil
}

func tlv(kind byte, v []byte, n *hardware.Neighbor) {
	switch kind {
	case tlvChassis:
		n.ChassisID = identity(v, chassisMAC, chassisNetwork)
	case tlvPort:
		n.PortID = identity(v, portMAC, portNetwork)
	case tlvPortDescription:
		n.PortDescription = hardware.Clean(string(v))
	case tlvSystemName:
		n.SystemName = hardware.Clean(string(v))
	case tlvSystemText:
		n.SystemText = hardware.Clean(string(v))
	case tlvManagement:
		if len(v) >= 2 && int(v[0]) <= len(v)-1 && v[0] >= 1 {
			if a := address(v[1 : 1+v[0]]); a != "" {
				n.Management = append(n.Management, a)
			}
		}
	case tlvOrganization:
		if len(v) >= 4 && [3]byte(v) == oui8021 {
			vlan(v[3], v[4:], n)
		}
	}
}

// The subtypes of identities that are no text (802.1AB tables 8-2 and 8-3).
const (
	chassisMAC     = 4
	chassisNetwork = 5
	portMAC        = 3
	portNetwork    = 4
)

// identity is a chassis or a port: a subtype, then an address or a text.
func identity(v []byte, mac, network byte) string {
	if len(v) < 2 {
		return ""
	}
	switch id := v[1:]; {
	case v[0] == mac && len(id) == 6:
		return net.HardwareAddr(id).String()
	case v[0] == network:
		return address(id)
	default:
		return hardware.Clean(string(id))
	}
}

// address is an address family of IANA and an address.
func address(v []byte) string {
	const ipv4, ipv6, ieee802 = 1, 2, 6
	switch {
	case len(v) == 1+4 && v[0] == ipv4, len(v) == 1+16 && v[0] == ipv6:
		ip, _ := netip.AddrFromSlice(v[1:])
		return ip.String()
	case len(v) == 1+6 && v[0] == ieee802:
		return net.HardwareAddr(v[1:]).String()
	}
	return ""
}

// vlan is a TLV of 802.1.
func vlan(sub byte, v []byte, n *hardware.Neighbor) {
	if len(v) < 2 {
		return
	}
	id := int(binary.BigEndian.Uint16(v))
	if id == 0 || id > 4094 {
		return
	}
	switch sub {
	case subPortVLAN:
		n.VLAN = id
	case subVLANName:
		if len(n.VLANs) == maxVLANs {
			return
		}
		n.VLANs = append(n.VLANs, id)
		if len(v) < 3 || int(v[2]) > len(v)-3 {
			return
		}
		if name := hardware.Clean(string(v[3 : 3+v[2]])); name != "" {
			if n.VLANNames == nil {
				n.VLANNames = map[string]string{}
			}
			n.VLANNames[strconv.Itoa(id)] = name
		}
	}
}
