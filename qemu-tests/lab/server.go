package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/qemu-tests/bmc"
)

const (
	startTimeout    = 30 * time.Second
	shutdownTimeout = 60 * time.Second // until a restart stops asking politely
	cycleOffTime    = time.Second
	// SeaBIOS answers a reset with a second one, and the boot order is read at
	// each: an override is used up only when the resets have come to rest.
	settleTime = 3 * time.Second
)

// server is one virtual server: QEMU while it is on, and nothing while off.
// It is the [bmc.Server] of its BMC.
type server struct {
	spec    Server
	machine bmc.Machine
	tools   tools
	accel   Accel
	dir     string // its state: sockets, drive, UEFI variables
	console string // path of the serial log
	gdb     string // where its debugging stub listens; empty for none
	log     *slog.Logger
	booted  func() // the firmware has begun, and read the boot order
	stopped func() // QEMU has ended

	button sync.Mutex // one power action at a time

	mu      sync.Mutex // guards what follows
	run     *run
	boot    bmc.BootTarget
	cycling bool // off, and about to be on again
	closed  bool
	workers sync.WaitGroup
}

// run is one life of QEMU, from power on to power off.
type run struct {
	cmd    *exec.Cmd
	qmp    *qmp
	exited chan struct{} // QEMU is gone
	over   chan struct{} // and the server shows as off
}

// prepare makes what outlives a power cycle: the drive and the UEFI variables.
func (s *server) prepare() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("prepare %s: %w", s.spec.Name, err)
	}
	if err := os.MkdirAll(filepath.Dir(s.console), 0o755); err != nil {
		return fmt.Errorf("prepare %s: %w", s.spec.Name, err)
	}
	if err := os.WriteFile(s.console, nil, 0o644); err != nil {
		return fmt.Errorf("prepare the console log of %s: %w", s.spec.Name, err)
	}
	for i := range s.machine.Drives {
		drive, err := os.Create(s.path(driveFile(i)))
		if err != nil {
			return fmt.Errorf("prepare a drive of %s: %w", s.spec.Name, err)
		}
		if err := errors.Join(drive.Truncate(s.spec.DriveBytes), drive.Close()); err != nil {
			return fmt.Errorf("prepare a drive of %s: %w", s.spec.Name, err)
		}
	}
	if !s.spec.UEFI {
		return nil
	}
	vars, err := os.ReadFile(s.tools.path("usr/share/OVMF/OVMF_VARS_4M.fd"))
	if err != nil {
		return fmt.Errorf("prepare the UEFI variables of %s: %w", s.spec.Name, err)
	}
	if err := os.WriteFile(s.path("vars.fd"), vars, 0o600); err != nil {
		return fmt.Errorf("prepare the UEFI variables of %s: %w", s.spec.Name, err)
	}
	return nil
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

