package firmware

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unicode/utf16"

	"github.com/ingot-metal/ingot/hardware"
)

// loadOption reads EFI_LOAD_OPTION (UEFI 3.1.3): attributes, the length of
// the path list, a description that ends with a zero, the paths.
func loadOption(b []byte, e *hardware.BootEntry) error {
	const header, active = 6, 1
	if len(b) < header+2 {
		return fmt.Errorf("decode load option: %d bytes, at least %d", len(b), header+2)
	}
	e.Active = hardware.SwitchOf(binary.LittleEndian.Uint32(b)&active != 0)
	pathBytes := int(binary.LittleEndian.Uint16(b[4:]))
	name, rest, ok := ucs2(b[header:])
	if !ok {
		return errors.New("decode load option: its description does not end")
	}
	e.Name = name
	if pathBytes > len(rest) {
		return fmt.Errorf("decode load option: a device path of %d bytes in %d", pathBytes, len(rest))
	}
	var err error
	e.Path, err = PathText(rest[:pathBytes])
	return err
}

// ucs2 is a text up to its zero, and what follows that.
func ucs2(b []byte) (string, []byte, bool) {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			return string(utf16.Decode(units)), b[2:], true
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), nil, false
}

// maxPathText bounds the text of a path.
const maxPathText = 512

// PathText is the first device path of a list as the specification writes it
// (UEFI 10.6): PciRoot(0x0)/Pci(0x1,0x0)/NVMe(0x1,…). A node of an unknown
// kind is Path(type,subtype,bytes). What stands before a broken node is
// returned beside the error.
func PathText(b []byte) (string, error) {
	const end, endInstance, endEntire = 0x7f, 0x01, 0xff
	var text []string
	size := 0
	for size < maxPathText {
		if len(b) < 4 {
			return strings.Join(text, "/"), fmt.Errorf("decode device path: it ends after %d nodes without its end node", len(text))
		}
		kind, sub, n := b[0], b[1], int(binary.LittleEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			return strings.Join(text, "/"), fmt.Errorf("decode device path: node %d has %d bytes of %d", len(text), n, len(b))
		}
		if kind == end && (sub == endEntire || sub == endInstance) {
			break
		}
		s := node(kind, sub, b[4:n])
		text, size = append(text, s), size+len(s)+1
		b = b[n:]
	}
	s := strings.Join(text, "/")
	return s[:min(len(s), maxPathText)], nil
}

// node is one node without its header. Each kind has a least length, below
// which it is written as an unknown one.
func node(kind, sub byte, d []byte) string {
	k, known := nodes[[2]byte{kind, sub}]
	if !known || len(d) < k.least {
		return fmt.Sprintf("Path(%d,%d,%x)", kind, sub, d[:min(len(d), 32)])
	}
	return k.text(d)
}

type nodeKind struct {
	least int
	text  func(d []byte) string
}

