package netboot

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	portServer = 67
	portClient = 68
	portPXE    = 4011
	// maxRequest is the largest packet looked at; maxReply what fits one
	// Ethernet frame.
	maxRequest = 1500
	maxReply   = 1472
	// minReply is what every client takes (RFC 2131, option 57).
	minReply = 548
)

// segment is one subnet being served.
type segment struct {
	Subnet
	*table
}

// dhcpHandler turns one packet into at most one reply. It touches nothing but
// memory.
type dhcpHandler struct {
	server   netip.Addr
	local    *segment
	relayed  []*segment
	leaseFor time.Duration
	dns      []net.IP
	httpBase string // http://addr:port
	known    func(Machine) bool
	emit     func(Event)
	now      func() time.Time
}

// reply is a packet and where it goes.
type reply struct {
	packet []byte
	to     netip.AddrPort
}

// handle answers one packet that arrived on port (67 or 4011) from src; nil
// means silence. Whatever the bytes hold, it neither panics nor answers with
// more than one frame.
func (h *dhcpHandler) handle(raw []byte, src netip.AddrPort, port uint16) *reply {
	if len(raw) > maxRequest {
		return nil
	}
	p, err := dhcpv4.FromBytes(raw)
	if err != nil || p.OpCode != dhcpv4.OpcodeBootRequest {
		return nil
	}
	m, err := readMachine(p)
	if err != nil {
		h.emit(Event{Kind: KindIgnore, Time: h.now(), Detail: err.Error()})
		return nil
	}
	x := &exchange{h: h, p: p, m: m, src: src}
	kind, heard := kindOf(p.MessageType())
	if !heard {
		return nil // an answer of another server, or BOOTP
	}
	x.report(kind, x.asked(), "")
	if !h.known(m) {
		x.report(KindIgnore, netip.Addr{}, "not a known machine")
		return nil
	}
	if x.seg = h.segmentOf(m, p); x.seg == nil {
		x.report(KindIgnore, netip.Addr{}, fmt.Sprintf("no subnet is configured for relay %v", m.Relay))
		return nil
	}
	if port == portPXE {
		return x.bootServer()
	}
	return x.answer()
}

func kindOf(t dhcpv4.MessageType) (Kind, bool) {
	switch t {
	case dhcpv4.MessageTypeDiscover:
		return KindDiscover, true
	case dhcpv4.MessageTypeRequest:
		return KindRequest, true
	case dhcpv4.MessageTypeDecline:
		return KindDecline, true
	case dhcpv4.MessageTypeRelease:
		return KindRelease, true
	case dhcpv4.MessageTypeInform:
		return KindInform, true
	}
	return "", false
}

// segmentOf: the relay's, or else the one that a unicast client's own address
// lies in, or else ours.
func (h *dhcpHandler) segmentOf(m Machine, p *dhcpv4.DHCPv4) *segment {
	at := m.Relay
	if !at.IsValid() {
		if at = addr4(p.ClientIPAddr); !at.IsValid() {
			return h.local
		}
	}
	for _, s := range append([]*segment{h.local}, h.relayed...) {
		if s.Prefix.Contains(at) {
			return s
		}
	}
	if m.Relay.IsValid() {
		return nil
	}
	return h.local // a client that moved here: it gets a NAK
}

func (h *dhcpHandler) holder(a netip.Addr) (Lease, bool) {
	for _, s := range append([]*segment{h.local}, h.relayed...) {
		if s.Prefix.Contains(a) {
			return s.holder(a)
		}
	}
	return Lease{}, false
}

// exchange is one request under way.
type exchange struct {
	h   *dhcpHandler
	p   *dhcpv4.DHCPv4
	m   Machine
	src netip.AddrPort
	seg *segment
}

func addr4(ip net.IP) netip.Addr {
	if a, ok := netip.AddrFromSlice(ip.To4()); ok && !a.IsUnspecified() {
		return a
	}
	return netip.Addr{}
}

