package serve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-metal/ingot/boot/netboot"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/fleet/control"
	"github.com/ingot-metal/ingot/images/cpio"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/ingot-metal/ingot/images/store"
)

// ContextSchema is the schema of a [fleet.OperatorContext].
const ContextSchema = "ingot.context/v1"

// ContextFile is the name of the context in the data directory.
const ContextFile = "context.json"

// DefaultListen is where the bus listens when nothing else is named.
const DefaultListen = "127.0.0.1:4222"

// Config says what to run. Data and Keys are required.
type Config struct {
	// Lab makes keys that nothing outside the lab accepts, and only there
	// policy open is allowed.
	Lab  bool
	Data string
	Keys string
	// Policy is control's: approve, or open.
	Policy string
	// Listen is the bus's address; when empty the interface's own, or
	// [DefaultListen] where no interface is named.
	Listen string
	// Interface is where the boot server answers; none, no boot server.
	Interface string
	HTTPPort  uint16
	// The files that the boot server gives to machines.
	Kernel, Initramfs, Undionly, SNPOnly string
	// Stacks is the OCI layout whose blobs are served; empty for none.
	Stacks string
	// Machines and Credentials are files; empty for none.
	Machines, Credentials string
	// Bus is a bus that runs apart, without its credentials, which
	// BusCredentials names; nil for one in this process.
	Bus            *bus.External
	BusCredentials string
	// Reconcilers are public nkeys of grant reconcilers that run apart.
	Reconcilers []string
	Log         *slog.Logger
	// Ready is told one line for every part that is ready; it may be nil.
	Ready func(line string)
}

// Run serves until ctx ends, and then ends all that it started.
func Run(ctx context.Context, c Config) error {
	s := &server{Config: c}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Policy == string(control.PolicyOpen) && !s.Lab {
		return errors.New("serve: policy open is for the lab only")
	}
	return s.run(ctx)
}

// server is what is running.
type server struct {
	Config
	keys     sign.Keyring
	address  netip.Addr // of the interface, if one is named
	expected []fleet.Machine
	bus      *bus.Server
	control  *control.Control
}

func (s *server) say(format string, args ...any) {
	if s.Ready != nil {
		s.Ready(fmt.Sprintf(format, args...))
	}
}

func (s *server) run(ctx context.Context) (err error) {
	// A file with a typo is found before anything is made.
	var account account
	if s.expected, account, err = s.inputs(); err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return err
	}
	if s.bus, err = s.openBus(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.bus.Close()) }()
	s.say("bus       %s", strings.Join(s.bus.Trust().URLs, " "))
	if err := putMachines(ctx, s.bus.Conn(), s.expected); err != nil {
		return err
	}
	if s.control, err = control.Start(ctx, control.Config{
		Bus: s.bus, Roots: s.keys.Roots(), Reconciler: s.keys.Reconciler, Delegations: s.keys.Delegations,
		Policy: control.Policy(s.Policy), BMCUser: account.User, BMCPassword: account.Password, Log: s.Log,
	}); err != nil {
		return err
	}
	defer s.control.Close()
	s.say("control   policy %s, %d machines expected", cmp.Or(s.Policy, string(control.PolicyApprove)), len(s.expected))
	return s.serve(ctx)
}

// serve runs the listeners of HTTP and, where an interface is named, of the
// boot server, and writes the context once they are ready.
func (s *server) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan struct{})
	if s.Interface == "" {
		l, err := net.Listen("tcp", s.httpAddress())
		if err != nil {
			return fmt.Errorf("serve HTTP: %w", err)
		}
		g.Go(func() error { return s.serveHTTP(ctx, l) })
		s.say("boot      off: no --interface is named; HTTP at %s", s.httpURL())
		close(ready)
	} else {
		nb, err := s.bootServer()
		if err != nil {
			return err
		}
		g.Go(func() error { return nb.Run(ctx) })
		g.Go(func() error {
			select {
			case <-ctx.Done():
			case <-nb.Ready():
				s.say("boot      DHCP, TFTP and HTTP on %s, %s", s.Interface, s.httpURL())
				close(ready)
			}
			return nil
		})
	}
	g.Go(func() error { return watchRoom(ctx, s.Data) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-ready:
		}
		path, err := s.writeContext()
		if err == nil {
			s.say("context   %s", path)
		}
		return err
	})
	return g.Wait()
}

// prepare opens the data directory, the keys and the interface's address.
func (s *server) prepare() (err error) {
	if s.Data, err = filepath.Abs(s.Data); err != nil {
		return fmt.Errorf("path of the data directory: %w", err)
	}
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if err := checkWritable(s.Data); err != nil {
		return fmt.Errorf("write into the data directory: %w", err)
	}
	if s.keys, err = sign.OpenOrCreate(s.Keys, s.Lab, time.Now()); err != nil {
		return fmt.Errorf("open the signing keys: %w", err)
	}
	if s.keys.Lab && !s.Lab {
		return fmt.Errorf("open the signing keys: those of %s are the lab's, and this is not the lab: name other --keys", s.Keys)
	}
	s.say("keys      %s", s.Keys)
	if s.Interface == "" {
		return nil
	}
	s.address, err = interfaceAddress(s.Interface)
	return err
}

func interfaceAddress(name string) (netip.Addr, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find interface %s: it is not there; this machine has %s", name, interfaceNames())
	}
	addrs, err := i.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the addresses of %s: %w", name, err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("find an IPv4 address on %s: it has none; give it one with: ip addr add ADDRESS/LENGTH dev %s", name, name)
}