// nodes are the kinds that servers boot from, by type and subtype (UEFI 10.3).
var nodes = map[[2]byte]nodeKind{
	{1, 1}: {2, func(d []byte) string { return fmt.Sprintf("Pci(0x%x,0x%x)", d[1], d[0]) }},
	{1, 3}: {20, func(d []byte) string {
		return fmt.Sprintf("MemoryMapped(0x%x,0x%x,0x%x)", u32(d), u64(d[4:]), u64(d[12:]))
	}},
	{1, 4}:  {16, func(d []byte) string { return "VenHw(" + guid(d) + ")" }},
	{1, 5}:  {4, func(d []byte) string { return fmt.Sprintf("Ctrl(0x%x)", u32(d)) }},
	{2, 1}:  {8, acpi},
	{2, 3}:  {4, func(d []byte) string { return fmt.Sprintf("AcpiAdr(0x%x)", u32(d)) }},
	{3, 1}:  {4, func(d []byte) string { return fmt.Sprintf("Ata(0x%x,0x%x,0x%x)", d[0], d[1], u16(d[2:])) }},
	{3, 2}:  {4, func(d []byte) string { return fmt.Sprintf("Scsi(0x%x,0x%x)", u16(d), u16(d[2:])) }},
	{3, 3}:  {20, func(d []byte) string { return fmt.Sprintf("Fibre(0x%x,0x%x)", u64(d[4:]), u64(d[12:])) }},
	{3, 5}:  {2, func(d []byte) string { return fmt.Sprintf("USB(0x%x,0x%x)", d[0], d[1]) }},
	{3, 10}: {16, func(d []byte) string { return "VenMsg(" + guid(d) + ")" }},
	{3, 11}: {33, func(d []byte) string { return fmt.Sprintf("MAC(%x,0x%x)", d[:6], d[32]) }},
	{3, 12}: {15, func(d []byte) string { return "IPv4(" + netip.AddrFrom4([4]byte(d[4:8])).String() + ")" }},
	{3, 13}: {36, func(d []byte) string { return "IPv6(" + netip.AddrFrom16([16]byte(d[16:32])).String() + ")" }},
	{3, 14}: {15, func(d []byte) string { return fmt.Sprintf("Uart(%d,%d)", u64(d[4:]), d[12]) }},
	{3, 17}: {1, func(d []byte) string { return fmt.Sprintf("Unit(0x%x)", d[0]) }},
	{3, 18}: {6, func(d []byte) string { return fmt.Sprintf("Sata(0x%x,0x%x,0x%x)", u16(d), u16(d[2:]), u16(d[4:])) }},
	{3, 19}: {14, func(d []byte) string { return fmt.Sprintf("iSCSI(%s,0x%x)", ascii(d[14:]), u16(d[12:])) }},
	{3, 20}: {2, func(d []byte) string { return fmt.Sprintf("Vlan(%d)", u16(d)) }},
	{3, 22}: {20, func(d []byte) string { return fmt.Sprintf("SasEx(0x%x,0x%x)", d[:8], d[8:16]) }},
	{3, 23}: {12, func(d []byte) string { return fmt.Sprintf("NVMe(0x%x,%s)", u32(d), eui64(d[4:12])) }},
	{3, 24}: {0, func(d []byte) string { return "Uri(" + ascii(d) + ")" }},
	{3, 25}: {2, func(d []byte) string { return fmt.Sprintf("UFS(0x%x,0x%x)", d[0], d[1]) }},
	{3, 26}: {1, func(d []byte) string { return fmt.Sprintf("SD(0x%x)", d[0]) }},
	{3, 29}: {1, func(d []byte) string { return fmt.Sprintf("eMMC(0x%x)", d[0]) }},
	{3, 31}: {1, func(d []byte) string { return "Dns(" + addresses(d) + ")" }},
	{4, 1}:  {38, hardDrive},
	{4, 2}:  {20, func(d []byte) string { return fmt.Sprintf("CDROM(0x%x)", u32(d)) }},
	{4, 3}:  {16, func(d []byte) string { return "VenMedia(" + guid(d) + ")" }},
	{4, 4}:  {2, func(d []byte) string { s, _, _ := ucs2(d); return s }},
	{4, 6}:  {16, func(d []byte) string { return "FvFile(" + guid(d) + ")" }},
	{4, 7}:  {16, func(d []byte) string { return "Fv(" + guid(d) + ")" }},
	{4, 9}:  {34, func(d []byte) string { return fmt.Sprintf("RamDisk(0x%x,0x%x)", u64(d), u64(d[8:])) }},
	{5, 1}:  {4, func(d []byte) string { return fmt.Sprintf("BBS(0x%x,%s)", u16(d), ascii(d[4:])) }},
}

func u16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// acpi names PCI roots; other devices by their EISA id.
func acpi(d []byte) string {
	const pnp = 0x41d0
	hid, uid := u32(d), u32(d[4:])
	switch {
	case hid == 0x0a03<<16|pnp:
		return fmt.Sprintf("PciRoot(0x%x)", uid)
	case hid == 0x0a08<<16|pnp:
		return fmt.Sprintf("PcieRoot(0x%x)", uid)
	case hid&0xffff == pnp:
		return fmt.Sprintf("Acpi(PNP%04X,0x%x)", hid>>16, uid)
	}
	return fmt.Sprintf("Acpi(0x%08x,0x%x)", hid, uid)
}

// hardDrive is a partition: number, start, size, signature and its kind.
func hardDrive(d []byte) string {
	const mbr, gpt = 1, 2
	switch signature := d[20:36]; d[37] {
	case gpt:
		return fmt.Sprintf("HD(%d,GPT,%s,0x%x,0x%x)", u32(d), guid(signature), u64(d[4:]), u64(d[12:]))
	case mbr:
		return fmt.Sprintf("HD(%d,MBR,0x%08x,0x%x,0x%x)", u32(d), u32(signature), u64(d[4:]), u64(d[12:]))
	}
	return fmt.Sprintf("HD(%d,%d,0,0x%x,0x%x)", u32(d), d[37], u64(d[4:]), u64(d[12:]))
}

// eui64 is written from its last byte on, as firmware does.
func eui64(b []byte) string {
	parts := make([]string, len(b))
	for i, x := range b {
		parts[len(b)-1-i] = fmt.Sprintf("%02X", x)
	}
	return strings.Join(parts, "-")
}

// guid is a GUID in the byte order of UEFI, appendix A.
func guid(b []byte) string {
	s := hex.EncodeToString([]byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]}) + hex.EncodeToString(b[8:16])
	return strings.ToUpper(s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:])
}

// addresses are those of DNS servers: a flag for IPv6, then 16 bytes each.
func addresses(d []byte) string {
	var out []string
	for v6, b := d[0] == 1, d[1:]; len(b) >= 16 && len(out) < 8; b = b[16:] {
		if v6 {
			out = append(out, net.IP(b[:16]).String())
		} else {
			out = append(out, net.IP(b[:4]).String())
		}
	}
	return strings.Join(out, ",")
}

// ascii is a text up to its zero, of printable characters.
func ascii(b []byte) string {
	if i := strings.IndexByte(string(b), 0); i >= 0 {
		b = b[:i]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b[:min(len(b), maxPathText)]))
}
