package resident

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"golang.org/x/sys/unix"
)

// watchHost waits until systemd has started everything, and says how.
func (r *resident) watchHost(ctx context.Context) {
	facts := map[string]string{"boot_id": r.bootID, "kernel": kernelRelease()}
	for ctx.Err() == nil {
		// Ends when systemd's first transaction does; its exit status is not 0
		// when units failed.
		out, err := exec.CommandContext(ctx, "/usr/bin/systemctl", "is-system-running", "--wait").CombinedOutput()
		state := strings.TrimSpace(string(out))
		switch state {
		case "running":
			r.set(fleet.LayerHost, "host", fleet.LayerUp, "", "", facts)
			return
		case "degraded":
			failed, _ := exec.CommandContext(ctx, "/usr/bin/systemctl", "list-units", "--failed", "--plain", "--no-legend").CombinedOutput()
			r.set(fleet.LayerHost, "host", fleet.LayerUp, fleet.ReasonUnitsFailed, string(failed), facts)
			return
		case "stopping":
			return
		}
		r.log.Info("systemd", "state", state, "cause", err)
		if !pause(ctx, time.Second) {
			return
		}
	}
}

// loadDrivers loads drivers for the hardware, as it appears: after the
// hypervisor's, since the virtual machine takes longer than the lease.
func (r *resident) loadDrivers(ctx context.Context) {
	select {
	case <-r.kvmLoaded:
	case <-ctx.Done():
		return
	}
	if err := r.modules.Autoload(ctx, r.log, func() { r.log.Info("drivers are loaded") }); err != nil {
		r.say("drivers: %v", err)
	}
}

// keepNetwork takes a lease on the NIC that booted the machine and keeps it.
func (r *resident) keepNetwork(ctx context.Context) {
	o := host.NetworkOptions{Log: r.log, Waiting: func(what string) {
		if what != "" {
			r.say("network: waits: %s", what)
		}
	}}
	if r.handoff.MAC != "" {
		mac, err := net.ParseMAC(r.handoff.MAC)
		if err != nil {
			r.say("network: the handoff's MAC address: %v", err)
		}
		o.BootMAC = mac
	}
	for {
		n, err := host.NetworkUp(ctx, o)
		if err == nil {
			r.networkIs(n)
			err = n.Keep(ctx, r.log, r.networkIs)
		}
		if ctx.Err() != nil {
			return
		}
		r.say("%v", err)
		if !pause(ctx, 5*time.Second) {
			return
		}
	}
}

func (r *resident) networkIs(n *host.Network) {
	r.firstLease.Do(func() { close(r.online) })
	r.say("network: %s %s via DHCP (server %s)", n.Interface, n.Addr, n.ServerID)
	if err := r.layers.learn(fleet.LayerHost, "host", map[string]string{"address": n.Addr.Addr().String(), "nic": n.Interface}); err != nil {
		r.say("%v", err)
	}
}

// set is layers.set for names that are known to be right.
func (r *resident) set(name fleet.LayerName, which string, s fleet.LayerState, reason fleet.ReasonCode, evidence string, facts map[string]string) {
	if err := r.layers.set(name, which, s, reason, evidence, facts); err != nil {
		r.say("%v", err)
	}
}

// How often a service is asked: until it answers, and then.
const (
	serviceEveryStarting = 300 * time.Millisecond
	serviceEvery         = 3 * time.Second
	serviceTimeout       = 8 * time.Second
	serviceTries         = 2
)

// watchServices asks every service through the server's own port.
func (r *resident) watchServices(ctx context.Context) {
	done := make(chan struct{})
	for _, s := range r.handoff.Manifest.Services {
		go func() {
			defer func() { done <- struct{}{} }()
			r.guard(ctx, "service "+s.Name, func(ctx context.Context) { r.watchService(ctx, s) })
		}()
	}
	for range r.handoff.Manifest.Services {
		<-done
	}
}

func (r *resident) watchService(ctx context.Context, s images.Service) {
	url := "http://127.0.0.1:" + strconv.Itoa(int(s.Port)) + s.HealthPath
	client := &http.Client{Timeout: serviceTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	failed := 0
	for ctx.Err() == nil {
		every := serviceEveryStarting
		switch r.layers.state(fleet.LayerContainer, s.Container) {
		case fleet.LayerUp:
			err := ask(ctx, client, url)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				failed, every = 0, serviceEvery
				r.set(fleet.LayerService, s.Name, fleet.LayerUp, "", "", map[string]string{"port": strconv.Itoa(int(s.Port)), "health_path": s.HealthPath})
			default:
				if failed++; failed >= serviceTries {
					r.set(fleet.LayerService, s.Name, fleet.LayerDown, fleet.ReasonNoAnswer, err.Error(), nil)
				}
			}
		default:
			failed = 0 // the container's state speaks for the service
		}
		if !pause(ctx, every) {
			return
		}
	}
}

func ask(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New("GET " + url + ": " + res.Status)
	}
	return nil
}

// Constants of linux/input-event-codes.h.
const (
	evKey    = 1
	keyPower = 116
)

// watchPowerButton lets a press of the power button, which is how a BMC asks
// for a graceful shutdown, do what it does on any server.
func (r *resident) watchPowerButton(ctx context.Context) {
	for _, m := range []string{"button", "evdev"} {
		if err := r.modules.Load(ctx, m); err != nil {
			r.log.Info("power button", "cause", err)
		}
	}
	var devices []string
	for len(devices) == 0 {
		var err error
		if devices, err = filepath.Glob("/dev/input/event*"); err != nil {
			return
		}
		if len(devices) == 0 && !pause(ctx, 2*time.Second) {
			return
		}
	}
	for _, d := range devices {
		go r.guard(ctx, "power button", func(ctx context.Context) {
			if err := r.readKeys(ctx, d); err != nil && ctx.Err() == nil {
				r.log.Info("power button", "device", d, "cause", err)
			}
		})
	}
	<-ctx.Done()
}

// readKeys reads struct input_event: two words of time, type, code, value.
func (r *resident) readKeys(ctx context.Context, device string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	var event [24]byte
	for {
		if _, err := io.ReadFull(f, event[:]); err != nil {
			return err
		}
		le := binary.LittleEndian
		if le.Uint16(event[16:]) == evKey && le.Uint16(event[18:]) == keyPower && le.Uint32(event[20:]) == 1 {
			r.say("power button: pressed, the host is shut down")
			// Not ended with ctx: what it asks for ends ctx.
			out, err := exec.Command("/usr/bin/systemctl", "poweroff", "--no-block").CombinedOutput()
			if err != nil && ctx.Err() == nil {
				r.say("power button: systemctl poweroff: %v %s", err, out)
			}
		}
	}
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// memory is what the kernel could give to a program, and all that it has
// (proc_meminfo(5): MemAvailable, MemTotal), in bytes.
func memory() (available, total uint64, err error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		var name string
		var kib uint64
		if n, _ := fmt.Sscanf(line, "%s %d kB", &name, &kib); n != 2 { //nolint:errcheck // other lines have other forms
			continue
		}
		switch name {
		case "MemAvailable:":
			available = kib << 10
		case "MemTotal:":
			total = kib << 10
		}
	}
	if available == 0 || total == 0 {
		return 0, 0, errors.New("read /proc/meminfo: MemAvailable or MemTotal does not stand in it")
	}
	return available, total, nil
}
