package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
)

// Run is PID 1's whole life in a virtual machine. It returns when ctx ends or
// the VM cannot even be set up.
func Run(ctx context.Context, log *slog.Logger) error {
	m := &machine{log: log, layers: map[string]fleet.Layer{}, procs: newProcs()}
	if err := prepare(); err != nil {
		return fmt.Errorf("virtual machine: %w", err)
	}
	go m.procs.reapOrphans(ctx)
	daemon := m.startContainerd(ctx)
	port, err := openPort(ctx)
	if err != nil {
		return fmt.Errorf("virtual machine: %w", err)
	}
	defer port.Close()
	m.link = vmlink.NewWriter(port)
	config, err := m.hello(ctx, port)
	if err != nil {
		return fmt.Errorf("virtual machine: %w", err)
	}
	if err := setNetwork(config); err != nil {
		m.say("network: %v", err)
	}
	go m.beat(ctx)
	var containers sync.WaitGroup
	for _, c := range config.Containers {
		containers.Go(func() { m.runContainer(ctx, c, daemon) })
	}
	containers.Wait()
	<-ctx.Done()
	return ctx.Err()
}

// machine is the state of the virtual machine.
type machine struct {
	log   *slog.Logger
	link  *vmlink.Writer
	procs *procs

	mu     sync.Mutex
	layers map[string]fleet.Layer
}

// say tells people one line, on the console and over the port.
func (m *machine) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.log.Info(text)
	if m.link == nil {
		return
	}
	if err := m.link.Write(vmlink.Message{Log: &vmlink.Log{Text: clip(text, 2000)}}); err != nil {
		m.log.Warn("write to the port", "cause", err)
	}
}

// layer notes a layer's state and tells it when it changed.
func (m *machine) layer(l fleet.Layer) {
	m.mu.Lock()
	old := m.layers[l.Name]
	changed := old.State != l.State || old.Reason != l.Reason
	if changed {
		l.Since = time.Now().UTC()
	} else {
		l.Since = old.Since
	}
	m.layers[l.Name] = l
	m.mu.Unlock()
	if !changed {
		return
	}
	m.log.Info("layer", "name", l.Name, "state", l.State, "reason", l.Reason, "evidence", l.Evidence)
	if err := m.link.Write(vmlink.Message{Layer: &l}); err != nil {
		m.log.Warn("write to the port", "cause", err)
	}
}

