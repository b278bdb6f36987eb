package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// index writes kmod's files and reads them; the modules' own files are not
// there, so that nothing reaches the kernel.
func index(t *testing.T, files map[string]string) *Modules {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"modules.dep", "modules.softdep", "modules.builtin", "modules.alias"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(files[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x, err := readModIndex(dir)
	if err != nil {
		t.Fatal(err)
	}
	return newModules(x)
}

func TestModuleIndex(t *testing.T) {
	m := index(t, map[string]string{
		"modules.dep":     "kernel/net/net-failover.ko.xz: kernel/net/failover.ko.xz\nkernel/net/failover.ko.xz:\n",
		"modules.softdep": "# comment\nsoftdep net-failover pre: crc32c-intel a post: b\n",
		"modules.builtin": "kernel/drivers/virtio/virtio-pci.ko\n",
		"modules.alias":   "alias virtio:d00000001v* net_failover\n",
	})
	x := m.index
	if got, want := x.path["net_failover"], filepath.Join(x.dir, "kernel/net/net-failover.ko.xz"); got != want {
		t.Errorf("path = %q; want %q", got, want)
	}
	if got := x.deps["net_failover"]; !slices.Equal(got, []string{"failover"}) {
		t.Errorf("deps = %q; want failover", got)
	}
	if got := x.soft["net_failover"]; !slices.Equal(got, []string{"crc32c_intel", "a"}) {
		t.Errorf("soft = %q; want what stands behind pre:", got)
	}
	if !x.builtin["virtio_pci"] {
		t.Error("virtio_pci is not known as built in")
	}
}

func TestLoadOrderAndErrors(t *testing.T) {
	m := index(t, map[string]string{
		"modules.dep":     "a.ko: b.ko c.ko\nb.ko: c.ko\nc.ko:\n",
		"modules.builtin": "kernel/builtin.ko\n",
	})
	ctx := context.Background()
	if err := m.Load(ctx, "builtin"); err != nil {
		t.Errorf("Load of a builtin module = %v; want nil", err)
	}
	if err := m.Load(ctx, "absent"); !errors.Is(err, ErrNoModule) {
		t.Errorf("Load(absent) = %v; want ErrNoModule", err)
	}
	if err := m.Load(ctx, "a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load(a) = %v; want the first module's own error", err)
	}
	if err := m.Load(ctx, "b"); err == nil { // a did not wait for it, once c was lost
		t.Error("Load(b) = nil; want an error")
	}
	var names []string
	for _, l := range m.Loads() {
		names = append(names, l.Name)
	}
	if want := []string{"absent", "c", "b", "a"}; !slices.Equal(names, want) {
		t.Errorf("loads in order %q; want %q", names, want)
	}
}

// TestSoftCirclesEnd loads modules that want each other softly, in the ways
// that could wait for ever.
func TestSoftCirclesEnd(t *testing.T) {
	m := index(t, map[string]string{
		"modules.dep":     "a.ko:\nb.ko: a.ko\nc.ko:\nd.ko: c.ko\ne.ko:\n",
		"modules.softdep": "softdep a pre: b c\nsoftdep c pre: d a e\nsoftdep e pre: c b\n",
	})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := m.Load(ctx, "d", "e", "a", "b", "c")
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Load = %v; it waits in a circle", err)
	}
	if got := len(m.Loads()); got != 5 {
		t.Errorf("%d modules tried; want 5", got)
	}
}

func TestRefusedAreNotLoadedForDevices(t *testing.T) {
	m := index(t, map[string]string{
		"modules.dep":   "ipmi_watchdog.ko:\nipmi_si.ko:\n",
		"modules.alias": "alias acpi*:IPI0001:* ipmi_si\nalias acpi*:IPI0001:* ipmi_watchdog\n",
	})
	for _, c := range m.forDevice("acpi:IPI0001:") {
		<-c.done
	}
	if l := m.Loads(); len(l) != 1 || l[0].Name != "ipmi_si" || l[0].For != "acpi:IPI0001:" {
		t.Errorf("loads = %+v; want ipmi_si alone", l)
	}
}

// TestInsertUnpacks gives the kernel a module that is none: whichever way it is
// unpacked, the answer is about its form and not about the file.
func TestInsertUnpacks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "junk.ko.xz")
	if err := os.WriteFile(file, []byte("not xz"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := insert(file)
	if err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EEXIST) {
		t.Errorf("insert of junk = %v; want a refusal", err)
	}
}

func TestDeviceAliases(t *testing.T) {
	sys := t.TempDir()
	for path, alias := range map[string]string{
		"bus/cpu/devices/cpu0":              "cpu:type:x86,ven0002fam000F:feature:,0000\n",
		"bus/pci/devices/0000:00:1f.2":      "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01\n",
		"bus/pci/devices/0000:00:03.0":      "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00\n",
		"bus/pci/devices/0000:00:04.0":      "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00\n", // twice
		"bus/acpi/devices/IPI0001:00":       "acpi:IPI0001:\nof:Nfoo\n",
		"bus/virtio/devices/virtio0":        "virtio:d00000001v00001AF4\n",
		"bus/platform/devices/no-modalias0": "",
	} {
		dir := filepath.Join(sys, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "modalias"), []byte(alias), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := deviceAliases(sys)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00",
		"virtio:d00000001v00001AF4",
		"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
		"acpi:IPI0001:", "of:Nfoo",
		"cpu:type:x86,ven0002fam000F:feature:,0000",
	}
	if !slices.Equal(got, want) {
		t.Errorf("deviceAliases = %q; want %q", got, want)
	}
}
