package lab

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/ingot-metal/ingot/qemu-tests/bmc"
)

// A guest with a Linux kernel asks its BMC over KCS. It is started by -kernel,
// which is quicker than a boot over the network; what it shows is the BMC's
// third face.
func TestKCSFromGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("missing: time; it boots a guest")
	}
	root := testTools(t)
	dir := t.TempDir()
	s := &server{
		spec: Rack()[0], tools: root, dir: filepath.Join(dir, "s"), console: filepath.Join(dir, "console.log"),
		log: slog.New(slog.DiscardHandler), booted: func() {}, stopped: func() {},
	}
	s.machine = s.spec.machine(bmcAddress(0))
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	b, err := bmc.New(bmc.Config{Machine: s.machine, Server: s, Credentials: bmc.Credentials{User: "admin", Password: "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	kcs, err := net.Listen("unix", s.path("ipmi.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, bmc.Listeners{KCS: kcs}) }()

	args, err := s.arguments("")
	if err != nil {
		t.Fatal(err)
	}
	args = append(args, "-kernel", kernel(t, root), "-initrd", guestInitrd(t, root, dir), "-append", "console=ttyS0 quiet panic=-1")
	start := time.Now()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("qemu: %v\n%s", err, out)
	}
	console, err := os.ReadFile(s.console)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("guest ran %s\n%s", time.Since(start).Round(time.Second), lines(string(console), "kcsguest:"))
	for _, want := range []string{
		"kcsguest: device 0x20 ipmi 2.0", "kcsguest: product LS-1 " + s.machine.Serial, "kcsguest: address 10.78.0.11",
		"kcsguest: dimm DIMM_A1 2048 MiB DIMM-0101-1", "kcsguest: dimm DIMM_B1 1024 MiB DIMM-0101-2",
		"kcsguest: system Ingot Lab LS-1 " + s.machine.Serial + " " + formatUUID(s.machine.UUID),
		"kcsguest: first " + s.machine.Serial + " " + s.machine.Controller.MAC.String() + " [10.78.0.11] in ",
		"kcsguest: late sensors 24 psus 2 frus 2 logs 1 in ", "kcsguest: sensor FAN1 8300 RPM ok", "kcsguest: account 2 admin administrator",
		"kcsguest: end",
	} {
		if !strings.Contains(string(console), want) {
			t.Errorf("console lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("console:\n%s", console)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func lines(text, with string) string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, with) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(out, "\n")
}

func kernel(t *testing.T, root tools) string {
	t.Helper()
	found, err := filepath.Glob(root.path("boot", "vmlinuz-*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("look for a kernel in %s: %v %v", root, found, err)
	}
	return found[0]
}

// guestInitrd builds testdata/kcsguest and packs it with the modules it loads.
func guestInitrd(t *testing.T, root tools, dir string) string {
	t.Helper()
	init := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-o", init, "./testdata/kcsguest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build guest: %v\n%s", err, out)
	}
	path := filepath.Join(dir, "initrd.cpio")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := cpio.Newc.Writer(f)
	records := []cpio.Record{cpio.Directory("dev", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1), file(t, "init", init, 0o755)}
	for _, m := range []string{"ipmi_msghandler", "ipmi_devintf", "ipmi_si"} {
		found, err := filepath.Glob(root.path("usr/lib/modules/*/kernel/drivers/char/ipmi", m+".ko.xz"))
		if err != nil || len(found) == 0 {
			t.Fatalf("look for module %s: %v %v", m, found, err)
		}
		records = append(records, file(t, m+".ko.xz", found[0], 0o644))
	}
	if err := cpio.WriteRecords(w, records); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	return path
}

func file(t *testing.T, name, path string, mode uint64) cpio.Record {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return cpio.StaticFile(name, string(content), mode)
}
