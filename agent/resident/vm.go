package resident

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/vmlink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
)

const qemuPath = "/usr/bin/qemu-system-x86_64-microvm"

// vmNet is the point-to-point network of the i-th virtual machine, out of the
// block that RFC 6598 keeps for such use.
type vmNet struct{ tap, host, guest string }

func vmNetwork(i int) vmNet {
	base := fmt.Sprintf("100.64.%d.", i)
	return vmNet{tap: fmt.Sprintf("ivm%d", i), host: base + "1/30", guest: base + "2/30"}
}

func (n vmNet) guestIP() string { ip, _, _ := strings.Cut(n.guest, "/"); return ip }
func (n vmNet) hostIP() string  { ip, _, _ := strings.Cut(n.host, "/"); return ip }

// runVM starts one virtual machine and stays with it until it ends.
func (r *resident) runVM(ctx context.Context, i int, vm images.VM) {
	down := func(reason fleet.ReasonCode, err error) {
		r.set(fleet.LayerVM, vm.Name, fleet.LayerDown, reason, err.Error(), nil)
	}
	n := vmNetwork(i)
	tap, err := openTap(n)
	if err != nil {
		down(fleet.ReasonVMNetwork, err)
		return
	}
	defer tap.Close()
	for _, f := range vm.Forwards {
		stop, err := forward(ctx, f.HostPort, net.JoinHostPort(n.guestIP(), strconv.Itoa(int(f.VMPort))))
		if err != nil {
			down(fleet.ReasonVMNetwork, err)
			return
		}
		defer stop()
	}
	ours, theirs, err := socketPair()
	if err != nil {
		down(fleet.ReasonQEMUStart, err)
		return
	}
	defer ours.Close()
	cmd := exec.CommandContext(ctx, qemuPath, r.qemuArgs(vm, i)...)
	cmd.ExtraFiles = []*os.File{theirs, tap} // 3, 4
	console := &vmConsole{say: func(line string) { r.log.Info("vm console", "vm", vm.Name, "line", line) }}
	cmd.Stdout, cmd.Stderr = console, console
	cmd.WaitDelay = 5 * time.Second
	start := time.Now()
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		down(fleet.ReasonQEMUStart, err)
		return
	}
	r.vms.Store(vm.Name, cmd.Process)
	defer r.vms.Delete(vm.Name)
	r.say("vm %s: QEMU started (process %d)", vm.Name, cmd.Process.Pid)
	r.set(fleet.LayerVM, vm.Name, fleet.LayerStarting, "", "", map[string]string{"address": n.guestIP()})
	linked := make(chan struct{})
	go func() {
		defer close(linked)
		r.guard(ctx, "link of vm "+vm.Name, func(ctx context.Context) { r.talk(ctx, ours, i, vm) })
	}()
	err = cmd.Wait()
	ours.Close()
	<-linked
	if ctx.Err() != nil {
		return
	}
	r.set(fleet.LayerVM, vm.Name, fleet.LayerDown, fleet.ReasonQEMUExited,
		fmt.Sprintf("QEMU (process %d) ended after %.0f s: %s; last words: %s", cmd.Process.Pid, time.Since(start).Seconds(), exitText(err), console.tail()),
		map[string]string{"boot_id": ""})
}

