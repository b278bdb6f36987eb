package lab

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/qemu-tests/lab/vswitch"
)

// Addresses inside the lab. They are the same in every lab: no two share a
// network.
const (
	serveAddress = "10.77.0.1"
	natsPort     = 4222
	httpPort     = 8080
	servicePort  = 8080 // of a service on a node
)

var (
	provPrefix  = netip.MustParsePrefix("10.77.0.1/24")
	mgmtPrefix  = netip.MustParsePrefix("10.78.0.1/24")
	mgmtGateway = netip.MustParseAddr("10.78.0.1")
)

// The switch of the provisioning network says who it is (LLDP); one of a data
// centre does so every 30 s, and at once where a link comes up.
const announceEvery = 5 * time.Second

var switchMAC = vswitch.MAC{0x52, 0x54, 0x00, 0x01, 0x00, 0xff}

// stateDir is where init mounts the lab's tmpfs: a directory that every Linux
// has and that nothing of the lab's needs from the host.
const stateDir = "/dev/shm"

// Paths inside the lab that `ingot serve` is told of.
const (
	DataDir         = stateDir + "/serve"
	MachinesFile    = stateDir + "/machines.json"
	CredentialsFile = stateDir + "/bmc-credentials.json"
	ContextFile     = DataDir + "/context.json"
)

// Options say what lab to make. The zero value makes the rack without
// `ingot serve`, with the tools of build/tools.
type Options struct {
	// Name tells labs apart; "" is "default".
	Name string
	// Servers is the rack; nil is [Rack].
	Servers []Server
	// Build is the directory that make fills; "" is the one that Tools lies in,
	// or build.
	Build string
	// Tools is the root of the unpacked tools; "" is tools in Build.
	Tools string
	// Accel is what the servers run under; "" is [AccelAuto].
	Accel Accel
	// Logs is a directory for serial consoles and logs, which outlives the
	// lab; "" keeps them in the lab's own memory.
	Logs string
	// Serve is the command line of `ingot serve`, see [ServeArgs]; nil runs
	// none.
	Serve []string
	// GDB are the servers whose processors a debugger may stop: each has a way
	// in, SERVER.gdb.
	GDB []string
	// Cluster runs the bus apart: three servers, any of which may be lost.
	Cluster bool
	// Listen is the address of the listeners that lead in; "" is 127.0.0.1.
	Listen string
	// Ports asks for ports of these listeners by name: "nats", "http",
	// "r1u1.redfish", "r1u1.ipmi", "r1u1.service". Others are chosen.
	Ports map[string]int
	// Output is where init writes its own log; nil is [Options.Logs] only.
	Output io.Writer
	// SkipDoctor leaves out the checks of [Doctor].
	SkipDoctor bool
}

// ServeArgs is the command line of `ingot serve` for a lab: program is the
// ingot binary, build the build directory (absolute), and keys the directory
// of the lab's keys.
func ServeArgs(program, build, keys string) []string {
	return []string{
		program, "serve", "--lab", "--data", DataDir, "--keys", keys, "--interface", "prov0", "--policy", "open",
		"--boot-files", build, "--stacks", filepath.Join(build, "stacks"),
		"--machines", MachinesFile, "--bmc-credentials", CredentialsFile,
		"--nats-listen", fmt.Sprintf("%s:%d", serveAddress, natsPort), "--http-port", fmt.Sprint(httpPort),
	}
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

// complete fills in what the zero value means, and makes paths absolute.
func (o Options) complete() (Options, error) {
	if o.Name == "" {
		o.Name = "default"
	}
	if !nameForm.MatchString(o.Name) {
		return o, fmt.Errorf("lab name %q: want lower-case letters, digits and dashes, at most 31", o.Name)
	}
	if o.Servers == nil {
		o.Servers = Rack()
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1"
	}
	if o.Accel == "" {
		o.Accel = AccelAuto
	}
	if o.Accel != AccelAuto && o.Accel != AccelTCG && o.Accel != AccelKVM {
		return o, fmt.Errorf("accelerator %q: want auto, tcg or kvm", o.Accel)
	}
	if o.Build == "" && o.Tools != "" {
		o.Build = filepath.Dir(o.Tools)
	}
	if o.Build == "" {
		o.Build = "build"
	}
	var err error
	if o.Build, err = filepath.Abs(o.Build); err != nil {
		return o, fmt.Errorf("path of the build directory: %w", err)
	}
	if o.Tools == "" {
		o.Tools = filepath.Join(o.Build, "tools")
	}
	if o.Tools, err = filepath.Abs(o.Tools); err != nil {
		return o, fmt.Errorf("path of the tools: %w", err)
	}
	for _, name := range o.GDB {
		if !slices.ContainsFunc(o.Servers, func(s Server) bool { return s.Name == name }) {
			return o, fmt.Errorf("debugger at %q: no such server is in this lab", name)
		}
	}
	if err := o.checkPorts(); err != nil {
		return o, err
	}
	if o.Logs == "" {
		return o, nil
	}
	if o.Logs, err = filepath.Abs(o.Logs); err != nil {
		return o, fmt.Errorf("path of the logs: %w", err)
	}
	if err := os.MkdirAll(o.Logs, 0o755); err != nil {
		return o, fmt.Errorf("make the directory of the logs: %w", err)
	}
	return o, nil
}

// gdbAddress is where the debugging stub of the i-th server listens, inside.
func gdbAddress(i int) string { return fmt.Sprintf("127.0.0.1:%d", 1234+i) }

// checkPorts refuses ports of listeners that this lab has not.
func (o Options) checkPorts() error {
	var names []string
	for _, l := range o.leads() {
		names = append(names, l.Name)
	}
	for name, port := range o.Ports {
		if !slices.Contains(names, name) {
			return fmt.Errorf("port of %q: this lab has no such way in: want one of %s", name, strings.Join(names, ", "))
		}
		if port < 0 || port > 65535 {
			return fmt.Errorf("port of %q: %d is no port", name, port)
		}
	}
	return nil
}

// lead is one way into the lab: a listener in the host's namespace, and where
// it leads to.
type lead struct {
	Name    string `json:"name"`
	Network string `json:"network"` // "tcp" or "udp"
	Target  string `json:"target"`  // "" is the service of Server
	Server  string `json:"server"`
	Address string `json:"address"` // of the listener
}

func (o Options) leads() []lead {
	var leads []lead
	if o.Serve != nil {
		leads = append(leads,
			lead{Name: "nats", Network: "tcp", Target: fmt.Sprintf("%s:%d", serveAddress, natsPort)},
			lead{Name: "http", Network: "tcp", Target: fmt.Sprintf("%s:%d", serveAddress, httpPort)})
	}
	for i, s := range o.Servers {
		addr := bmcAddress(i).Addr().String()
		leads = append(leads,
			lead{Name: s.Name + ".redfish", Network: "tcp", Target: addr + ":443", Server: s.Name},
			lead{Name: s.Name + ".ipmi", Network: "udp", Target: addr + ":623", Server: s.Name},
			lead{Name: s.Name + ".service", Network: "tcp", Server: s.Name})
		if slices.Contains(o.GDB, s.Name) {
			leads = append(leads, lead{Name: s.Name + ".gdb", Network: "tcp", Target: gdbAddress(i), Server: s.Name})
		}
	}
	return leads
}
