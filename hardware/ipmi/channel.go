package ipmi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/ingot-metal/ingot/hardware"
)

// The commands of channels (22) and of their LAN parameters (23).
var (
	cmdChannelAccess  = command{netFn: netFnApp, id: 0x41, name: "Get Channel Access"}
	cmdChannelInfo    = command{netFn: netFnApp, id: 0x42, name: "Get Channel Info"}
	cmdChannelAuth    = command{netFn: netFnApp, id: 0x38, name: "Get Channel Authentication Capabilities"}
	cmdChannelCiphers = command{netFn: netFnApp, id: 0x54, name: "Get Channel Cipher Suites"}
	cmdLANConfig      = command{netFn: netFnTransport, id: 0x02, name: "Get LAN Configuration Parameters"}
)

// The LAN parameters (tables 23-4 and 23-5).
const (
	lanAuthEnables  = 2
	lanIP           = 3
	lanIPSource     = 4
	lanMAC          = 5
	lanMask         = 6
	lanGateway      = 12
	lanVLAN         = 20
	lanCipherCount  = 22
	lanCiphers      = 23
	lanCipherLimits = 24
	lanIPv6Enables  = 51
	lanIPv6Status   = 55
	lanIPv6Static   = 56
	lanIPv6Dynamic  = 59
	lanIPv6Router   = 65
)

const (
	firstLAN   = 1
	lastLAN    = 11
	mediumLAN  = 4 // table 6-3: 802.3 LAN
	mediumMask = 0x7f
	mostIPv6   = 8 // addresses of one kind
)

// firstChannel finds the first LAN channel and reads its MAC and IPv4 address:
// all that the first report needs.
func firstChannel(ctx context.Context, s *session) error {
	for ch := firstLAN; ch <= lastLAN; ch++ {
		lan, err := s.isLAN(ctx, ch)
		if err != nil {
			return err
		}
		if !lan {
			continue
		}
		i := hardware.BMCInterface{Channel: ch}
		fitted, err := s.mac(ctx, &i)
		if err != nil {
			return fmt.Errorf("channel %d: %w", ch, err)
		}
		if !fitted {
			continue
		}
		if err := s.ipv4(ctx, &i); err != nil {
			return fmt.Errorf("channel %d: %w", ch, err)
		}
		s.main(i)
		return nil
	}
	return nil
}

// main takes the addresses of the BMC's own network port.
func (s *session) main(i hardware.BMCInterface) {
	b := &s.view.Inventory.BMC
	b.MAC = i.MAC
	for _, a := range i.Addresses {
		if p, err := netip.ParsePrefix(a); err == nil {
			a = p.Addr().String()
		}
		b.Addresses = append(b.Addresses, a)
	}
}

// channels reads every LAN channel.
func channels(ctx context.Context, s *session) error {
	b := &s.view.Inventory.BMC
	for ch := firstLAN; ch <= lastLAN; ch++ {
		lan, err := s.isLAN(ctx, ch)
		if err != nil {
			return err
		}
		if !lan {
			continue
		}
		i := hardware.BMCInterface{Name: fmt.Sprintf("channel %d", ch), Channel: ch}
		fitted, err := s.channel(ctx, &i)
		if err != nil {
			return fmt.Errorf("channel %d: %w", ch, err)
		}
		if !fitted {
			continue
		}
		s.lans = append(s.lans, ch)
		b.Interfaces = append(b.Interfaces, i)
		if b.MAC == "" {
			s.main(i)
		}
	}
	return nil
}

// isLAN asks what a channel is. A number without a channel is refused.
func (s *session) isLAN(ctx context.Context, ch int) (bool, error) {
	b, err := s.ask(ctx, cmdChannelInfo, byte(ch))
	var code CompletionCode
	if errors.As(err, &code) {
		return false, nil
	}
	return err == nil && len(b) >= 2 && b[1]&mediumMask == mediumLAN, err
}

// channel reads one; it reports whether there is a port behind it.
func (s *session) channel(ctx context.Context, i *hardware.BMCInterface) (fitted bool, err error) {
	if fitted, err = s.mac(ctx, i); err != nil || !fitted {
		return false, err
	}
	for _, f := range []func(context.Context, *hardware.BMCInterface) error{s.ipv4, s.ipv4Rest, s.vlan, s.ipv6, s.access, s.authTypes} {
		if err := f(ctx, i); err != nil {
			return false, err
		}
	}
	return true, nil
}

