package memory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

func tree(t *testing.T, files map[string]string) sysfs.Root {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		p := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return sysfs.Root(root)
}

func TestCounts(t *testing.T) {
	v, err := Read(t.Context(), tree(t, map[string]string{
		edac + "/mc0/dimm0/dimm_label":               "CPU_SrcID#0_MC#0_Chan#0_DIMM#0\n",
		edac + "/mc0/dimm0/dimm_ce_count":            "3\n",
		edac + "/mc0/dimm0/dimm_ue_count":            "0\n",
		edac + "/mc0/dimm4/dimm_ce_count":            "0\n",
		edac + "/mc0/dimm4/dimm_ue_count":            "1\n",
		edac + "/mc0/ce_count":                       "5\n",
		edac + "/mc0/ce_noinfo_count":                "2\n",
		edac + "/mc0/ue_noinfo_count":                "0\n",
		edac + "/mc1/csrow0/ch0_ce_count":            "7\n",
		edac + "/mc1/csrow0/ch0_dimm_label":          "DIMM_A\n",
		edac + "/mc1/csrow0/ch1_ce_count":            "0\n",
		edac + "/mc1/csrow0/ue_count":                "4\n",
		edac + "/mc2/ce_count":                       "0\n",
		edac + "/mc2/ue_count":                       "0\n",
		edac + "/power/control":                      "auto\n",
		"sys/devices/system/memory/block_size_bytes": "8000000",
		"sys/devices/system/memory/memory0/x":        "",
		"sys/devices/system/memory/memory9/x":        "",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := []hardware.ECCReading{
		{Name: "CPU_SrcID#0_MC#0_Chan#0_DIMM#0", Corrected: 3}, {Name: "mc0 dimm4", Uncorrected: 1}, {Name: "mc0", Corrected: 2},
		{Name: "DIMM_A", Corrected: 7, Uncorrected: 4}, {Name: "mc1 csrow0 ch1"}, {Name: "mc2"},
	}
	if d := cmp.Diff(want, v.Readings.ECC); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
	if v.Inventory.Memory.SizeBytes != 256<<20 {
		t.Errorf("memory = %d", v.Inventory.Memory.SizeBytes)
	}
	severities := map[string]hardware.Severity{}
	for _, f := range v.Inventory.Findings {
		severities[f.Part] = f.Severity
	}
	if d := cmp.Diff(map[string]hardware.Severity{"dimm CPU_SrcID#0_MC#0_Chan#0_DIMM#0": hardware.Warning, "dimm mc0 dimm4": hardware.Critical,
		"dimm mc0": hardware.Warning, "dimm DIMM_A": hardware.Critical}, severities); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
}
