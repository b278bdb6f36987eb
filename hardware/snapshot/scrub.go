package snapshot

import (
	"bytes"
	"encoding/hex"
	"maps"
	"net/netip"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/inventory"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// scrub gives the tree without what names this machine, its parts or its owner,
// and the stand-ins. The machine's own name is looked for in its command line
// alone: it may be any word.
func scrub(t tree, res inventory.Result, host string, key [32]byte) (tree, *standins) {
	s := &standins{key: key, host: host, pairs: map[string]string{}}
	s.walk(reflect.ValueOf(res.Inventory))
	s.walk(reflect.ValueOf(res.Readings))
	for _, name := range slices.Sorted(maps.Keys(t)) {
		s.find(name, t[name].data)
	}
	r := s.replacer()
	out := tree{}
	for name, e := range t {
		e.to = string(r.replace([]byte(e.to)))
		if b, ok := s.special(name, e.data, res); ok {
			e.data = r.replace(b)
		} else {
			e.data = rechecked(name, e.data, r.replace(e.data))
		}
		out[string(r.replace([]byte(name)))] = e
	}
	return out, s
}

// walk takes the names out of a record, by the types and tags of its fields.
func (s *standins) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f, x := v.Type().Field(i), v.Field(i)
			if x.Kind() == reflect.String {
				s.field(f, x.String())
			} else if m, ok := x.Interface().(map[string]string); ok && (f.Name == "Other" || f.Name == "OEMSerials") {
				for _, text := range m {
					if !strings.Contains(text, " ") { // words describe
						s.serial(text)
					}
				}
			} else {
				s.walk(x)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			s.walk(v.Index(i))
		}
	}
}

func (s *standins) field(f reflect.StructField, v string) {
	switch {
	case f.Type == reflect.TypeFor[hardware.MAC](), f.Name == "ChassisID":
		if b, err := hex.DecodeString(strings.ReplaceAll(v, ":", "")); err == nil && len(b) == 6 {
			s.mac(b)
		}
	case f.Type == reflect.TypeFor[hardware.UUID]():
		if b, err := hex.DecodeString(strings.ReplaceAll(v, "-", "")); err == nil {
			s.uuid(b)
		}
	case f.Name == "WWN":
		kind, digits, _ := strings.Cut(v, ".") // nvme. names repeat the serial
		if b, err := hex.DecodeString(strings.ReplaceAll(digits, "-", "")); err == nil && kind == "uuid" {
			s.uuid(b)
		} else if err == nil && kind != "nvme" {
			s.wwn(b)
		}
	case f.Tag.Get("clean") == "serial" && !strings.Contains(f.Name, "Part"), f.Name == "HostName", f.Name == "SystemName":
		s.serial(v)
	case f.Name == "Path", f.Name == "Cmdline":
		s.written(v)
	}
}

var (
	uuids = regexp.MustCompile(`(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
	macs  = regexp.MustCompile(`(?i)\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b`)
	// Names of SAS, Fibre Channel and NVMe: 0x5000c500a0b0c0d0, naa.…, eui.…
	worldWide = regexp.MustCompile(`(?i)(?:0x|naa\.|eui\.)([0-9a-f]{32}|[0-9a-f]{16})\b`)
	addresses = regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}\b|(?i:\b[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){2,7}\b)`)
)

// written finds MACs, UUIDs and world wide names by how they are written.
func (s *standins) written(text string) {
	for _, m := range uuids.FindAllString(text, -1) {
		if b, err := hex.DecodeString(strings.ReplaceAll(m, "-", "")); err == nil {
			s.uuid(b)
		}
	}
	for _, m := range macs.FindAllString(text, -1) {
		b, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "").Replace(m))
		if err == nil && strings.Trim(string(b), string(b[:1])) != "" { // zeros and broadcast name nobody
			s.mac(b)
		}
	}
	for _, m := range worldWide.FindAllStringSubmatch(text, -1) {
		if b, err := hex.DecodeString(m[1]); err == nil && (len(b) == 16 || b[0]>>4 >= 2 || !strings.HasPrefix(m[0], "0x")) {
			s.wwn(b)
		}
	}
}

