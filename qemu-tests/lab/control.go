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
	"strconv"

	"golang.org/x/sys/unix"
)

// The control socket of a lab is an abstract unix socket in the host's network
// namespace, for processes of the same user. A request is one line of JSON,
// and so is the answer; after the answer to "console" the log follows.
type request struct {
	Do     string `json:"do"` // status, context, console, pcap, cut, bus, serve, mains, down
	Server string `json:"server,omitempty"`
	Cut    bool   `json:"cut,omitempty"`
}

type answer struct {
	Error   string      `json:"error,omitempty"`
	Status  *LabStatus  `json:"status,omitempty"`
	Context *LabContext `json:"context,omitempty"`
}

// LabStatus is what a lab tells of itself.
type LabStatus struct {
	Name    string         `json:"name"`
	PID     int            `json:"pid"`   // of the process that made the lab, which it lives by
	Ready   bool           `json:"ready"` // false while `ingot serve` starts
	Accel   Accel          `json:"accel"` // tcg or kvm
	Why     string         `json:"why"`   // it is that one
	Servers []ServerStatus `json:"servers"`
	Serve   ServeStatus    `json:"serve"`
}

// ServerStatus is one server. Redfish, IPMI and Service lead in from the host.
type ServerStatus struct {
	Name     string `json:"name"`
	Firmware string `json:"firmware"`
	Power    string `json:"power"` // "on" or "off"
	Serial   string `json:"serial"`
	UUID     string `json:"uuid"`
	MAC      string `json:"mac"`
	Address  string `json:"address,omitempty"` // on the provisioning network, as last seen
	BMC      string `json:"bmc"`               // inside the lab
	Redfish  string `json:"redfish"`
	IPMI     string `json:"ipmi"`
	Service  string `json:"service"`
	GDB      string `json:"gdb,omitempty"` // of the debugging stub
	Cut      bool   `json:"cut,omitempty"` // the provisioning cable is pulled
	Console  string `json:"console"`       // path of the serial log; with no logs directory it is inside the lab
}

// ServeStatus is the lab's `ingot serve`.
type ServeStatus struct {
	Running bool   `json:"running"`
	Exit    string `json:"exit,omitempty"`
	HTTP    string `json:"http,omitempty"`
	NATS    string `json:"nats,omitempty"`
	Log     string `json:"log,omitempty"`
}

// LabContext is what a client of the lab needs: the ways in, the BMCs' account
// and, as `ingot serve` wrote it, the content of its context file.
type LabContext struct {
	NATS        string          `json:"nats"`
	HTTP        string          `json:"http"`
	BMCUser     string          `json:"bmc_user"`
	BMCPassword string          `json:"bmc_password"`
	Serve       json.RawMessage `json:"serve,omitempty"`
}

func controlAddress(name string) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: "@ingot-lab-" + strconv.Itoa(os.Getuid()) + "-" + name}
}

// ErrNotUp is returned for a lab that does not run.
var ErrNotUp = errors.New("no such lab is up")

// ask sends one request; the connection stays open for what follows.
func ask(ctx context.Context, name string, req request) (net.Conn, *bufio.Reader, *answer, error) {
	if name == "" {
		name = "default"
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", controlAddress(name).Name)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, nil, ctx.Err()
		}
		return nil, nil, nil, fmt.Errorf("lab %q: %w", name, ErrNotUp)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	in := bufio.NewReader(conn)
	reply, err := exchange(conn, in, req)
	if err != nil {
		return nil, nil, nil, errors.Join(fmt.Errorf("ask lab %q for %s: %w", name, req.Do, err), conn.Close())
	}
	return conn, in, reply, nil
}

func exchange(conn net.Conn, in *bufio.Reader, req request) (*answer, error) {
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return nil, err
	}
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var reply answer
	if err := json.Unmarshal(line, &reply); err != nil {
		return nil, err
	}
	if reply.Error != "" {
		return nil, errors.New(reply.Error)
	}
	return &reply, nil
}

// Status asks a lab how it is. A lab that is not there is [ErrNotUp].
func Status(ctx context.Context, name string) (*LabStatus, error) {
	conn, _, reply, err := ask(ctx, name, request{Do: "status"})
	if err != nil {
		return nil, err
	}
	if reply.Status == nil {
		return nil, errors.Join(fmt.Errorf("ask lab %q for status: the answer has none", name), conn.Close())
	}
	cred, err := peer(conn)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask lab %q for its process: %w", name, err), conn.Close())
	}
	reply.Status.PID = int(cred.Pid)
	return reply.Status, conn.Close()
}

// peer tells who is at the other end; for a listener's side it is the process
// that opened the listener.
func peer(conn net.Conn) (*unix.Ucred, error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred, errors.Join(err, credErr)
}

// Context asks a lab for what its clients need.
func Context(ctx context.Context, name string) (*LabContext, error) {
	conn, _, reply, err := ask(ctx, name, request{Do: "context"})
	if err != nil {
		return nil, err
	}
	return reply.Context, conn.Close()
}

// Cut pulls the cable of a server's NIC, or puts it back.
func Cut(ctx context.Context, name, server string, cut bool) error {
	conn, _, _, err := ask(ctx, name, request{Do: "cut", Server: server, Cut: cut})
	if err != nil {
		return err
	}
	return conn.Close()
}

// Console copies the serial log of a server, and what is added to it, until
// the context or the lab ends.
func Console(ctx context.Context, name, server string, w io.Writer) error {
	return follow(ctx, name, "console", server, w)
}

// Capture copies the frames of a port as a pcap file until the context or the
// lab ends. A port is called as its server is, bmc-SERVER, prov0 or mgmt0.
func Capture(ctx context.Context, name, port string, w io.Writer) error {
	return follow(ctx, name, "pcap", port, w)
}

// follow copies what the lab sends after its answer.
func follow(ctx context.Context, name, what, server string, w io.Writer) error {
	conn, in, _, err := ask(ctx, name, request{Do: what, Server: server})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, err = io.Copy(w, in)
	if cause := errors.Join(conn.Close(), err); ctx.Err() == nil && cause != nil {
		return fmt.Errorf("read %s of %s: %w", what, server, cause)
	}
	return nil
}

// Down ends a lab and returns when nothing of it is left.
func Down(ctx context.Context, name string) error {
	conn, in, _, err := ask(ctx, name, request{Do: "down"})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, _ = io.Copy(io.Discard, in) // ends with init, and init with all that is in it
	_ = conn.Close()
	if ctx.Err() != nil {
		return fmt.Errorf("take lab %q down: %w", name, ctx.Err())
	}
	return nil
}
