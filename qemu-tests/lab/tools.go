package lab

import (
	"path/filepath"
	"strings"
)

// tools is a Debian root that was unpacked and never configured: QEMU runs out
// of it through its own dynamic linker, whatever the host has.
type tools string

func (t tools) path(parts ...string) string {
	return filepath.Join(append([]string{string(t)}, parts...)...)
}

const libDir = "usr/lib/x86_64-linux-gnu"

// files are what the lab needs of the tools.
func (t tools) files() []string {
	return []string{
		t.path(libDir, "ld-linux-x86-64.so.2"), t.path("usr/bin/qemu-system-x86_64"), t.path("usr/share/seabios/bios-256k.bin"),
		t.path("usr/share/qemu/efi-virtio.rom"), t.path("usr/share/OVMF/OVMF_CODE_4M.fd"), t.path("usr/share/OVMF/OVMF_VARS_4M.fd"),
	}
}

// qemu is the start of every QEMU command line.
func (t tools) qemu() []string {
	libs := []string{t.path(libDir), t.path(libDir, "pulseaudio")}
	return []string{
		t.path(libDir, "ld-linux-x86-64.so.2"), "--library-path", strings.Join(libs, ":"), t.path("usr/bin/qemu-system-x86_64"),
		"-L", t.path("usr/share/qemu"), "-L", t.path("usr/share/seabios"), "-L", t.path("usr/lib/ipxe/qemu"),
	}
}
