package hardware

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// MAC is an EUI-48 as lower-case pairs with colons: 52:54:00:ab:12:cd.
type MAC string

// ParseMAC reads a MAC in any usual writing. It is empty for what is no MAC,
// all zero, broadcast, or a group address.
func ParseMAC(s string) MAC {
	s = strings.NewReplacer(":", "", "-", "", ".", "").Replace(strings.TrimSpace(s))
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 6 || b[0]&1 != 0 || !slices.ContainsFunc(b, func(x byte) bool { return x != 0 }) {
		return ""
	}
	return MAC(fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]))
}

// UUID is a UUID in lower case with dashes.
type UUID string

// Some firmware ships these to every customer.
var placeholderUUIDs = []string{
	"03000200040005000006000700080009",
	"12345678123456789012345678901234",
	"1234567812345678123456789abcdef0",
	"123456781234567890abcdef12345678",
	"12345678123456781234567890abcdef",
	"fefefefefefefefefefefefefefefefe",
}

// ParseUUID reads a UUID. It is empty for what is no UUID, all of one digit,
// or one of those that vendors leave in by mistake.
func ParseUUID(s string) UUID {
	s = strings.ToLower(strings.TrimSpace(s))
	s = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(s, "urn:uuid:"), "{"), "}")
	s = strings.ReplaceAll(s, "-", "")
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 || strings.Trim(s, s[:1]) == "" {
		return ""
	}
	for _, p := range placeholderUUIDs {
		if s == p || string(swapUUIDBytes(b)) == string(mustHex(p)) {
			return ""
		}
	}
	return formatUUID(b)
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("placeholder UUID " + s) // the table above is wrong; a test reads every row
	}
	return b
}

func formatUUID(b []byte) UUID {
	s := hex.EncodeToString(b)
	return UUID(s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:])
}

func swapUUIDBytes(b []byte) []byte {
	c := slices.Clone(b)
	slices.Reverse(c[0:4])
	slices.Reverse(c[4:6])
	slices.Reverse(c[6:8])
	return c
}

// Swapped is the same UUID with its first three fields in the other byte
// order. SMBIOS up to 2.5 and many BMCs disagree on it (DSP0134 7.2.1).
func (u UUID) Swapped() UUID {
	b, err := hex.DecodeString(strings.ReplaceAll(string(u), "-", ""))
	if err != nil || len(b) != 16 {
		return ""
	}
	return formatUUID(swapUUIDBytes(b))
}

// BDF is a PCI address in full: 0000:3b:00.0.
type BDF string

// Alias is a name by which a server may be known again, as kind:value.
type Alias string

// The kinds of aliases.
const (
	AliasUUID          = "uuid"
	AliasSerial        = "serial"
	AliasBoardSerial   = "board-serial"
	AliasChassisSerial = "chassis-serial"
	AliasMAC           = "mac"
	AliasBMCMAC        = "bmc-mac"
)

// Kind is what stands before the first colon.
func (a Alias) Kind() string { k, _, _ := strings.Cut(string(a), ":"); return k }

// Value is what stands after the first colon.
func (a Alias) Value() string { _, v, _ := strings.Cut(string(a), ":"); return v }

// Aliases are the names that this inventory carries, sorted, each once.
func (inv Inventory) Aliases() []Alias {
	var out []Alias
	add := func(kind, value string) {
		if value != "" {
			out = append(out, Alias(kind+":"+value))
		}
	}
	add(AliasUUID, string(inv.System.UUID))
	add(AliasUUID, string(inv.System.UUID.Swapped()))
	add(AliasSerial, inv.System.Serial)
	add(AliasBoardSerial, inv.Baseboard.Serial)
	add(AliasChassisSerial, inv.Chassis.Serial)
	for _, n := range inv.physicalNICs() {
		add(AliasMAC, string(n.MAC))
	}
	add(AliasBMCMAC, string(inv.BMC.MAC))
	slices.Sort(out)
	return slices.Compact(out)
}

// physicalNICs are those whose MAC is the server's own. A USB port is often
// the BMC's host interface, whose MAC many servers share; it counts only
// where there is nothing else.
func (inv Inventory) physicalNICs() []NIC {
	var own, usb []NIC
	for _, n := range inv.NICs {
		switch {
		case n.MAC == "":
		case n.Bus == "usb":
			usb = append(usb, n)
		default:
			own = append(own, n)
		}
	}
	if len(own) == 0 {
		return usb
	}
	return own
}

// MachineKey names a machine that is only seen: mac-525400ab12cd.
type MachineKey string

// KeyOf is the machine key of a MAC; empty for an empty MAC.
func KeyOf(m MAC) MachineKey {
	if m == "" {
		return ""
	}
	return MachineKey("mac-" + strings.ReplaceAll(string(m), ":", ""))
}

// MachineKey is the key by the lowest permanent physical MAC, empty where
// there is none.
func (inv Inventory) MachineKey() MachineKey {
	var low MAC
	for _, n := range inv.physicalNICs() {
		if low == "" || n.MAC < low {
			low = n.MAC
		}
	}
	return KeyOf(low)
}

// Summary is the server in one line:
// "Ingot Lab LS-1 serial X, 2 CPUs, 3.0 GiB, 1 drive, 1 NIC".
func (inv Inventory) Summary() string {
	name := strings.TrimSpace(inv.System.Manufacturer + " " + inv.System.Model)
	if name == "" {
		name = "unknown server"
	}
	if inv.System.Serial != "" {
		name += " serial " + inv.System.Serial
	}
	parts := []string{name, count(len(inv.CPUs), "CPU")}
	if inv.Memory.SizeBytes > 0 {
		parts = append(parts, FormatBytes(inv.Memory.SizeBytes))
	}
	parts = append(parts, count(len(inv.Drives), "drive"), count(len(inv.NICs), "NIC"))
	return strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// FormatBytes is a size for people, in binary units: 3.0 GiB.
func FormatBytes(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}
