package ipmi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ingot-metal/ingot/hardware"
)

// The commands of accounts (22.27, 22.29).
var (
	cmdUserAccess = command{netFn: netFnApp, id: 0x44, name: "Get User Access"}
	cmdUserName   = command{netFn: netFnApp, id: 0x46, name: "Get User Name"}
)

const (
	mostUsers     = 63
	administrator = 4
	noAccess      = 15
)

var privileges = [...]string{"", "callback", "user", "operator", "administrator", "oem"}

func privilege(n byte) string {
	if n &= 0xf; int(n) < len(privileges) {
		return privileges[n]
	}
	return "none"
}

// users reads the accounts and what each may on every LAN channel. Slots that
// are empty and may nothing are left out.
func users(ctx context.Context, s *session) error {
	if len(s.lans) == 0 {
		return nil
	}
	for id, last := 1, 1; id <= last; id++ {
		a := hardware.BMCAccount{ID: fmt.Sprint(id)}
		name, err := s.ask(ctx, cmdUserName, byte(id))
		var code CompletionCode
		if err != nil && (!errors.As(err, &code) || code == codePrivilege) {
			return fmt.Errorf("name of user %d: %w", id, err)
		}
		a.Name = userName(name)
		for n, ch := range s.lans {
			if n > 0 && a.Name == "" && a.Access == nil {
				break // nobody on the first channel
			}
			b, err := s.ask(ctx, cmdUserAccess, byte(ch), byte(id))
			if b, err = want(b, err, 4); err != nil {
				return fmt.Errorf("user %d on channel %d: %w", id, ch, err)
			}
			last = min(int(b[0]&0x3f), mostUsers)
			userAccess(&a, ch, b)
		}
		if a.Name != "" || a.Access != nil {
			s.view.Inventory.BMC.Accounts = append(s.view.Inventory.BMC.Accounts, a)
		}
	}
	s.weakAccounts()
	return nil
}

// userName is at most 16 bytes, padded with zeros.
func userName(b []byte) string {
	s, _, _ := strings.Cut(string(b[:min(len(b), 16)]), "\x00")
	return strings.TrimRightFunc(s, func(r rune) bool { return r == ' ' || r == utf8.RuneError }) // all FFh where nobody filled it in
}

// userAccess adds what the user may on one channel; the privilege of the
// account is the highest that it has anywhere.
func userAccess(a *hardware.BMCAccount, ch int, b []byte) {
	switch b[1] >> 6 {
	case 1:
		a.Enabled = hardware.Enabled
	case 2:
		a.Enabled = hardware.Disabled
	}
	p := b[3] & 0xf
	messaging := b[3]&0x10 != 0
	if a.Name == "" && (p == noAccess || p == 0 || !messaging) {
		return
	}
	a.Access = append(a.Access, hardware.BMCAccess{Channel: ch, Privilege: privilege(p), Messaging: hardware.SwitchOf(messaging),
		LinkAuth: hardware.SwitchOf(b[3]&0x20 != 0), CallbackOnly: b[3]&0x40 != 0})
	if slices.Index(privileges[:], privilege(p)) > slices.Index(privileges[:], a.Privilege) || a.Privilege == "" {
		a.Privilege = privilege(p)
	}
}

// canLogin says whether an account opens sessions on some channel. A BMC that
// does not say whether it is enabled is not trusted to have it disabled.
func canLogin(a hardware.BMCAccount) bool {
	return a.Enabled != hardware.Disabled && slices.ContainsFunc(a.Access, func(x hardware.BMCAccess) bool {
		return x.Messaging == hardware.Enabled && x.Privilege != "none" && x.Privilege != ""
	})
}

// makersAccount is what each vendor delivers its BMCs with.
var makersAccount = map[string]string{
	"ADMIN": "Supermicro", "root": "Dell", "Administrator": "HPE", "USERID": "Lenovo", "admin": "AMI",
}

func (s *session) weakAccounts() {
	maker := s.view.Inventory.BMC.Manufacturer
	for _, a := range s.view.Inventory.BMC.Accounts {
		if !canLogin(a) {
			continue
		}
		part := "bmc account " + a.ID
		if a.Name == "" {
			s.find(hardware.CodeAnonymousUser, hardware.Critical, part, "the user without a name is enabled, with privilege "+a.Privilege,
				"disable it: ipmitool user disable "+a.ID)
			continue
		}
		by, known := makersAccount[a.Name]
		if !known {
			continue
		}
		sev := hardware.Info
		if by == maker || maker == "IBM" && by == "Lenovo" || maker == "Oracle" && by == "Dell" {
			sev = hardware.Warning
		}
		s.find(hardware.CodeDefaultAccount, sev, part, fmt.Sprintf("account %q, with which BMCs of %s are delivered, is enabled with privilege %s", a.Name, by, a.Privilege),
			"rename it, or make sure that its password is not the vendor's")
	}
}
