package snapshot

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/inventory"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// plant makes the tree that a machine's tree.txt describes: "path = content"
// with Go's quoting, "path -> target" for a symbolic link.
func plant(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if path, to, ok := strings.Cut(line, " -> "); ok && !strings.Contains(path, " ") {
			put(t, root, path, func(p string) error { return os.Symlink(to, p) })
		} else if path, quoted, ok := strings.Cut(line, " = "); ok && line[0] != '#' {
			content, err := strconv.Unquote(quoted)
			if err != nil {
				t.Fatalf("%s: %s: %v", file, path, err)
			}
			put(t, root, path, func(p string) error { return os.WriteFile(p, []byte(content), 0o644) })
		}
	}
	return root
}

func put(t testing.TB, root, path string, make func(string) error) {
	t.Helper()
	p := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := make(p); err != nil {
		t.Fatal(err)
	}
}

// take records a tree and unpacks what was recorded.
func take(t *testing.T, root string, keep bool) (Report, string) {
	t.Helper()
	var b bytes.Buffer
	rep, err := Take(t.Context(), root, &b, Options{Keep: keep})
	if err != nil || len(rep.Left) > 0 {
		t.Fatalf("Take: %v, left out: %q", err, rep.Left)
	}
	dir := t.TempDir()
	if err := Unpack(bytes.NewReader(b.Bytes()), dir, Limits{}); err != nil {
		t.Fatal(err)
	}
	return rep, dir
}

func encoded(t *testing.T, inv hardware.Inventory) string {
	t.Helper()
	inv.TPM.EKCertificate, inv.TPM.EKPublic = "", "" // digests of what is no longer there
	b, err := inv.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", " "); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestReplay: what is read from a snapshot is what was read of the machine;
// from a scrubbed one, but for the stand-ins. Nothing that names the machine
// is left in a scrubbed one.
func TestReplay(t *testing.T) {
	trees, err := filepath.Glob("../testdata/machines/*/tree.txt")
	if err != nil || len(trees) < 3 {
		t.Fatalf("machines: %v, %v", trees, err)
	}
	for _, file := range trees {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			root := plant(t, file)
			rep, dir := take(t, root, true)
			if rep.Files < 20 || rep.Standins != 0 {
				t.Errorf("report %+v", rep)
			}
			want := encoded(t, rep.Result.Inventory)
			if d := cmp.Diff(want, encoded(t, inventory.Read(t.Context(), dir).Inventory)); d != "" {
				t.Errorf("unscrubbed, read again (-want +got):\n%s", d)
			}
			testScrubbed(t, root, want)
		})
	}
}

