package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/fleet/bus"
)

// busDir is where the keys and configurations of a bus that runs apart lie.
const busDir = stateDir + "/bus"

const (
	busServers  = 3
	clusterPort = 6222
)

// busLayout is a cluster on the address of ingot serve, a port for each
// server.
func busLayout() bus.Layout {
	l := bus.Layout{Dir: busDir}
	for i := range busServers {
		name := fmt.Sprintf("n%d", i+1)
		l.Servers = append(l.Servers, bus.Host{Name: name, Address: serveAddress, Listen: serveAddress,
			Port: natsPort + i, Cluster: clusterPort + i, Store: filepath.Join(busDir, name, "store")})
	}
	return l
}

// startBus starts the servers of a bus that runs apart, if the lab has one,
// and tells ingot serve of it.
func (r *room) startBus() error {
	if !r.setup.Options.Cluster || len(r.setup.Options.Serve) == 0 {
		return nil
	}
	l := busLayout()
	if _, err := l.Write(); err != nil {
		return err
	}
	r.busServers = map[string]*child{}
	for _, h := range l.Servers {
		if err := r.startBusServer(h.Name); err != nil {
			return err
		}
	}
	args := r.setup.Options.Serve
	if i := slices.Index(args, "--nats-listen"); i >= 0 {
		args = slices.Delete(slices.Clone(args), i, i+2)
	}
	r.setup.Options.Serve = append(args, "--bus", strings.Join(l.URLs(), ","), "--creds", filepath.Join(busDir, bus.CredentialsFile))
	return nil
}

func (r *room) startBusServer(name string) error {
	log := r.logPath("bus-" + name + ".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of bus server %s: %w", name, err)
	}
	defer out.Close()
	c := &child{log: log, exited: make(chan struct{})}
	c.cmd = exec.Command(r.setup.Options.Serve[0], "bus", "run", filepath.Join(busDir, name, "nats.conf"))
	c.cmd.Stdout, c.cmd.Stderr = out, out
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start bus server %s: %w", name, err)
	}
	go func() { c.err = c.cmd.Wait(); close(c.exited) }()
	r.busMu.Lock()
	defer r.busMu.Unlock()
	r.busServers[name] = c
	return nil
}

// switchBus kills a server of the bus, as a power cut does, or starts it
// again.
func (r *room) switchBus(name string, kill bool) *answer {
	r.busMu.Lock()
	c, ok := r.busServers[name]
	r.busMu.Unlock()
	if !ok {
		return &answer{Error: fmt.Sprintf("bus server %q is not in this lab: it has one with: ingot lab up --bus cluster", name)}
	}
	runs := c.status().Running
	var err error
	switch {
	case kill && runs:
		err = c.cmd.Process.Kill()
		<-c.exited
	case !kill && !runs:
		err = r.startBusServer(name)
	}
	r.log.Info("bus", "server", name, "killed", kill, "err", err)
	if err != nil {
		return &answer{Error: err.Error()}
	}
	return &answer{}
}

// busTarget is a server of the bus that runs.
func (r *room) busTarget() (string, error) {
	r.busMu.Lock()
	defer r.busMu.Unlock()
	for i := range busServers {
		if c := r.busServers[fmt.Sprintf("n%d", i+1)]; c != nil && c.status().Running {
			return fmt.Sprintf("%s:%d", serveAddress, natsPort+i), nil
		}
	}
	return "", errors.New("no server of the bus runs")
}

func (r *room) stopBus() {
	r.busMu.Lock()
	defer r.busMu.Unlock()
	for _, c := range r.busServers {
		c.stop()
	}
}

// SwitchBus kills a server of a lab's bus, or starts it again.
func SwitchBus(ctx context.Context, name, server string, kill bool) error {
	conn, _, _, err := ask(ctx, name, request{Do: "bus", Server: server, Cut: kill})
	if err != nil {
		return err
	}
	return conn.Close()
}
