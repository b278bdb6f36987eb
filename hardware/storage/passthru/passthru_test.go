package passthru

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unsafe"
)

// What the kernel's headers say of 64 bits (linux/nvme_ioctl.h, scsi/sg.h).
func TestLayout(t *testing.T) {
	for _, c := range []struct {
		what      string
		got, want uintptr
	}{
		{"sizeof nvme_passthru_cmd", unsafe.Sizeof(nvmePassthruCmd{}), 72},
		{"nvme addr", unsafe.Offsetof(nvmePassthruCmd{}.addr), 24},
		{"nvme cdw10", unsafe.Offsetof(nvmePassthruCmd{}.cdw10), 40},
		{"sizeof sg_io_hdr", unsafe.Sizeof(sgIOHdr{}), 88},
		{"sg dxferp", unsafe.Offsetof(sgIOHdr{}.data), 16},
		{"sg timeout", unsafe.Offsetof(sgIOHdr{}.timeoutMillis), 40},
		{"sg usr_ptr", unsafe.Offsetof(sgIOHdr{}.user), 56},
		{"sg status", unsafe.Offsetof(sgIOHdr{}.status), 64},
		{"sg resid", unsafe.Offsetof(sgIOHdr{}.residual), 72},
	} {
		if c.got != c.want {
			t.Errorf("%s = %d; want %d", c.what, c.got, c.want)
		}
	}
}

func ata(command, feature byte) []byte {
	cdb := make([]byte, 16)
	cdb[0], cdb[4], cdb[14] = ATAPassThrough, feature, command
	return cdb
}

func TestReadOnly(t *testing.T) {
	for _, c := range []struct {
		what string
		cdb  []byte
		want bool
	}{
		{"INQUIRY", []byte{0x12, 1, 0x80, 0, 255, 0}, true},
		{"REQUEST SENSE", []byte{0x03, 0, 0, 0, 252, 0}, true},
		{"LOG SENSE", []byte{0x4d, 0, 0x4d, 0, 0, 0, 0, 0, 252, 0}, true},
		{"LOG SENSE that saves", []byte{0x4d, 1, 0x4d, 0, 0, 0, 0, 0, 252, 0}, false},
		{"LOG SELECT", []byte{0x4c, 0, 0x4d, 0, 0, 0, 0, 0, 252, 0}, false},
		{"TEST UNIT READY", []byte{0, 0, 0, 0, 0, 0}, false},
		{"START STOP UNIT", []byte{0x1b, 0, 0, 0, 0, 0}, false},
		{"FORMAT UNIT", []byte{0x04, 0, 0, 0, 0, 0}, false},
		{"WRITE(10)", []byte{0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, false},
		{"UNMAP", []byte{0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, false},
		{"SANITIZE", []byte{0x48, 3, 0, 0, 0, 0, 0, 0, 0, 0}, false},
		{"an inquiry of another length", []byte{0x12, 0}, false},
		{"nothing", nil, false},
		{"IDENTIFY DEVICE", ata(0xec, 0), true},
		{"CHECK POWER MODE", ata(0xe5, 0), true},
		{"READ LOG EXT", ata(0x2f, 0), true},
		{"SMART READ DATA", ata(0xb0, 0xd0), true},
		{"SMART READ LOG", ata(0xb0, 0xd5), true},
		{"SMART WRITE LOG", ata(0xb0, 0xd6), false},
		{"SMART EXECUTE OFF-LINE", ata(0xb0, 0xd4), false},
		{"SMART DISABLE", ata(0xb0, 0xd9), false},
		{"SECURITY ERASE UNIT", ata(0xf4, 0), false},
		{"WRITE DMA EXT", ata(0x35, 0), false},
		{"STANDBY IMMEDIATE", ata(0xe0, 0), false},
		{"SET FEATURES", ata(0xef, 0), false},
		{"DOWNLOAD MICROCODE", ata(0x92, 0), false},
	} {
		if got := ReadOnlySCSI(c.cdb); got != c.want {
			t.Errorf("ReadOnlySCSI(%s) = %t; want %t", c.what, got, c.want)
		}
	}
	const retain = 1 << 15
	for _, c := range []struct {
		what string
		a    Admin
		want bool
	}{
		{"Identify", Admin{Opcode: 0x06}, true},
		{"Get Log Page", Admin{Opcode: 0x02, CDW10: 2 | retain}, true},
		{"Get Log Page that clears the event", Admin{Opcode: 0x02, CDW10: 2}, false},
		{"Format NVM", Admin{Opcode: 0x80}, false},
		{"Sanitize", Admin{Opcode: 0x84}, false},
		{"Set Features", Admin{Opcode: 0x09}, false},
		{"Firmware Commit", Admin{Opcode: 0x10}, false},
		{"Delete I/O Submission Queue", Admin{Opcode: 0x00}, false},
		{"Namespace Management", Admin{Opcode: 0x0d}, false},
		{"Device Self-test", Admin{Opcode: 0x14}, false},
	} {
		if got := ReadOnlyNVMe(c.a); got != c.want {
			t.Errorf("ReadOnlyNVMe(%s) = %t; want %t", c.what, got, c.want)
		}
	}
}

// A refused command never reaches the kernel: a plain file would answer ENOTTY.
func TestRefusedBeforeTheKernel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.SCSI([]byte{0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512); !errors.Is(err, ErrNotReadOnly) {
		t.Errorf("WRITE(10): %v; want ErrNotReadOnly", err)
	}
	if _, err := d.NVMe(Admin{Opcode: 0x80, Bytes: 512}); !errors.Is(err, ErrNotReadOnly) {
		t.Errorf("Format NVM: %v; want ErrNotReadOnly", err)
	}
	if _, err := d.SCSI([]byte{0x12, 0, 0, 0, 255, 0}, 255); err == nil || errors.Is(err, ErrNotReadOnly) {
		t.Errorf("INQUIRY of a file: %v; want the kernel's refusal", err)
	}
	if _, err := d.NVMe(Admin{Opcode: 0x06, Bytes: 4096}); err == nil || errors.Is(err, ErrNotReadOnly) {
		t.Errorf("Identify of a file: %v; want the kernel's refusal", err)
	}
}
