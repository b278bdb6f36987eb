package ipmi

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/vmproto"
	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/hardware"
)

// kcs is the guest's side of the channel by which QEMU's KCS reaches a BMC:
// what the kernel's driver does to the commands of /dev/ipmi0.
func kcs(t *testing.T, path string, limit time.Duration) *session {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := vmproto.NewClient(conn, time.Minute)
	send := func(_ context.Context, cmd command, data []byte) ([]byte, error) {
		code, b, err := c.Command(cmd.netFn, cmd.id, data...)
		if err == nil && code != 0 {
			err = CompletionCode(code)
		}
		return b, err
	}
	o := own(nil)
	t.Cleanup(func() { o.close(context.Background(), time.Second) })
	return &session{own: o, send: send, limit: limit, tries: kcsTry, big: kcsRead}
}

func serveKCS(t *testing.T, r *repository) string {
	t.Helper()
	info := bmc.DeviceInfo{DeviceID: 32, FirmwareMajor: 2, FirmwareMinor: 0x17, IPMIVersion: 2, ManufacturerID: 674}
	registry := handlers.NewRegistry()
	handlers.RegisterAllHandlers(registry)
	r.register(registry)
	path := t.TempDir() + "/kcs"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	b := bmc.New(info, [16]byte{}, mock.New())
	if err := b.Users.Update(1, func(u *bmc.User) error { u.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- vmproto.NewVMServer(b, vmproto.WithVMHandlerRegistry(registry)).Serve(ctx, l)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return path
}

func TestKCS(t *testing.T) {
	s := kcs(t, serveKCS(t, &repository{sdrs: voltages(3), events: [][]byte{event(1, 1e9)}}), stepLimit)
	if err := s.run(t.Context(), lateSteps()); err != nil {
		t.Fatal(err)
	}
	if n := len(s.view.Readings.Sensors); n != 3 {
		t.Errorf("%d sensors; want 3", n)
	}
	if l := s.view.Readings.Logs; len(l) != 1 || len(l[0].Newest) != 1 || l[0].Newest[0].Sensor != "V1" {
		t.Errorf("log = %+v", l)
	}
	if d := cmp.Diff([]hardware.Finding(nil), s.view.Inventory.Findings); d != "" {
		t.Errorf("findings of a sound BMC:\n%s", d)
	}
}

// TestKCSSilent has a BMC that takes commands and answers none, at first and
// in the middle.
func TestKCSSilent(t *testing.T) {
	path := t.TempDir() + "/kcs"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := kcs(t, path, 200*time.Millisecond)
	begin := time.Now()
	err = s.run(t.Context(), lateSteps())
	if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), "read device ID: no answer within 200ms") || took > 2*time.Second {
		t.Errorf("a silent BMC = %v after %v", err, took)
	}
	n := 0
	s = kcs(t, serveKCS(t, &repository{sdrs: voltages(3)}), 200*time.Millisecond)
	real := s.send
	release := make(chan struct{})
	s.send = func(ctx context.Context, cmd command, data []byte) ([]byte, error) {
		if n++; n > 4 {
			<-release
		}
		return real(ctx, cmd, data)
	}
	if err := s.run(t.Context(), lateSteps()); err != nil || !hasFinding(s.view, hardware.CodeBMCStopped, "SDR repository") || s.view.Inventory.BMC.Firmware == "" {
		t.Errorf("a BMC that hangs in the middle = %v, %+v", err, s.view.Inventory)
	}
	close(release)
}

// TestStepPanics has a decoder of ours break: the others still run.
func TestStepPanics(t *testing.T) {
	s := kcs(t, serveKCS(t, &repository{}), stepLimit)
	err := s.run(t.Context(), []step{{"device ID", deviceID}, {"bad", func(context.Context, *session) error { panic("no") }}, {"chassis status", chassisStatus}})
	if err != nil || !hasFinding(s.view, hardware.CodeSourceMalformed, "read bad: panic: no") || s.view.Readings.PowerState == "" {
		t.Errorf("run = %v, %+v", err, s.view)
	}
	if err := s.run(t.Context(), []step{{"device ID", func(context.Context, *session) error { return errors.New("no") }}}); err == nil {
		t.Error("without a device ID there is a BMC")
	}
}
