package initramfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

func TestClosureOfSmallTree(t *testing.T) {
	got, err := Closure(smallTree(t), []string{"fast", "virtio-pci"})
	if err != nil {
		t.Fatal(err)
	}
	// fast_core wants fast softly, which is under way: the circle ends there.
	want := []string{"kernel/crypto/hash_generic.ko", "kernel/drivers/net/fast-core.ko.xz", "kernel/drivers/net/ethernet/acme/fast.ko.xz"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Closure (-want +got):\n%s", diff)
	}
}

func TestClosureErrors(t *testing.T) {
	dir := smallTree(t)
	for name, want := range map[string]string{
		"absent": "module absent: no such module",
		"lost":   "module nowhere: no such module in " + dir + " (wanted by lost)",
		"broken": "parse module kernel/fs/broken.ko",
	} {
		if _, err := Closure(dir, []string{name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Closure(%s) = %v; want %q", name, err, want)
		}
	}
	if _, err := Closure(t.TempDir(), nil); err == nil {
		t.Error("Closure of an empty folder = nil; want an error")
	}
}

// smallOptions builds from the small tree.
func smallOptions(t *testing.T, output string) Options {
	agent := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(agent, []byte("the agent"), 0o700); err != nil {
		t.Fatal(err)
	}
	ids := filepath.Join(t.TempDir(), "pci.ids")
	if err := os.WriteFile(ids, []byte("8086  Intel Corporation\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return Options{
		Agent: agent, ModulesDir: smallTree(t), PCIIDs: ids, Output: output,
		Built:  time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
		Groups: []Group{{Why: "test", Dirs: []string{"drivers/net/ethernet"}, Without: []string{"isa"}, Names: []string{"virtio_pci"}}},
	}
}

func TestBuild(t *testing.T) {
	out := filepath.Join(t.TempDir(), "initramfs.cpio.zst")
	res, err := Build(context.Background(), smallOptions(t, out))
	if err != nil {
		t.Fatal(err)
	}
	got := unpack(t, out)
	const mods = "lib/modules/6.12.0-test/"
	for name, want := range map[string]string{
		"init":                      "the agent",
		"etc/ingot/role":            "agent\n",
		"etc/ingot/built":           "2026-06-01T12:00:00Z\n",
		mods + "modules.alias":      "alias hash hash_generic\nalias crypto-hash hash_generic\nalias pci:v00001AF4d00001000sv*sd*bc*sc*i* fast\n",
		mods + "modules.softdep":    "softdep fast_core pre: fast hash_generic\n",
		mods + "modules.builtin":    "kernel/crc_base.ko\nkernel/virtio_pci.ko\n",
		mods + "modules.dep":        "kernel/crypto/hash_generic.ko:\nkernel/drivers/net/ethernet/acme/core.ko:\nkernel/drivers/net/ethernet/acme/fast.ko.xz: kernel/drivers/net/fast-core.ko.xz\nkernel/drivers/net/fast-core.ko.xz:\n",
		"usr/share/misc/pci.ids.gz": got["usr/share/misc/pci.ids.gz"],
	} {
		if got[name] != want || want == "" {
			t.Errorf("%s = %q; want %q", name, got[name], want)
		}
	}
	if want := 4; len(res.Modules) != want {
		t.Errorf("%d modules; want %d: %+v", len(res.Modules), want, res.Modules)
	}
	// The manifest names every other file with its size.
	lines := strings.Split(strings.TrimSuffix(got["etc/ingot/manifest"], "\n"), "\n")
	if len(lines) != len(got)-1 || !slices.Contains(lines, "9 /init") {
		t.Errorf("manifest has %d lines for %d files: %q", len(lines), len(got), lines)
	}
}

func TestBuildIsReproducible(t *testing.T) {
	dir := t.TempDir()
	o := smallOptions(t, "")
	var packed [2][]byte
	for i := range packed {
		o.Output = filepath.Join(dir, "initramfs")
		if _, err := Build(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(o.Output)
		if err != nil {
			t.Fatal(err)
		}
		packed[i] = b
	}
	if !bytes.Equal(packed[0], packed[1]) {
		t.Error("two builds of the same inputs differ")
	}
}

func TestBuildLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	o := smallOptions(t, filepath.Join(dir, "initramfs"))
	o.Groups = []Group{{Names: []string{"absent"}}}
	if _, err := Build(context.Background(), o); !errors.Is(err, ErrNoModule) {
		t.Errorf("Build with a module that is not there = %v; want ErrNoModule", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	o.Groups = nil
	o.Groups = []Group{{Names: []string{"fast"}}}
	if _, err := Build(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("Build after cancel = %v; want context.Canceled", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("%v is left behind", left)
	}
}

// TestRackFitsKernel builds the real list from the real kernel.
func TestRackFitsKernel(t *testing.T) {
	dir := toolsModules(t)
	o := smallOptions(t, filepath.Join(t.TempDir(), "initramfs"))
	o.ModulesDir, o.Groups = dir, nil
	res, err := Build(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d modules, %d KiB packed", len(res.Modules), res.SizeBytes>>10)
	if limit := int64(18 << 20); res.SizeBytes > limit {
		t.Errorf("without the agent %d bytes; want at most %d", res.SizeBytes, limit)
	}
	have := map[string]bool{}
	for _, m := range res.Modules {
		have[m.Name] = true
	}
	for _, n := range []string{"e1000e", "ice", "mlx5_core", "bnxt_en", "virtio_net", "nvme", "ahci", "megaraid_sas", "mpt3sas", "ipmi_si", "squashfs", "overlay", "loop"} {
		if !have[n] {
			t.Errorf("%s is not in the initramfs", n)
		}
	}
	for _, n := range []string{"ipmi_watchdog", "cfg80211", "nouveau", "scsi_debug", "ne2k_pci"} {
		if have[n] {
			t.Errorf("%s is in the initramfs", n)
		}
	}
}

// unpack reads the regular files of a packed archive.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer zr.Close()
	raw, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	err = cpio.ForEachRecord(cpio.Newc.Reader(bytes.NewReader(raw)), func(r cpio.Record) error {
		if r.Mode&cpio.S_IFMT != cpio.S_IFREG {
			return nil
		}
		b, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		files[r.Name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// FuzzModInfo reads any bytes as a module.
func FuzzModInfo(f *testing.F) {
	f.Add(module(f, "depends=a,b", "alias=pci:*", "softdep=pre: c"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "x.ko")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := readModInfo(filepath.Dir(file), "x.ko")
		if err == nil && m.Path != "x.ko" {
			t.Errorf("path = %q; want x.ko", m.Path)
		}
	})
}
