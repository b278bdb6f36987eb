package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/ingot-metal/ingot/hardware"
)

// TestMain is the program itself where a test has started it.
func TestMain(m *testing.M) {
	if os.Getenv("INGOT_AGENT_UNDER_TEST") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program runs it.
func program(t *testing.T, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	var o, e strings.Builder
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), "INGOT_AGENT_UNDER_TEST=1")
	c.Stdout, c.Stderr = &o, &e
	err := c.Run()
	return o.String(), e.String(), err == nil
}

func recorded(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{
		"proc/sys/kernel/osrelease": "6.12.0\n", "proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: X\n",
		"sys/devices/virtual/vda/size": "2048\n", "sys/devices/virtual/vda/serial": "VIRTIO-000042\n",
	} {
		p := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "sys/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../devices/virtual/vda", filepath.Join(root, "sys/block/vda")); err != nil {
		t.Fatal(err)
	}
	return root
}

// TestSnapshotAndInventory: a machine is recorded, and read from the file as
// it was, in each format; flags may stand before and after the file.
func TestSnapshotAndInventory(t *testing.T) {
	root, file := recorded(t), filepath.Join(t.TempDir(), "machine.tar.gz")
	out, stderr, ok := program(t, "snapshot", file, "--root", root, "--no-scrub")
	if !ok || !strings.Contains(out, "1 CPU, 1 drive") {
		t.Fatalf("snapshot: %s%s", out, stderr)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v; want it for its owner alone", st.Mode(), err)
	}
	live, _, _ := program(t, "inventory", "--root", root, "-o", "json")
	again, _, ok := program(t, "inventory", "--root", file, "-o", "json")
	if !ok || live != again || !strings.Contains(live, "VIRTIO-000042") {
		t.Errorf("from the snapshot:\n%s\nfrom the machine:\n%s", again, live)
	}
	text, _, _ := program(t, "inventory", "-o", "yaml", "--root="+file)
	var inv hardware.Inventory
	if b, err := yaml.YAMLToJSON([]byte(text)); err != nil || json.Unmarshal(b, &inv) != nil || inv.Schema != hardware.InventorySchema || len(inv.Drives) != 1 {
		t.Errorf("as YAML: %v\n%s", err, text)
	}
	if table, _, _ := program(t, "inventory", "--root", file, "--only", "storage"); !strings.Contains(table, "VIRTIO-000042") || strings.Contains(table, "6.12.0") {
		t.Errorf("the drives alone:\n%s", table)
	}
	if readings, _, ok := program(t, "inventory", "--root", file, "--readings", "-o", "json"); !ok || !strings.Contains(readings, hardware.ReadingsSchema) {
		t.Errorf("readings:\n%s", readings)
	}
	if out, _, ok = program(t, "snapshot", "--root", file, file); !ok || !strings.Contains(out, "replaced") {
		t.Errorf("scrubbed by recording it again: %s", out)
	}
	if scrubbed, _, ok := program(t, "inventory", "--root", file); !ok || strings.Contains(scrubbed, "000042") || !strings.Contains(scrubbed, "1 drive") {
		t.Errorf("scrubbed:\n%s", scrubbed)
	}
}

func TestRefusals(t *testing.T) {
	root := recorded(t)
	if err := os.WriteFile(filepath.Join(root, "text"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"inventory", "-o", "xml"}, "want table, json or yaml"},
		{[]string{"inventory", "--root", root, "--only", "cpu,disks"}, `"disks" is no reader; there are tpm, smbios`},
		{[]string{"inventory", "--root", filepath.Join(root, "none")}, "read machine below --root"},
		{[]string{"inventory", "--root", filepath.Join(root, "text")}, "not a snapshot"},
		{[]string{"inventory", "more"}, "see -h"},
		{[]string{"snapshot"}, "see -h"},
		{[]string{"snapshot", "--root", root, filepath.Join(root, "none/file")}, "write snapshot"},
		{[]string{"snap"}, "want inventory or snapshot"},
	} {
		if out, stderr, ok := program(t, c.args...); ok || out != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("ingot-agent %q = %t\n%s%s\nwant %q", c.args, ok, out, stderr, c.want)
		}
	}
}
