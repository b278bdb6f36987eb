package netboot

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// bzImage is a header that says n paragraphs of kernel follow one sector of
// setup code, and they do.
func bzImage(n int) []byte {
	b := make([]byte, 1024+16*n)
	b[0x1f1], b[0x1fe], b[0x1ff] = 1, 0x55, 0xaa
	binary.LittleEndian.PutUint32(b[0x1f4:], uint32(n))
	copy(b[0x202:], "HdrS")
	return b
}

func TestCheckKernel(t *testing.T) {
	whole := bzImage(100)
	if err := checkKernel(whole); err != nil {
		t.Errorf("checkKernel of a whole one = %v; want nil", err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("no kernel at all"), "zeros": make([]byte, 4096),
		"cut short": whole[:len(whole)-1], "header alone": whole[:0x206],
	} {
		if checkKernel(b) == nil {
			t.Errorf("checkKernel of %s = nil; want an error", name)
		}
	}
	root := os.Getenv("INGOT_TOOLS")
	if root == "" {
		root = "../../build/tools"
	}
	real, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(real) == 0 {
		missing(t, "no kernel in the tools root %s (INGOT_TOOLS)", root)
	}
	for _, path := range real {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkKernel(b); err != nil {
			t.Errorf("checkKernel of %s = %v; want nil", path, err)
		}
	}
}

func FuzzCheckKernel(f *testing.F) {
	f.Add(bzImage(1))
	f.Add(bzImage(1)[:1000])
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkKernel(b) == nil && len(b) < 1024 {
			t.Errorf("%d bytes pass for a kernel", len(b))
		}
	})
}
