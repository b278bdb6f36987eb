package initramfs

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ulikunitz/xz"
)

// maxModuleBytes bounds an unpacked kernel module; the largest of Debian's
// (a GPU driver with its symbols) is below 32 MiB.
const maxModuleBytes = 64 << 20

// ModInfo is what a kernel module says of itself in its .modinfo section.
type ModInfo struct {
	Name     string   // with underscores, as in /proc/modules
	Path     string   // relative to the modules folder: kernel/drivers/…/x.ko.xz
	Depends  []string // hard dependencies, by name
	SoftPre  []string // modules that should be loaded before, by name
	Aliases  []string // patterns for modaliases
	Firmware []string // files that it may ask for, below /lib/firmware
}

// moduleName is the kernel's name for a module file.
func moduleName(path string) string {
	base := filepath.Base(path)
	base, _, _ = strings.Cut(base, ".ko")
	return strings.ReplaceAll(base, "-", "_")
}

// readModInfo reads the .modinfo section of <dir>/<rel>, which may be packed
// with xz.
func readModInfo(dir, rel string) (ModInfo, error) {
	raw, err := os.ReadFile(filepath.Join(dir, rel))
	if err != nil {
		return ModInfo{}, fmt.Errorf("read module: %w", err)
	}
	if strings.HasSuffix(rel, ".xz") {
		if raw, err = unxz(raw); err != nil {
			return ModInfo{}, fmt.Errorf("unpack module %s: %w", rel, err)
		}
	}
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		return ModInfo{}, fmt.Errorf("parse module %s: %w", rel, err)
	}
	sec := f.Section(".modinfo")
	if sec == nil {
		return ModInfo{}, fmt.Errorf("parse module %s: no .modinfo section", rel)
	}
	data, err := sec.Data()
	if err != nil {
		return ModInfo{}, fmt.Errorf("parse module %s: read .modinfo: %w", rel, err)
	}
	return parseModInfo(moduleName(rel), rel, data), nil
}

func unxz(packed []byte) ([]byte, error) {
	r, err := xz.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxModuleBytes+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxModuleBytes {
		return nil, fmt.Errorf("larger than %d bytes", maxModuleBytes)
	}
	return raw, nil
}

// parseModInfo reads the NUL-separated key=value strings of a .modinfo section.
// A key that it does not know is skipped.
func parseModInfo(name, rel string, data []byte) ModInfo {
	m := ModInfo{Name: name, Path: rel}
	for s := range strings.SplitSeq(string(data), "\x00") {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			continue
		}
		switch key {
		case "name":
			m.Name = value
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.Depends = append(m.Depends, strings.ReplaceAll(d, "-", "_"))
				}
			}
		case "softdep":
			m.SoftPre = append(m.SoftPre, softPre(value)...)
		case "alias":
			m.Aliases = append(m.Aliases, value)
		case "firmware":
			m.Firmware = append(m.Firmware, value)
		}
	}
	return m
}

// softPre gives the names that stand after "pre:" in a softdep.
func softPre(value string) []string {
	var names []string
	pre := false
	for _, w := range strings.Fields(value) {
		switch {
		case w == "pre:":
			pre = true
		case strings.HasSuffix(w, ":"):
			pre = false
		case pre:
			names = append(names, strings.ReplaceAll(w, "-", "_"))
		}
	}
	return names
}