// asked is the address that the client names: ciaddr, else option 50.
func (x *exchange) asked() netip.Addr {
	if a := addr4(x.p.ClientIPAddr); a.IsValid() {
		return a
	}
	return addr4(x.p.RequestedIPAddress())
}

func (x *exchange) report(k Kind, a netip.Addr, detail string) { x.reportFile(k, a, "", detail) }

func (x *exchange) reportFile(k Kind, a netip.Addr, file, detail string) {
	x.h.emit(Event{Kind: k, Time: x.h.now(), Stage: x.m.Stage, MAC: x.m.MAC, UUID: x.m.UUID,
		UUIDSwapped: x.m.UUIDSwapped, Arch: x.m.Arch, HasArch: x.m.HasArch, Relay: x.m.Relay,
		Address: a, File: file, Detail: detail})
}

func (x *exchange) answer() *reply {
	switch x.p.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		a, err := x.seg.offer(x.m, addr4(x.p.RequestedIPAddress()))
		if err != nil {
			x.report(KindIgnore, netip.Addr{}, err.Error())
			return nil
		}
		return x.grant(dhcpv4.MessageTypeOffer, a)
	case dhcpv4.MessageTypeRequest:
		return x.request()
	case dhcpv4.MessageTypeDecline:
		x.seg.decline(x.m.MAC, addr4(x.p.RequestedIPAddress()))
	case dhcpv4.MessageTypeRelease:
		x.seg.release(x.m.MAC, addr4(x.p.ClientIPAddr))
	case dhcpv4.MessageTypeInform:
		if addr4(x.p.ClientIPAddr).IsValid() {
			return x.grant(dhcpv4.MessageTypeAck, netip.Addr{})
		}
	}
	return nil
}

// request answers DHCPREQUEST in all its states (RFC 2131 4.3.2). We are the
// authority on the segment: a wrong address gets a NAK, not silence.
func (x *exchange) request() *reply {
	if id := addr4(x.p.ServerIdentifier()); id.IsValid() && id != x.h.server {
		x.report(KindIgnore, netip.Addr{}, fmt.Sprintf("took the offer of another DHCP server, %v", id))
		return nil
	}
	a := x.asked()
	if !a.IsValid() {
		return x.nak("the request names no address")
	}
	if err := x.seg.lease(x.m, a, x.h.leaseFor); err != nil {
		return x.nak(err.Error())
	}
	return x.grant(dhcpv4.MessageTypeAck, a)
}

// bootServer answers on port 4011, where PXE firmware asks for the boot file
// alone (PXE 2.1, 2.2.3.3).
func (x *exchange) bootServer() *reply {
	if x.m.Stage != StagePXE && x.m.Stage != StageHTTP {
		return nil
	}
	r := x.grant(dhcpv4.MessageTypeAck, netip.Addr{})
	if r != nil && !x.m.Relay.IsValid() {
		r.to = x.src
	}
	return r
}

// grant builds an OFFER or ACK; without an address it carries options alone.
func (x *exchange) grant(t dhcpv4.MessageType, a netip.Addr) *reply {
	r, err := x.begin(t)
	if err != nil {
		x.report(KindIgnore, a, err.Error())
		return nil
	}
	if a.IsValid() {
		r.YourIPAddr = a.AsSlice()
		r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(x.h.leaseFor))
		r.UpdateOption(dhcpv4.OptRenewTimeValue(x.h.leaseFor / 2))
		r.UpdateOption(dhcpv4.OptRebindingTimeValue(x.h.leaseFor / 8 * 7))
	}
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(x.seg.Prefix.Bits(), 32)))
	if x.seg.Router.IsValid() {
		r.UpdateOption(dhcpv4.OptRouter(x.seg.Router.AsSlice()))
	}
	if len(x.h.dns) > 0 {
		r.UpdateOption(dhcpv4.OptDNS(x.h.dns...))
	}
	file, detail := x.boot(r)
	kind := KindOffer
	if t == dhcpv4.MessageTypeAck {
		kind = KindACK
	}
	return x.finish(r, kind, a, file, detail)
}