// param is a LAN parameter's value, after its revision byte; nil where the
// BMC does not have it, or gives less than that.
func (s *session) param(ctx context.Context, i *hardware.BMCInterface, param, set byte, least int) ([]byte, error) {
	b, err := s.ask(ctx, cmdLANConfig, byte(i.Channel), param, set, 0)
	var code CompletionCode
	if errors.As(err, &code) && code != codePrivilege {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("parameter %d: %w", param, err)
	}
	if len(b) < 1+least {
		return nil, nil
	}
	return b[1:], nil
}

// mac reads the address of the port. One of zeros is none, and no port.
func (s *session) mac(ctx context.Context, i *hardware.BMCInterface) (fitted bool, err error) {
	b, err := s.param(ctx, i, lanMAC, 0, 6)
	if b != nil {
		i.MAC = hardware.ParseMAC(fmt.Sprintf("%x", b[:6]))
	}
	return err == nil && (b == nil || i.MAC != ""), err
}

// ipv4 reads the address and its mask.
func (s *session) ipv4(ctx context.Context, i *hardware.BMCInterface) error {
	b, err := s.param(ctx, i, lanIP, 0, 4)
	if err != nil || b == nil {
		return err
	}
	a := netip.AddrFrom4([4]byte(b[:4]))
	if a.IsUnspecified() {
		return nil
	}
	mask, err := s.param(ctx, i, lanMask, 0, 4)
	if err != nil {
		return err
	}
	text := a.String()
	if mask != nil {
		if ones, bits := net.IPMask(mask[:4]).Size(); bits == 32 && ones > 0 {
			text = netip.PrefixFrom(a, ones).String()
		}
	}
	i.Addresses = append(i.Addresses, text)
	return nil
}

func (s *session) ipv4Rest(ctx context.Context, i *hardware.BMCInterface) error {
	b, err := s.param(ctx, i, lanIPSource, 0, 1)
	if err != nil {
		return err
	}
	if b != nil {
		i.Origin = [...]string{"", "static", "dhcp", "other", "other"}[min(b[0]&0xf, 4)]
	}
	b, err = s.param(ctx, i, lanGateway, 0, 4)
	if b != nil {
		if a := netip.AddrFrom4([4]byte(b[:4])); !a.IsUnspecified() {
			i.Gateway = a.String()
		}
	}
	return err
}

func (s *session) vlan(ctx context.Context, i *hardware.BMCInterface) error {
	b, err := s.param(ctx, i, lanVLAN, 0, 2)
	if b != nil && b[1]&0x80 != 0 {
		i.VLAN = le16(b) & 0xfff
	}
	return err
}

// ipv6 reads the addresses, where IPv6 is on.
func (s *session) ipv6(ctx context.Context, i *hardware.BMCInterface) error {
	b, err := s.param(ctx, i, lanIPv6Enables, 0, 1)
	if err != nil || b == nil || b[0] == 0 {
		return err
	}
	static, dynamic := 1, 1
	if b, err = s.param(ctx, i, lanIPv6Status, 0, 2); err != nil {
		return err
	}
	if b != nil {
		static, dynamic = int(b[0]), int(b[1])
	}
	for _, kind := range []struct {
		param byte
		n     int
	}{{lanIPv6Static, static}, {lanIPv6Dynamic, dynamic}} {
		for set := range min(kind.n, mostIPv6) {
			if b, err = s.param(ctx, i, kind.param, byte(set), 19); err != nil {
				return err
			}
			if a := ipv6Address(b); a != "" {
				i.Addresses = append(i.Addresses, a)
			}
		}
	}
	b, err = s.param(ctx, i, lanIPv6Router, 0, 16)
	if b != nil && i.Gateway == "" {
		if a := netip.AddrFrom16([16]byte(b[:16])); !a.IsUnspecified() {
			i.Gateway = a.String()
		}
	}
	return err
}

// ipv6Address is an address that is in use: set selector, enable and source,
// address, prefix length, and a status that is zero for active.
func ipv6Address(b []byte) string {
	if len(b) < 19 || len(b) > 19 && b[19] != 0 {
		return ""
	}
	a := netip.AddrFrom16([16]byte(b[2:18]))
	if a.IsUnspecified() || b[18] > 128 {
		return ""
	}
	return netip.PrefixFrom(a, int(b[18])).String()
}

// access says whether the channel takes sessions (22.23).
func (s *session) access(ctx context.Context, i *hardware.BMCInterface) error {
	const present = 0x80
	b, err := s.ask(ctx, cmdChannelAccess, byte(i.Channel), present)
	var code CompletionCode
	if errors.As(err, &code) {
		return nil
	}
	if err == nil && len(b) >= 1 {
		i.Enabled = hardware.SwitchOf(b[0]&7 != 0)
	}
	return err
}
