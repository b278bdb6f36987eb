package netboot

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

var (
	testMAC  = net.HardwareAddr{0x52, 0x54, 0x00, 0xab, 0x12, 0xcd}
	testUUID = []byte{0, 0x6f, 0x1c, 0x0a, 0x52, 0x7a, 0x0e, 0x4b, 0x7c, 0x9d, 0x7e, 1, 2, 3, 4, 5, 6}
)

// testHandler serves 10.77.0.0/24 and, behind a relay, 10.88.0.0/24.
func testHandler(t testing.TB, known func(Machine) bool) (*dhcpHandler, *[]Event) {
	t.Helper()
	var events []Event
	cfg := Config{Known: known, Interface: "none", DNS: []netip.Addr{netip.MustParseAddr("10.77.0.1")},
		Pool:    Range{netip.MustParseAddr("10.77.0.100"), netip.MustParseAddr("10.77.0.199")},
		Relayed: []Subnet{{Prefix: netip.MustParsePrefix("10.88.0.0/24"), Router: netip.MustParseAddr("10.88.0.1")}},
	}.withDefaults()
	h, err := newDHCPHandler(cfg, netip.MustParsePrefix("10.77.0.1/24"), func(e Event) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	return h, &events
}

func withArch(a Arch) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptClientArch(iana.Arch(a)))
}

func withClass(c string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptClassIdentifier(c))
}

var (
	asBIOS = []dhcpv4.Modifier{withClass("PXEClient:Arch:00000:UNDI:002001"), withArch(ArchBIOS)}
	asUEFI = []dhcpv4.Modifier{withClass("PXEClient:Arch:00007:UNDI:003001"), withArch(ArchUEFIBC)}
	asHTTP = []dhcpv4.Modifier{withClass("HTTPClient:Arch:00016:UNDI:003001"), withArch(ArchHTTPx64)}
	asIPXE = []dhcpv4.Modifier{withClass("PXEClient:Arch:00007:UNDI:003010"), withArch(ArchUEFIBC),
		dhcpv4.WithUserClass("iPXE", false), dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(optionIPXE), []byte{21, 1, 1, ipxeHTTP, 1, 1})}
)

