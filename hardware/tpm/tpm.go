// Package tpm reads the trusted platform module: what sysfs says, and from the
// chip itself its maker, its firmware, and the endorsement key that no other
// chip has. It changes nothing: the key is made from its seed in a transient
// handle, which is flushed.
package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// Source is how parts name this reader.
const Source = "tpm"

const (
	class = "sys/class/tpm/tpm0"
	// maxAnswer bounds every answer: certificates have about 1 KiB.
	maxAnswer = 8 << 10
)

// Read tells of the first TPM. Its chip is asked last, since it is slow and
// only root may: without it version and PCR banks remain.
func Read(ctx context.Context, root sysfs.Root) (hardware.Inventory, error) {
	return read(ctx, root, func() (transport.TPMCloser, error) { return open(root) })
}

// open takes the kernel's resource manager, which shares the chip between
// programs; kernels before 4.12 have only the chip itself.
func open(root sysfs.Root) (transport.TPMCloser, error) {
	t, err := linuxtpm.Open(root.Path("dev/tpmrm0"))
	if errors.Is(err, fs.ErrNotExist) {
		return linuxtpm.Open(root.Path("dev/tpm0"))
	}
	return t, err
}

func read(ctx context.Context, root sysfs.Root, open func() (transport.TPMCloser, error)) (hardware.Inventory, error) {
	var inv hardware.Inventory
	if !root.Exists(class) {
		return inv, nil
	}
	t := hardware.TPM{Sources: hardware.Sources{Source}, PCRBanks: banks(root)}
	version1(root, &t)
	if major := root.Text(class, "tpm_version_major"); major == "2" { // since 5.6
		t.Version = "2.0"
	} else if major == "1" || t.Version != "" {
		t.Version = "1.2"
		inv.TPM = t
		return inv, nil
	}
	q := &chip{ctx: ctx, root: root, open: open}
	defer q.close()
	err := q.into(&t)
	inv.TPM = t
	switch {
	case errors.Is(err, fs.ErrPermission):
		inv.Findings = append(inv.Findings, hardware.Finding{Code: hardware.CodeNotPermitted, Severity: hardware.Info, Part: "tpm", Source: Source,
			Evidence: "open /dev/tpmrm0: permission denied", Hint: "the chip's maker, firmware and endorsement key are read by root only"})
	case err != nil:
		return inv, fmt.Errorf("ask the TPM: %w", err)
	}
	return inv, nil
}

// banks are the PCR banks that are on; the kernel shows them since 5.12.
func banks(root sysfs.Root) []string {
	var out []string
	for _, name := range root.Names(class) {
		if bank, ok := strings.CutPrefix(name, "pcr-"); ok {
			out = append(out, bank)
		}
	}
	return out
}

// capsOf1 are the lines that only a TPM 1.2 has in its caps file.
var capsOf1 = regexp.MustCompile(`(?m)^(Manufacturer|TCG version|Firmware version): *(\S+)`)

func version1(root sysfs.Root, t *hardware.TPM) {
	for _, m := range capsOf1.FindAllStringSubmatch(root.Text(class, "device/caps")+"\n"+root.Text(class, "caps"), -1) {
		switch m[1] {
		case "Manufacturer":
			var id uint32
			if _, err := fmt.Sscanf(m[2], "0x%x", &id); err == nil {
				t.Manufacturer = vendor(id)
			}
		case "TCG version":
			t.Version = m[2]
		case "Firmware version":
			t.Firmware = hardware.Clean(m[2])
		}
	}
}

// vendor is an id of the TCG's registry: four characters in one number.
func vendor(id uint32) string {
	return hardware.Clean(string(binary.BigEndian.AppendUint32(nil, id)))
}

// chip puts questions to the TPM, which is opened for the first of them.
type chip struct {
	ctx  context.Context
	root sysfs.Root
	open func() (transport.TPMCloser, error)
	tpm  transport.TPMCloser
}

func (c *chip) close() {
	if c.tpm != nil {
		_ = c.tpm.Close() // nothing was written
	}
}

// ask is the answer to one question; nil where the chip has none, or where it
// was not recorded.
func (c *chip) ask(name string, live func(transport.TPM) ([]byte, error)) ([]byte, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	b, err := c.root.Ask(c.ctx, "tpm/tpm0/"+name, maxAnswer, func() ([]byte, error) {
		if c.tpm == nil {
			t, err := c.open()
			if err != nil {
				return nil, err
			}
			c.tpm = t
		}
		return live(c.tpm)
	})
	if errors.Is(err, sysfs.ErrNotRecorded) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNone) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

func (c *chip) into(t *hardware.TPM) error {
	b, err := c.ask("properties", properties)
	if err != nil {
		return err
	}
	if err := decodeProperties(b, t); err != nil {
		return err
	}
	if len(t.PCRBanks) == 0 {
		if b, err = c.ask("pcrs", pcrs); err != nil {
			return err
		}
		if t.PCRBanks, err = decodePCRs(b); err != nil {
			return err
		}
	}
	return c.endorsement(t)
}
