package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/qemu-tests/bmc"
	"github.com/ingot-metal/ingot/qemu-tests/lab/vswitch"
)

const (
	initName      = "ingot-lab-init"  // argv[0] of init
	probeName     = "ingot-lab-probe" // argv[0] of what [Doctor] starts
	probeVariable = "INGOT_LAB_PROBE"
	lifelineFD    = 3
	controlFD     = 4
	firstLeadFD   = 5
	stateBytes    = "size=90%,mode=0700"
	serveLogName  = "serve.log"
	initLogName   = "lab.log"
	consoleSuffix = ".console.log"
)

// MaybeInit becomes the lab's init, and does not return, when the program was
// executed as one. A main that calls [Up] calls it first.
func MaybeInit() {
	if len(os.Args) == 0 {
		return
	}
	switch os.Args[0] {
	case probeName:
		exitWith(probe(os.Args[1:]))
	case initName:
		exitWith(runInit())
	}
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// room is the inside of a lab, as init holds it.
type room struct {
	setup      setup
	log        *slog.Logger
	provision  *vswitch.Switch
	management *vswitch.Switch
	servers    []*server
	bmcs       []*bmc.BMC
	account    bmc.Credentials
	serveMu    sync.Mutex
	serve      *child // nil without `ingot serve`
	busMu      sync.Mutex
	busServers map[string]*child // of a bus that runs apart
	cables     map[string]*cable // by server; complete before the control socket is
	ready      atomic.Bool
	down       context.CancelFunc
}

func runInit() error {
	lifeline := os.NewFile(lifelineFD, "lifeline")
	if lifeline == nil {
		return errors.New("lab init: it is started by `ingot lab up`, never by hand")
	}
	in := bufio.NewReader(lifeline)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("lab init: read what to make: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := &room{down: cancel, cables: map[string]*cable{}}
	if err := json.Unmarshal(line, &r.setup); err != nil {
		return fmt.Errorf("lab init: read what to make: %w", err)
	}
	go func() { // the process that made the lab is gone: so are we
		_, _ = io.Copy(io.Discard, in)
		os.Exit(2)
	}()
	return r.live(ctx, lifeline)
}

// live makes the lab, reports, runs it until somebody takes it down, and ends
// what it has made.
func (r *room) live(ctx context.Context, lifeline io.Writer) error {
	logFile, err := r.prepareState()
	if err != nil {
		return tell(lifeline, err)
	}
	r.log = slog.New(slog.NewTextHandler(logFile, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var workers sync.WaitGroup
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	err = r.make(work, &workers)
	if err == nil {
		if err = r.startBus(); err == nil {
			err = r.startServe(ctx)
		}
	}
	r.ready.Store(err == nil)
	if err = tell(lifeline, err); err == nil {
		r.log.Info("up", "lab", r.setup.Options.Name)
		<-ctx.Done()
	}
	if serve := r.served(); serve != nil {
		serve.stop()
	}
	r.stopBus()
	for _, s := range r.servers {
		s.close()
	}
	cancel()
	workers.Wait()
	return errors.Join(err, logFile.Close())
}

// tell reports to the process that made the lab; it returns err.
func tell(w io.Writer, err error) error {
	rep := report{Ready: err == nil}
	if err != nil {
		rep.Error = err.Error()
	}
	if werr := json.NewEncoder(w).Encode(rep); werr != nil {
		return errors.Join(err, werr)
	}
	return err
}

// makeMounts gives the namespace a /proc and a place for the state.
func makeMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", stateDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, stateBytes); err != nil {
		return fmt.Errorf("mount the state at %s: %w", stateDir, err)
	}
	return nil
}

// prepareState makes the mounts of the namespace and the log.
func (r *room) prepareState() (*os.File, error) {
	if err := makeMounts(); err != nil {
		return nil, err
	}
	for _, dir := range []string{DataDir, filepath.Join(stateDir, "tmp")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the state: %w", err)
		}
	}
	f, err := os.OpenFile(r.logPath(initLogName), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lab's log: %w", err)
	}
	return f, nil
}

// logPath is where a log goes: to the directory that outlives the lab, if one
// was asked for.
func (r *room) logPath(name string) string {
	if dir := r.setup.Options.Logs; dir != "" {
		return filepath.Join(dir, name)
	}
	return filepath.Join(stateDir, name)
}

// make makes all parts and starts them; what it has started ends with ctx.
func (r *room) make(ctx context.Context, workers *sync.WaitGroup) error {
	if err := r.makeNetworks(ctx, workers); err != nil {
		return err
	}
	if err := r.makeAccount(); err != nil {
		return err
	}
	for i, spec := range r.setup.Options.Servers {
		if err := r.makeServer(ctx, workers, i, spec); err != nil {
			return fmt.Errorf("make server %s: %w", spec.Name, err)
		}
	}
	if err := r.writeMachines(); err != nil {
		return err
	}
	if err := r.openControl(ctx, workers); err != nil {
		return err
	}
	return r.openLeads(ctx, workers)
}

func (r *room) makeNetworks(ctx context.Context, workers *sync.WaitGroup) error {
	if err := configure("lo", nil, noPrefix); err != nil {
		return err
	}
	r.provision, r.management = vswitch.New(r.log), vswitch.New(r.log)
	workers.Go(func() { <-ctx.Done(); r.provision.Close(); r.management.Close() })
	prov, err := openTAP("prov0", nil, provPrefix)
	if err != nil {
		return err
	}
	mgmt, err := openTAP("mgmt0", nil, mgmtPrefix)
	if err != nil {
		return err
	}
	if _, err := r.provision.Attach("prov0", vswitch.TAP(prov)); err != nil {
		return err
	}
	workers.Go(func() {
		r.provision.Announce(ctx, vswitch.Identity{Name: "lab-switch", MAC: switchMAC, VLAN: 1}, announceEvery)
	})
	_, err = r.management.Attach("mgmt0", vswitch.TAP(mgmt))
	return err
}

func (r *room) makeServer(ctx context.Context, workers *sync.WaitGroup, i int, spec Server) error {
	address := bmcAddress(i)
	s := &server{
		spec: spec, machine: spec.machine(address), tools: tools(r.setup.Options.Tools), accel: r.setup.Options.Accel, log: r.log,
		dir: filepath.Join(stateDir, spec.Name), console: r.logPath(spec.Name + consoleSuffix),
	}
	if slices.Contains(r.setup.Options.GDB, spec.Name) {
		s.gdb = gdbAddress(i)
	}
	if err := s.prepare(); err != nil {
		return err
	}
	b, err := bmc.New(bmc.Config{Machine: spec.told(s.machine), Server: s, Credentials: r.account, Log: r.log})
	if err != nil {
		return err
	}
	s.booted, s.stopped = func() { b.Booted(ctx) }, b.Stopped
	r.servers, r.bmcs = append(r.servers, s), append(r.bmcs, b)
	return r.connect(ctx, workers, s, b)
}

// connect opens the sockets of a server and of its BMC, and serves them.
func (r *room) connect(ctx context.Context, workers *sync.WaitGroup, s *server, b *bmc.BMC) error {
	network, err := openBMCNetwork(s.machine.Controller.MAC, s.machine.Controller.Address)
	if err != nil {
		return err
	}
	if _, err := r.management.Attach("bmc-"+s.spec.Name, vswitch.TAP(network.tap)); err != nil {
		return err
	}
	kcs, err := net.Listen("unix", s.path("ipmi.sock"))
	if err != nil {
		return fmt.Errorf("listen for the guest's KCS: %w", err)
	}
	nic, err := net.Listen("unix", s.path("prov.sock"))
	if err != nil {
		return fmt.Errorf("listen for the NIC: %w", err)
	}
	wire := &cable{}
	r.cables[s.spec.Name] = wire
	workers.Go(func() { r.plug(ctx, s.spec.Name, nic, wire) })
	if s.spec.Rich {
		second, err := net.Listen("unix", s.path("prov1.sock"))
		if err != nil {
			return fmt.Errorf("listen for the second NIC: %w", err)
		}
		workers.Go(func() { r.plug(ctx, s.spec.Name+".2", second, &cable{}) })
	}
	workers.Go(func() {
		faces := bmc.Listeners{IPMI: network.ipmi, KCS: kcs, Redfish: network.redfish}
		if err := b.Serve(ctx, faces); err != nil {
			r.log.Error("BMC ends", "server", s.spec.Name, "cause", err)
		}
	})
	return nil
}

// plug joins a server's NIC to the switch each time that QEMU starts.
func (r *room) plug(ctx context.Context, name string, l net.Listener, wire *cable) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil {
				r.log.Error("NIC of "+name, "cause", err)
			}
			return
		}
		port, err := r.provision.Attach(name, vswitch.Stream(conn))
		if err != nil {
			return // the switch is closed
		}
		wire.plug(port)
		<-port.Done()
	}
}

