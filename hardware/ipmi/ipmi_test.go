package ipmi

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/clock"
	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/transport/udp"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// serve starts go-ipmi's own BMC on a UDP port of this machine.
func serve(t testing.TB) (*bmc.BMC, Options) {
	t.Helper()
	return serveWith(t, nil)
}

// serveWith has commands of the test's own.
func serveWith(t testing.TB, change func(*handlers.Registry), options ...bmc.Option) (*bmc.BMC, Options) {
	t.Helper()
	info := bmc.DeviceInfo{DeviceID: 32, DeviceRevision: 1, FirmwareMajor: 2, FirmwareMinor: 0x17, IPMIVersion: 0x02, ManufacturerID: 10876, ProductID: 1}
	options = append(options, bmc.WithClock(clock.Real))
	board := mock.New()
	if err := board.Network().SetConfig(t.Context(), &hal.IPConfig{IP: [4]byte{192, 0, 2, 7}, Mask: [4]byte{255, 255, 255, 0}, MAC: [6]byte{2, 0, 0, 0, 0, 7}}); err != nil {
		t.Fatal(err)
	}
	b := bmc.New(info, [16]byte{1, 2, 3, 4, 5, 6, 7, 0x88, 9, 0x41, 11, 12, 13, 14, 15, 16}, board, options...)
	user, err := b.Users.Add(2, "admin")
	if err != nil {
		t.Fatal(err)
	}
	user.SetPassword([]byte("secret"))
	user.Enabled = true
	user.ChannelAccess[1] = bmc.UserChannelAccess{MaxPrivilege: bmc.PrivilegeLevelAdministrator, Enabled: true}
	conn, err := udp.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	registry := handlers.NewRegistry()
	handlers.RegisterAllHandlers(registry)
	if change != nil {
		change(registry)
	}
	srv := server.NewServer(b, conn, server.WithHandlerRegistry(registry))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return b, Options{Address: conn.LocalAddr().String(), User: "admin", Password: "secret", Timeout: 5 * time.Second}
}

func TestLAN(t *testing.T) {
	b, o := serve(t)
	steps := []struct {
		action hardware.PowerAction
		want   hardware.PowerState
	}{{hardware.ActionOff, hardware.PowerOff}, {hardware.ActionOn, hardware.PowerOn}, {hardware.ActionCycle, hardware.PowerOn}, {hardware.ActionReset, hardware.PowerOn}}
	for _, s := range steps {
		if err := SetPower(t.Context(), o, s.action); err != nil {
			t.Fatalf("SetPower(%s): %v", s.action, err)
		}
		if got, err := Power(t.Context(), o); got != s.want || err != nil {
			t.Errorf("after %s: Power = %q, %v; want %q", s.action, got, err, s.want)
		}
	}
	for _, mode := range []hardware.BootMode{hardware.ModeBIOS, hardware.ModeUEFI} {
		if err := BootOncePXE(t.Context(), o, mode); err != nil {
			t.Errorf("BootOncePXE(%s): %v", mode, err)
		}
	}
	inv, err := ReadLAN(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if m := inv.BMC; m.Manufacturer != "Supermicro" || m.Firmware != "2.17" || m.IPMIVersion != "2.0" || m.GUID == "" {
		t.Errorf("BMC = %+v", m)
	}
	if n := b.Sessions.Count(); n != 0 {
		t.Errorf("%d sessions are left open", n)
	}
}

func TestLANRefused(t *testing.T) {
	_, o := serve(t)
	o.Password = "wrong"
	_, err := Power(t.Context(), o)
	if !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Power with a wrong password: %v", err)
	}
	for _, o := range []Options{{}, {Address: "127.0.0.1:99999"}, {Address: "127.0.0.1", User: strings.Repeat("u", 99)}} {
		if _, err := Power(t.Context(), o); err == nil {
			t.Errorf("Power(%+v) is taken", o)
		}
	}
	if err := SetPower(t.Context(), o, "explode"); err == nil {
		t.Error("an unknown action is taken")
	}
	if err := BootOncePXE(t.Context(), o, ""); err == nil {
		t.Error("a boot without a mode is taken")
	}
}

// TestLANSilent has a BMC that takes every datagram and answers none.
func TestLANSilent(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	begin := time.Now()
	_, err = Power(t.Context(), Options{Address: conn.LocalAddr().String(), User: "u", Password: "p", Timeout: 300 * time.Millisecond})
	if took := time.Since(begin); err == nil || took > 5*time.Second {
		t.Errorf("Power of a silent BMC = %v after %v", err, took)
	}
	o := Options{Address: conn.LocalAddr().String(), User: "u", Password: "p"}
	if _, err = Power(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no answer: is IPMI over LAN enabled") {
		t.Errorf("Power of a silent BMC, in its own time = %v", err)
	}
	conn.Close()
	if _, err = Power(t.Context(), o); err == nil || !strings.Contains(err.Error(), "nothing listens") {
		t.Errorf("Power where no BMC is = %v", err)
	}
}

func TestReadAbsent(t *testing.T) {
	inv, err := Read(t.Context(), sysfs.Root(t.TempDir()))
	if err != nil || inv.BMC.Sources != nil || inv.Findings != nil {
		t.Errorf("Read without /dev/ipmi0 = %+v, %v; want nothing", inv, err)
	}
}

func TestPromised(t *testing.T) {
	for _, c := range []struct{ file, content, want string }{
		{"sys/bus/platform/devices/dmi-ipmi-si.0/type", "kcs", "SMBIOS"}, {"sys/bus/acpi/devices/IPI0001:00/status", "15\n", "ACPI"},
		{"sys/bus/acpi/devices/IPI0001:00/status", "0\n", ""}, {"sys/bus/acpi/devices/PNP0C0A:00/status", "15\n", ""},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, c.file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := promised(sysfs.Root(dir)); got != c.want {
			t.Errorf("promised with %s = %q; want %q", c.file, got, c.want)
		}
	}
}