func interfaceNames() string {
	all, err := net.Interfaces()
	if err != nil || len(all) == 0 {
		return "none"
	}
	var names []string
	for _, i := range all[:min(len(all), 12)] {
		names = append(names, i.Name)
	}
	return strings.Join(names, ", ")
}

// openBus starts the bus in this process, or uses the one that runs apart.
func (s *server) openBus(ctx context.Context) (*bus.Server, error) {
	if s.Bus == nil {
		b, err := bus.Start(ctx, s.busConfig())
		if err != nil {
			return nil, fmt.Errorf("start the bus: %w", err)
		}
		return b, nil
	}
	e := *s.Bus
	e.Reconcilers, e.Log = s.Reconcilers, s.Log
	if _, err := ReadJSON(s.BusCredentials, &e.Credentials); err != nil {
		return nil, fmt.Errorf("read the credentials of the bus: %w", err)
	}
	return bus.Attach(ctx, e)
}

func (s *server) busConfig() bus.Config {
	c := bus.Config{Dir: filepath.Join(s.Data, "bus"), Listen: s.Listen, Reconcilers: s.Reconcilers, Log: s.Log}
	if c.Listen == "" {
		c.Listen = DefaultListen
		if s.address.IsValid() {
			c.Listen = netip.AddrPortFrom(s.address, 4222).String()
		}
	}
	if !s.address.IsValid() {
		return c
	}
	c.Names = []string{s.address.String()}
	// A listener on every address is reached by nodes at the interface's.
	if at, err := netip.ParseAddrPort(c.Listen); err == nil && at.Addr().IsUnspecified() {
		c.URLs = []string{"tls://" + netip.AddrPortFrom(s.address, at.Port()).String()}
	}
	return c
}

func (s *server) httpAddress() string {
	host := "127.0.0.1"
	if s.address.IsValid() {
		host = s.address.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(s.HTTPPort)))
}

func (s *server) httpURL() string { return "http://" + s.httpAddress() }

// bootServer is the boot server with its files in memory.
func (s *server) bootServer() (*netboot.Server, error) {
	trust, err := s.trust()
	if err != nil {
		return nil, err
	}
	mounts, err := s.mounts()
	if err != nil {
		return nil, err
	}
	known := s.knownMachines()
	return netboot.New(netboot.Config{
		Interface: s.Interface, HTTPPort: s.HTTPPort,
		UndionlyKPXE: netboot.File{Path: s.Undionly}, SNPOnlyEFI: netboot.File{Path: s.SNPOnly},
		Kernel: netboot.File{Path: s.Kernel}, Initramfs: netboot.File{Path: s.Initramfs}, Trust: netboot.File{Bytes: trust},
		Known: known, Observe: s.control.Observe, Mounts: mounts, Logger: s.Log,
		RivalWait: s.rivalWait(), Cmdline: s.cmdline(),
	})
}

// cmdline is the agent's kernel command line. A busy machine that emulates
// another delays its timer interrupts, and the kernel's check of them panics.
func (s *server) cmdline() []netboot.Param {
	c := netboot.DefaultCmdline()
	if s.Lab {
		c = append(c, netboot.Param{Key: "no_timer_check"})
	}
	return c
}

// rivalWait leaves the look for another DHCP server out in the lab, whose
// network is new.
func (s *server) rivalWait() time.Duration {
	if s.Lab {
		return -1
	}
	return 0
}

// trust is the cpio that is appended to every initramfs.
func (s *server) trust() ([]byte, error) {
	b, err := json.MarshalIndent(fleet.Trust{
		Schema: fleet.TrustSchema, Roots: [][]byte{s.keys.Root}, Lab: s.keys.Lab, Bus: s.bus.Trust(), HTTP: s.httpURL(),
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the trust roots: %v", err)
	}
	out, err := cpio.Archive(cpio.File{Name: fleet.TrustPath[1:], Perm: 0o644, Data: b})
	if err != nil {
		return nil, fmt.Errorf("pack the trust roots: %w", err)
	}
	return out, nil
}

func (s *server) mounts() ([]netboot.Mount, error) {
	if s.Stacks == "" {
		return nil, nil
	}
	st, err := store.Open(s.Stacks)
	if err != nil {
		return nil, fmt.Errorf("open the stacks: %w (run: make stack, or name another with --stacks)", err)
	}
	return []netboot.Mount{{Prefix: "/blobs/", Handler: st}}, nil
}

// serveHTTP gives out blobs where there is no boot server to do it.
func (s *server) serveHTTP(ctx context.Context, l net.Listener) error {
	mounts, err := s.mounts()
	if err != nil {
		return errors.Join(err, l.Close())
	}
	mux := http.NewServeMux()
	for _, m := range mounts {
		mux.Handle(m.Prefix, m.Handler)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { srv.Close() }) //nolint:errcheck // the listener ends either way
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// writeContext writes what operators need, whole and for this user alone.
func (s *server) writeContext() (string, error) {
	seed, err := s.bus.OperatorSeed()
	if err != nil {
		return "", err
	}
	stacks := s.Stacks
	if stacks != "" {
		if stacks, err = filepath.Abs(stacks); err != nil {
			return "", fmt.Errorf("path of the stacks: %w", err)
		}
	}
	b, err := json.MarshalIndent(fleet.OperatorContext{
		Schema: ContextSchema, Name: cmp.Or(s.Interface, "local"), Bus: s.bus.Trust(), Seed: seed,
		SigningKey: s.keys.Operator.Seed(), Delegations: s.keys.Delegations, Roots: [][]byte{s.keys.Root},
		HTTP: s.httpURL(), Stacks: stacks,
	}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write the context: %v", err)
	}
	path := filepath.Join(s.Data, ContextFile)
	return path, replaceFile(path, append(b, '\n'))
}

func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