// option is a path inside a QEMU option, where a comma is written twice.
func option(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// driveBootIndex is the drive's place in the boot order; the NIC stands at 1.
// Racks are set to the network first.
func driveBootIndex(target bmc.BootTarget) int {
	if target == bmc.BootHDD {
		return 0
	}
	return 2
}

// arguments is the QEMU command line.
func (s *server) arguments(target bmc.BootTarget) ([]string, error) {
	smbios, err := writeSMBIOS(s.dir, &s.machine)
	if err != nil {
		return nil, err
	}
	accel, cpu := "tcg,thread=multi", "max,+svm"
	if s.accel == AccelKVM {
		accel, cpu = "kvm", "host"
	}
	cpu += ",model-id=" + s.machine.CPUs[0].Model
	if !s.spec.UEFI {
		// With wider addresses SeaBIOS puts the drive's registers above 4 GiB,
		// where its own NVMe driver cannot reach them, and never boots from it.
		cpu += ",host-phys-bits=off,phys-bits=36"
	}
	args := append(s.tools.qemu(),
		"-name", s.spec.Name, "-nodefaults", "-no-user-config", "-nographic",
		"-machine", "q35", "-cpu", cpu, "-accel", accel,
		"-smp", fmt.Sprintf("%d,sockets=%d,cores=%d,threads=1", s.spec.CPUs, len(s.machine.CPUs), s.spec.CPUs/len(s.machine.CPUs)),
		"-m", strconv.FormatInt(s.spec.memoryBytes()/mib, 10),
		"-uuid", formatUUID(s.machine.UUID),
		"-boot", "strict=on",
		"-chardev", "file,id=serial0,append=on,path="+option(s.console), "-serial", "chardev:serial0",
		"-qmp", "unix:"+s.path("qmp.sock")+",server=on,wait=off",
		"-device", "virtio-rng-pci",
		"-netdev", "stream,id=prov,server=off,addr.type=unix,addr.path="+s.path("prov.sock")+",reconnect-ms=1000",
		"-drive", "if=none,id=drive0,format=raw,cache=unsafe,discard=unmap,file="+s.path(driveFile(0)),
		"-device", fmt.Sprintf("nvme,id=nvme0,drive=drive0,serial=%s,bootindex=%d", s.machine.Drives[0].Serial, driveBootIndex(target)),
		"-chardev", "socket,id=ipmi0,reconnect-ms=1000,path="+s.path("ipmi.sock"),
		"-device", "ipmi-bmc-extern,id=bmc0,chardev=ipmi0", "-device", "isa-ipmi-kcs,bmc=bmc0",
	)
	nic := "virtio-net-pci,id=nic0,netdev=prov,bootindex=1,mac=" + s.spec.MAC().String()
	if s.spec.UEFI {
		nic += ",romfile=" // OVMF has a driver of its own
		args = append(args,
			"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+option(s.tools.path("usr/share/OVMF/OVMF_CODE_4M.fd")),
			"-drive", "if=pflash,format=raw,unit=1,file="+s.path("vars.fd"))
	} else {
		// iPXE's ROM names PCI device 1af4:1041 and SeaBIOS matches it to the
		// letter: as a transitional device (1af4:1000) the NIC never boots.
		nic += ",disable-legacy=on,romfile=pxe-virtio.rom"
	}
	args = append(args, "-device", nic)
	if s.spec.Rich {
		args = append(args, s.richArguments()...)
	}
	if s.gdb != "" {
		args = append(args, "-gdb", "tcp:"+s.gdb)
	}
	return append(args, smbios...), nil
}

// driveFile is the medium of a server's i-th drive.
func driveFile(i int) string { return fmt.Sprintf("drive%d.raw", i) }

// richArguments are what a rich server has more: memory on two NUMA nodes, a
// second NIC of another kind, a SATA and a SCSI drive.
func (s *server) richArguments() []string {
	half := s.spec.memoryBytes() / mib / 2
	args := []string{
		"-netdev", "stream,id=prov1,server=off,addr.type=unix,addr.path=" + s.path("prov1.sock") + ",reconnect-ms=1000",
		"-device", "e1000e,id=nic1,netdev=prov1,romfile=,mac=" + s.spec.nic(2).String(),
		"-drive", "if=none,id=drive1,format=raw,cache=unsafe,discard=unmap,file=" + s.path(driveFile(1)),
		"-device", "ide-hd,bus=ide.0,drive=drive1,serial=" + s.machine.Drives[1].Serial,
		"-drive", "if=none,id=drive2,format=raw,cache=unsafe,discard=unmap,file=" + s.path(driveFile(2)),
		"-device", "virtio-scsi-pci,id=scsi0",
		"-device", "scsi-hd,bus=scsi0.0,drive=drive2,vendor=LAB,product=DISK,wwn=0x5000c50000000103,serial=" + s.machine.Drives[2].Serial,
	}
	for node := range 2 {
		args = append(args, "-object", fmt.Sprintf("memory-backend-ram,id=mem%d,size=%dM", node, half),
			"-numa", fmt.Sprintf("node,nodeid=%d,cpus=%d,memdev=mem%d", node, node, node))
	}
	return args
}

// On tells whether QEMU runs.
func (s *server) On() bool { return s.current() != nil }

func (s *server) current() *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

// Power does one power action. A shutdown and a restart are done when the
// guest has been asked, and a cycle when the power is off: who waits longer for
// an answer asks again, and cycles twice.
func (s *server) Power(ctx context.Context, action bmc.PowerAction) error {
	s.button.Lock()
	defer s.button.Unlock()
	s.setCycling(action == bmc.PowerCycle)
	r := s.current()
	if r == nil {
		switch action {
		case bmc.PowerOn:
			return s.start(ctx)
		case bmc.PowerOff:
			return nil
		}
		return bmc.ErrOff
	}
	switch action {
	case bmc.PowerOn:
		return nil
	case bmc.PowerOff:
		return s.kill(r)
	case bmc.PowerCycle:
		if err := s.kill(r); err != nil {
			return err
		}
		s.workers.Go(s.finishCycle)
		return nil
	case bmc.PowerReset:
		_, err := r.qmp.execute("system_reset", nil)
		return err
	case bmc.PowerShutdown:
		_, err := r.qmp.execute("system_powerdown", nil)
		return err
	case bmc.PowerRestart:
		if _, err := r.qmp.execute("system_powerdown", nil); err != nil {
			return err
		}
		s.workers.Go(func() { s.finishRestart(r) })
		return nil
	}
	return fmt.Errorf("power action %q is not known", action)
}

// switchMains takes a server's power away without a word to its BMC's clients,
// or gives it back: it starts by itself. The BMC, which has a battery here,
// stays.
func (r *room) switchMains(ctx context.Context, name string, cut bool) *answer {
	s := r.server(name)
	if s == nil {
		return &answer{Error: fmt.Sprintf("server %q is not in this lab", name)}
	}
	action := bmc.PowerOn
	if cut {
		action = bmc.PowerOff
	}
	err := s.Power(ctx, action)
	r.log.Info("mains", "server", name, "cut", cut, "err", err)
	if err != nil {
		return &answer{Error: err.Error()}
	}
	return &answer{}
}

// SwitchMains takes the power of a server of a lab away, or gives it back.
func SwitchMains(ctx context.Context, name, server string, cut bool) error {
	conn, _, _, err := ask(ctx, name, request{Do: "mains", Server: server, Cut: cut})
	if err != nil {
		return err
	}
	return conn.Close()
}

func (s *server) setCycling(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cycling = on
}

// finishCycle puts the power back, unless somebody has pressed the button
// meanwhile.
func (s *server) finishCycle() {
	time.Sleep(cycleOffTime)
	s.mu.Lock()
	cycling := s.cycling && !s.closed
	s.mu.Unlock()
	if !cycling {
		return
	}
	if err := s.Power(context.Background(), bmc.PowerOn); err != nil {
		s.log.Warn("finish power cycle", "server", s.spec.Name, "cause", err)
	}
}

// finishRestart starts the server anew once it has shut down; when it does not,
// it is reset.
func (s *server) finishRestart(r *run) {
	action := bmc.PowerOn
	select {
	case <-r.exited:
	case <-time.After(shutdownTimeout):
		action = bmc.PowerReset
	}
	if err := s.Power(context.Background(), action); err != nil {
		s.log.Warn("finish restart", "server", s.spec.Name, "cause", err)
	}
}

// SetBoot changes the boot order for the next start of the firmware, which
// reads it at each reset.
func (s *server) SetBoot(_ context.Context, target bmc.BootTarget) error {
	s.mu.Lock()
	s.boot = target
	r := s.run
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	// QEMU refuses an index that is in use, and be it by the device itself.
	if err := r.qmp.setProperty("nvme0", "bootindex", -1); err != nil {
		return err
	}
	return r.qmp.setProperty("nvme0", "bootindex", driveBootIndex(target))
}

func (s *server) start(ctx context.Context) error {
	s.mu.Lock()
	target, closed := s.boot, s.closed
	s.mu.Unlock()
	if closed {
		return fmt.Errorf("start %s: the lab is going down", s.spec.Name)
	}
	args, err := s.arguments(target)
	if err != nil {
		return err
	}
	_ = os.Remove(s.path("qmp.sock")) // of the life before; QEMU would not bind over it
	var said bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = &limited{w: &said, left: 4096}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start QEMU of %s: %w", s.spec.Name, err)
	}
	r := &run{cmd: cmd, exited: make(chan struct{}), over: make(chan struct{})}
	var exit error
	go func() { exit = cmd.Wait(); close(r.exited) }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if r.qmp, err = dialQMP(ctx, s.path("qmp.sock"), r.exited); err != nil {
		_ = cmd.Process.Kill()
		<-r.exited
		return fmt.Errorf("start QEMU of %s: %w (%v) %s", s.spec.Name, err, exit, bytes.TrimSpace(said.Bytes()))
	}
	s.mu.Lock()
	s.run = r
	s.mu.Unlock()
	s.workers.Go(func() { s.watch(r, &said, &exit) })
	return nil
}

