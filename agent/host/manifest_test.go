package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/images/initramfs"
)

// TestPathsAreTheBuilders holds our copies of the paths to those of the builder.
func TestPathsAreTheBuilders(t *testing.T) {
	for _, c := range [][2]string{{manifestPath, initramfs.ManifestPath}, {builtPath, initramfs.BuiltPath}, {modulesRoot, initramfs.ModulesDir}} {
		if c[0] != c[1] {
			t.Errorf("path = %q; images/initramfs has %q", c[0], c[1])
		}
	}
}

func TestCheckManifest(t *testing.T) {
	root := t.TempDir()
	for name, data := range map[string]string{"init": "12345", "short": "12", "with space": "x"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ list, want string }{
		{"5 /init\n1 /with space\n", ""},
		{"5 /init\n3 /short\n", "1 of 2 files are not whole (too little memory?): /short has 2 of 3 bytes"},
		{"5 /init\n3 /gone\n3 /short\n", "2 of 3 files are not whole (too little memory?): /gone is missing, /short has 2 of 3 bytes"},
		{"", "the list is empty"},
		{"five /init\n", "is not"},
	} {
		err := checkManifest(strings.NewReader(c.list), root)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("checkManifest(%q) = %v; want %q", c.list, err, c.want)
		}
	}
}

func TestConsole(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := newConsole(w)
	c.Say("hostname %s", "evil\x1b[2J\nname")
	c.Flush(5e9)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	n, err := r.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(buf[:n]); !strings.HasSuffix(got, "] ingot: hostname evil [2J name\n") || got[0] != '[' {
		t.Errorf("Say wrote %q", got)
	}
}

func TestConsoleNames(t *testing.T) {
	file := filepath.Join(t.TempDir(), "consoles")
	text := "tty0                 -WU (EC  p  )    4:1\nttyS0                -W- (EC  p a)    4:64\n../evil -W-\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(consoleNames(file), " "); got != "tty0 ttyS0" {
		t.Errorf("consoleNames = %q; want tty0 ttyS0", got)
	}
}

func TestDriveMounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mounts")
	text := "proc /proc proc rw 0 0\n/dev/sda1 /mnt/a\\040b ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/loop0 /lower squashfs ro 0 0\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := driveMounts(file)
	if err != nil || strings.Join(got, "|") != "/mnt/a b|/lower" {
		t.Errorf("driveMounts = %q, %v", got, err)
	}
}