func (x *exchange) nak(why string) *reply {
	r, err := x.begin(dhcpv4.MessageTypeNak)
	if err != nil {
		x.report(KindIgnore, netip.Addr{}, err.Error())
		return nil
	}
	r.ClientIPAddr = net.IPv4zero
	if x.m.Relay.IsValid() {
		r.SetBroadcast() // the relay must not look for a host that has no address
	}
	return x.finish(r, KindNAK, x.asked(), "", why)
}

// maxEcho bounds what is copied from a request.
const maxEcho = 255

// begin makes the reply that echoes what must be echoed: options 61 (RFC 6842),
// 82 (RFC 3046) and 97 (RFC 4578).
func (x *exchange) begin(t dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	for _, c := range []dhcpv4.OptionCode{dhcpv4.OptionClientIdentifier, dhcpv4.OptionRelayAgentInformation} {
		if n := len(x.p.Options.Get(c)); n > maxEcho {
			return nil, fmt.Errorf("option %d of %d bytes: at most %d", c.Code(), n, maxEcho)
		}
	}
	r, err := dhcpv4.NewReplyFromRequest(x.p, dhcpv4.WithMessageType(t),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(x.h.server.AsSlice())))
	if err != nil {
		return nil, fmt.Errorf("begin reply: %w", err)
	}
	if raw := x.p.Options.Get(dhcpv4.OptionClientMachineIdentifier); len(raw) == uuidOptionLength {
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, raw))
	}
	r.ClientIPAddr = x.p.ClientIPAddr
	return r, nil
}

// boot adds what the firmware boots next, and names it; Detail says why there
// is nothing.
func (x *exchange) boot(r *dhcpv4.DHCPv4) (file, detail string) {
	bios := x.m.HasArch && x.m.Arch == ArchBIOS || !x.m.HasArch
	uefi := x.m.HasArch && (x.m.Arch == ArchUEFIBC || x.m.Arch == ArchUEFIx64)
	switch {
	case x.m.Stage == StageOS:
		return "", ""
	case x.m.Stage == StageIPXE && !x.m.ipxeNoHTTP:
		file = x.h.httpBase + PathScript
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(optionIPXE), []byte{ipxeNoProxyDHCP, 1, 1}))
	case x.m.Stage == StageHTTP && x.m.HasArch && x.m.Arch == ArchHTTPx64:
		file = x.h.httpBase + PathSNPOnly
		r.UpdateOption(dhcpv4.OptClassIdentifier("HTTPClient"))
		r.UpdateOption(dhcpv4.OptBootFileName(file))
	case x.m.Stage != StageHTTP && bios:
		file = PathUndionly[1:]
	case x.m.Stage != StageHTTP && uefi:
		file = PathSNPOnly[1:]
	default:
		return "", fmt.Sprintf("no boot file for architecture %d (%s)", x.m.Arch, x.m.Stage)
	}
	r.ServerIPAddr = x.h.server.AsSlice()
	r.BootFileName = file
	return file, ""
}

// finish sizes and addresses the reply (RFC 2131 4.1).
func (x *exchange) finish(r *dhcpv4.DHCPv4, k Kind, a netip.Addr, file, detail string) *reply {
	limit := minReply
	if raw := x.p.Options.Get(dhcpv4.OptionMaximumDHCPMessageSize); len(raw) == 2 {
		limit = min(max(limit, int(binary.BigEndian.Uint16(raw))-28), maxReply)
	}
	b := r.ToBytes()
	if len(b) > limit {
		x.report(KindIgnore, a, fmt.Sprintf("the answer is %d bytes and the client takes %d", len(b), limit))
		return nil
	}
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), portClient)
	switch ci := addr4(x.p.ClientIPAddr); {
	case x.m.Relay.IsValid():
		to = netip.AddrPortFrom(x.m.Relay, portServer)
	case k != KindNAK && ci.IsValid() && x.seg.Prefix.Contains(ci):
		to = netip.AddrPortFrom(ci, portClient)
	}
	x.reportFile(k, a, file, detail)
	return &reply{packet: b, to: to}
}