func discover(t testing.TB, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	p, err := dhcpv4.NewDiscovery(testMAC, append([]dhcpv4.Modifier{
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, testUUID)}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask hands a packet to h as if it came off the wire and reads the answer.
func ask(t testing.TB, h *dhcpHandler, p *dhcpv4.DHCPv4, port uint16) (*dhcpv4.DHCPv4, netip.AddrPort) {
	t.Helper()
	r := h.handle(p.ToBytes(), netip.MustParseAddrPort("0.0.0.0:68"), port)
	if r == nil {
		return nil, netip.AddrPort{}
	}
	got, err := dhcpv4.FromBytes(r.packet)
	if err != nil {
		t.Fatalf("the answer is not DHCP: %v", err)
	}
	return got, r.to
}

func TestBootFileByFirmware(t *testing.T) {
	for name, c := range map[string]struct {
		as    []dhcpv4.Modifier
		file  string
		class string
		ipxe  []byte
	}{
		"BIOS":           {as: asBIOS, file: "undionly.kpxe"},
		"UEFI":           {as: asUEFI, file: "snponly.efi"},
		"UEFI x64":       {as: []dhcpv4.Modifier{withClass("PXEClient"), withArch(ArchUEFIx64)}, file: "snponly.efi"},
		"HTTP boot":      {as: asHTTP, file: "http://10.77.0.1:8080/snponly.efi", class: "HTTPClient"},
		"iPXE":           {as: asIPXE, file: "http://10.77.0.1:8080/boot.ipxe", ipxe: []byte{176, 1, 1}},
		"iPXE, RFC 3004": {as: append([]dhcpv4.Modifier{dhcpv4.WithUserClass("iPXE", true)}, asBIOS...), file: "http://10.77.0.1:8080/boot.ipxe", ipxe: []byte{176, 1, 1}},
		"iPXE sans HTTP": {as: append([]dhcpv4.Modifier{dhcpv4.WithUserClass("iPXE", false),
			dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(optionIPXE), []byte{21, 1, 1})}, asBIOS...), file: "undionly.kpxe"},
		"ARM64": {as: []dhcpv4.Modifier{withClass("PXEClient"), withArch(11)}},
		"agent": {},
	} {
		h, events := testHandler(t, AnyMachine)
		got, to := ask(t, h, discover(t, c.as...), portServer)
		if got == nil {
			t.Errorf("%s: no offer", name)
			continue
		}
		if got.BootFileName != c.file {
			t.Errorf("%s: file = %q; want %q", name, got.BootFileName, c.file)
		}
		if got.ClassIdentifier() != c.class {
			t.Errorf("%s: option 60 = %q; want %q", name, got.ClassIdentifier(), c.class)
		}
		if raw := got.Options.Get(dhcpv4.GenericOptionCode(optionIPXE)); !bytes.Equal(raw, c.ipxe) {
			t.Errorf("%s: option 175 = %x; want %x", name, raw, c.ipxe)
		}
		if raw := got.Options.Get(dhcpv4.OptionClientMachineIdentifier); !bytes.Equal(raw, testUUID) {
			t.Errorf("%s: option 97 = %x; want %x", name, raw, testUUID)
		}
		if to.String() != "255.255.255.255:68" {
			t.Errorf("%s: sent to %v; want a broadcast", name, to)
		}
		if last := (*events)[len(*events)-1]; last.Kind != KindOffer || last.File != c.file {
			t.Errorf("%s: last event = %s %q; want offer of %q", name, last.Kind, last.File, c.file)
		}
	}
}

func TestEventCarriesBothUUIDs(t *testing.T) {
	h, events := testHandler(t, AnyMachine)
	ask(t, h, discover(t, asUEFI...), portServer)
	e := (*events)[0]
	if e.Kind != KindDiscover || e.MAC.String() != testMAC.String() || e.Stage != StagePXE || !e.HasArch || e.Arch != ArchUEFIBC {
		t.Errorf("event = %+v; want the discover of %v", e, testMAC)
	}
	if e.UUID != "6f1c0a52-7a0e-4b7c-9d7e-010203040506" || e.UUIDSwapped != "520a1c6f-0e7a-7c4b-9d7e-010203040506" {
		t.Errorf("UUIDs = %s, %s", e.UUID, e.UUIDSwapped)
	}
}

func TestUnknownMachineIsReportedAndIgnored(t *testing.T) {
	h, events := testHandler(t, nil)
	if got, _ := ask(t, h, discover(t), portServer); got != nil {
		t.Errorf("an unknown machine was answered: %v", got)
	}
	if n := len(*events); n != 2 || (*events)[0].Kind != KindDiscover || (*events)[1].Kind != KindIgnore {
		t.Errorf("events = %+v; want discover, ignore", *events)
	}
	if n := len(h.local.leases()); n != 0 {
		t.Errorf("leases = %d; want none", n)
	}
}

func request(t testing.TB, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	return discover(t, append([]dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest)}, more...)...)
}

func withAsked(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a)))
}

func withServer(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(a)))
}

