package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/images/initramfs"
)

// TestBootProbe starts what a probe may meet: a kernel that runs to its end, one
// that never begins, a QEMU that gives up, and one that does not start.
func TestBootProbe(t *testing.T) {
	sh := func(script string) []string { return []string{"/bin/sh", "-c", script} }
	for _, tt := range []struct {
		name, want string
		args       []string
		limit      time.Duration
	}{
		{"it gives up and waits", "did not run: KVM internal error. Suberror: 1", sh("echo; echo 'x KVM internal error. Suberror: 1' >&2; echo more; sleep 60"), time.Minute},
		{"it hangs", "had not come up after 200ms", sh("echo booting; sleep 60"), 200 * time.Millisecond},
		{"it ends", "QEMU ended: exit status 1: no such accelerator", sh("echo no such accelerator >&2; exit 1"), time.Minute},
		{"it is not there", "start a guest", []string{filepath.Join(t.TempDir(), "qemu")}, time.Minute},
		{"it runs", "", sh("echo 'Kernel panic - VFS: Unable to mount root fs on'; sleep 60"), time.Minute},
	} {
		start := time.Now()
		_, err := bootProbe(t.Context(), tt.args, tt.limit)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v; want %q", tt.name, err, tt.want)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: took %s; want it short", tt.name, took)
		}
	}
}

// TestBootProbeOfAKernel starts the very kernel, under TCG, where it always
// runs: its last words are those that are waited for.
func TestBootProbeOfAKernel(t *testing.T) {
	root := testTools(t)
	kernel, err := initramfs.FindKernel(string(root))
	if err != nil {
		t.Fatal(err)
	}
	took, err := bootProbe(t.Context(), probeArgs(root, kernel.Image, "tcg", "max"), time.Minute)
	if err != nil || took <= 0 {
		t.Errorf("probe under TCG = %s, %v; want it to run", took, err)
	}
}

func TestJudgeKVM(t *testing.T) {
	const intel, amd, bootID = "/sys/module/kvm_intel/parameters/nested", "/sys/module/kvm_amd/parameters/nested", "/proc/sys/kernel/random/boot_id"
	for _, tt := range []struct {
		name  string
		files map[string]string
		trial *kvmTrial
		works bool
		want  string
	}{
		{"no device", nil, nil, false, "has no /dev/kvm"},
		{"nested is off", map[string]string{kvmDevice: "", intel: "N"}, nil, false, "nested is off in kvm_intel"},
		{"nested is 0", map[string]string{kvmDevice: "", amd: "0"}, nil, false, "nested is off in kvm_amd"},
		{"a guest ran", map[string]string{kvmDevice: "", amd: "1", bootID: "b1"}, &kvmTrial{Seconds: 1.5, BootID: "b1"}, true, "a guest started in 1.5 s"},
		{"a guest hung", map[string]string{kvmDevice: "", intel: "Y", bootID: "b1"}, &kvmTrial{Failure: "hung", BootID: "b1"}, false, "hung"},
		{"a guest ran, and nobody knows of nested", map[string]string{kvmDevice: "", bootID: "b1"}, &kvmTrial{Seconds: 1.5, BootID: "b1"}, false, "neither kvm_intel nor kvm_amd"},
		{"a guest ran before the machine started anew", map[string]string{kvmDevice: "", amd: "1", bootID: "b2"}, &kvmTrial{Seconds: 1.5, BootID: "b1"}, false, "no guest was started"},
		{"a guest of another user's ran", map[string]string{kvmDevice: "", amd: "1", bootID: "b1"}, &kvmTrial{Seconds: 1.5, BootID: "b1", UID: 7}, false, "no guest was started"},
	} {
		o := Options{Build: t.TempDir()}
		o.Tools = filepath.Join(o.Build, "tools")
		if tt.trial != nil {
			tt.trial.Tools = o.Tools
			if err := keepTrial(o, *tt.trial); err != nil {
				t.Fatal(err)
			}
		}
		v := judgeKVM(t.Context(), machine(t, 0, tt.files), o, false)
		if v.Works != tt.works || !strings.Contains(v.Why, tt.want) {
			t.Errorf("%s: %+v; want works %v, %q", tt.name, v, tt.works, tt.want)
		}
	}
}

// A trial that could not be made is not kept: the next one may be.
func TestTrialWithoutToolsIsForgotten(t *testing.T) {
	o := Options{Build: t.TempDir()}
	o.Tools = filepath.Join(o.Build, "tools")
	if trial := tryKVM(t.Context(), thisHost(), o); trial.Failure == "" {
		t.Error("a trial without tools succeeds")
	}
	if _, err := os.Stat(filepath.Join(o.Build, kvmFile)); err == nil {
		t.Error("a trial without tools is kept")
	}
}

func TestServersUnderKVM(t *testing.T) {
	for _, spec := range Rack() {
		s := &server{spec: spec, machine: spec.machine(bmcAddress(0)), tools: "/tools", dir: t.TempDir(), console: "c", accel: AccelKVM}
		args, err := s.arguments("")
		if err != nil {
			t.Fatal(err)
		}
		line := strings.Join(args, " ")
		if !strings.Contains(line, "-accel kvm") || !strings.Contains(line, "-cpu host,") || strings.Contains(line, "tcg") {
			t.Errorf("%s: %s; want KVM and the host's CPU", spec.Name, line)
		}
	}
}