// Files of sysfs that hold one serial, whether a reader kept it or not.
var serialFiles = map[string]bool{"serial": true, "serial_number": true, "serial_num": true, "serialnum": true, "product_serial": true, "board_serial": true,
	"chassis_serial": true, "chassis_asset_tag": true, "board_asset_tag": true, "board_tracer": true, "hostname": true}

// find takes the names out of one file, by its own format.
func (s *standins) find(name string, b []byte) {
	base := path.Base(name)
	switch {
	case serialFiles[base]:
		if v := hardware.CleanSerial(string(b)); v != "" && !strings.Contains(v, " ") {
			s.serial(v)
		}
	case base == "vpd_pg80" && len(b) > 4:
		s.serial(string(b[4:]))
	case base == "vpd_pg83" && len(b) > 4:
		s.designators(b[4:])
	case base == "vpd_pg89" && len(b) >= 60+512:
		s.ata(b[60:572])
	case base == "DMI":
		s.smbios(b)
	case strings.HasPrefix(name, sysfs.Answers+"/ata/") && base == "identify" && len(b) == 512:
		s.ata(b)
	case strings.HasPrefix(name, sysfs.Answers+"/nvme/") && base == "identify" && len(b) == 4096:
		s.serial(string(b[4:24]))
	case strings.HasPrefix(name, sysfs.Answers+"/nvme/") && strings.HasPrefix(base, "namespace-") && len(b) == 4096:
		s.wwn(nonzero(b[104:120]))
		s.wwn(nonzero(b[120:128]))
	}
	if len(b) < 1<<20 {
		s.written(string(b))
	}
}

func nonzero(b []byte) []byte {
	if strings.Trim(string(b), "\x00") == "" {
		return nil
	}
	return b
}

// designators are those of page 0x83, of the unit and of its port alike.
func (s *standins) designators(b []byte) {
	for len(b) >= 4 && 4+int(b[3]) <= len(b) {
		kind, id := b[1]&0xf, b[4:4+int(b[3])]
		if (kind == 2 || kind == 3) && (len(id) == 8 || len(id) == 16) {
			s.wwn(id)
		}
		b = b[4+int(b[3]):]
	}
}

// ata takes serial and world wide name out of IDENTIFY DEVICE data.
func (s *standins) ata(b []byte) {
	s.serial(string(swap(b[20:40])))
	if name := swap(b[216:224]); name[0]>>4 == 5 {
		s.wwn(name)
	}
}

// special are files that are not only replaced in.
func (s *standins) special(name string, b []byte, res inventory.Result) ([]byte, bool) {
	switch {
	case name == "proc/cmdline": // as the kernel's reader has it, without secrets
		return addresses.ReplaceAllFunc([]byte(s.withoutHost(res.Inventory.Kernel.Cmdline)), s.address), true
	case strings.HasPrefix(name, sysfs.Answers+"/tpm/") && strings.Contains(name, "/ek-"):
		return s.masked(b), true
	case path.Base(name) == "DMI":
		return s.maskOEM(b), true
	}
	return nil, false
}

// withoutHost is a command line in which the machine's name, with its domain
// and without, has a stand-in.
func (s *standins) withoutHost(cmdline string) string {
	first, _, _ := strings.Cut(s.host, ".")
	for _, name := range []string{s.host, first} {
		if len(name) >= 2 {
			cmdline = regexp.MustCompile(`\b`+regexp.QuoteMeta(name)+`\b`).ReplaceAllLiteralString(cmdline, s.text(name))
		}
	}
	return cmdline
}

// address is a stand-in of the ranges for documentation (RFC 5737, RFC 3849).
func (s *standins) address(b []byte) []byte {
	a, err := netip.ParseAddr(string(b))
	if err != nil {
		return b
	}
	x := s.stream(b, 2)
	s.count++
	if a.Is4() {
		return netip.AddrFrom4([4]byte{192, 0, 2, x[0]}).AppendTo(nil)
	}
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: x[0], 15: x[1]}).AppendTo(nil)
}