func testScrubbed(t *testing.T, root, original string) {
	t.Helper()
	rep, dir := take(t, root, false)
	if rep.Standins == 0 {
		t.Error("nothing was replaced")
	}
	got := inventory.Read(t.Context(), dir)
	if d := cmp.Diff(shape(original), shape(encoded(t, got.Inventory))); d != "" {
		t.Errorf("scrubbed, read again, by its shape (-want +got):\n%s", d)
	}
	names := secrets(original)
	if len(names) < 5 {
		t.Errorf("only %d names in the record", len(names))
	}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		b := []byte(p)
		if d.Type() == fs.ModeSymlink {
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			b = append(b, to...)
		} else if d.Type().IsRegular() {
			c, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b = append(b, c...)
		}
		for _, n := range names {
			if holds(bytes.ToLower(b), n) {
				t.Errorf("%s still has %q", p, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

var (
	named   = regexp.MustCompile(`"(?:[a-z_]*serial|asset_tag|mac|uuid|wwn|host_name)": "([^"]+)"`)
	address = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+`)
	lines   = regexp.MustCompile(`(?m)^ +.*$`)
)

// secrets are what names the machine in a record, in lower case, as it is
// written and, where it is a number, in binary.
func secrets(record string) []string {
	var out []string
	for _, m := range named.FindAllStringSubmatch(record, -1) {
		v := strings.ToLower(m[1])
		if len(v) < 6 || strings.HasPrefix(v, "nvme.") { // names that repeat a serial, which is looked for
			continue
		}
		_, digits, ok := strings.Cut(v, ".")
		if !ok {
			digits = v
		}
		digits = strings.NewReplacer(":", "", "-", "").Replace(digits)
		if b, err := hex.DecodeString(digits); err == nil && len(b) >= 6 {
			out = append(out, digits, strings.ToLower(string(b)))
		}
		out = append(out, v, hex.EncodeToString([]byte(v)))
	}
	return out
}

// holds reports whether a name stands in a table, or as a word in a text: a
// modalias has many digits in a row.
func holds(b []byte, name string) bool {
	if bytes.ContainsAny(b, "\x00\x01\x02\x03\x04\xff") {
		return bytes.Contains(b, []byte(name))
	}
	for rest := b; ; {
		i := bytes.Index(rest, []byte(name))
		if i < 0 {
			return false
		}
		if (i == 0 || !word(rest[i-1])) && (i+len(name) == len(rest) || !word(rest[i+len(name)])) {
			return true
		}
		rest = rest[i+1:]
	}
}

// shape is a record in which names have become their shapes.
func shape(record string) string {
	return lines.ReplaceAllStringFunc(record, func(line string) string {
		if !named.MatchString(line) && !strings.Contains(line, `"path"`) && !strings.Contains(line, `"cmdline"`) && !strings.Contains(line, `"other"`) {
			return line
		}
		if strings.Contains(line, `"cmdline"`) { // addresses there have lengths of their own
			line = address.ReplaceAllString(line, "ADDRESS")
		}
		return strings.Map(func(r rune) rune {
			switch {
			case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
				return 'x'
			}
			return r
		}, line)
	})
}

// TestConsistent: one value has one stand-in, wherever and however it stands,
// and another in another snapshot.
func TestConsistent(t *testing.T) {
	root := plant(t, "../testdata/machines/ingot-ls1/tree.txt")
	read := func() (sata, page89 string) {
		_, dir := take(t, root, false)
		inv := inventory.Read(t.Context(), dir).Inventory
		for _, d := range inv.Drives {
			if d.Transport == hardware.TransportSATA {
				sata = d.Serial
			}
		}
		vpd, err := os.ReadFile(filepath.Join(dir, "sys/block/sda/device/vpd_pg80"))
		if err != nil {
			t.Fatal(err)
		}
		whole, err := os.ReadFile(filepath.Join(dir, "sys/block/sda/device/vpd_pg89"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(vpd[4:]), sata) || !strings.HasPrefix(string(swap(whole[80:100])), sata) {
			t.Errorf("serial %q, page 0x80 %q, identify data %q", sata, vpd, swap(whole[80:100]))
		}
		return sata, string(whole)
	}
	one, _ := read()
	two, _ := read()
	if one == two || one == "SATA-1" || !regexp.MustCompile(`^[A-Z]{4}-[0-9]$`).MatchString(one) {
		t.Errorf("stand-ins of SATA-1 = %q, %q; want two of its shape", one, two)
	}
}

func TestStandins(t *testing.T) {
	s := &standins{pairs: map[string]string{}}
	s.serial("ZJV0123456")
	s.serial("ABC1") // short: where it stands alone
	s.serial("42")   // names nobody
	s.serial("1000") // may be a speed
	s.mac([]byte{0x52, 0x54, 0, 0xab, 0x12, 0xcd})
	uuid, _ := hex.DecodeString("00112233445566778899aabbccddeeff")
	s.uuid(uuid)
	s.wwn([]byte{0x50, 0, 0xc5, 0, 0xa0, 0xb0, 0xc0, 0xd0})
	if s.count != 5 {
		t.Errorf("%d values, want 5", s.count)
	}
	r := s.replacer()
	now := func(in string) string { return string(r.replace([]byte(in))) }
	for _, same := range []string{"42", "1000", "XABC1", "ABC12", "S/NZJV0123456END", "", "nothing here"} {
		if got := now(same); got != same {
			t.Errorf("%q became %q", same, got)
		}
	}
	serial := now("ZJV0123456")
	for in, want := range map[string]string{
		"x=ZJV0123456,":                          "x=" + serial + ",",
		"S/NZJV0123456END\x00":                   "S/N" + serial + "END\x00", // long, in a table: within a word too
		"zjv0123456":                             strings.ToLower(serial),
		"JZ0V214365":                             string(swap([]byte(serial))),
		hex.EncodeToString([]byte("ZJV0123456")): hex.EncodeToString([]byte(serial)),
	} {
		if got := now(in); got != want {
			t.Errorf("%q became %q; want %q", in, got, want)
		}
	}
	mac := now("52:54:00:ab:12:cd")
	raw, err := hex.DecodeString(strings.ReplaceAll(mac, ":", ""))
	if err != nil || mac == "52:54:00:ab:12:cd" || !strings.HasPrefix(mac, "52:54:00:") {
		t.Errorf("MAC became %q", mac)
	}
	if got := now("52-54-00-AB-12-CD"); got != strings.ToUpper(strings.ReplaceAll(mac, ":", "-")) {
		t.Errorf("MAC with dashes became %q, with colons %q", got, mac)
	}
	if got := now("\x52\x54\x00\xab\x12\xcd"); got != string(raw) {
		t.Errorf("binary MAC became % x; want % x", got, raw)
	}
	id := hardware.ParseUUID(now("00112233-4455-6677-8899-aabbccddeeff"))
	if got := hardware.ParseUUID(now("33221100-5544-7766-8899-AABBCCDDEEFF")); id == "" || got != id.Swapped() {
		t.Errorf("UUID became %q, swapped %q", id, got)
	}
	if got := now(string(mixed(uuid))); got == string(mixed(uuid)) || got != string(mixed([]byte(now(string(uuid))))) {
		t.Errorf("binary UUID became % x", got)
	}
	if got := now("0x5000c500a0b0c0d0"); !strings.HasPrefix(got, "0x5000c500") || got == "0x5000c500a0b0c0d0" {
		t.Errorf("WWN became %q", got)
	}
}

func TestChecksums(t *testing.T) {
	identify := make([]byte, 512)
	copy(identify[20:], swap([]byte("ZJV0123456          ")))
	identify[510] = 0xa5
	identify[511] -= sum(identify)
	module := make([]byte, 256)
	copy(module[68:], "FNS12345678")
	module[95] = sum(module[64:95])
	vpd := append([]byte("\x82\x02\x00hi\x90\x12\x00SN\x0aZJV0123456RV\x02"), 0, 0, 0x78)
	vpd[len(vpd)-3] -= sum(vpd[:len(vpd)-2])
	for name, was := range map[string][]byte{"answers/ata/sda/identify": identify, "answers/nic/eth0/module": module, "sys/devices/x/vpd": vpd} {
		s := &standins{pairs: map[string]string{}}
		s.serial("ZJV0123456")
		s.serial("FNS12345678")
		now := rechecked(name, was, s.replacer().replace(was))
		if bytes.Equal(was, now) {
			t.Errorf("%s: nothing was replaced", name)
		}
		switch name {
		case "answers/ata/sda/identify":
			if sum(now) != 0 {
				t.Errorf("%s: checksum is wrong", name)
			}
		case "answers/nic/eth0/module":
			if now[95] != sum(now[64:95]) {
				t.Errorf("%s: checksum is wrong", name)
			}
		default:
			if sum(now[:len(now)-2]) != 0 {
				t.Errorf("%s: checksum is wrong", name)
			}
		}
		broken := bytes.Clone(was)
		broken[len(broken)-1]++
		if name == "answers/ata/sda/identify" && sum(rechecked(name, broken, s.replacer().replace(broken))) == 0 {
			t.Errorf("%s: a checksum that was wrong was made right", name)
		}
	}
}

// A command line keeps neither the machine's name nor addresses nor secrets.
func TestCmdline(t *testing.T) {
	var res inventory.Result
	res.Inventory.Kernel.Cmdline = "ip=10.1.2.3::10.1.2.1:255.255.255.0:db7.corp.example:eth0 root=UUID=0a1b2c3d-1122-3344-5566-778899aabbcc x=db7 y=db70 v6=fd00::17"
	out, _ := scrub(tree{"proc/cmdline": {kind: file, data: []byte("whatever token=secret")}}, res, "db7.corp.example", [32]byte{1})
	got := string(out["proc/cmdline"].data)
	for _, gone := range []string{"10.1.2", "db7.", "corp", "=db7 ", "0a1b2c3d", "secret", "fd00"} {
		if strings.Contains(got, gone) {
			t.Errorf("%q is left in %q", gone, got)
		}
	}
	if !strings.Contains(got, " y=db70 ") || !strings.Contains(got, ":eth0 root=UUID=") || !strings.Contains(got, "192.0.2.") || !strings.Contains(got, "2001:db8::") {
		t.Errorf("the rest became %q", got)
	}
}

// A file that blocks is left out, and told; the rest is recorded.
func TestBlockedFile(t *testing.T) {
	root := plant(t, "../testdata/machines/ingot-ls1/tree.txt")
	fifo := filepath.Join(root, "sys/block/sda/device/wwid")
	if err := os.Remove(fifo); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if f, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			f.Close()
		}
	}()
	c := collector{root: sysfs.Root(root), tree: tree{}}
	c.take("sys/block/sda/device/wwid")
	c.take("sys/block/sda/size")
	if len(c.left) > 1 || len(c.tree) == 0 || string(c.tree["sys/devices/pci0000:00/0000:00:1f.2/ata6/host5/target5:0:0/5:0:0:0/block/sda/size"].data) != "4194304\n" {
		t.Errorf("left out %q, recorded %v", c.left, slices.Collect(maps.Keys(c.tree)))
	}
	for p := range c.tree {
		if strings.HasSuffix(p, "wwid") {
			t.Errorf("%s is there", p)
		}
	}
}
