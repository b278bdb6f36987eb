package resident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
)

// Options say where the resident finds its things; the zero value is a server.
type Options struct {
	// Log is the journal; it must not be nil.
	Log *slog.Logger
	// Say puts one fact where people see it; the kernel's consoles when nil.
	Say func(format string, args ...any)
	// Dir holds handoff.json and payload/; /run/ingot when empty.
	Dir string
}

// bus is the part of the uplink that layers are told to.
type bus interface {
	Publish(source fleet.Source, kind string, data any) error
	Heartbeat(fleet.Heartbeat) error
}

const (
	heartbeatEvery = 5 * time.Second
	bootIDPath     = "/proc/sys/kernel/random/boot_id"
)

// resident is the state of one run.
type resident struct {
	opt     Options
	log     *slog.Logger
	handoff fleet.Handoff
	bootID  string
	bus     bus
	modules *host.Modules
	layers  *layers
	// kvmLoaded is closed when the hypervisor's modules are loaded, or never will be.
	kvmLoaded chan struct{}
	// online is closed by the first lease: before it, asking for the bus only
	// lengthens the pauses between tries.
	online     chan struct{}
	firstLease sync.Once
	started    time.Time
	// vms are the processes that operators may stop, by the VM's name.
	vms sync.Map
}

// Run is the resident's whole life; it ends when ctx does. An error means that
// there is nothing to take up: no handoff, or one that is not understood.
func Run(ctx context.Context, opt Options) error {
	if opt.Say == nil {
		opt.Say = host.OpenConsole().Say
	}
	if opt.Dir == "" {
		opt.Dir = "/run/ingot"
	}
	r := &resident{opt: opt, log: opt.Log, kvmLoaded: make(chan struct{}), online: make(chan struct{}), started: time.Now()}
	var err error
	if r.handoff, err = takeHandoff(filepath.Join(opt.Dir, "handoff.json")); err != nil {
		return fmt.Errorf("resident: %w", err)
	}
	b, err := os.ReadFile(bootIDPath)
	if err != nil {
		return fmt.Errorf("resident: read boot ID: %w", err)
	}
	r.bootID = strings.TrimSpace(string(b))
	if r.modules, err = host.OpenModules(kernelRelease()); err != nil {
		return fmt.Errorf("resident: %w", err)
	}
	link, err := uplink.New(uplink.Config{
		Role: fleet.RoleResident, BootID: r.bootID, Seed: r.handoff.ResidentSeed, Log: opt.Log,
	})
	if err != nil {
		return fmt.Errorf("resident: %w", err)
	}
	r.handoff.ResidentSeed = ""
	r.bus = link
	r.layers = newLayers(r.handoff.Manifest, r.tell)
	link.Serve(r.commands())
	r.say("resident: %s takes up stack %s (%s)", r.handoff.Node, r.handoff.Manifest.Ref(), r.handoff.StackDigest.Short())
	r.run(ctx, link)
	r.set(fleet.LayerHost, "host", fleet.LayerDown, fleet.ReasonShutdown, "systemd stopped the resident agent", nil)
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := link.Drain(flush); err != nil {
		r.log.Warn("leave the bus", "cause", err)
	}
	return ctx.Err()
}

// run starts everything at once and waits for all of it.
func (r *resident) run(ctx context.Context, link *uplink.Uplink) {
	var wg sync.WaitGroup
	for _, f := range []struct {
		name string
		run  func(context.Context)
	}{
		{"hypervisor", r.runHypervisor},
		{"drivers", r.loadDrivers},
		{"network", r.keepNetwork},
		{"host", r.watchHost},
		{"services", r.watchServices},
		{"bus", func(ctx context.Context) { r.connect(ctx, link) }},
		{"heartbeat", r.beat},
		{"power button", r.watchPowerButton},
	} {
		wg.Go(func() { r.guard(ctx, f.name, f.run) })
	}
	wg.Wait()
}

// guard carries out one concern; a panic in it is said and ends that concern
// alone.
func (r *resident) guard(ctx context.Context, name string, run func(context.Context)) {
	defer func() {
		if p := recover(); p != nil {
			r.say("resident: %s: panic: %v", name, p)
			if err := r.bus.Publish(fleet.SourceResident, fleet.KindFailed, fleet.NewProblem(
				fleet.ReasonResidentPanic, clip(fmt.Sprintf("%s: %v", name, p), 500),
			)); err != nil {
				r.log.Error("publish", "cause", err)
			}
		}
	}()
	run(ctx)
}

// say puts one fact on the console and into the journal.
func (r *resident) say(format string, args ...any) {
	r.opt.Say(format, args...)
	r.log.Info(fmt.Sprintf(format, args...))
}

// tell says that a layer changed: on the console and to the timeline.
func (r *resident) tell(l fleet.Layer) {
	text := fmt.Sprintf("%s %s: %s", l.Layer, l.Name, l.State)
	if l.Reason != "" {
		text += " (" + string(l.Reason) + ")"
	}
	if l.Evidence != "" {
		text += ": " + l.Evidence
	}
	r.say("%s", text)
	source := fleet.SourceResident
	if l.Layer == fleet.LayerContainer {
		source = fleet.SourceVM // the VM's word, relayed
	}
	if err := r.bus.Publish(source, fleet.KindLayer, l); err != nil {
		r.say("bus: %v", err)
	}
}

func (r *resident) beat(ctx context.Context) {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	lost := false
	for {
		err := r.bus.Heartbeat(fleet.Heartbeat{Source: fleet.SourceResident, Layers: r.layers.all()})
		if now := err != nil; now != lost {
			lost = now
			r.log.Info("heartbeat", "lost", lost, "cause", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// connect enrols by the agent's token and stays.
func (r *resident) connect(ctx context.Context, link *uplink.Uplink) {
	target := uplink.Target{
		Bus:    r.handoff.Trust.Bus,
		Enroll: fleet.EnrollRequest{Token: &r.handoff.Token},
		Waits: func(what string) {
			if what != "" {
				r.say("bus: waits: %s", what)
			}
		},
	}
	select {
	case <-r.online:
	case <-ctx.Done():
		return
	}
	for {
		reply, err := link.Connect(ctx, target)
		if err == nil {
			r.say("bus: connected as %s, attempt %d", reply.Node, reply.Attempt)
			return
		}
		r.say("bus: %v", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(rejectedAgain):
		}
	}
}

// rejectedAgain is how long the resident waits after control refused it.
const rejectedAgain = 30 * time.Second

// maxHandoffBytes bounds the handoff: a manifest and some keys.
const maxHandoffBytes = 1 << 20

// takeHandoff reads the handoff and deletes it: it holds secrets and works once.
func takeHandoff(path string) (fleet.Handoff, error) {
	var h fleet.Handoff
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return h, fmt.Errorf("read handoff: %s is not there: either no agent started this stack, or an earlier resident took it", path)
	}
	if err != nil {
		return h, fmt.Errorf("read handoff: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxHandoffBytes+1))
	err = errors.Join(err, f.Close(), os.Remove(path))
	if err != nil {
		return h, fmt.Errorf("read handoff: %w", err)
	}
	if len(b) > maxHandoffBytes {
		return h, fmt.Errorf("read handoff: is larger than %d bytes", maxHandoffBytes)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("read handoff: %w", err)
	}
	if h.Schema != fleet.HandoffSchema {
		return h, fmt.Errorf("read handoff: schema is %.40q, want %q", h.Schema, fleet.HandoffSchema)
	}
	if err := h.Manifest.Validate(); err != nil {
		return h, fmt.Errorf("read handoff: %w", err)
	}
	return h, nil
}
