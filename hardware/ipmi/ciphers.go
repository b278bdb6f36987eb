package ipmi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

const (
	cipherList    = 0x80 // list algorithms by cipher suite
	cipherPage    = 16
	mostPages     = 16
	standardSuite = 0xc0
	oemSuite      = 0xc1
	thisChannel   = 0x0e
)

// ciphers reads the cipher suites of the LAN channels, and how much privilege
// each gives. Suite 0 lets everybody in who knows a name.
func ciphers(ctx context.Context, s *session) error {
	all := map[int]bool{}
	for _, ch := range s.lans {
		suites, err := s.suites(ctx, byte(ch))
		if err != nil {
			return fmt.Errorf("channel %d: %w", ch, err)
		}
		i := &hardware.BMCInterface{Channel: ch}
		limits, err := s.suiteLimits(ctx, i)
		if err != nil {
			return fmt.Errorf("channel %d: %w", ch, err)
		}
		for id := range limits {
			suites = append(suites, id)
		}
		s.limitsOf(ch, limits)
		for _, id := range suites {
			all[id] = true
		}
		s.weakCipher(ch, slices.Contains(suites, 0), limits)
	}
	for id := range all {
		s.view.Inventory.BMC.CipherSuites = append(s.view.Inventory.BMC.CipherSuites, id)
	}
	slices.Sort(s.view.Inventory.BMC.CipherSuites)
	return nil
}

// suites lists a channel's suites (22.15), 16 bytes a page.
func (s *session) suites(ctx context.Context, ch byte) ([]int, error) {
	var list []byte
	for page := range mostPages {
		b, err := s.ask(ctx, cmdChannelCiphers, ch, 0, cipherList|byte(page))
		var code CompletionCode
		if errors.As(err, &code) {
			break
		}
		if b, err = want(b, err, 1); err != nil {
			return nil, err
		}
		list = append(list, b[1:]...)
		if len(b) < 1+cipherPage {
			break
		}
	}
	return decodeSuites(list), nil
}

// decodeSuites reads records of a start byte, an ID, for OEM suites a vendor,
// and algorithms, whose bytes are below the start bytes (table 22-18).
func decodeSuites(b []byte) []int {
	var out []int
	for i := 0; i+1 < len(b); i++ {
		switch b[i] {
		case standardSuite:
			i++
			out = append(out, int(b[i]))
		case oemSuite:
			i += 4
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// suiteLimits is the highest privilege by suite, 0 for none; nil where the BMC
// does not say.
func (s *session) suiteLimits(ctx context.Context, i *hardware.BMCInterface) (map[int]byte, error) {
	count, err := s.param(ctx, i, lanCipherCount, 0, 1)
	if err != nil || count == nil {
		return nil, err
	}
	n := min(int(count[0]&0x1f), 16)
	ids, err := s.param(ctx, i, lanCiphers, 0, 1+n)
	if err != nil || ids == nil {
		return nil, err
	}
	limits, err := s.param(ctx, i, lanCipherLimits, 0, 1+(n+1)/2)
	if err != nil || limits == nil {
		return nil, err
	}
	out := map[int]byte{}
	for k := range n {
		out[int(ids[1+k])] = limits[1+k/2] >> (4 * (k % 2)) & 0xf
	}
	return out, nil
}

// limitsOf keeps the privileges with the channel's interface.
func (s *session) limitsOf(ch int, limits map[int]byte) {
	for k := range s.view.Inventory.BMC.Interfaces {
		i := &s.view.Inventory.BMC.Interfaces[k]
		if i.Channel != ch || len(limits) == 0 {
			continue
		}
		i.CipherLimits = map[string]string{}
		for id, limit := range limits {
			i.CipherLimits[fmt.Sprint(id)] = privilege(limit)
		}
	}
}

func (s *session) weakCipher(ch int, listed bool, limits map[int]byte) {
	limit, known := limits[0]
	if !listed || known && limit == 0 {
		return
	}
	evidence := fmt.Sprintf("channel %d offers cipher suite 0", ch)
	if known {
		evidence += " up to privilege " + privilege(limit)
	}
	s.find(hardware.CodeCipherZero, hardware.Critical, "bmc", evidence,
		fmt.Sprintf("whoever knows an account's name gets in without its password; switch it off: ipmitool lan set %d cipher_privs X…", ch))
}

// The authentication types of IPMI 1.5 (table 22-16).
var authTypes = [...]string{"none", "md2", "md5", "", "password", "oem"}

// authTypes reads what a session of IPMI 1.5 may authenticate with, at any
// privilege, and whether anonymous ones are let in.
func (s *session) authTypes(ctx context.Context, i *hardware.BMCInterface) error {
	b, err := s.ask(ctx, cmdChannelAuth, byte(i.Channel), administrator)
	var code CompletionCode
	if errors.As(err, &code) {
		return nil
	}
	if b, err = want(b, err, 3); err != nil {
		return err
	}
	mask := b[1] & 0x3f
	levels, err := s.param(ctx, i, lanAuthEnables, 0, 5)
	if err != nil {
		return err
	}
	var weak []string
	if mask&1 != 0 {
		weak = append(weak, "administrator")
	}
	for n, m := range levels[:min(len(levels), 5)] {
		mask |= m & 0x3f
		if level := privileges[n+1]; m&1 != 0 && !slices.Contains(weak, level) {
			weak = append(weak, level)
		}
	}
	for n, name := range authTypes {
		if mask&(1<<n) != 0 && name != "" {
			i.AuthTypes = append(i.AuthTypes, name)
		}
	}
	if len(weak) > 0 {
		s.find(hardware.CodeNullAuthentication, hardware.Critical, "bmc",
			fmt.Sprintf("channel %d takes sessions without authentication, at privilege %s", i.Channel, strings.Join(weak, ", ")),
			fmt.Sprintf("switch it off: ipmitool lan set %d auth LEVEL MD5", i.Channel))
	}
	if b[2]&1 != 0 {
		s.find(hardware.CodeAnonymousUser, hardware.Critical, "bmc", fmt.Sprintf("channel %d lets in the user without name and password", i.Channel),
			"disable user 1, and give it a password")
	}
	return nil
}
