package resident

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-metal/ingot/agent/vmlink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
)

func manifest() images.Manifest {
	a := func(name string) images.Artifact {
		return images.Artifact{Digest: images.DigestOf([]byte(name)), SizeBytes: int64(len(name)), MediaType: "x", Name: name}
	}
	return images.Manifest{
		Schema: images.ManifestSchema, Name: "test", Version: "1", Arch: "amd64", Deadline: images.Duration(time.Minute),
		Boot:       images.Boot{Kernel: a("vmlinuz"), Initrds: []images.Artifact{a("root.initrd")}},
		Hypervisor: &images.Hypervisor{Kind: "kvm"},
		VMs: []images.VM{{
			Name: "vm0", Kernel: a("vmlinuz"), Initrd: a("vm.initrd"), Root: a("vm.squashfs"), CPUs: 1, MemoryBytes: 512 << 20,
			Forwards: []images.Forward{{HostPort: 8080, VMPort: 80}},
		}},
		Containers: []images.Container{{Name: "hello", VM: "vm0", ImageDigest: images.DigestOf([]byte("image")), Archive: a("hello.oci.tar")}},
		Services:   []images.Service{{Name: "web", Container: "hello", Port: 8080, HealthPath: "/healthz"}},
	}
}

// recorder keeps what would go to the bus.
type recorder struct{ said []string }

func (r *recorder) tell(l fleet.Layer) {
	r.said = append(r.said, fmt.Sprintf("%s %s %s %s", l.Layer, l.Name, l.State, l.Reason))
}

func states(ls *layers) string {
	var out []string
	for _, l := range ls.all() {
		out = append(out, fmt.Sprintf("%s=%s", l.Layer, l.State))
	}
	return strings.Join(out, " ")
}

func mustSet(t *testing.T, ls *layers, l fleet.LayerName, name string, s fleet.LayerState, reason fleet.ReasonCode) {
	t.Helper()
	if err := ls.set(l, name, s, reason, "", nil); err != nil {
		t.Fatal(err)
	}
}

