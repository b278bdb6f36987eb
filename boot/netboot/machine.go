package netboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// MAC is a 48-bit Ethernet address.
type MAC [6]byte

// String returns the address as "52:54:00:ab:12:cd".
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText is String; the zero MAC is empty text.
func (m MAC) MarshalText() ([]byte, error) {
	if m == (MAC{}) {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText is the inverse of MarshalText.
func (m *MAC) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = MAC{}
		return nil
	}
	hw, err := net.ParseMAC(string(b))
	if err != nil || len(hw) != len(m) {
		return fmt.Errorf("parse MAC %q: want six octets", b)
	}
	copy(m[:], hw)
	return nil
}

// Arch is a client system architecture type, DHCP option 93 (RFC 4578 2.1 and
// the IANA registry "Processor Architecture Types").
type Arch uint16

const (
	ArchBIOS     Arch = 0
	ArchUEFIBC   Arch = 7 // EFI byte code; what most x64 firmware sends
	ArchUEFIx64  Arch = 9
	ArchHTTPx64  Arch = 16
	archFieldLen      = 2
)

// Machine is what one DHCP packet claims about its sender.
type Machine struct {
	MAC         MAC
	UUID        string // option 97 in the order sent; "" when absent
	UUIDSwapped string
	Stage       Stage
	Arch        Arch
	HasArch     bool
	Relay       netip.Addr // giaddr; zero when the machine is on our own segment

	ipxeNoHTTP bool // iPXE that says it has no HTTP: chain to ours
}

// AnyMachine is a Known policy that answers everyone: the lab's.
func AnyMachine(Machine) bool { return true }

const (
	optionIPXE       = 175 // encapsulated iPXE options
	ipxeHTTP         = 19  // feature: HTTP
	ipxeNoProxyDHCP  = 176 // setting: do not wait for a ProxyDHCP offer
	uuidOptionLength = 17  // type byte and 16 bytes (RFC 4578 2.3)
)

// readMachine picks the claims out of a request.
func readMachine(p *dhcpv4.DHCPv4) (Machine, error) {
	var m Machine
	if p.HWType != iana.HWTypeEthernet || len(p.ClientHWAddr) != len(m.MAC) {
		return m, fmt.Errorf("hardware type %d with %d octets is not Ethernet", p.HWType, len(p.ClientHWAddr))
	}
	copy(m.MAC[:], p.ClientHWAddr)
	if m.MAC == (MAC{}) || m.MAC[0]&1 != 0 {
		return m, errors.New("hardware address is zero or multicast")
	}
	if a, ok := netip.AddrFromSlice(p.GatewayIPAddr.To4()); ok && !a.IsUnspecified() {
		m.Relay = a
	}
	if raw := p.Options.Get(dhcpv4.OptionClientMachineIdentifier); len(raw) == uuidOptionLength && raw[0] == 0 {
		m.UUID, m.UUIDSwapped = uuidText(raw[1:])
	}
	if raw := p.Options.Get(dhcpv4.OptionClientSystemArchitectureType); len(raw) >= archFieldLen {
		m.Arch, m.HasArch = Arch(binary.BigEndian.Uint16(raw)), true
	}
	m.Stage = stageOf(p)
	if m.Stage == StageIPXE {
		if raw := p.Options.Get(dhcpv4.GenericOptionCode(optionIPXE)); len(raw) > 0 {
			m.ipxeNoHTTP = !hasSubOption(raw, ipxeHTTP)
		}
	}
	return m, nil
}

func stageOf(p *dhcpv4.DHCPv4) Stage {
	for _, c := range p.UserClass() {
		if c == "iPXE" {
			return StageIPXE
		}
	}
	class := p.Options.Get(dhcpv4.OptionClassIdentifier)
	switch {
	case bytes.HasPrefix(class, []byte("PXEClient")):
		return StagePXE
	case bytes.HasPrefix(class, []byte("HTTPClient")):
		return StageHTTP
	}
	return StageOS
}

// hasSubOption walks an encapsulated option space (code, length, data).
func hasSubOption(raw []byte, code byte) bool {
	for len(raw) >= 2 {
		if raw[0] == 0 { // pad
			raw = raw[1:]
			continue
		}
		n := int(raw[1])
		if raw[0] == 255 || len(raw) < 2+n {
			return false
		}
		if raw[0] == code {
			return true
		}
		raw = raw[2+n:]
	}
	return false
}

// uuidText formats 16 bytes both ways; an all-zero or all-one UUID, the mark of
// a board nobody programmed, is no claim at all.
func uuidText(b []byte) (asSent, swapped string) {
	if bytes.Count(b, []byte{0}) == 16 || bytes.Count(b, []byte{0xff}) == 16 {
		return "", ""
	}
	s := []byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]}
	s = append(s, b[8:]...)
	text := func(u []byte) string {
		return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
	}
	return text(b), text(s)
}
