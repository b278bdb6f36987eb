package initramfs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// toolsModules is the modules folder of the tools root, or "" with the reason.
func toolsModules(t *testing.T) string {
	t.Helper()
	root := os.Getenv("INGOT_TOOLS")
	if root == "" {
		root = "../../build/tools"
	}
	dirs, err := filepath.Glob(filepath.Join(root, "usr/lib/modules/*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no kernel modules in %s: the tools root is missing", root)
		}
		t.Skipf("no kernel modules in %s: set INGOT_TOOLS or make the tools root", root)
	}
	return dirs[0]
}

func TestClosureOfDebianKernel(t *testing.T) {
	dir := toolsModules(t)
	got, err := Closure(dir, []string{"ext4", "virtio-net", "ipmi_si", "virtio_pci"})
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, p := range got {
		if _, dup := at[moduleName(p)]; dup {
			t.Errorf("%s stands twice", p)
		}
		at[moduleName(p)] = i
		if _, err := os.Stat(filepath.Join(dir, p)); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct{ first, then string }{
		{"jbd2", "ext4"}, {"mbcache", "ext4"}, {"crc32c_generic", "ext4"}, // the last is soft
		{"failover", "net_failover"}, {"net_failover", "virtio_net"},
		{"ipmi_msghandler", "ipmi_si"},
	} {
		i, ok := at[c.first]
		j, ok2 := at[c.then]
		if !ok || !ok2 || i >= j {
			t.Errorf("%s at %d, %v; %s at %d, %v: want the first before the second", c.first, i, ok, c.then, j, ok2)
		}
	}
	if slices.ContainsFunc(got, func(p string) bool { return moduleName(p) == "virtio_pci" }) {
		t.Errorf("virtio_pci is built in and yet stands in %v", got)
	}
}

func TestClosureNamesWhoAsked(t *testing.T) {
	_, err := Closure(toolsModules(t), []string{"no_such_thing"})
	if !errors.Is(err, ErrNoModule) {
		t.Errorf("Closure = %v; want ErrNoModule", err)
	}
}

func TestSoftPre(t *testing.T) {
	got := softPre("pre: crc32c a-b post: c pre: d")
	if want := []string{"crc32c", "a_b", "d"}; !slices.Equal(got, want) {
		t.Errorf("softPre = %q; want %q", got, want)
	}
}
