package resident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
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
	// Dir holds handoff.json and payload/, and is where the resident keeps what
	// the next one needs when it is killed; /run/ingot when empty.
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
	session *sessionFile
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
	// stopping says, once this process was asked to end, whether the server is
	// going down and VMs with it. When it is not, they live on for the next
	// resident.
	stopping func() bool
	// portTrouble is why a VM's ports are not led; written before VMs run.
	portTrouble map[string]error
	// vmPause, qemu and openTap are replaced by tests, which have no KVM and
	// less time.
	vmPause time.Duration
	qemu    string
	openTap func(vmNet) (*os.File, error)
}

// ErrNothing means that no handoff and no session can be taken up, now or later:
// another start would find the same.
var ErrNothing = errors.New("there is nothing to take up")

// Run is the resident's whole life; it ends when ctx does. The error is [ErrNothing]
// when there is no handoff and no session, or one that is not understood.
func Run(ctx context.Context, opt Options) error {
	if opt.Say == nil {
		opt.Say = host.OpenConsole().Say
	}
	if opt.Dir == "" {
		opt.Dir = "/run/ingot"
	}
	b, err := os.ReadFile(bootIDPath)
	if err != nil {
		return fmt.Errorf("resident: read boot ID: %w", err)
	}
	r, link, err := open(opt, strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("resident: %w: %w", ErrNothing, err)
	}
	defer r.leadPorts(ctx)()
	if r.modules, err = host.OpenModules(kernelRelease()); err != nil {
		return fmt.Errorf("resident: %w", err)
	}
	link.Serve(r.commands())
	r.run(ctx, link)
	if r.stopping() {
		r.set(fleet.LayerHost, "host", fleet.LayerDown, fleet.ReasonShutdown, "systemd stopped the resident agent", nil)
	}
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := link.Drain(flush); err != nil {
		r.log.Warn("leave the bus", "cause", err)
	}
	return ctx.Err()
}

// open takes up a handoff, or what an earlier resident of this boot kept.
func open(opt Options, bootID string) (*resident, *uplink.Uplink, error) {
	r := &resident{
		opt: opt, log: opt.Log, bootID: bootID, kvmLoaded: make(chan struct{}), online: make(chan struct{}), started: time.Now(),
		vmPause: vmPause, qemu: qemuPath, openTap: openTap, stopping: sync.OnceValue(hostStops),
	}
	var resumed bool
	var err error
	if r.session, resumed, err = openSession(opt.Dir, bootID); err != nil {
		return nil, nil, err
	}
	kept := r.session.now()
	r.handoff = kept.Handoff
	cfg := uplink.Config{
		Role: fleet.RoleResident, BootID: bootID, Seed: kept.Handoff.ResidentSeed, Log: opt.Log,
		BootKey: kept.BootKey, Unacked: kept.Unacked, Journal: r.journal,
	}
	if resumed {
		cfg.FirstSeq = uplink.ResumeSeq()
	}
	link, err := uplink.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	r.handoff.ResidentSeed = ""
	r.bus = link
	r.layers = newLayers(r.handoff.Manifest, r.tell)
	r.layers.restore(kept.Layers)
	r.layers.keep = r.keepLayer
	if !resumed {
		r.say("resident: %s takes up stack %s (%s)", r.handoff.Node, r.handoff.Manifest.Ref(), r.handoff.StackDigest.Short())
		return r, link, nil
	}
	r.say("resident: %s goes on with stack %s: an earlier resident ended, %d of its events wait", r.handoff.Node, r.handoff.Manifest.Ref(), len(kept.Unacked))
	if err := link.Publish(fleet.SourceResident, fleet.KindResumed, fleet.StepData{
		Step: "resident", Text: fmt.Sprintf("an earlier resident ended; process %d goes on with %d virtual machines", os.Getpid(), len(kept.VMs)),
	}); err != nil {
		r.say("bus: %v", err) // the spool is full; what is in it is sent
	}
	return r, link, nil
}

// hostStops says whether systemd takes the server down; when it does not answer
// it does.
func hostStops() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "/usr/bin/systemctl", "is-system-running").Output() // its exit status is not 0 when units failed
	switch strings.TrimSpace(string(out)) {
	case "initializing", "starting", "running", "degraded", "maintenance":
		return false
	}
	return true
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
	if l.Layer == fleet.LayerService && l.State == fleet.LayerUp {
		if free, all, err := memory(); err == nil {
			r.say("memory: %d MiB of %d are free", free>>20, all>>20)
		}
	}
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

// readHandoff reads and checks the handoff.
func readHandoff(path string) (fleet.Handoff, error) {
	var h fleet.Handoff
	b, err := readBounded(path, maxHandoffBytes)
	if err != nil {
		return h, fmt.Errorf("read handoff: %w", err)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("read handoff: %w", err)
	}
	return h, checkHandoff(h)
}

func checkHandoff(h fleet.Handoff) error {
	if h.Schema != fleet.HandoffSchema {
		return fmt.Errorf("read handoff: schema is %.40q, want %q", h.Schema, fleet.HandoffSchema)
	}
	if err := h.Manifest.Validate(); err != nil {
		return fmt.Errorf("read handoff: %w", err)
	}
	return nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return b, err
}
