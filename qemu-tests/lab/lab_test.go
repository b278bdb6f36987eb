package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"
)

// testLab makes a lab, or skips where the machine cannot have one.
func testLab(t *testing.T, o Options) *Lab {
	t.Helper()
	o.Tools = string(testTools(t))
	if o.Name == "" {
		o.Name = "test-" + strconv.Itoa(os.Getpid())
	}
	if err := Doctor(t.Context(), o); err != nil {
		lacking(t, err)
	}
	l, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close = %v; want nil", err)
		}
	})
	return l
}

func serverStatus(t *testing.T, lab, name string) ServerStatus {
	t.Helper()
	st, err := Status(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range st.Servers {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("server %s is not in the status", name)
	return ServerStatus{}
}

func redfishSystem(t *testing.T, lab, name string) *schemas.ComputerSystem {
	t.Helper()
	c, err := Context(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	api, err := gofish.ConnectContext(t.Context(), gofish.ClientConfig{
		Endpoint: serverStatus(t, lab, name).Redfish, Username: c.BMCUser, Password: c.BMCPassword, Insecure: true, BasicAuth: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	systems, err := api.Service.Systems()
	if err != nil || len(systems) != 1 {
		t.Fatalf("systems of %s = %d, %v; want 1", name, len(systems), err)
	}
	return systems[0]
}

func ipmiSession(t *testing.T, lab, name string) *client.Client {
	t.Helper()
	ctx, err := Context(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(serverStatus(t, lab, name).IPMI)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.NewClient(host, n, ctx.BMCUser, ctx.BMCPassword)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, within)
		}
	}
}

func consoleHas(t *testing.T, path, text string) func() bool {
	return func() bool {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(content, []byte(text))
	}
}

// TestPower is a day in the life of a BIOS server: on over Redfish, seen over
// IPMI, reset, its plug pulled, and on again over IPMI.
func TestPower(t *testing.T) {
	l := testLab(t, Options{Logs: t.TempDir()})
	if s := serverStatus(t, l.name, "r1u1"); s.Power != "off" || s.Firmware != "bios" {
		t.Errorf("r1u1 = %s %s; want off bios", s.Power, s.Firmware)
	}
	system, ipmi := redfishSystem(t, l.name, "r1u1"), ipmiSession(t, l.name, "r1u1")
	console := serverStatus(t, l.name, "r1u1").Console
	on := func() bool {
		status, err := ipmi.GetChassisStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return status.PowerIsOn
	}
	if on() {
		t.Error("power before the button = on; want off")
	}
	start := time.Now()
	if _, err := system.Reset(schemas.OnResetType); err != nil {
		t.Fatal(err)
	}
	if !on() || serverStatus(t, l.name, "r1u1").Power != "on" {
		t.Error("power after the button = off; want on")
	}
	eventually(t, "SeaBIOS and iPXE on the serial console", time.Minute, consoleHas(t, console, "iPXE 1.21"))
	t.Logf("power on to iPXE's banner: %s", time.Since(start).Round(100*time.Millisecond))

	if _, err := ipmi.ChassisControl(t.Context(), chassis.ChassisControlHardReset); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a second boot after the reset", time.Minute, func() bool {
		content, err := os.ReadFile(console)
		return err == nil && bytes.Count(content, []byte("iPXE 1.21")) >= 2
	})
	killQEMU(t, "r1u1", l.pid)
	eventually(t, "off after QEMU was killed", 5*time.Second, func() bool { return !on() })

	if _, err := ipmi.ChassisControl(t.Context(), chassis.ChassisControlPowerUp); err != nil {
		t.Fatal(err)
	}
	if _, err := ipmi.ChassisControl(t.Context(), chassis.ChassisControlPowerCycle); err != nil {
		t.Fatal(err)
	}
	eventually(t, "on again after the cycle", 10*time.Second, on)
	if _, err := ipmi.ChassisControl(t.Context(), chassis.ChassisControlPowerDown); err != nil {
		t.Fatal(err)
	}
	if on() {
		t.Error("power after power down = on; want off")
	}
}

// TestBootOverride boots a server from its (empty) disk once: the firmware
// says so, and the override is used up.
func TestBootOverride(t *testing.T) {
	l := testLab(t, Options{Logs: t.TempDir()})
	system, ipmi := redfishSystem(t, l.name, "r1u1"), ipmiSession(t, l.name, "r1u1")
	if err := system.SetBoot(&schemas.Boot{
		BootSourceOverrideTarget: schemas.HddBootSource, BootSourceOverrideEnabled: schemas.OnceBootSourceOverrideEnabled,
	}); err != nil {
		t.Fatal(err)
	}
	flags := &types.BootOptionParam_BootFlags{}
	if err := ipmi.GetSystemBootOptionsParamFor(t.Context(), flags); err != nil {
		t.Fatal(err)
	}
	if !flags.BootFlagsValid || flags.BootDeviceSelector != types.BootDeviceSelectorForceHardDrive {
		t.Errorf("boot flags over IPMI = %+v; want hard drive", flags)
	}
	console := serverStatus(t, l.name, "r1u1").Console
	const disk, rom = "Booting from Hard Disk", "Booting from ROM"
	if _, err := system.Reset(schemas.OnResetType); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the network after the empty disk", time.Minute, consoleHas(t, console, rom))
	order := func() []string {
		content, err := os.ReadFile(console)
		if err != nil {
			t.Fatal(err)
		}
		var seen []string
		for line := range strings.Lines(string(content)) {
			for _, what := range []string{disk, rom} {
				if strings.Contains(line, what) {
					seen = append(seen, what)
				}
			}
		}
		return seen
	}
	if got := order(); len(got) < 2 || got[0] != disk {
		t.Errorf("boot order with the override = %q; want the disk first", got)
	}
	eventually(t, "the override to be used up", 10*time.Second, func() bool {
		flags := &types.BootOptionParam_BootFlags{}
		return ipmi.GetSystemBootOptionsParamFor(t.Context(), flags) == nil && !flags.BootFlagsValid
	})
	before := len(order())
	if _, err := system.Reset(schemas.ForceRestartResetType); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a boot after the reset", time.Minute, func() bool { return len(order()) > before })
	if got := order(); got[before] != rom {
		t.Errorf("first boot source after the override = %q; want the network", got[before])
	}
	// Once more while the server runs: the override holds for the next reset.
	if err := ipmi.SetBootDevice(t.Context(), types.BootDeviceSelectorForceHardDrive, types.BIOSBootTypeLegacy, false); err != nil {
		t.Fatal(err)
	}
	before = len(order())
	if _, err := system.Reset(schemas.ForceRestartResetType); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a boot with the override", time.Minute, func() bool { return len(order()) > before })
	if got := order(); got[before] != disk {
		t.Errorf("first boot source with the override = %q; want the disk", got[before])
	}
}

func TestUEFIServerReachesPXE(t *testing.T) {
	if testing.Short() {
		t.Skip("missing: time; OVMF takes half a minute")
	}
	l := testLab(t, Options{Logs: t.TempDir()})
	ipmi := ipmiSession(t, l.name, "r1u2")
	start := time.Now()
	if _, err := ipmi.ChassisControl(t.Context(), chassis.ChassisControlPowerUp); err != nil {
		t.Fatal(err)
	}
	eventually(t, "OVMF's PXE on the serial console", 2*time.Minute, consoleHas(t, serverStatus(t, l.name, "r1u2").Console, "Start PXE over IPv4"))
	t.Logf("power on to OVMF's PXE: %s", time.Since(start).Round(100*time.Millisecond))
}

func TestWrongPassword(t *testing.T) {
	l := testLab(t, Options{})
	s := serverStatus(t, l.name, "r1u1")
	if _, err := gofish.ConnectContext(t.Context(), gofish.ClientConfig{Endpoint: s.Redfish, Username: "admin", Password: "admin", Insecure: true}); err == nil {
		t.Error("Redfish with a wrong password = nil; want it refused")
	}
	host, port, err := net.SplitHostPort(s.IPMI)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.NewClient(host, n, "admin", "admin")
	if err != nil {
		t.Fatal(err)
	}
	c.WithTimeout(2 * time.Second)
	if err := c.Connect(t.Context()); err == nil {
		t.Error("IPMI with a wrong password = nil; want it refused")
	}
}

// TestTwoLabs runs two labs side by side, and refuses a second of one name.
func TestTwoLabs(t *testing.T) {
	base := "pair-" + strconv.Itoa(os.Getpid())
	a, b := testLab(t, Options{Name: base + "-a"}), testLab(t, Options{Name: base + "-b"})
	if _, err := Up(t.Context(), Options{Name: a.name, Tools: string(testTools(t)), SkipDoctor: true}); err == nil || !strings.Contains(err.Error(), "is up already") {
		t.Errorf("a second lab of one name = %v; want it refused", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Status(t.Context(), b.name); !errors.Is(err, ErrNotUp) {
		t.Errorf("status of a lab that was closed = %v; want %v", err, ErrNotUp)
	}
	if st, err := Status(t.Context(), a.name); err != nil || len(st.Servers) != 2 || st.PID != os.Getpid() {
		t.Errorf("status of the other = %+v, %v; want it up, held by %d", st, err, os.Getpid())
	}
}

func TestPortsAndNames(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	l := testLab(t, Options{Ports: map[string]int{"r1u1.redfish": port}})
	if got, want := serverStatus(t, l.name, "r1u1").Redfish, "https://127.0.0.1:"+strconv.Itoa(port); got != want {
		t.Errorf("Redfish = %s; want %s", got, want)
	}
	if _, err := Up(t.Context(), Options{Name: "No Such Name"}); err == nil {
		t.Error("a lab with a bad name = nil; want it refused")
	}
}

func TestConsoleFollows(t *testing.T) {
	l := testLab(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	done := make(chan error, 1)
	go func() { done <- Console(ctx, l.name, "r1u1", in); in.Close() }()
	if _, err := redfishSystem(t, l.name, "r1u1").Reset(schemas.OnResetType); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	buf := make([]byte, 4096)
	for end := time.Now().Add(time.Minute); !bytes.Contains(seen.Bytes(), []byte("SeaBIOS")) && time.Now().Before(end); {
		if err := out.SetReadDeadline(end); err != nil {
			t.Fatal(err)
		}
		n, err := out.Read(buf)
		if err != nil {
			break
		}
		seen.Write(buf[:n])
	}
	if !strings.Contains(seen.String(), "SeaBIOS") {
		t.Errorf("console = %q; want SeaBIOS in it", seen.String())
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("console ended by its context = %v; want nil", err)
	}
	if err := Console(t.Context(), l.name, "r9u9", os.Stdout); err == nil {
		t.Error("console of a server that is not there = nil; want an error")
	}
}

// TestServe runs a stand-in for `ingot serve` and reaches it from the host; it
// in turn reaches the BMCs.
func TestServe(t *testing.T) {
	l := testLab(t, Options{Serve: []string{"/proc/self/exe", plainServeArg}})
	st, err := Status(t.Context(), l.name)
	if err != nil {
		t.Fatal(err)
	}
	if !st.Ready || !st.Serve.Running {
		t.Errorf("status = %+v; want ready, with serve running", st)
	}
	c, err := Context(t.Context(), l.name)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, c.Serve); err != nil || compact.String() != `{"key":"value"}` || c.NATS != st.Serve.NATS {
		t.Errorf("context = %s at %s, %v; want what serve wrote", c.Serve, c.NATS, err)
	}
	get := func(path string) string {
		resp, err := http.Get(st.Serve.HTTP + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	var machines machineFile
	if err := json.Unmarshal([]byte(get("/machines")), &machines); err != nil || len(machines.Machines) != 2 {
		t.Fatalf("machines = %+v, %v; want 2", machines, err)
	}
	second := machines.Machines[1]
	if pin := second.BMC.CAPEM; !strings.Contains(pin, "BEGIN CERTIFICATE") || pin == machines.Machines[0].BMC.CAPEM {
		t.Errorf("second machine's BMC certificate = %q; want one of its own", pin)
	}
	second.BMC.CAPEM = ""
	if got, want := second, (expectedBMC{Address: "10.78.0.12", Redfish: "https://10.78.0.12", IPMI: "10.78.0.12:623"}); got.BMC != want || got.Rack != "r1" || got.Unit != 2 {
		t.Errorf("second machine = %+v; want %+v in r1, unit 2", got, want)
	}
	if got := get("/bmc"); !strings.Contains(got, "RootService") {
		t.Errorf("the BMC seen from serve = %q; want its service root", got)
	}
	if got := strings.Fields(get("/pids")); len(got) != 2 || got[0] != "1" {
		t.Errorf("processes that serve sees = %q; want init and itself", got)
	}
}

func TestDetach(t *testing.T) {
	root := testTools(t)
	if err := Doctor(t.Context(), Options{Tools: string(root)}); err != nil {
		lacking(t, err)
	}
	name, log := "apart-"+strconv.Itoa(os.Getpid()), filepath.Join(t.TempDir(), "up.log")
	t.Setenv(holdVariable, name)
	t.Setenv("INGOT_TOOLS", string(root))
	if err := Detach(t.Context(), name, []string{"/proc/self/exe"}, log); err != nil {
		t.Fatal(err)
	}
	if err := Detach(t.Context(), name, []string{"/proc/self/exe"}, log+"2"); err == nil || !strings.Contains(err.Error(), "is up already") {
		t.Errorf("a second lab of the name = %v; want what the command said", err)
	}
	if err := Down(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if _, err := Status(t.Context(), name); !errors.Is(err, ErrNotUp) {
		t.Errorf("status after down = %v; want %v", err, ErrNotUp)
	}
}

func TestCut(t *testing.T) {
	l := testLab(t, Options{})
	for _, cut := range []bool{true, false} {
		if err := Cut(t.Context(), l.name, "r1u1", cut); err != nil {
			t.Fatal(err)
		}
		if got := serverStatus(t, l.name, "r1u1").Cut; got != cut {
			t.Errorf("cut = %t; want %t", got, cut)
		}
	}
	if err := Cut(t.Context(), l.name, "r9u9", true); err == nil {
		t.Error("cut of a server that is not there = nil; want an error")
	}
}

// TestServeThatFails reports what `ingot serve` said last.
func TestServeThatFails(t *testing.T) {
	root := testTools(t)
	_, err := Up(t.Context(), Options{
		Name: "serve-" + strconv.Itoa(os.Getpid()), Tools: string(root), SkipDoctor: true,
		Serve: []string{"/bin/sh", "-c", "echo the cupboard is bare; exit 3"},
	})
	if err == nil || !strings.Contains(err.Error(), "the cupboard is bare") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("up with a serve that fails = %v; want its last words", err)
	}
}