func TestRequestStates(t *testing.T) {
	h, _ := testHandler(t, AnyMachine)
	offer, _ := ask(t, h, discover(t), portServer)
	mine := offer.YourIPAddr.String()
	for _, c := range []struct {
		name string
		ask  *dhcpv4.DHCPv4
		want dhcpv4.MessageType
		to   string
	}{
		{"selecting", request(t, withAsked(mine), withServer("10.77.0.1")), dhcpv4.MessageTypeAck, "255.255.255.255:68"},
		{"selecting another's offer", request(t, withAsked("10.77.0.5"), withServer("10.77.0.9")), dhcpv4.MessageTypeNone, ""},
		{"selecting what was not offered", request(t, withAsked("10.77.0.5"), withServer("10.77.0.1")), dhcpv4.MessageTypeNak, "255.255.255.255:68"},
		{"rebooting", request(t, withAsked(mine)), dhcpv4.MessageTypeAck, "255.255.255.255:68"},
		{"rebooting, moved here", request(t, withAsked("192.0.2.7")), dhcpv4.MessageTypeNak, "255.255.255.255:68"},
		{"renewing", request(t, dhcpv4.WithClientIP(net.ParseIP(mine))), dhcpv4.MessageTypeAck, mine + ":68"},
		{"rebinding, moved here", request(t, dhcpv4.WithClientIP(net.ParseIP("192.0.2.7"))), dhcpv4.MessageTypeNak, "255.255.255.255:68"},
		{"no address", request(t), dhcpv4.MessageTypeNak, "255.255.255.255:68"},
		{"inform", discover(t, dhcpv4.WithMessageType(dhcpv4.MessageTypeInform), dhcpv4.WithClientIP(net.ParseIP("10.77.0.9"))), dhcpv4.MessageTypeAck, "10.77.0.9:68"},
	} {
		got, to := ask(t, h, c.ask, portServer)
		if got == nil {
			if c.want != dhcpv4.MessageTypeNone {
				t.Errorf("%s: silence; want %s", c.name, c.want)
			}
			continue
		}
		if got.MessageType() != c.want || to.String() != c.to {
			t.Errorf("%s: %s to %v; want %s to %s", c.name, got.MessageType(), to, c.want, c.to)
		}
		if id := got.ServerIdentifier().String(); id != "10.77.0.1" {
			t.Errorf("%s: server identifier = %s; want 10.77.0.1", c.name, id)
		}
		leased := got.IPAddressLeaseTime(0)
		if c.name == "inform" || c.want == dhcpv4.MessageTypeNak {
			if leased != 0 || addr4(got.YourIPAddr).IsValid() {
				t.Errorf("%s: gave %v for %v; want no lease", c.name, got.YourIPAddr, leased)
			}
		} else if leased != time.Hour || got.YourIPAddr.String() != mine {
			t.Errorf("%s: gave %v for %v; want %s for an hour", c.name, got.YourIPAddr, leased, mine)
		}
	}
}

func TestRelay(t *testing.T) {
	h, events := testHandler(t, AnyMachine)
	agentInfo := []byte{1, 4, 'p', 'o', 'r', 't'}
	got, to := ask(t, h, discover(t, dhcpv4.WithRelay(net.ParseIP("10.88.0.2")),
		dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, agentInfo)), portServer)
	if got == nil || to.String() != "10.88.0.2:67" {
		t.Fatalf("relayed answer goes to %v; want 10.88.0.2:67", to)
	}
	if a := addr4(got.YourIPAddr); !netip.MustParsePrefix("10.88.0.128/25").Contains(a) {
		t.Errorf("address = %v; want one of the upper half of 10.88.0.0/24", a)
	}
	if r := got.Router(); len(r) != 1 || r[0].String() != "10.88.0.1" {
		t.Errorf("router = %v; want 10.88.0.1", r)
	}
	if raw := got.Options.Get(dhcpv4.OptionRelayAgentInformation); !bytes.Equal(raw, agentInfo) {
		t.Errorf("option 82 = %x; want it echoed", raw)
	}
	if got, _ := ask(t, h, discover(t, dhcpv4.WithRelay(net.ParseIP("10.99.0.1"))), portServer); got != nil {
		t.Error("a relay of no subnet of ours was answered")
	}
	if last := (*events)[len(*events)-1]; last.Kind != KindIgnore || !strings.Contains(last.Detail, "10.99.0.1") {
		t.Errorf("last event = %+v; want ignore naming the relay", last)
	}
}

func TestBootServerPort(t *testing.T) {
	h, _ := testHandler(t, AnyMachine)
	from := netip.MustParseAddrPort("10.77.0.50:4011")
	p := request(t, append(asUEFI, dhcpv4.WithClientIP(net.ParseIP("10.77.0.50")))...)
	r := h.handle(p.ToBytes(), from, portPXE)
	if r == nil || r.to != from {
		t.Fatalf("answer on 4011 = %+v; want one to %v", r, from)
	}
	got, err := dhcpv4.FromBytes(r.packet)
	if err != nil {
		t.Fatal(err)
	}
	if got.BootFileName != "snponly.efi" || addr4(got.YourIPAddr).IsValid() || len(h.local.leases()) != 0 {
		t.Errorf("file %q, address %v, %d leases; want snponly.efi alone", got.BootFileName, got.YourIPAddr, len(h.local.leases()))
	}
	if r := h.handle(request(t).ToBytes(), from, portPXE); r != nil {
		t.Error("a client that is no firmware was answered on 4011")
	}
}