func TestLayersFromTheLowestUp(t *testing.T) {
	ls := newLayers(manifest(), func(fleet.Layer) {})
	want := "host=starting hypervisor=starting vm=starting container=starting service=starting"
	if got := states(ls); got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func TestWhatStandsOnADownLayerIsUnknown(t *testing.T) {
	var said recorder
	ls := newLayers(manifest(), said.tell)
	for _, l := range ls.all() {
		mustSet(t, ls, l.Layer, l.Name, fleet.LayerUp, "")
	}
	said.said = nil
	mustSet(t, ls, fleet.LayerVM, "vm0", fleet.LayerDown, fleet.ReasonQEMUExited)
	if got, want := states(ls), "host=up hypervisor=up vm=down container=unknown service=unknown"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	want := []string{"vm vm0 down qemu-exited", "container hello unknown layer-below", "service web unknown layer-below"}
	if d := cmp.Diff(want, said.said); d != "" {
		t.Errorf("told, the cause first (-want +got):\n%s", d)
	}
}

func TestOnlyChangesAreToldAndSinceIsTheFirst(t *testing.T) {
	var said recorder
	ls := newLayers(manifest(), said.tell)
	now := time.Unix(1000, 0)
	ls.now = func() time.Time { return now }
	mustSet(t, ls, fleet.LayerHost, "host", fleet.LayerUp, "")
	now = now.Add(time.Hour)
	mustSet(t, ls, fleet.LayerHost, "host", fleet.LayerUp, "")
	if len(said.said) != 1 {
		t.Errorf("told %v; want one line", said.said)
	}
	if got := ls.all()[0].Since; !got.Equal(time.Unix(1000, 0)) {
		t.Errorf("since %v; want the first time", got)
	}
}

func TestLayerThatTheStackDoesNotHave(t *testing.T) {
	ls := newLayers(manifest(), func(fleet.Layer) {})
	if err := ls.set(fleet.LayerVM, "vm9", fleet.LayerUp, "", "", nil); err == nil {
		t.Error("VM vm9 was taken")
	}
}

func testResident(t *testing.T) (*resident, *recorder) {
	t.Helper()
	said := &recorder{}
	m := manifest()
	return &resident{
		opt: Options{Dir: "/run/ingot", Say: t.Logf}, log: slog.New(slog.DiscardHandler), bootID: "hv-boot",
		handoff: fleet.Handoff{
			Node: "n-1", Manifest: m, StackDigest: "sha256:00", Params: map[string]string{"nonce": "n0"},
			Placement: images.Placement{Name: "r1u2", Rack: "r1", Unit: 2},
		},
		layers: newLayers(m, said.tell),
	}, said
}

func TestVMIsToldWhatToRun(t *testing.T) {
	r, _ := testResident(t)
	got := r.config(0, r.handoff.Manifest.VMs[0])
	want := vmlink.Config{
		VM: "vm0", Address: "100.64.0.2/30", Gateway: "100.64.0.1",
		Containers: []vmlink.Container{{
			Name: "hello", ImageDigest: images.DigestOf([]byte("image")), Drive: "ingot-oci-0", HealthURL: "http://127.0.0.1:80/healthz",
			Env: map[string]string{
				"INGOT_VM": "vm0", "INGOT_HYPERVISOR": "kvm", "INGOT_HYPERVISOR_BOOT_ID": "hv-boot", "INGOT_NODE": "n-1",
				"INGOT_STACK": "test:1", "INGOT_STACK_DIGEST": "sha256:00", "INGOT_NAME": "r1u2", "INGOT_RACK": "r1", "INGOT_UNIT": "2",
				"INGOT_NONCE": "n0", "INGOT_SERVICE": "web",
			},
		}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A VM may speak of itself and its containers, and of nothing else.
func TestVMSpeaksForItselfAlone(t *testing.T) {
	r, said := testResident(t)
	vm, boot := r.handoff.Manifest.VMs[0], ""
	var out bytes.Buffer
	hear := func(m vmlink.Message) { r.hear(vmlink.NewWriter(&out), m, 0, vm, &boot) }
	hear(vmlink.Message{Hello: &vmlink.Hello{BootID: "b1"}})
	if answer, err := vmlink.NewReader(&out).Read(); err != nil || answer.Config == nil {
		t.Errorf("answer to hello = %+v, %v; want a config", answer, err)
	}
	said.said = nil
	for _, l := range []fleet.Layer{
		{Layer: fleet.LayerHost, Name: "host", State: fleet.LayerDown},
		{Layer: fleet.LayerService, Name: "web", State: fleet.LayerUp},
		{Layer: fleet.LayerContainer, Name: "other", State: fleet.LayerUp},
		{Layer: fleet.LayerContainer, Name: "hello", State: "excellent"},
	} {
		hear(vmlink.Message{Layer: &l})
	}
	if len(said.said) > 0 {
		t.Errorf("a VM made the resident say %v", said.said)
	}
	hear(vmlink.Message{Layer: &fleet.Layer{
		Layer: fleet.LayerContainer, Name: "hello", State: fleet.LayerUp, Evidence: "\x1b[31mred",
		Facts: map[string]string{"container_id": "c1", "address": "10.0.0.1"},
	}})
	got := r.layers.all()[3]
	if got.State != fleet.LayerUp || got.Evidence != "[31mred" {
		t.Errorf("container = %s, evidence %q; want up, without control characters", got.State, got.Evidence)
	}
	if d := cmp.Diff(map[string]string{"container_id": "c1"}, got.Facts); d != "" {
		t.Errorf("facts (-want +got):\n%s", d)
	}
}

func TestVMThatBootsAgainWasDown(t *testing.T) {
	r, said := testResident(t)
	vm, boot := r.handoff.Manifest.VMs[0], ""
	for _, id := range []string{"b1", "b1", "b2"} {
		r.hear(vmlink.NewWriter(io.Discard), vmlink.Message{Hello: &vmlink.Hello{BootID: id}}, 0, vm, &boot)
	}
	want := []string{"vm vm0 up ", "vm vm0 down vm-rebooted", "container hello unknown layer-below", "service web unknown layer-below", "vm vm0 up "}
	if d := cmp.Diff(want, said.said); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestQEMUReadsOnlyWhatTheManifestNames(t *testing.T) {
	r, _ := testResident(t)
	args := r.qemuArgs(r.handoff.Manifest.VMs[0], 0)
	for _, want := range [][]string{
		{"-kernel", "/run/ingot/payload/vmlinuz"}, {"-initrd", "/run/ingot/payload/vm.initrd"}, {"-m", "512"}, {"-smp", "1"},
		{"-drive", "id=root,if=none,format=raw,read-only=on,file=/run/ingot/payload/vm.squashfs"},
		{"-drive", "id=oci0,if=none,format=raw,read-only=on,file=/run/ingot/payload/hello.oci.tar"},
		{"-device", "virtio-blk-device,drive=oci0,serial=ingot-oci-0"},
	} {
		found := false
		for i := range args[:len(args)-1] {
			found = found || slices.Equal(args[i:i+2], want)
		}
		if !found {
			t.Errorf("arguments lack %q: %q", want, args)
		}
	}
}

func TestForward(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "inner") }))
	defer inner.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	stop, err := forward(t.Context(), port, inner.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || string(b) != "inner" {
		t.Errorf("through the forward: %q, %v", b, err)
	}
	if _, err := forward(t.Context(), port, "127.0.0.1:1"); err == nil {
		t.Error("a port that is taken was taken again")
	}
	inner.Close()
	if res, err := client.Get(url); err == nil {
		res.Body.Close()
		t.Error("with nobody behind the forward there was an answer")
	}
	stop()
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("the port is open after stop")
	}
}

func TestConsoleKeepsLastWords(t *testing.T) {
	var said []string
	c := &vmConsole{say: func(s string) { said = append(said, s) }}
	for _, part := range []string{"first\nsec", "ond\r\n\n", "\x1b[0mthird\n", strings.Repeat("x", 3000), "end"} {
		if _, err := io.WriteString(c, part); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([]string{"first", "second", "[0mthird"}, said[:3]); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
	if len(said) != 5 {
		t.Errorf("%d lines; want a line without an end cut into pieces", len(said))
	}
	if !strings.HasSuffix(c.tail(), "end") {
		t.Errorf("last words %q lack the unfinished line", c.tail()[max(0, len(c.tail())-40):])
	}
}

func TestVirtualization(t *testing.T) {
	for text, want := range map[string]string{
		"flags\t\t: fpu svm sse\n":                              "kvm_amd",
		"model name\t: vmx svm\nflags\t\t: fpu vmx\nflags: svm": "kvm_intel",
		"flags\t\t: fpu sse\n":                                  "",
		"":                                                      "",
	} {
		f := filepath.Join(t.TempDir(), "cpuinfo")
		if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, got, err := virtualization(f); got != want || (err == nil) != (want != "") {
			t.Errorf("virtualization(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestNoKVMIsSaid(t *testing.T) {
	f := filepath.Join(t.TempDir(), "kvm")
	if err := probeKVM(f); err == nil {
		t.Error("a device that is not there created a virtual machine")
	}
	if err := os.WriteFile(f, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := probeKVM(f); err == nil {
		t.Error("a plain file created a virtual machine")
	}
}
