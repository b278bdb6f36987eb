package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	upTimeout   = 2 * time.Minute
	downTimeout = 20 * time.Second
)

// setup is what init is told, and what it says back.
type setup struct {
	Options Options `json:"options"`
	Leads   []lead  `json:"leads"` // in the order of the inherited listeners
	Why     string  `json:"why"`   // the accelerator is what it is
}

type report struct {
	Ready bool   `json:"ready"`
	Error string `json:"error,omitempty"`
}

// Lab is a lab that this process has made. It ends with this process.
type Lab struct {
	name    string
	pid     int
	control net.Conn      // to init; its end is init's end
	ended   chan struct{} // init is gone, and all in it
	err     error         // valid once ended is closed: nil after an orderly end
	said    *tail
}

// Up makes a lab and returns once its servers can be powered on and `ingot
// serve`, if there is one, answers. The context bounds the making, not the
// lab's life.
func Up(ctx context.Context, o Options) (*Lab, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	if !o.SkipDoctor {
		if err := Doctor(ctx, o); err != nil {
			return nil, fmt.Errorf("lab %q cannot run here:\n%w", o.Name, err)
		}
	}
	var why string
	if o.Accel, why, err = chooseAccel(ctx, o); err != nil {
		return nil, fmt.Errorf("lab %q cannot run here: %w", o.Name, err)
	}
	files, leads, err := openListeners(o)
	defer closeAll(files)
	if err != nil {
		return nil, err
	}
	l, err := startInit(o.Name, files, o.Output)
	if err != nil {
		return nil, err
	}
	if err := l.begin(ctx, setup{Options: o, Leads: leads, Why: why}); err != nil {
		l.kill()
		return nil, fmt.Errorf("lab %q: %w", o.Name, err)
	}
	return l, nil
}

// openListeners opens the control socket and the ways in, in that order.
func openListeners(o Options) ([]*os.File, []lead, error) {
	var files []*os.File
	control, err := net.ListenUnix("unix", controlAddress(o.Name))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, nil, fmt.Errorf("a lab named %q is up already: end it, or give this one another name", o.Name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open the control socket of lab %q: %w", o.Name, err)
	}
	defer control.Close()
	f, err := control.File()
	if err != nil {
		return nil, nil, fmt.Errorf("hand over the control socket: %w", err)
	}
	files = append(files, f)
	leads := o.leads()
	for i := range leads {
		f, address, err := openLead(leads[i].Network, net.JoinHostPort(o.Listen, strconv.Itoa(o.Ports[leads[i].Name])))
		if err != nil {
			return files, nil, fmt.Errorf("open the way in %q: %w (name another port, or none, which finds a free one)", leads[i].Name, err)
		}
		files, leads[i].Address = append(files, f), address
	}
	return files, leads, nil
}

func openLead(network, address string) (*os.File, string, error) {
	if network == "udp" {
		conn, err := net.ListenPacket("udp", address)
		if err != nil {
			return nil, "", err
		}
		defer conn.Close()
		f, err := conn.(*net.UDPConn).File()
		return f, conn.LocalAddr().String(), err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, "", err
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	return f, l.Addr().String(), err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// startInit executes this program again as init of the lab's namespaces.
func startInit(name string, listeners []*os.File, output io.Writer) (*Lab, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	l := &Lab{name: name, control: ours, ended: make(chan struct{}), said: &tail{also: output}}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{initName, name}
	cmd.Stderr = l.said
	cmd.ExtraFiles = append([]*os.File{theirs}, listeners...)
	cmd.SysProcAttr = namespaces()
	started := make(chan error)
	go func() {
		// Pdeathsig is about the thread that made the process, so this one
		// must live as long as the lab.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			l.finish(cmd.Wait())
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start the lab's init: %w", err), ours.Close())
	}
	l.pid = cmd.Process.Pid
	return l, nil
}

func namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true, // a Ctrl-C is for the process that made the lab
	}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "lab"), os.NewFile(uintptr(fds[1]), "init")
	defer mine.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a socket pair: %w", err), theirs.Close())
	}
	return conn, theirs, nil
}

// begin tells init what to make and waits until it is made.
func (l *Lab) begin(ctx context.Context, s setup) error {
	stop := context.AfterFunc(ctx, func() { _ = l.control.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	s.Options.Output = nil
	if err := json.NewEncoder(l.control).Encode(s); err != nil {
		return fmt.Errorf("tell init what to make: %w", err)
	}
	line, err := bufio.NewReader(l.control).ReadBytes('\n')
	if ctx.Err() != nil {
		return fmt.Errorf("wait for init: %w", ctx.Err())
	}
	if err != nil {
		<-l.ended
		return fmt.Errorf("init has ended: %w %s", l.err, l.said)
	}
	var r report
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("read init's report: %w", err)
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	return nil
}

func (l *Lab) finish(err error) {
	if err != nil {
		l.err = fmt.Errorf("lab %q ended: %w %s", l.name, err, l.said)
	}
	_ = l.control.Close()
	close(l.ended)
}

func (l *Lab) kill() {
	_ = syscall.Kill(l.pid, syscall.SIGKILL) // gone already is as good
	<-l.ended
}

// Done is closed when the lab has ended.
func (l *Lab) Done() <-chan struct{} { return l.ended }

// Wait waits for the lab's end; nil is an orderly one.
func (l *Lab) Wait() error {
	<-l.ended
	return l.err
}

// Close takes the lab down and returns when nothing of it is left.
func (l *Lab) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), downTimeout)
	defer cancel()
	if err := Down(ctx, l.name); err != nil && !errors.Is(err, ErrNotUp) {
		l.kill()
		return err
	}
	select {
	case <-l.ended:
		return l.err
	case <-ctx.Done():
		l.kill()
		return fmt.Errorf("take lab %q down: %w", l.name, ctx.Err())
	}
}