func exitText(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// qemuArgs is the machine: a microvm with nothing in it that the guest does not
// use. File descriptor 3 is the virtio-serial link, 4 the TAP.
func (r *resident) qemuArgs(vm images.VM, index int) []string {
	file := func(a images.Artifact) string { return filepath.Join(r.opt.Dir, "payload", a.Name) }
	args := []string{
		"-name", vm.Name,
		"-machine", "microvm,accel=kvm,pic=off,pit=off,rtc=off,isa-serial=on",
		"-cpu", "host", "-smp", strconv.Itoa(vm.CPUs), "-m", strconv.FormatInt(vm.MemoryBytes>>20, 10),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-sandbox", "on",
		"-kernel", file(vm.Kernel), "-initrd", file(vm.Initrd),
		"-append", "console=ttyS0 quiet loglevel=4 reboot=t panic=-1 tsc=reliable no_timer_check random.trust_cpu=on",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-netdev", "tap,id=net0,fd=4", "-device", fmt.Sprintf("virtio-net-device,netdev=net0,mac=52:54:00:64:00:%02x", index),
		"-device", "virtio-serial-device", "-chardev", "socket,id=link,fd=3",
		"-device", "virtserialport,chardev=link,name=" + vmlink.PortName,
		"-device", "virtio-rng-device",
	}
	drive := func(id, path, serial string) {
		args = append(args,
			"-drive", "id="+id+",if=none,format=raw,read-only=on,file="+path,
			"-device", "virtio-blk-device,drive="+id+",serial="+serial)
	}
	drive("root", file(vm.Root), vmlink.RootDrive)
	for i, c := range r.containersOf(vm.Name) {
		drive("oci"+strconv.Itoa(i), file(c.Archive), ociDrive(i))
	}
	return args
}

// ociDrive is the serial of a VM's i-th archive; virtio allows 20 characters.
func ociDrive(i int) string { return "ingot-oci-" + strconv.Itoa(i) }

func (r *resident) containersOf(vm string) []images.Container {
	var out []images.Container
	for _, c := range r.handoff.Manifest.Containers {
		if c.VM == vm {
			out = append(out, c)
		}
	}
	return out
}

// config is what a VM is told to run.
func (r *resident) config(i int, vm images.VM) vmlink.Config {
	h := r.handoff
	n := vmNetwork(i)
	c := vmlink.Config{VM: vm.Name, Address: n.guest, Gateway: n.hostIP()}
	for i, ct := range r.containersOf(vm.Name) {
		out := vmlink.Container{
			Name: ct.Name, ImageDigest: ct.ImageDigest, Drive: ociDrive(i),
			Env: map[string]string{
				"INGOT_VM": vm.Name, "INGOT_HYPERVISOR": h.Manifest.Hypervisor.Kind, "INGOT_HYPERVISOR_BOOT_ID": r.bootID,
				"INGOT_NODE": string(h.Node), "INGOT_STACK": h.Manifest.Ref(), "INGOT_STACK_DIGEST": string(h.StackDigest),
				"INGOT_NAME": h.Placement.Name, "INGOT_RACK": h.Placement.Rack, "INGOT_UNIT": strconv.Itoa(h.Placement.Unit),
			},
		}
		for k, v := range h.Params {
			out.Env["INGOT_"+strings.ToUpper(k)] = v
		}
		for _, s := range h.Manifest.Services {
			if s.Container != ct.Name {
				continue
			}
			out.Env["INGOT_SERVICE"] = s.Name
			for _, f := range vm.Forwards {
				if f.HostPort == s.Port {
					out.HealthURL = fmt.Sprintf("http://127.0.0.1:%d%s", f.VMPort, s.HealthPath)
				}
			}
		}
		c.Containers = append(c.Containers, out)
	}
	return c
}

// helloDeadline is how long a VM may take to its first word.
const helloDeadline = 3 * time.Minute

// talk listens to a VM until the link ends. What it says is a claim about
// itself alone: it may set its own layer and those of its own containers.
func (r *resident) talk(ctx context.Context, link net.Conn, i int, vm images.VM) {
	w, in := vmlink.NewWriter(link), vmlink.NewReader(link)
	messages := make(chan vmlink.Message)
	go func() {
		defer close(messages)
		for {
			m, err := in.Read()
			if errors.Is(err, vmlink.ErrMalformed) {
				r.log.Warn("vm link", "vm", vm.Name, "cause", err)
				continue
			}
			if err != nil {
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	silence := time.NewTimer(helloDeadline)
	defer silence.Stop()
	boot := ""
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return
			}
			silence.Reset(vmlink.HeartbeatLost)
			r.hear(w, m, i, vm, &boot)
		case <-silence.C:
			reason, what := fleet.ReasonVMSilent, fmt.Sprintf("no sign of life for %v", vmlink.HeartbeatLost)
			if boot == "" {
				reason, what = fleet.ReasonVMNoHello, fmt.Sprintf("no hello within %v of its start", helloDeadline)
			}
			r.set(fleet.LayerVM, vm.Name, fleet.LayerDown, reason, what, nil)
		case <-ctx.Done():
			return
		}
	}
}

// hear acts on one message.
func (r *resident) hear(w *vmlink.Writer, m vmlink.Message, i int, vm images.VM, boot *string) {
	switch {
	case m.Hello != nil:
		if *boot != "" && *boot != m.Hello.BootID {
			r.set(fleet.LayerVM, vm.Name, fleet.LayerDown, fleet.ReasonVMRebooted, "its boot ID changed from "+*boot+" to "+clip(m.Hello.BootID, 64), nil)
		}
		*boot = m.Hello.BootID
		c := r.config(i, vm)
		if err := w.Write(vmlink.Message{Config: &c}); err != nil {
			r.say("vm %s: send its configuration: %v", vm.Name, err)
		}
		r.set(fleet.LayerVM, vm.Name, fleet.LayerUp, "", "", map[string]string{
			"boot_id": clip(m.Hello.BootID, 64), "kernel": clip(m.Hello.Kernel, 64),
			"hello_seconds": strconv.FormatFloat(m.Hello.UptimeSeconds, 'f', 1, 64),
		})
	case m.Log != nil:
		r.say("vm %s: %s", vm.Name, clip(m.Log.Text, 500))
	case m.Layer != nil:
		r.relay(vm, *m.Layer)
	case m.Heartbeat != nil:
		if r.layers.state(fleet.LayerVM, vm.Name) == fleet.LayerDown {
			r.set(fleet.LayerVM, vm.Name, fleet.LayerUp, "", "", nil)
		}
		for _, l := range m.Heartbeat.Layers {
			r.relay(vm, l)
		}
	}
}

// relay takes a VM's word for the state of its own containers.
func (r *resident) relay(vm images.VM, l fleet.Layer) {
	own := false
	for _, c := range r.containersOf(vm.Name) {
		own = own || c.Name == l.Name
	}
	switch l.State {
	case fleet.LayerStarting, fleet.LayerUp, fleet.LayerDown, fleet.LayerUnknown:
	default:
		own = false
	}
	if !own || l.Layer != fleet.LayerContainer {
		r.log.Warn("vm link: a layer that is not the VM's", "vm", vm.Name, "layer", l.Layer, "name", clip(l.Name, 80))
		return
	}
	facts := map[string]string{}
	for _, k := range []string{"container_id", "image_digest"} {
		if v := l.Facts[k]; v != "" {
			facts[k] = clip(v, 128)
		}
	}
	if l.Reason != "" && !l.Reason.WellFormed() {
		l.Reason, l.Evidence = fleet.ReasonContainerUnclear, clip(fmt.Sprintf("%.200q: %s", l.Reason, l.Evidence), 500)
	}
	r.set(fleet.LayerContainer, l.Name, l.State, l.Reason, l.Evidence, facts)
}

// openTap makes the TAP of a VM, with the host's address on it.
func openTap(n vmNet) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	f := os.NewFile(uintptr(fd), "/dev/net/tun")
	req, err := unix.NewIfreq(n.tap)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, errors.Join(fmt.Errorf("create TAP %s: %w", n.tap, err), f.Close())
	}
	if err := tapUp(n); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func tapUp(n vmNet) error {
	l, err := netlink.LinkByName(n.tap)
	if err != nil {
		return fmt.Errorf("find TAP %s: %w", n.tap, err)
	}
	addr, err := netlink.ParseAddr(n.host)
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(l, addr); err != nil {
		return fmt.Errorf("set %s on %s: %w", n.host, n.tap, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", n.tap, err)
	}
	return nil
}

// socketPair makes the two ends of a VM's link.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "vm link, QEMU's end")
	f := os.NewFile(uintptr(fds[0]), "vm link, our end")
	ours, err = net.FileConn(f)
	f.Close()
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	return ours, theirs, nil
}

