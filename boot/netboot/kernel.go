package netboot

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// checkKernel tells a whole bzImage from anything else. On BIOS iPXE runs a
// small file that is none as a boot sector, and the machine hangs without a
// word. Offsets: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
func checkKernel(b []byte) error {
	const setupSects, sysSize, bootFlag, magic, end = 0x1f1, 0x1f4, 0x1fe, 0x202, 0x206
	if len(b) < end || b[bootFlag] != 0x55 || b[bootFlag+1] != 0xaa || string(b[magic:end]) != "HdrS" {
		return errors.New("not a Linux kernel for x86 (bzImage)")
	}
	sects := int(b[setupSects])
	if sects == 0 {
		sects = 4
	}
	whole := (sects+1)*512 + int(binary.LittleEndian.Uint32(b[sysSize:]))*16
	if len(b) < whole {
		return fmt.Errorf("%d bytes of a kernel of %d: cut short", len(b), whole)
	}
	return nil
}
