package boot

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
)

var update = flag.Bool("update", false, "write golden files")

func artifact(name string, size int64) images.Artifact {
	return images.Artifact{Name: name, Digest: images.DigestOf([]byte(name)), SizeBytes: size, MediaType: "application/octet-stream"}
}

func manifest() images.Manifest {
	root := artifact("root.squashfs", 80<<20)
	return images.Manifest{
		Schema: images.ManifestSchema, Name: "hello", Version: "1.0.0", Arch: "amd64",
		Boot:       images.Boot{Kernel: artifact("vmlinuz", 12<<20), Initrds: []images.Artifact{artifact("stage1.cpio", 9<<20)}, Root: &root, Cmdline: "console=ttyS0 quiet "},
		Params:     map[string]images.Param{"nonce": {Type: "string", Required: true, MaxLength: 64}, "greeting": {Type: "string", Default: "hello"}},
		Hypervisor: &images.Hypervisor{Kind: "kvm"},
		VMs: []images.VM{{Name: "vm1", Kernel: artifact("vmlinuz", 12<<20), Initrd: artifact("vm.cpio", 9<<20), Root: artifact("vm.squashfs", 40<<20),
			CPUs: 1, MemoryBytes: 512 << 20, Forwards: []images.Forward{{HostPort: 8080, VMPort: 8080}}}},
		Containers: []images.Container{{Name: "hello", VM: "vm1", ImageDigest: images.DigestOf([]byte("image")), Archive: artifact("hello.tar", 3<<20)}},
		Services:   []images.Service{{Name: "hello", Container: "hello", Port: 8080, HealthPath: "/healthz"}},
		Deadline:   images.Duration(5 * time.Minute),
	}
}

func machine(memory uint64, arch string) hardware.Inventory {
	return hardware.Inventory{
		Schema: hardware.InventorySchema,
		Memory: hardware.Memory{SizeBytes: memory},
		Kernel: hardware.Kernel{Arch: arch},
	}
}

func TestNewPlan(t *testing.T) {
	bare := manifest()
	bare.Boot.Root, bare.Hypervisor, bare.VMs, bare.Containers, bare.Services, bare.Params = nil, nil, nil, nil, nil, nil
	for _, tc := range []struct {
		name   string
		m      images.Manifest
		params map[string]string
	}{
		{"hello", manifest(), map[string]string{"nonce": "n1"}},
		{"bare", bare, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := NewPlan(machine(3<<30, "amd64"), tc.m, tc.params)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", tc.name+".plan.json")
			if *update {
				if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.TrimSpace(string(want)), string(got)); d != "" {
				t.Errorf("NewPlan differs from %s (-want +got):\n%s", path, d)
			}
		})
	}
}

func TestNewPlanRefuses(t *testing.T) {
	broken := manifest()
	broken.Boot.Kernel.Digest = "sha256:12"
	for _, tc := range []struct {
		name   string
		inv    hardware.Inventory
		m      images.Manifest
		params map[string]string
		want   Reason
	}{
		{"another architecture", machine(3<<30, "arm64"), manifest(), map[string]string{"nonce": "n"}, ReasonArch},
		{"too little memory", machine(256<<20, "amd64"), manifest(), map[string]string{"nonce": "n"}, ReasonMemory},
		{"parameter missing", machine(3<<30, "amd64"), manifest(), nil, ReasonParams},
		{"parameter unknown", machine(3<<30, "amd64"), manifest(), map[string]string{"nonce": "n", "x": "y"}, ReasonParams},
		{"digest malformed", machine(3<<30, "amd64"), broken, map[string]string{"nonce": "n"}, ReasonStack},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewPlan(tc.inv, tc.m, tc.params)
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Reason != tc.want {
				t.Errorf("NewPlan = %v; want a refusal with reason %s", err, tc.want)
			}
		})
	}
}