// watch follows one life of QEMU to its end.
func (s *server) watch(r *run, said *bytes.Buffer, exit *error) {
	s.followEvents(r)
	<-r.exited
	r.qmp.close()
	s.mu.Lock()
	s.run = nil
	s.mu.Unlock()
	close(r.over)
	s.log.Info("qemu ended", "server", s.spec.Name, "exit", fmt.Sprint(*exit), "said", said.String())
	s.stopped()
}

func (s *server) followEvents(r *run) {
	settled := time.NewTimer(settleTime)
	defer settled.Stop()
	for {
		select {
		case event, open := <-r.qmp.events:
			if !open {
				return
			}
			s.log.Debug("qemu", "server", s.spec.Name, "event", event)
			if event == "RESET" {
				settled.Reset(settleTime)
			}
		case <-settled.C:
			s.booted()
		}
	}
}

// kill takes the power away and waits until QEMU is gone.
func (s *server) kill(r *run) error {
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill QEMU of %s: %w", s.spec.Name, err)
	}
	<-r.exited
	<-r.over
	return nil
}

// close ends the server for good.
func (s *server) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if err := s.Power(context.Background(), bmc.PowerOff); err != nil {
		s.log.Warn("close", "server", s.spec.Name, "cause", err)
	}
	s.workers.Wait()
}

// limited passes on so many bytes and swallows the rest.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
