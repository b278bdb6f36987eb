package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/fleet"
)

func (s *server) checkInitramfs(context.Context) error { return host.CheckInitramfs() }

// loadModules starts loading drivers for what the buses show and goes on for
// what appears later. It returns when the drivers for what is there now are
// loaded; the inventory is read from then on, beside the network.
func (s *server) loadModules(ctx context.Context) error {
	m, err := host.OpenModules(s.host.Kernel)
	if err != nil {
		return err
	}
	s.modules = m
	settled := make(chan struct{})
	readers, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.reading.stop = stop
	go func() {
		err := host.Guard(func() error {
			return m.Autoload(context.WithoutCancel(ctx), s.log(), func() { close(settled) })
		})
		if err != nil {
			s.say("modules: %v", err)
		}
	}()
	go func() {
		<-settled
		// These drive what no bus shows a modalias for.
		if err := m.Load(context.WithoutCancel(ctx), "ipmi_si", "ipmi_devintf"); err != nil {
			s.log().Info("modules", "err", err)
		}
		if host.BootedByEFI() {
			s.mountEFIVars(context.WithoutCancel(ctx))
		}
		s.say("modules: %s", summarize(m.Loads()))
		if err := host.Guard(func() error { s.readHardware(readers); return nil }); err != nil {
			s.say("inventory: %v", err)
		}
	}()
	return nil
}

func summarize(loads []host.ModuleLoad) string {
	var good, bad int
	var first string
	for _, l := range loads {
		if l.Err != nil {
			bad++
			if first == "" {
				first = fmt.Sprintf("; %s: %v", l.Name, l.Err)
			}
			continue
		}
		good++
	}
	if bad == 0 {
		return fmt.Sprintf("%d loaded", good)
	}
	return fmt.Sprintf("%d loaded, %d not%s", good, bad, first)
}

// openClock floors the clock at the image's build time. The boot server's date
// may move it later, once there is a network.
func (s *server) openClock(context.Context) error {
	c, err := host.OpenClock()
	if err != nil {
		return err
	}
	s.clock = c
	s.up.SetClock(string(c.State()))
	return nil
}

// setClockByServer asks the boot server for its date: a server whose battery is
// flat would take the bus's certificate for one of the future.
func (s *server) setClockByServer(ctx context.Context) error {
	if s.clock == nil {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, strings.TrimSuffix(s.trust.HTTP, "/")+"/", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the boot server for the date: %w", err)
	}
	resp.Body.Close()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return fmt.Errorf("read the boot server's date: %v", err)
	}
	state, err := s.clock.Advance(date)
	s.up.SetClock(string(state))
	return err
}

// takeInventory waits for the readers, which ran beside the network.
func (s *server) takeInventory(ctx context.Context) error {
	if s.readers.Readers == nil {
		select {
		case s.readers = <-s.reading.first:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.inventory = s.readers.Inventory
	s.say("inventory: %s (%d ms)", s.inventory.Summary(), s.readers.Took.Milliseconds())
	for _, f := range s.inventory.Findings {
		s.say("inventory: finding: %s", f)
	}
	return nil
}

// heartbeats says that the agent lives and what it waits for, until ctx ends.
func (s *server) heartbeats(ctx context.Context) {
	t := time.NewTicker(heartbeatEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			// Without a bus there is nobody to say it to; the uplink says so.
			if err := s.up.Heartbeat(fleet.Heartbeat{Source: fleet.SourceAgent, Step: s.step.Load().(string)}); err != nil {
				s.log().Debug("heartbeat", "err", err)
			}
		}
	}
}

const heartbeatEvery = 5 * time.Second

func (s *server) log() *slog.Logger { return s.logger }

// bringUpNetwork takes a lease, for as long as it takes; the network itself
// says on the console and in the timeline what it waits for.
func (s *server) bringUpNetwork(ctx context.Context) error {
	n, err := host.NetworkUp(ctx, host.NetworkOptions{Log: s.log(), BootMAC: s.host.Cmdline.BootMAC(), Waiting: s.networkWaits})
	if err != nil {
		return err
	}
	s.network = n
	s.say("network: %s %s by DHCP from %s", n.Interface, n.Addr, n.ServerID)
	go func() {
		err := n.Keep(context.WithoutCancel(ctx), s.log(), func(n *host.Network) { s.say("network: the address is now %s", n.Addr) })
		if err != nil {
			s.say("%v", err)
		}
	}()
	if err := s.setClockByServer(ctx); err != nil {
		s.say("clock: %v", err)
	}
	return nil
}

func (s *server) networkWaits(what string) {
	s.say("network: waiting for %s", what)
	if err := s.up.Publish(fleet.SourceAgent, fleet.KindStep, fleet.StepData{Step: "network", State: "wait", Text: what}); err != nil {
		s.say("timeline: %v", err)
	}
}

// mountEFIVars lets the readers see Secure Boot's state and the boot entries.
func (s *server) mountEFIVars(ctx context.Context) {
	err := s.modules.Load(ctx, "efivarfs")
	if err == nil {
		err = host.MountEFIVars()
	}
	if err != nil {
		s.say("modules: firmware variables: %v", err)
	}
}
