package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/qemu-tests/bmc"
)

// noServer is a server that stays off.
type noServer struct{}

func (noServer) On() bool                                      { return false }
func (noServer) Power(context.Context, bmc.PowerAction) error  { return bmc.ErrOff }
func (noServer) SetBoot(context.Context, bmc.BootTarget) error { return nil }

func ipmiBMC(t *testing.T) string {
	t.Helper()
	b, err := bmc.New(bmc.Config{Server: noServer{}, Credentials: bmc.Credentials{User: "admin", Password: "right"}, Machine: bmc.Machine{
		Name: "t1", Manufacturer: "Ingot Lab", Product: "LS-1", Serial: "LAB-0007", Controller: bmc.Controller{Firmware: "1.04"},
		DIMMs: []bmc.DIMM{{Slot: "DIMM_A1", SizeBytes: 1 << 30, SpeedMTs: 3200, Serial: "D1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, bmc.Listeners{IPMI: conn}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn.LocalAddr().String()
}

func TestHardwareIPMI(t *testing.T) {
	address := ipmiBMC(t)
	run := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		env := map[string]string{"RIGHT": "right", "WRONG": "mistaken"}
		code := newApp(&out, &errs, func(k string) string { return env[k] }).run(t.Context(), append([]string{"hardware", "ipmi"}, args...))
		return code, out.String(), errs.String()
	}
	flags := []string{address, "--user", "admin", "--password-env", "RIGHT"}
	code, stdout, stderr := run(append(flags, "-o", "json")...)
	inv, err := hardware.Decode([]byte(stdout))
	if code != exitOK || err != nil || inv.System.Serial != "LAB-0007" || len(inv.DIMMs) != 1 || len(inv.Findings) == 0 {
		t.Errorf("exit %d, %v, %s, findings %v", code, err, inv.Summary(), inv.Findings)
	}
	for _, want := range []string{"requests ", "refused ", "seconds ", "most in flight 1", "cipher suite 17"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr %q lacks %q", stderr, want)
		}
	}
	if code, stdout, _ = run(append(flags, "-o", "json", "--readings")...); code != exitOK || !json.Valid([]byte(stdout)) {
		t.Errorf("readings: exit %d\n%s", code, stdout)
	}
	if r, err := hardware.DecodeReadings([]byte(stdout)); err != nil || r.PowerState != hardware.PowerOff || len(r.Sensors) < 10 || len(r.Logs) != 1 {
		t.Errorf("readings: %v, %+v", err, r)
	}
	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{append(flags, "-o", "table"), exitOK, "LAB-0007"},
		{append(flags, "-o", "table", "--readings"), exitOK, "FAN1"},
		{append(flags, "-o", "yaml"), exitOK, "serial: LAB-0007"},
		{append(flags, "--cipher", "3"), exitOK, "cipher suite 3"},
		{append(flags, "--cipher", "0"), exitOK, "cipher suite 17"},
		{append(flags, "--cipher", "1"), exitUsage, "want 3 or 17"},
		{[]string{address, "--user", "admin", "--password-env", "WRONG"}, exitRefused, "the password does not match"},
		{[]string{address, "--user", "nobody", "--password-env", "RIGHT"}, exitRefused, "refuses the account"},
		{[]string{address, "--user", "admin"}, exitUsage, "want --user and --password-env"},
		{[]string{address, "--user", "admin", "--password-env", "NONE"}, exitUsage, "NONE is empty"},
		{nil, exitUsage, "the address of the BMC"},
	} {
		code, stdout, stderr := run(c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.say) {
			t.Errorf("%v: exit %d; want %d and %q\n%s%s", c.args, code, c.code, c.say, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, "mistaken") {
			t.Errorf("%v: the password is told", c.args)
		}
	}
}