func (r *room) server(name string) *server {
	for _, s := range r.servers {
		if s.spec.Name == name {
			return s
		}
	}
	return nil
}

// openLeads starts the forwarders on the inherited listeners.
func (r *room) openLeads(ctx context.Context, workers *sync.WaitGroup) error {
	for i, way := range r.setup.Leads {
		file := os.NewFile(uintptr(firstLeadFD+i), way.Name)
		f := &forwarder{name: way.Name, target: r.target(way), log: r.log}
		if way.Network == "udp" {
			conn, err := net.FilePacketConn(file)
			if err != nil {
				return fmt.Errorf("take over the way in %q: %w", way.Name, err)
			}
			workers.Go(func() { f.serveUDP(ctx, conn) })
		} else {
			l, err := net.FileListener(file)
			if err != nil {
				return fmt.Errorf("take over the way in %q: %w", way.Name, err)
			}
			workers.Go(func() { f.serveTCP(ctx, l) })
		}
		if err := file.Close(); err != nil {
			return fmt.Errorf("take over the way in %q: %w", way.Name, err)
		}
	}
	return nil
}

// target finds where a way in leads: for the service of a server to the
// address that the switch has seen its NIC use.
func (r *room) target(way lead) func() (string, error) {
	if way.Name == "nats" && r.setup.Options.Cluster {
		return r.busTarget
	}
	if way.Target != "" {
		return func() (string, error) { return way.Target, nil }
	}
	s := r.server(way.Server)
	return func() (string, error) {
		addr, ok := r.provision.AddressOf(vswitch.MAC(s.spec.MAC()))
		if !ok {
			return "", fmt.Errorf("server %s has shown no address yet", way.Server)
		}
		return net.JoinHostPort(addr.String(), fmt.Sprint(servicePort)), nil
	}
}