func TestSilence(t *testing.T) {
	h, _ := testHandler(t, AnyMachine)
	reply := discover(t)
	reply.OpCode = dhcpv4.OpcodeBootReply
	multicast := discover(t, dhcpv4.WithHwAddr(net.HardwareAddr{1, 0, 0, 0, 0, 1}))
	infiniband := discover(t, dhcpv4.WithHWType(iana.HWTypeInfiniband))
	bootp := discover(t, dhcpv4.WithoutOption(dhcpv4.OptionDHCPMessageType))
	longID := discover(t, dhcpv4.WithOption(dhcpv4.OptClientIdentifier(make([]byte, 300))))
	for name, raw := range map[string][]byte{
		"nothing": nil, "short": make([]byte, 100), "too long": make([]byte, 2000),
		"a reply": reply.ToBytes(), "multicast MAC": multicast.ToBytes(), "InfiniBand": infiniband.ToBytes(),
		"BOOTP": bootp.ToBytes(), "long client identifier": longID.ToBytes(),
	} {
		if r := h.handle(raw, netip.AddrPort{}, portServer); r != nil {
			t.Errorf("%s was answered", name)
		}
	}
}

// Whatever arrives, the answer is DHCP, fits a frame, belongs to the request
// and gives no address that is not ours.
func FuzzHandleDHCP(f *testing.F) {
	for _, as := range [][]dhcpv4.Modifier{nil, asBIOS, asUEFI, asHTTP, asIPXE} {
		f.Add(discover(f, as...).ToBytes(), uint16(portServer))
		f.Add(request(f, append(as, withAsked("10.77.0.150"))...).ToBytes(), uint16(portServer))
		f.Add(request(f, append(as, dhcpv4.WithClientIP(net.ParseIP("10.77.0.150")))...).ToBytes(), uint16(portPXE))
	}
	f.Add(discover(f, dhcpv4.WithRelay(net.ParseIP("10.88.0.2"))).ToBytes(), uint16(portServer))
	for _, m := range []dhcpv4.MessageType{dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeRelease, dhcpv4.MessageTypeInform} {
		f.Add(discover(f, dhcpv4.WithMessageType(m), dhcpv4.WithClientIP(net.ParseIP("10.77.0.9"))).ToBytes(), uint16(portServer))
	}
	h, events := testHandler(f, AnyMachine)
	f.Fuzz(func(t *testing.T, raw []byte, port uint16) {
		*events = nil
		r := h.handle(raw, netip.MustParseAddrPort("10.77.0.50:68"), port)
		for _, e := range *events {
			if len(e.Detail) > 400 || len(e.File) > 127 {
				t.Errorf("event with %d bytes of detail, %d of file", len(e.Detail), len(e.File))
			}
		}
		if r == nil {
			return
		}
		if len(r.packet) > maxReply || !r.to.IsValid() {
			t.Fatalf("%d bytes to %v", len(r.packet), r.to)
		}
		asked, err := dhcpv4.FromBytes(raw)
		if err != nil {
			t.Fatalf("answered what is not DHCP: %v", err)
		}
		got, err := dhcpv4.FromBytes(r.packet)
		if err != nil {
			t.Fatalf("the answer is not DHCP: %v", err)
		}
		if got.OpCode != dhcpv4.OpcodeBootReply || got.TransactionID != asked.TransactionID ||
			!bytes.Equal(got.ClientHWAddr, asked.ClientHWAddr) || addr4(got.ServerIdentifier()) != h.server {
			t.Errorf("the answer %v does not belong to %v", got, asked)
		}
		if a := addr4(got.YourIPAddr); a.IsValid() && !h.local.pool.contains(a) && !h.relayed[0].pool.contains(a) {
			t.Errorf("gave %v, which is in no pool", a)
		}
	})
}

func BenchmarkDHCPDiscover(b *testing.B) {
	h, events := testHandler(b, AnyMachine)
	raw := discover(b, asUEFI...).ToBytes()
	for b.Loop() {
		*events = (*events)[:0]
		if h.handle(raw, netip.AddrPort{}, portServer) == nil {
			b.Fatal("no offer")
		}
	}
}
