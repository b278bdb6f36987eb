package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/qemu-tests/bmc"
	"github.com/ingot-metal/ingot/qemu-tests/lab/vswitch"
)

var noPrefix netip.Prefix

const (
	bmcUser        = "admin"
	maxRequest     = 4096
	requestTimeout = 10 * time.Second
	consolePoll    = 200 * time.Millisecond
)

// makeAccount chooses the BMCs' password for the life of this lab.
func (r *room) makeAccount() error {
	r.account = bmc.Credentials{User: bmcUser, Password: bmc.Password(rand.Text()[:16])}
	return writeJSON(CredentialsFile, 0o600, map[string]string{"user": r.account.User, "password": string(r.account.Password)})
}

// machineFile is the list of machines that `ingot serve` is told of.
type machineFile struct {
	Machines []expectedMachine `json:"machines"`
}

type expectedMachine struct {
	Name   string      `json:"name"`
	Rack   string      `json:"rack"`
	Unit   int         `json:"unit"`
	Serial string      `json:"serial"`
	UUID   string      `json:"uuid"`
	MACs   []string    `json:"macs"`
	BMC    expectedBMC `json:"bmc"`
}

type expectedBMC struct {
	Address string `json:"address"`
	Redfish string `json:"redfish"`
	IPMI    string `json:"ipmi"`
	CAPEM   string `json:"ca_pem"`
}

func (r *room) writeMachines() error {
	var f machineFile
	for i, s := range r.servers {
		addr := bmcAddress(i).Addr().String()
		var macs []string
		for _, n := range s.machine.NICs {
			macs = append(macs, n.MAC.String())
		}
		f.Machines = append(f.Machines, expectedMachine{
			Name: s.spec.Name, Rack: fmt.Sprintf("r%d", s.spec.RackNumber), Unit: s.spec.Unit,
			Serial: s.spec.Serial(), UUID: formatUUID(s.spec.UUID()), MACs: macs,
			BMC: expectedBMC{Address: addr, Redfish: "https://" + addr, IPMI: addr + ":623", CAPEM: r.bmcs[i].CertificatePEM()},
		})
	}
	return writeJSON(MachinesFile, 0o600, f)
}

func writeJSON(path string, mode os.FileMode, v any) error {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.WriteFile(path, append(body, '\n'), mode)
}

// openControl answers on the control socket, which was inherited.
func (r *room) openControl(ctx context.Context, workers *sync.WaitGroup) error {
	file := os.NewFile(controlFD, "control")
	l, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("take over the control socket: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("take over the control socket: %w", err)
	}
	workers.Go(func() {
		stop := context.AfterFunc(ctx, func() { _ = l.Close() })
		defer stop()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			workers.Go(func() { r.answer(ctx, conn) })
		}
	})
	return nil
}

