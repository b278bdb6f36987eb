// Package firmware reads how the firmware started the kernel, and what UEFI
// keeps in its variables: Secure Boot, the boot entries and their order.
package firmware

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"runtime"
	"slices"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// Source is how parts name this reader.
const Source = "firmware"

const (
	efi     = "sys/firmware/efi"
	efivars = efi + "/efivars"
	// global is EFI_GLOBAL_VARIABLE, the vendor of what the specification
	// defines (UEFI 3.3).
	global = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	// maxVariable bounds one: load options are a few hundred bytes.
	maxVariable = 64 << 10
	maxEntries  = 128
)

var from = hardware.Sources{Source}

// bootOption is the name of a variable that holds a load option (UEFI 3.1.3).
var bootOption = regexp.MustCompile(`^(Boot[0-9A-F]{4})` + global + `$`)

// Read tells boot mode, Secure Boot and boot entries. Secure Boot is unknown
// where the variables are not mounted, and disabled under BIOS.
func Read(ctx context.Context, root sysfs.Root) (hardware.Inventory, error) {
	var inv hardware.Inventory
	if !root.Exists("sys/firmware") {
		return inv, nil
	}
	if !root.Exists(efi) {
		if runtime.GOARCH != "amd64" && !root.Exists("sys/firmware/dmi") {
			return inv, nil // a device tree machine has neither
		}
		inv.BIOS = hardware.BIOS{Mode: hardware.ModeBIOS, SecureBoot: hardware.Disabled, Sources: from}
		return inv, nil
	}
	inv.BIOS = hardware.BIOS{Mode: hardware.ModeUEFI, Sources: from}
	names := root.Names(efivars)
	if len(names) == 0 {
		inv.Findings = append(inv.Findings, hardware.Finding{Code: hardware.CodeResourceMissing, Severity: hardware.Info, Part: "bios",
			Evidence: "there are no variables in /" + efivars, Hint: "mount efivarfs there; without it Secure Boot and the boot entries are not known", Source: Source})
		return inv, nil
	}
	inv.BIOS.SecureBoot, inv.BIOS.SetupMode = flag(root, "SecureBoot"), flag(root, "SetupMode")
	if !slices.Contains(names, "SecureBoot"+global) {
		inv.BIOS.SecureBoot = hardware.Disabled // firmware without it has no such variable
	}
	err := entries(ctx, root, names, &inv)
	return inv, err
}

// variable is the value of a global variable, after its four bytes of
// attributes; nil where it is not there.
func variable(root sysfs.Root, name string) ([]byte, error) {
	b, err := root.Bytes(maxVariable, efivars, name+global)
	if err != nil {
		return nil, err
	}
	if len(b) < 4 {
		return nil, fmt.Errorf("read variable %s: %d bytes, at least 4", name, len(b))
	}
	return b[4:], nil
}

// flag is a variable of one byte, 0 or 1.
func flag(root sysfs.Root, name string) hardware.Switch {
	b, err := variable(root, name)
	if err != nil || len(b) != 1 || b[0] > 1 {
		return ""
	}
	return hardware.SwitchOf(b[0] == 1)
}

// numbers is a variable that lists boot options, such as BootOrder.
func numbers(root sysfs.Root, name string) []string {
	b, err := variable(root, name)
	if err != nil {
		return nil
	}
	var out []string
	for ; len(b) >= 2 && len(out) < 4*maxEntries; b = b[2:] {
		out = append(out, fmt.Sprintf("Boot%04X", binary.LittleEndian.Uint16(b)))
	}
	return out
}

func entries(ctx context.Context, root sysfs.Root, names []string, inv *hardware.Inventory) error {
	order, current, next := numbers(root, "BootOrder"), numbers(root, "BootCurrent"), numbers(root, "BootNext")
	for _, name := range names {
		m := bootOption.FindStringSubmatch(name)
		if m == nil || len(inv.BootEntries) == maxEntries {
			continue
		}
		if ctx.Err() != nil { // the kernel slows down who reads many
			return fmt.Errorf("read boot entries: %d were read: %w", len(inv.BootEntries), ctx.Err())
		}
		id := m[1]
		e := hardware.BootEntry{ID: id, Order: slices.Index(order, id) + 1, Current: slices.Contains(current, id), Next: slices.Contains(next, id), Sources: from}
		b, err := variable(root, id)
		if err == nil {
			err = loadOption(b, &e)
		}
		if err != nil {
			inv.Findings = append(inv.Findings, malformed(id, err))
		}
		inv.BootEntries = append(inv.BootEntries, e)
	}
	return nil
}

func malformed(id string, err error) hardware.Finding {
	f := hardware.Finding{Code: hardware.CodeSourceMalformed, Severity: hardware.Info, Part: "boot entry " + id, Evidence: err.Error(),
		Hint: "delete the entry in the firmware's setup", Source: Source}
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) { // without the root that it was read below
		f.Evidence, f.Hint = pathErr.Op+": "+pathErr.Err.Error(), ""
	}
	return f
}