// forward leads a TCP port of the server to a VM until stop is called.
func forward(ctx context.Context, port uint16, to string) (stop func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(int(port))))
	if err != nil {
		return nil, fmt.Errorf("lead port %d to %s: %w", port, to, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
					return
				}
				if !pause(ctx, 100*time.Millisecond) { // out of files, most likely
					return
				}
				continue
			}
			wg.Go(func() { relayTCP(ctx, c, to) })
		}
	})
	return func() {
		cancel()
		l.Close()
		wg.Wait()
	}, nil
}

// relayTCP carries one connection in both directions; when the VM does not
// answer, the connection is reset.
func relayTCP(ctx context.Context, c net.Conn, to string) {
	defer c.Close()
	d := net.Dialer{Timeout: 5 * time.Second}
	v, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // a reset says more than an empty answer
		}
		return
	}
	defer v.Close()
	defer context.AfterFunc(ctx, func() { c.Close(); v.Close() })()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(v, c) // either end may hang up at any time
		if t, ok := v.(*net.TCPConn); ok {
			_ = t.CloseWrite()
		}
	}()
	_, _ = io.Copy(c, v)
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	<-done
}

// vmConsole passes on a VM's console by lines and remembers the last ones.
type vmConsole struct {
	say  func(string)
	mu   sync.Mutex
	part []byte
	last []string
}

const (
	consoleLineBytes = 1024
	consoleLines     = 8
)

func (c *vmConsole) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.part = append(c.part, b...)
	for {
		advance, line, _ := bufio.ScanLines(c.part, false)
		if advance == 0 {
			if len(c.part) < consoleLineBytes {
				return len(b), nil
			}
			advance, line = consoleLineBytes, c.part[:consoleLineBytes]
		}
		text := clip(string(line), consoleLineBytes)
		c.part = c.part[advance:]
		if text == "" {
			continue
		}
		if c.last = append(c.last, text); len(c.last) > consoleLines {
			c.last = c.last[1:]
		}
		c.say(text)
	}
}

func (c *vmConsole) tail() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(append(append([]string(nil), c.last...), string(c.part)), " | ")
}
