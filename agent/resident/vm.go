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

	"github.com/ingot-metal/ingot/agent/vmlink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
)

const qemuPath = "/usr/bin/qemu-system-x86_64-microvm"

// vmRecordOf says where the sockets of the i-th virtual machine are.
func (r *resident) vmRecordOf(i int) vmRecord {
	base := filepath.Join(r.opt.Dir, "vm", strconv.Itoa(i))
	return vmRecord{Link: base + ".link", Console: base + ".console", Output: base + ".log"}
}

// A virtual machine that ended by itself is started again, after a pause that
// grows. One that ended so often in a row is left alone; one that ran for so
// long begins a new row.
const (
	vmTries   = 3
	vmPause   = 5 * time.Second
	vmSettled = 10 * time.Minute
)

// runVM keeps one virtual machine running: it starts it, or takes up the one
// that an earlier resident started, and stays with it.
func (r *resident) runVM(ctx context.Context, i int, vm images.VM) {
	if err := r.portTrouble[vm.Name]; err != nil {
		r.set(fleet.LayerVM, vm.Name, fleet.LayerDown, fleet.ReasonVMNetwork, err.Error(), nil)
		return
	}
	for r.vmLife(ctx, i, vm) {
		rec, _ := r.session.vm(vm.Name)
		if !pause(ctx, time.Duration(rec.Failures)*r.vmPause) {
			return
		}
	}
}

// vmLife is one life of a virtual machine. It says whether there may be
// another.
func (r *resident) vmLife(ctx context.Context, i int, vm images.VM) bool {
	down := func(reason fleet.ReasonCode, err error) bool {
		r.set(fleet.LayerVM, vm.Name, fleet.LayerDown, reason, err.Error(), nil)
		return false
	}
	rec, known := r.session.vm(vm.Name)
	if known && !rec.Ended {
		p, err := adopt(rec)
		switch {
		case err == nil:
			r.say("vm %s: QEMU (process %d) is taken up", vm.Name, p.pid)
			return r.stay(ctx, p, rec, i, vm)
		case !errors.Is(err, errNeverStarted):
			return r.vmEnded(vm.Name, fmt.Sprintf("QEMU (process %d) ended while no resident ran: %v; last words: %s", rec.PID, err, lastWords(rec.Output)))
		}
	}
	if rec.Ended && !rec.again() {
		return false // and that was said
	}
	n := vmNetwork(i)
	tap, err := r.openTap(n)
	if err != nil {
		return down(fleet.ReasonVMNetwork, err)
	}
	defer tap.Close()
	rec = r.vmRecordOf(i).after(rec)
	p, err := r.startQEMU(&rec, tap, i, vm)
	if err != nil {
		return down(fleet.ReasonQEMUStart, err)
	}
	r.say("vm %s: QEMU started (process %d)", vm.Name, p.pid)
	r.set(fleet.LayerVM, vm.Name, fleet.LayerStarting, "", "", map[string]string{"address": n.guestIP()})
	return r.stay(ctx, p, rec, i, vm)
}

// after is a new life that follows another.
func (rec vmRecord) after(last vmRecord) vmRecord {
	rec.Failures = last.Failures
	return rec
}

// again says whether a virtual machine that ended is started again.
func (rec vmRecord) again() bool { return !rec.Stopped && rec.Failures <= vmTries }

// vmEnded notes the end of a virtual machine, says it, and whether it is
// started again.
func (r *resident) vmEnded(name, how string) bool {
	var rec vmRecord
	r.keep(func(s *session) {
		rec = s.VMs[name]
		if time.Since(rec.Started) > vmSettled {
			rec.Failures = 0
		}
		rec.Ended = true
		rec.Failures++
		s.VMs[name] = rec
	})
	switch {
	case rec.Stopped:
		how = "an operator stopped it: " + how
	case !rec.again():
		how = fmt.Sprintf("it ended %d times in a row and is left alone: %s", rec.Failures, how)
	}
	r.set(fleet.LayerVM, name, fleet.LayerDown, fleet.ReasonQEMUExited, how, map[string]string{"boot_id": ""})
	return rec.again()
}