// masked is a key or a certificate of no one: other bytes, but for the head
// of a DER sequence, which says how long it is.
func (s *standins) masked(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	s.count++
	out := s.stream(b, len(b))
	if b[0] == 0x30 && len(b) > 4 {
		copy(out, b[:4])
	}
	return out
}

// checksums are sums of bytes that stand in the tables of drives and
// transceivers: over from to to, in the byte at; total says that the bytes and
// their checksum add up to zero.
var checksums = []struct {
	name         string // the base name of the file
	size         int    // 0 for any
	from, to, at int
	total        bool
}{
	{"identify", 512, 0, 511, 511, true},  // ACS-4 7.13.6, word 255
	{"vpd_pg89", 0, 60, 571, 571, true},   // the same, in its page
	{"module", 256, 64, 95, 95, false},    // SFF-8472 8.11, CC_EXT
	{"module", 256, 192, 223, 223, false}, // SFF-8636 6.3.30, CC_EXT
	{"module", 256, 128, 222, 222, false}, // CMIS 8.3.14
}

// rechecked is what became of was, with each checksum that was right made
// right again.
func rechecked(name string, was, now []byte) []byte {
	if bytes.Equal(was, now) || len(was) != len(now) {
		return now
	}
	for _, c := range checksums {
		if path.Base(name) != c.name || c.at >= len(was) || c.size != 0 && c.size != len(was) {
			continue
		}
		of := func(b []byte) byte {
			if c.total {
				return -sum(b[c.from:c.to])
			}
			return sum(b[c.from:c.to])
		}
		if of(was) == was[c.at] {
			now[c.at] = of(now)
		}
	}
	// PCI vital product data: all before and with the checksum's byte add up to
	// zero (PCI 3.0 appendix I, RV).
	if i := bytes.Index(was, []byte("RV")); path.Base(name) == "vpd" && i >= 0 && i+3 < len(was) && sum(was[:i+4]) == 0 {
		now[i+3] -= sum(now[:i+4])
	}
	return now
}

func sum(b []byte) (s byte) {
	for _, x := range b {
		s += x
	}
	return s
}

// The strings of SMBIOS structures that name one machine or part, by the place
// of their number (DSP0134 7).
var smbiosStrings = map[byte][]int{1: {7}, 2: {7, 8}, 3: {7, 8}, 4: {0x20, 0x21}, 17: {0x18, 0x19}, 22: {7}, 39: {8, 9}}

const (
	smbiosOEMStrings = 11
	smbiosOEM        = 128 // and above: a maker's own
)

// structures calls f with each SMBIOS structure: its formatted area and its
// strings.
func structures(b []byte, f func(area []byte, strings [][]byte)) {
	for len(b) >= 6 && b[1] >= 4 && int(b[1]) < len(b) {
		area := b[:b[1]]
		end := bytes.Index(b[b[1]:], []byte{0, 0})
		if end < 0 {
			return
		}
		f(area, bytes.Split(b[b[1]:int(b[1])+end], []byte{0}))
		b = b[int(b[1])+end+2:]
	}
}

func (s *standins) smbios(b []byte) {
	structures(b, func(area []byte, texts [][]byte) {
		for _, at := range smbiosStrings[area[0]] {
			if at < len(area) && area[at] > 0 && int(area[at]) <= len(texts) {
				if v := hardware.CleanSerial(string(texts[area[at]-1])); v != "" && strings.TrimSpace(string(texts[area[at]-1])) == v {
					s.serial(v)
				}
			}
		}
		if area[0] == 1 && len(area) >= 24 && nonzero(area[8:24]) != nil {
			s.uuid(mixed(area[8:24]))
		}
	})
}

// maskOEM puts stand-ins for all that only a maker can read.
func (s *standins) maskOEM(b []byte) []byte {
	out := bytes.Clone(b)
	structures(out, func(area []byte, texts [][]byte) {
		if area[0] != smbiosOEMStrings && area[0] < smbiosOEM {
			return
		}
		for _, text := range texts {
			copy(text, s.text(string(text)))
		}
		if area[0] >= smbiosOEM {
			clear(area[4:])
		}
	})
	return out
}
