package initramfs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// module makes an ELF object that has a .modinfo section and nothing else.
func module(t testing.TB, info ...string) []byte {
	t.Helper()
	modinfo := strings.Join(info, "\x00") + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	const headerSize, sectionSize = 64, 64
	at := uint64(headerSize)
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(modinfo))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(modinfo)), Size: uint64(len(names))},
	}
	head := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shoff: at + uint64(len(modinfo)+len(names)), Ehsize: headerSize,
		Shentsize: sectionSize, Shnum: uint16(len(sections)), Shstrndx: 2,
	}
	var b bytes.Buffer
	for _, v := range []any{head, []byte(modinfo + names), sections} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func packXZ(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// smallTree is a modules folder in a distribution's layout, with each trap once.
func smallTree(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "6.12.0-test")
	for path, data := range map[string][]byte{
		"modules.builtin": []byte("kernel/drivers/virtio/virtio_pci.ko\nkernel/lib/crc-base.ko\n"),
		"kernel/drivers/net/ethernet/acme/fast.ko.xz": packXZ(t, module(t, "alias=pci:v00001AF4d00001000sv*sd*bc*sc*i*", "depends=fast-core,crc-base", "firmware=acme/fast.bin", "name=fast")),
		"kernel/drivers/net/ethernet/acme/core.ko":    module(t, "depends=", "name=core"),
		"kernel/drivers/net/fast-core.ko.xz":          packXZ(t, module(t, "depends=", "name=fast_core", "softdep=pre: fast hash absent post: later")),
		"kernel/drivers/net/ethernet/isa/old.ko":      module(t, "depends=", "name=old"),
		"kernel/crypto/hash_generic.ko":               module(t, "alias=hash", "alias=crypto-hash", "depends=", "name=hash_generic"),
		"kernel/fs/lost.ko":                           module(t, "depends=nowhere", "name=lost"),
		"kernel/fs/broken.ko":                         []byte("not an ELF file"),
	} {
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