func (r *room) answer(ctx context.Context, conn net.Conn) {
	keep := false
	defer func() {
		if !keep {
			_ = conn.Close()
		}
	}()
	if err := sameUser(conn); err != nil {
		r.log.Warn("control socket", "cause", err)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if conn.SetReadDeadline(time.Now().Add(requestTimeout)) != nil {
		return
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadBytes('\n')
	if err != nil {
		return
	}
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		r.reply(conn, &answer{Error: "the request is not JSON"})
		return
	}
	keep = r.do(ctx, conn, req)
}

// do answers one request; keep says that the connection stays open until init
// exits, the end of it being the answer.
func (r *room) do(ctx context.Context, conn net.Conn, req request) (keep bool) {
	switch req.Do {
	case "status":
		r.reply(conn, &answer{Status: r.status()})
	case "context":
		r.reply(conn, r.context())
	case "console":
		r.showConsole(ctx, conn, req.Server)
	case "cut":
		r.reply(conn, r.cutCable(req.Server, req.Cut))
	case "pcap":
		r.showFrames(ctx, conn, req.Server)
	case "bus":
		r.reply(conn, r.switchBus(req.Server, req.Cut))
	case "serve":
		r.reply(conn, r.switchServe(ctx, req.Cut))
	case "mains":
		r.reply(conn, r.switchMains(ctx, req.Server, req.Cut))
	case "down":
		r.reply(conn, &answer{})
		r.log.Info("down")
		r.down()
		return true
	default:
		r.reply(conn, &answer{Error: fmt.Sprintf("request %q is not known", req.Do)})
	}
	return false
}

func (r *room) reply(conn net.Conn, a *answer) {
	if err := json.NewEncoder(conn).Encode(a); err != nil {
		r.log.Debug("control socket", "cause", err)
	}
}

// sameUser tells whether the peer is a process of our own user.
func sameUser(conn net.Conn) error {
	cred, err := peer(conn)
	if err != nil {
		return err
	}
	if int(cred.Uid) != os.Getuid() {
		return fmt.Errorf("user %d is not the lab's", cred.Uid)
	}
	return nil
}

func (r *room) address(name string) string {
	for _, way := range r.setup.Leads {
		if way.Name == name {
			return way.Address
		}
	}
	return ""
}

func (r *room) status() *LabStatus {
	st := &LabStatus{Name: r.setup.Options.Name, Ready: r.ready.Load(), Accel: r.setup.Options.Accel, Why: r.setup.Why}
	for i, s := range r.servers {
		power := "off"
		if s.On() {
			power = "on"
		}
		one := ServerStatus{
			Name: s.spec.Name, Firmware: s.spec.Firmware(), Power: power, Serial: s.spec.Serial(), UUID: formatUUID(s.spec.UUID()),
			MAC: s.spec.MAC().String(), BMC: bmcAddress(i).Addr().String(), Console: s.console,
			Redfish: "https://" + r.address(s.spec.Name+".redfish"), IPMI: r.address(s.spec.Name + ".ipmi"),
			Service: "http://" + r.address(s.spec.Name+".service"),
		}
		one.GDB = r.address(s.spec.Name + ".gdb")
		one.Cut = r.cables[s.spec.Name].isCut()
		if addr, ok := r.provision.AddressOf(vswitch.MAC(s.spec.MAC())); ok {
			one.Address = addr.String()
		}
		st.Servers = append(st.Servers, one)
	}
	if serve := r.served(); serve != nil {
		st.Serve = serve.status()
		st.Serve.HTTP, st.Serve.NATS = "http://"+r.address("http"), "tls://"+r.address("nats")
	}
	return st
}

func (r *room) context() *answer {
	c := &LabContext{BMCUser: r.account.User, BMCPassword: string(r.account.Password)}
	if r.served() == nil {
		return &answer{Context: c}
	}
	c.HTTP, c.NATS = "http://"+r.address("http"), "tls://"+r.address("nats")
	content, err := os.ReadFile(ContextFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return &answer{Error: err.Error()}
	case !json.Valid(content):
		return &answer{Error: "read " + ContextFile + ": it is not JSON"}
	default:
		c.Serve = content
	}
	return &answer{Context: c}
}

// cable is what joins a server's NIC to the switch: cut or whole whether or
// not the server is on.
type cable struct {
	mu   sync.Mutex
	cut  bool
	port *vswitch.Port // nil while the server is off
}

func (c *cable) plug(p *vswitch.Port) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.port = p
	p.Cut(c.cut)
}

func (c *cable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	if c.port != nil {
		c.port.Cut(cut)
	}
}

func (c *cable) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

func (r *room) cutCable(server string, cut bool) *answer {
	c, ok := r.cables[server]
	if !ok {
		return &answer{Error: fmt.Sprintf("server %q is not in this lab", server)}
	}
	r.log.Info("cable", "server", server, "cut", cut)
	c.set(cut)
	return &answer{}
}

// showFrames sends the frames of one port of the two switches.
func (r *room) showFrames(ctx context.Context, conn net.Conn, port string) {
	sw := r.provision
	switch _, server := r.cables[port]; {
	case server, port == "prov0":
	case port == "mgmt0", r.server(strings.TrimPrefix(port, "bmc-")) != nil:
		sw = r.management
	default:
		r.reply(conn, &answer{Error: fmt.Sprintf("port %q is not in this lab: want a server, bmc-SERVER, prov0 or mgmt0", port)})
		return
	}
	r.reply(conn, &answer{})
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go func() { // ends with the connection, which answer closes
		_ = conn.SetReadDeadline(time.Time{})
		_, _ = io.Copy(io.Discard, conn)
		close(done)
	}()
	missed, err := sw.Capture(port, conn, done)
	r.log.Info("capture ends", "port", port, "missed", missed, "err", err)
}

// showConsole sends a server's serial log and follows it.
func (r *room) showConsole(ctx context.Context, conn net.Conn, name string) {
	s := r.server(name)
	if s == nil {
		r.reply(conn, &answer{Error: fmt.Sprintf("server %q is not in this lab", name)})
		return
	}
	f, err := os.Open(s.console)
	if err != nil {
		r.reply(conn, &answer{Error: err.Error()})
		return
	}
	defer f.Close()
	r.reply(conn, &answer{})
	gone := make(chan struct{})
	go func() { // ends with the connection, which answer closes
		_ = conn.SetReadDeadline(time.Time{})
		_, _ = io.Copy(io.Discard, conn)
		close(gone)
	}()
	for {
		if _, err := io.Copy(conn, f); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-gone:
			return
		case <-time.After(consolePoll):
		}
	}
}