// TestOwner has calls that hang and panic.
func TestOwner(t *testing.T) {
	c, err := client.NewOpenClient()
	if err != nil {
		t.Fatal(err)
	}
	o := own(c)
	err = o.do(t.Context(), time.Second, func(context.Context, *client.Client) error { panic("no") })
	if err == nil || !strings.Contains(err.Error(), "panic: no") {
		t.Errorf("a panic gives %v", err)
	}
	release := make(chan struct{})
	begin := time.Now()
	err = o.do(t.Context(), 50*time.Millisecond, func(context.Context, *client.Client) error { <-release; return nil })
	if err == nil || time.Since(begin) > time.Second {
		t.Errorf("a call that hangs gives %v after %v", err, time.Since(begin))
	}
	if err := o.do(t.Context(), time.Second, func(context.Context, *client.Client) error { return nil }); !errors.Is(err, errStuck) {
		t.Errorf("after a call that hangs: %v; want %v", err, errStuck)
	}
	o.close(t.Context(), time.Second)
	close(release)
}

func TestDecodeDeviceID(t *testing.T) {
	most := []string{"sensor", "sdr-repository", "sel", "fru", "ipmb-receiver", "ipmb-generator", "chassis"}
	for _, c := range []struct {
		name string
		in   []byte
		want hardware.BMC
		bad  bool
	}{
		{"full", []byte{32, 1, 2, 0x17, 0x02, 0xbf, 0x7c, 0x2a, 0xf0, 1, 0, 0, 0, 0, 0}, hardware.BMC{Manufacturer: "Supermicro", Firmware: "2.17", IPMIVersion: "2.0",
			DeviceID: 32, DeviceRevision: 1, ManufacturerID: 10876, ProductID: 1, Functions: most}, false},
		{"1.5", []byte{32, 0x81, 2, 0x05, 0x51, 0x80, 0xa2, 2, 0, 1, 1}, hardware.BMC{Manufacturer: "Dell", Firmware: "2.05", IPMIVersion: "1.5",
			DeviceID: 32, DeviceRevision: 1, ManufacturerID: 674, ProductID: 257, Functions: []string{"chassis", "device-sdrs"}}, false},
		{"nibbles swapped", []byte{32, 1, 0x82, 0x05, 0x20, 0xbf, 0, 0, 0, 1, 0}, hardware.BMC{Firmware: "2.05", IPMIVersion: "2.0",
			DeviceID: 32, DeviceRevision: 1, ProductID: 1, Functions: most}, false},
		{"short", []byte{32, 1, 2, 0x17, 0x02}, hardware.BMC{Firmware: "2.17", IPMIVersion: "2.0", DeviceID: 32, DeviceRevision: 1}, false},
		{"auxiliary", []byte{32, 1, 2, 0x17, 2, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, hardware.BMC{Firmware: "2.17", FirmwareAux: "01020304", IPMIVersion: "2.0",
			DeviceID: 32, DeviceRevision: 1}, false},
		{"too short", []byte{32, 1}, hardware.BMC{}, true},
	} {
		got, err := DecodeDeviceID(c.in)
		c.want.Sources = hardware.Sources{Source}
		if d := cmp.Diff(c.want, got); (d != "" && !c.bad) || (err != nil) != c.bad {
			t.Errorf("%s: %v\n%s", c.name, err, d)
		}
	}
}

func TestDecodeGUID(t *testing.T) {
	want := hardware.UUID("11223344-5566-4788-99aa-bbccddeeff01")
	rfc := []byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x47, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 1}
	smbios := []byte{0x44, 0x33, 0x22, 0x11, 0x66, 0x55, 0x88, 0x47, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 1}
	ipmi := []byte{1, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88, 0x47, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11}
	for name, b := range map[string][]byte{"RFC 4122": rfc, "SMBIOS": smbios, "IPMI": ipmi} {
		if got := DecodeGUID(b); got != want {
			t.Errorf("%s: DecodeGUID = %q; want %q", name, got, want)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 16), rfc[:15]} {
		if got := DecodeGUID(b); got != "" {
			t.Errorf("DecodeGUID(%x) = %q", b, got)
		}
	}
}

func fru(t testing.TB) []byte {
	t.Helper()
	b, err := types.PackFRU(types.FRUPackConfig{
		Board:   &types.FRUPackBoard{Mfg: "ACME", Product: "MB-9", Serial: "B1", PartNumber: "P1"},
		Product: &types.FRUPackProduct{Manufacturer: "ACME", Name: "Box", Serial: "To be filled by O.E.M."},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeFRU(t *testing.T) {
	b := fru(t)
	got, problems := DecodeFRU(0, b)
	want := hardware.FRU{BoardManufacturer: "ACME", BoardProduct: "MB-9", BoardSerial: "B1", BoardPart: "P1", ProductManufacturer: "ACME", ProductName: "Box"}
	if d := cmp.Diff(want, got); d != "" || problems != nil {
		t.Errorf("DecodeFRU (-want +got), problems %v:\n%s", problems, d)
	}
	got, problems = DecodeFRU(0, b[:len(b)-8])
	if got.BoardSerial != "B1" || got.ProductName != "" || len(problems) != 1 {
		t.Errorf("a cut FRU: %+v, %v", got, problems)
	}
	if _, problems = DecodeFRU(0, []byte{0, 1}); len(problems) != 1 {
		t.Errorf("no FRU: %v", problems)
	}
}
