package bmc

import (
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/bougou/go-ipmi/pkg/vmproto"
)

func (b *bench) dialIPMI(t *testing.T, user, password string) (*client.Client, error) {
	t.Helper()
	c, err := client.NewClient("127.0.0.1", b.ipmi.Port, user, password)
	if err != nil {
		t.Fatal(err)
	}
	c.WithTimeout(2 * time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Errorf("close session: %v", err)
		}
	})
	return c, nil
}

func (b *bench) mustIPMI(t *testing.T) *client.Client {
	t.Helper()
	c, err := b.dialIPMI(t, "admin", testPassword)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestIPMIIdentity(t *testing.T) {
	b := newBench(t, nil)
	c := b.mustIPMI(t)
	id, err := c.GetDeviceID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id.MajorIPMIVersion != 2 || id.MinorIPMIVersion != 0 {
		t.Errorf("IPMI version = %d.%d; want 2.0", id.MajorIPMIVersion, id.MinorIPMIVersion)
	}
	fru, err := c.GetFRU(t.Context(), 0, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(fru.ProductInfoArea.SerialNumber); got != "SER-0001" {
		t.Errorf("FRU product serial = %q; want SER-0001", got)
	}
	if got := string(fru.ChassisInfoArea.SerialNumber); got != "CHS-1" {
		t.Errorf("FRU chassis serial = %q; want CHS-1", got)
	}
	ip, mac := &types.LanConfigParam_IP{}, &types.LanConfigParam_MAC{}
	if err := c.GetLanConfigParamFor(t.Context(), lanChannel, ip); err != nil {
		t.Fatal(err)
	}
	if err := c.GetLanConfigParamFor(t.Context(), lanChannel, mac); err != nil {
		t.Fatal(err)
	}
	if ip.IP.String() != "127.0.0.1" || mac.MAC.String() != "52:54:00:01:01:bc" {
		t.Errorf("LAN = %s %s; want 127.0.0.1 52:54:00:01:01:bc", ip.IP, mac.MAC)
	}
	guid, err := c.GetSystemGUID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := guid.GUID[15]; got != 0x1a {
		t.Errorf("last byte of the system GUID = %#x; want 0x1a, the UUID's first", got)
	}
}

func TestIPMIPower(t *testing.T) {
	b := newBench(t, nil)
	c := b.mustIPMI(t)
	if _, err := c.ChassisControl(t.Context(), chassis.ChassisControlHardReset); err == nil {
		t.Error("reset of a server that is off = nil; want D5h")
	}
	for _, step := range []struct {
		control chassis.ChassisControl
		action  PowerAction
		on      bool
	}{
		{chassis.ChassisControlPowerUp, PowerOn, true},
		{chassis.ChassisControlHardReset, PowerReset, true},
		{chassis.ChassisControlPowerCycle, PowerCycle, true},
		{chassis.ChassisControlSoftShutdown, PowerShutdown, false},
		{chassis.ChassisControlPowerUp, PowerOn, true},
		{chassis.ChassisControlPowerDown, PowerOff, false},
	} {
		if _, err := c.ChassisControl(t.Context(), step.control); err != nil {
			t.Fatalf("chassis control %d: %v", step.control, err)
		}
		status, err := c.GetChassisStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if b.server.last() != step.action || status.PowerIsOn != step.on {
			t.Errorf("chassis control %d = %s, on %t; want %s, on %t", step.control, b.server.last(), status.PowerIsOn, step.action, step.on)
		}
	}
	// The BMC's own reset is none of the server's.
	if err := c.ColdReset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.server.last(); got != PowerOff {
		t.Errorf("after a cold reset of the BMC the server's last action = %s; want off", got)
	}
}

func TestIPMIBootFlags(t *testing.T) {
	b := newBench(t, nil)
	c := b.mustIPMI(t)
	for _, step := range []struct {
		device  types.BootDeviceSelector
		kind    types.BIOSBootType
		persist bool
		want    BootOverride
	}{
		{types.BootDeviceSelectorForcePXE, types.BIOSBootTypeEFI, false, BootOverride{BootOnce, BootPXE, BootUEFI}},
		{types.BootDeviceSelectorForceHardDrive, types.BIOSBootTypeLegacy, true, BootOverride{BootContinuous, BootHDD, BootLegacy}},
		{types.BootDeviceSelectorNoOverride, types.BIOSBootTypeLegacy, false, BootOverride{BootDisabled, BootNone, BootLegacy}},
	} {
		if err := c.SetBootDevice(t.Context(), step.device, step.kind, step.persist); err != nil {
			t.Fatalf("set boot device %v: %v", step.device, err)
		}
		if got := b.Boot(); got != step.want {
			t.Errorf("boot override = %v; want %v", got, step.want)
		}
		flags := &types.BootOptionParam_BootFlags{}
		if err := c.GetSystemBootOptionsParamFor(t.Context(), flags); err != nil {
			t.Fatal(err)
		}
		if flags.BootDeviceSelector != step.device || flags.Persist != step.persist || flags.BIOSBootType != step.kind {
			t.Errorf("boot flags read back = %+v; want device %v, persist %t", flags, step.device, step.persist)
		}
	}
	if err := c.SetBootDevice(t.Context(), types.BootDeviceSelectorForceCDROM, types.BIOSBootTypeLegacy, false); err == nil {
		t.Error("boot from a CD that is not there = nil; want an error")
	}
}

func TestBootOnceIsUsedUp(t *testing.T) {
	b := newBench(t, nil)
	for enabled, after := range map[BootEnabled]BootOverride{
		BootOnce:       {BootDisabled, BootNone, BootLegacy},
		BootContinuous: {BootContinuous, BootHDD, BootLegacy},
	} {
		if err := b.SetBoot(t.Context(), BootOverride{enabled, BootHDD, BootLegacy}); err != nil {
			t.Fatal(err)
		}
		if got := b.server.target(); got != BootHDD {
			t.Errorf("%s: target = %q; want Hdd", enabled, got)
		}
		b.Booted(t.Context())
		if got := b.Boot(); got != after {
			t.Errorf("%s: override after a boot = %v; want %v", enabled, got, after)
		}
	}
}

func TestIPMIRefuses(t *testing.T) {
	b := newBench(t, nil)
	for _, who := range []struct{ user, password string }{{"admin", "wrong"}, {"admin", ""}, {"nobody", testPassword}, {"", ""}} {
		if _, err := b.dialIPMI(t, who.user, who.password); err == nil {
			t.Errorf("session of %q with %q = nil; want it refused", who.user, who.password)
		}
	}
	c, err := client.NewClient("127.0.0.1", b.ipmi.Port, "admin", testPassword)
	if err != nil {
		t.Fatal(err)
	}
	c.WithTimeout(time.Second).WithCipherSuiteID(types.CipherSuiteID0)
	if err := c.Connect(t.Context()); err == nil {
		t.Error("session with cipher suite 0 = nil; want it refused")
	}
}

func TestSEL(t *testing.T) {
	b := newBench(t, nil)
	c := b.mustIPMI(t)
	b.Booted(t.Context())
	b.Stopped()
	entries, err := c.GetSELEntries(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []uint8
	for _, e := range entries {
		kinds = append(kinds, uint8(e.Standard.SensorType))
	}
	want := []uint8{eventSELCleared.sensorType, eventBootInitiated.sensorType, eventPoweredOff.sensorType}
	if string(kinds) != string(want) {
		t.Errorf("sensor types in the SEL = %#x; want %#x", kinds, want)
	}
	reserved, err := c.ReserveSEL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ClearSEL(t.Context(), reserved.ReservationID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ClearSEL(t.Context(), reserved.ReservationID); err == nil {
		t.Error("clear with a used reservation = nil; want C5h")
	}
	info, err := c.GetSELInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Entries != 1 {
		t.Errorf("entries after clear = %d; want 1, which tells of it", info.Entries)
	}
}

func TestSELIsBounded(t *testing.T) {
	var l eventLog
	for range selCapacity + 10 {
		l.add(eventBootInitiated)
	}
	info := l.info()
	if n := binary.LittleEndian.Uint16(info[1:]); n != selCapacity || info[13]&0x80 == 0 {
		t.Errorf("entries = %d, overflow %t; want %d and true", n, info[13]&0x80 != 0, selCapacity)
	}
}

// TestKCS speaks to the third face as QEMU does.
func TestKCS(t *testing.T) {
	b := newBench(t, nil)
	conn, err := net.Dial("unix", b.kcs)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := vmproto.NewClient(conn, 5*time.Second)
	ask := func(cmd types.Command, data ...byte) []byte {
		t.Helper()
		cc, resp, err := c.Command(uint8(cmd.NetFn), cmd.ID, data...)
		if err != nil || cc != 0 {
			t.Fatalf("%s = %#02x, %v; want 0", cmd.Name, cc, err)
		}
		return resp
	}
	if id := ask(types.CommandGetDeviceID); id[4] != ipmiVersion2 {
		t.Errorf("IPMI version byte = %#02x; want 0x02", id[4])
	}
	ask(types.CommandSetBMCGlobalEnables, 0x09)
	if got := ask(types.CommandGetBMCGlobalEnables); got[0] != 0x09 {
		t.Errorf("global enables = %#02x; want 0x09", got[0])
	}
	// The three faces are one state: power over KCS is seen over the LAN.
	ask(types.CommandChassisControl, byte(chassis.ChassisControlPowerUp))
	status, err := b.mustIPMI(t).GetChassisStatus(t.Context())
	if err != nil || !status.PowerIsOn {
		t.Errorf("power over the LAN = %v, %v; want on", status, err)
	}
	for _, short := range []types.Command{types.CommandSetWatchdogTimer, types.CommandGetSELEntry, types.CommandAddSELEntry, types.CommandClearSEL, types.CommandSetSystemBootOptions} {
		if cc, _, err := c.Command(uint8(short.NetFn), short.ID); err != nil || cc != uint8(types.CodeRequestDataTruncated) {
			t.Errorf("%s without a body = %#02x, %v; want C6h", short.Name, cc, err)
		}
	}
}

func TestWatchdog(t *testing.T) {
	b := newBench(t, nil)
	conn, err := net.Dial("unix", b.kcs)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := vmproto.NewClient(conn, 5*time.Second)
	command := func(cmd types.Command, data ...byte) (byte, []byte) {
		t.Helper()
		cc, resp, err := c.Command(uint8(cmd.NetFn), cmd.ID, data...)
		if err != nil {
			t.Fatal(err)
		}
		return cc, resp
	}
	if cc, _ := command(types.CommandResetWatchdogTimer); cc != uint8(types.CodeResetWatchdogTimerUninitialized) {
		t.Errorf("reset of a watchdog that was never set = %#02x; want 80h", cc)
	}
	if err := b.server.Power(t.Context(), PowerOn); err != nil {
		t.Fatal(err)
	}
	command(types.CommandSetWatchdogTimer, 0x04, watchdogHardReset, 0, 0, 3, 0) // 300 ms
	if _, st := command(types.CommandGetWatchdogTimer); st[0]&0x40 != 0 {
		t.Error("the watchdog runs before its first reset")
	}
	command(types.CommandResetWatchdogTimer)
	if _, st := command(types.CommandGetWatchdogTimer); st[0]&0x40 == 0 {
		t.Error("the watchdog does not run after a reset")
	}
	for end := time.Now().Add(5 * time.Second); b.server.last() != PowerReset; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the watchdog has not reset the server within 5 s")
		}
	}
	if _, st := command(types.CommandGetWatchdogTimer); st[3] != 1<<4 {
		t.Errorf("expiration flags = %#02x; want 0x10 for use 4", st[3])
	}
}