// startQEMU starts the process and keeps how to find it again. It is a process
// that outlives this one: nothing of it hangs on a pipe of ours.
func (r *resident) startQEMU(rec *vmRecord, tap *os.File, i int, vm images.VM) (*process, error) {
	if err := os.MkdirAll(filepath.Dir(rec.Link), 0o700); err != nil {
		return nil, err
	}
	for _, path := range []string{rec.Link, rec.Console} {
		if err := removeIfThere(path); err != nil {
			return nil, err
		}
	}
	out, err := os.OpenFile(rec.Output, os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(r.qemu, r.qemuArgs(vm, i)...)
	cmd.ExtraFiles = []*os.File{tap} // 3
	cmd.Stdout, cmd.Stderr = out, out
	rec.Started = time.Now()
	r.keep(func(s *session) { s.VMs[vm.Name] = *rec })
	if err := cmd.Start(); err != nil {
		r.keep(func(s *session) { delete(s.VMs, vm.Name) })
		return nil, err
	}
	p, err := watchChild(cmd)
	if err != nil {
		return nil, err
	}
	rec.PID = p.pid
	if rec.StartTicks, err = startTicks(p.pid); err != nil {
		r.say("vm %s: %v", vm.Name, err) // it ended at once, as stay will see
	}
	r.keep(func(s *session) { s.VMs[vm.Name] = *rec })
	return p, nil
}

// stay follows a virtual machine until it ends, and says whether it is started
// again. When this process is asked to end, the VM ends with it only if the
// server goes down.
func (r *resident) stay(ctx context.Context, p *process, rec vmRecord, i int, vm images.VM) bool {
	defer p.close()
	r.vms.Store(vm.Name, p)
	defer r.vms.Delete(vm.Name)
	console := &vmConsole{say: func(line string) { r.log.Info("vm console", "vm", vm.Name, "line", line) }}
	lives, ended := context.WithCancel(ctx)
	var wg sync.WaitGroup
	follow := func(what, path string, use func(context.Context, net.Conn)) {
		wg.Go(func() {
			r.guard(lives, what+" of vm "+vm.Name, func(ctx context.Context) { redial(ctx, path, use) })
		})
	}
	boot := r.layers.fact(fleet.LayerVM, vm.Name, "boot_id")
	follow("link", rec.Link, func(ctx context.Context, c net.Conn) { r.talk(ctx, c, i, vm, &boot) })
	follow("console", rec.Console, func(_ context.Context, c net.Conn) { _, _ = io.Copy(console, c) })
	wg.Go(func() { r.boundOutput(lives, rec.Output) })
	how, is := p.wait(ctx)
	ended()
	wg.Wait()
	if !is {
		if r.stopping() {
			if err := p.kill(); err != nil {
				r.log.Warn("stop vm", "vm", vm.Name, "cause", err)
			}
		}
		return false
	}
	return r.vmEnded(vm.Name, fmt.Sprintf("QEMU (process %d) ended after %.0f s: %s; last words: %s",
		p.pid, time.Since(rec.Started).Seconds(), how, console.tail()+" "+lastWords(rec.Output)))
}

// redial uses a connection to a unix socket, and another when it ends, until ctx
// does.
func redial(ctx context.Context, path string, use func(context.Context, net.Conn)) {
	for {
		if c, err := (&net.Dialer{}).DialContext(ctx, "unix", path); err == nil {
			stop := context.AfterFunc(ctx, func() { c.Close() })
			use(ctx, c)
			stop()
			c.Close()
		}
		if !pause(ctx, 50*time.Millisecond) {
			return
		}
	}
}

// maxOutputBytes bounds what QEMU says, which lies in memory.
const maxOutputBytes = 256 << 10

// boundOutput empties a file that grows, which QEMU appends to.
func (r *resident) boundOutput(ctx context.Context, path string) {
	for pause(ctx, 5*time.Second) {
		fi, err := os.Stat(path)
		if err == nil && fi.Size() > maxOutputBytes {
			err = os.Truncate(path, 0)
		}
		if err != nil {
			r.log.Warn("output of QEMU", "cause", err)
		}
	}
}

// lastWords is the end of what QEMU said.
func lastWords(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(clip(string(b), 500))
}

func exitText(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// qemuArgs is the machine: a microvm with nothing in it that the guest does not
// use. File descriptor 3 is the TAP; link and console are sockets that a later
// resident connects to again.
func (r *resident) qemuArgs(vm images.VM, index int) []string {
	rec := r.vmRecordOf(index)
	file := func(a images.Artifact) string { return filepath.Join(r.opt.Dir, "payload", a.Name) }
	args := []string{
		"-name", vm.Name,
		"-machine", "microvm,accel=kvm,pic=off,pit=off,rtc=off,isa-serial=on",
		"-cpu", "host", "-smp", strconv.Itoa(vm.CPUs), "-m", strconv.FormatInt(vm.MemoryBytes>>20, 10),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-sandbox", "on",
		"-kernel", file(vm.Kernel), "-initrd", file(vm.Initrd),
		"-append", "console=ttyS0 quiet loglevel=4 reboot=t panic=-1 tsc=reliable no_timer_check random.trust_cpu=on",
		"-chardev", "socket,id=console,server=on,wait=off,path=" + rec.Console, "-serial", "chardev:console",
		"-netdev", "tap,id=net0,fd=3", "-device", fmt.Sprintf("virtio-net-device,netdev=net0,mac=52:54:00:64:00:%02x", index),
		"-device", "virtio-serial-device", "-chardev", "socket,id=link,server=on,wait=off,path=" + rec.Link,
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
func (r *resident) talk(ctx context.Context, link net.Conn, i int, vm images.VM, boot *string) {
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
	if *boot != "" { // it said hello to an earlier resident
		silence.Reset(vmlink.HeartbeatLost)
	}
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return
			}
			silence.Reset(vmlink.HeartbeatLost)
			r.hear(w, m, i, vm, boot)
		case <-silence.C:
			reason, what := fleet.ReasonVMSilent, fmt.Sprintf("no sign of life for %v", vmlink.HeartbeatLost)
			if *boot == "" {
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