func (m *machine) beat(ctx context.Context) {
	tick := time.NewTicker(vmlink.HeartbeatEvery)
	defer tick.Stop()
	for {
		m.mu.Lock()
		h := vmlink.Heartbeat{BootID: bootID(), UptimeSeconds: uptime()}
		for _, l := range m.layers {
			h.Layers = append(h.Layers, l)
		}
		m.mu.Unlock()
		if err := m.link.Write(vmlink.Message{Heartbeat: &h}); err != nil {
			m.log.Warn("write to the port", "cause", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// helloEvery is how often the VM introduces itself until it is answered.
const helloEvery = 2 * time.Second

// hello says who this is until a configuration comes. Later messages of the
// resident are read and dropped: there are none in this version.
func (m *machine) hello(ctx context.Context, port io.Reader) (vmlink.Config, error) {
	configs := make(chan vmlink.Config, 1)
	go func() {
		r := vmlink.NewReader(port)
		for ctx.Err() == nil {
			msg, err := r.Read()
			switch {
			case errors.Is(err, vmlink.ErrMalformed):
				m.log.Warn("read from the port", "cause", err)
			case err != nil:
				m.log.Warn("read from the port", "cause", err)
				return
			case msg.Config != nil:
				select {
				case configs <- *msg.Config:
				default:
				}
			}
		}
	}()
	tick := time.NewTicker(helloEvery)
	defer tick.Stop()
	for {
		h := vmlink.Hello{BootID: bootID(), Kernel: kernelRelease(), UptimeSeconds: uptime()}
		if err := m.link.Write(vmlink.Message{Hello: &h}); err != nil {
			return vmlink.Config{}, fmt.Errorf("say hello: %w", err)
		}
		select {
		case c := <-configs:
			return c, nil
		case <-tick.C:
		case <-ctx.Done():
			return vmlink.Config{}, ctx.Err()
		}
	}
}

// prepare mounts what containers need and stage 1 did not.
func prepare() error {
	for _, m := range []struct {
		fstype, target, data string
		flags                uintptr
	}{
		{"cgroup2", "/sys/fs/cgroup", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"devpts", "/dev/pts", "mode=0620,ptmxmode=0666", unix.MS_NOSUID | unix.MS_NOEXEC},
		{"tmpfs", "/dev/shm", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
		{"tmpfs", "/tmp", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
		// An overlay cannot lie upon the overlay that / is.
		{"tmpfs", "/var/lib/containerd", "mode=0711", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fstype, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
		}
	}
	return loopbackUp()
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// setNetwork gives the first NIC its address.
func setNetwork(c vmlink.Config) error {
	if c.Address == "" {
		return nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list NICs: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		addr, err := netlink.ParseAddr(c.Address)
		if err != nil {
			return fmt.Errorf("address %.80q: %w", c.Address, err)
		}
		if err := netlink.AddrReplace(l, addr); err != nil {
			return fmt.Errorf("set %s on %s: %w", c.Address, l.Attrs().Name, err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("set %s up: %w", l.Attrs().Name, err)
		}
		gw := net.ParseIP(c.Gateway)
		if gw == nil {
			return nil
		}
		return netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gw})
	}
	return errors.New("there is no NIC")
}

// portWait is how long the virtio-serial port may take to appear.
const portWait = 30 * time.Second

// openPort opens the virtio-serial port by its name.
func openPort(ctx context.Context) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, portWait)
	defer cancel()
	for {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil || strings.TrimSpace(string(b)) != vmlink.PortName {
				continue
			}
			dev := "/dev/" + filepath.Base(filepath.Dir(n))
			f, err := os.OpenFile(dev, os.O_RDWR, 0)
			if err != nil {
				return nil, fmt.Errorf("open port %s: %w", vmlink.PortName, err)
			}
			return &port{f}, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("port %s: not there after %v", vmlink.PortName, portWait)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// port is a virtio-serial port; while nobody is at the other end it reads as
// ended, which is not the end.
type port struct{ *os.File }

func (p *port) Read(b []byte) (int, error) {
	for {
		n, err := p.File.Read(b)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func uptime() float64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return float64(ts.Nano()) / 1e9
}

// clip cuts a text for people to at most n bytes, keeping its end: that is
// where programs say what went wrong.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-n:], "")
}

// procs knows the processes that were started here, so that PID 1 reaps all
// others and leaves these to who waits for them.
type procs struct {
	mu    sync.Mutex
	known map[int]bool
}

func newProcs() *procs { return &procs{known: map[int]bool{}} }

// start starts cmd; wait must follow.
func (p *procs) start(cmd *exec.Cmd) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	p.known[cmd.Process.Pid] = true
	return nil
}

func (p *procs) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	p.mu.Lock()
	delete(p.known, cmd.Process.Pid)
	p.mu.Unlock()
	return err
}

// reapEvery is how long an orphan may stay a zombie.
const reapEvery = 5 * time.Second

// reapOrphans waits for processes whose parents died and left them to PID 1.
func (p *procs) reapOrphans(ctx context.Context) {
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.reap()
		}
	}
}

func (p *procs) reap() {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return
	}
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			continue // the thread ended
		}
		for _, field := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			p.mu.Lock()
			if !p.known[pid] {
				var status unix.WaitStatus
				_, _ = unix.Wait4(pid, &status, unix.WNOHANG, nil) // gone already is as good
			}
			p.mu.Unlock()
		}
	}
}
