package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/boot"
	"github.com/ingot-metal/ingot/boot/fetch"
	"github.com/ingot-metal/ingot/boot/kexec"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/inventory"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
)

// server is one boot of one server, as it fills up from phase to phase.
type server struct {
	host    *host.Host
	logger  *slog.Logger
	step    atomic.Value // string: the present phase, for heartbeats
	up      *uplink.Uplink
	modules *host.Modules
	clock   *host.Clock
	network *host.Network
	trust   fleet.Trust
	roots   sign.Roots

	reading   *reading
	inventory hardware.Inventory
	readers   inventory.Result

	// passed is the grant that was refused last: it is not tried again.
	passed   images.Digest
	bundle   images.GrantBundle
	verified sign.Verified
	plan     boot.Plan
	dir      string // of the target, in memory
	target   target
	resident string // the resident's public nkey
}

func (s *server) say(format string, args ...any) { s.host.Console.Say(format, args...) }

// Names of phases that the code refers to.
const (
	phaseGrant = "grant"
	stackDir   = "/tmp/stack"
)

// Phases is the boot, in order.
func phases() []phase {
	return []phase{
		{"initramfs", 10 * time.Second, degrade, (*server).checkInitramfs},
		{"modules", 60 * time.Second, degrade, (*server).loadModules},
		{"trust", 5 * time.Second, retry, (*server).readTrust},
		{"clock", 5 * time.Second, degrade, (*server).openClock},
		{"network", 0, retry, (*server).bringUpNetwork},
		{"inventory", 30 * time.Second, retry, (*server).takeInventory},
		{"enrol", 0, retry, (*server).enrol},
		{"report", 60 * time.Second, retry, (*server).report},
		{phaseGrant, 0, retry, (*server).awaitGrant},
		{"verify", 10 * time.Second, retry, (*server).verify},
		{"plan", 5 * time.Second, retry, (*server).makePlan},
		{"fetch", 30 * time.Minute, retry, (*server).fetch},
		{"load", 5 * time.Minute, retry, (*server).load},
		{"handoff", 0, retry, (*server).announce},
		{"jump", time.Minute, retry, (*server).jump},
	}
}

// readTrust reads what the boot server handed over. Lab trust on a machine that
// is not the lab's is refused: its keys are in everybody's hands.
func (s *server) readTrust(context.Context) error {
	b, err := os.ReadFile(fleet.TrustPath)
	if err != nil {
		return fmt.Errorf("read the trust roots: %w; the boot script must append trust.cpio to the initramfs", err)
	}
	vendor, err := os.ReadFile("/sys/class/dmi/id/sys_vendor")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read SMBIOS manufacturer: %w", err)
	}
	s.trust, s.roots, err = parseTrust(b, strings.TrimSpace(string(vendor)))
	if err != nil {
		return err
	}
	if s.trust.Lab {
		s.say("trust: LAB KEYS, %d root, bus %s", len(s.trust.Roots), strings.Join(s.trust.Bus.URLs, " "))
	} else {
		s.say("trust: %d root, bus %s", len(s.trust.Roots), strings.Join(s.trust.Bus.URLs, " "))
	}
	return nil
}

func parseTrust(b []byte, manufacturer string) (fleet.Trust, sign.Roots, error) {
	var t fleet.Trust
	if len(b) > fleet.MaxMessageBytes {
		return t, sign.Roots{}, fmt.Errorf("trust roots: %d bytes, at most %d are read", len(b), fleet.MaxMessageBytes)
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return t, sign.Roots{}, fmt.Errorf("trust roots: %v", err)
	}
	switch {
	case t.Schema != fleet.TrustSchema:
		return t, sign.Roots{}, fmt.Errorf("trust roots: schema is %.40q, want %q", t.Schema, fleet.TrustSchema)
	case len(t.Roots) == 0:
		return t, sign.Roots{}, errors.New("trust roots: no key stands in them")
	case t.Lab && manufacturer != fleet.LabManufacturer:
		return t, sign.Roots{}, fmt.Errorf("trust roots: they are the lab's, this machine is made by %q: boot it from a server with keys of its own", manufacturer)
	}
	roots := sign.Roots{Lab: t.Lab}
	for _, k := range t.Roots {
		roots.Keys = append(roots.Keys, k)
	}
	return t, roots, nil
}

// enrol connects to the bus; it takes as long as it takes, and the uplink says
// what it waits for.
func (s *server) enrol(ctx context.Context) error {
	begin := time.Now()
	reply, err := s.up.Connect(ctx, uplink.Target{
		Bus: s.trust.Bus,
		Enroll: fleet.EnrollRequest{
			Aliases: aliases(s.inventory), Summary: s.inventory.Summary(),
			Serial: s.inventory.System.Serial, UUID: string(s.inventory.System.UUID),
			MACs: macs(s.inventory), Address: s.network.Addr.Addr().String(),
		},
		Waits: func(what string) {
			if what != "" {
				s.say("bus: waiting: %s", what)
			}
		},
	})
	if err != nil {
		return err
	}
	s.say("bus: enrolled as %s, boot %d of it (%d ms)", reply.Node, reply.Attempt, time.Since(begin).Milliseconds())
	return nil
}

func aliases(inv hardware.Inventory) []string {
	var out []string
	for _, a := range inv.Aliases() {
		out = append(out, string(a))
	}
	return out
}

func macs(inv hardware.Inventory) []string {
	var out []string
	for _, n := range inv.NICs {
		if n.MAC != "" {
			out = append(out, string(n.MAC))
		}
	}
	return out
}

// report stores the inventory and says so in the timeline, in this order.
func (s *server) report(ctx context.Context) error {
	b, err := s.inventory.Encode()
	if err != nil {
		return fmt.Errorf("write inventory as JSON: %w", err)
	}
	if err := s.up.PutInventory(ctx, b); err != nil {
		return err
	}
	if err := s.up.PublishAcked(ctx, fleet.SourceAgent, fleet.KindReport, reportData(s.readers)); err != nil {
		return err
	}
	close(s.reading.reported)
	go func() {
		err := host.Guard(func() error { s.storeLater(context.WithoutCancel(ctx), s.readers); return nil })
		if err != nil {
			s.say("inventory: %v", err)
		}
	}()
	s.say("report: stored, %d findings; %.3f s after /init", len(s.inventory.Findings), (host.Uptime() - s.host.Started).Seconds())
	return nil
}

// awaitGrant waits, read-only, for a grant that was not refused before.
func (s *server) awaitGrant(ctx context.Context) error {
	said := false
	for {
		b, err := s.up.Grant(ctx)
		if err == nil && b != nil {
			d := images.DigestOf(b.Grant.Payload)
			if d != s.passed && fresh(b.Grant.Payload, s.up.Nonce()) {
				s.bundle = *b
				return nil
			}
		}
		again := grantPoll
		if err != nil {
			again = grantRetry
			s.say("grant: waiting: %v", err)
		} else if !said {
			said = true
			s.say("grant: waiting for an assignment: ingot assign %s STACK", s.up.Node())
			if err := s.up.Publish(fleet.SourceAgent, fleet.KindWaiting, fleet.StepData{Step: phaseGrant, State: "wait"}); err != nil {
				s.say("grant: %v", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.up.Granted():
		case <-time.After(again):
			// The hint may have been lost with a connection.
		}
	}
}

const (
	// grantPoll is how often the grant is asked for without a hint.
	grantPoll = 30 * time.Second
	// grantRetry is how soon it is asked for again when the asking came to
	// nothing: the hint that led to it does not come twice.
	grantRetry = 3 * time.Second
)

// fresh passes over what an earlier boot of this node left in the bucket. What
// cannot be read is let through: verification says what is wrong with it.
func fresh(payload []byte, nonce string) bool {
	g, err := images.ParseGrant(payload)
	return err != nil || g.Nonce == nonce
}

func (s *server) verify(context.Context) error {
	s.passed = images.DigestOf(s.bundle.Grant.Payload)
	v, err := sign.VerifyBundle(s.roots, s.bundle, images.BootIdentity{
		Node: string(s.up.Node()), BootID: s.host.BootID, AgentKey: s.up.Key(), Nonce: s.up.Nonce(), Now: time.Now(),
	})
	var refused *sign.RefusedError
	if errors.As(err, &refused) {
		return &refusal{fleet.ReasonCode(refused.Reason), "", err}
	}
	if err != nil {
		return err
	}
	s.verified = v
	s.say("verify: stack %s (%s), rule %s: signatures hold", v.Manifest.Ref(), v.StackDigest.Short(), v.Rule.ID)
	return s.up.Publish(fleet.SourceAgent, fleet.KindVerified, fleet.AssignedData{
		Rule: v.Rule.ID, Stack: v.Manifest.Ref(), Digest: string(v.StackDigest),
	})
}

func (s *server) makePlan(context.Context) error {
	p, err := boot.NewPlan(s.inventory, s.verified.Manifest, s.verified.Grant.Params)
	var refused *boot.RefusedError
	if errors.As(err, &refused) {
		return &refusal{fleet.ReasonCode(refused.Reason), refused.Hint, err}
	}
	s.plan = p
	s.say("plan: %d files, %d MiB to fetch", 1+len(p.Initrds)+len(p.Files), p.FetchBytes>>20)
	return err
}

func (s *server) fetch(ctx context.Context) error {
	begin := time.Now()
	began := begin
	f := fetch.New(fetch.Options{
		Base: s.trust.HTTP,
		// 100 s without a byte: a boot server that is started again is waited
		// for, and what is here already is not fetched twice.
		Tries: 12,
		Progress: func(a images.Artifact, done int64) {
			s.say("fetch: %s %d of %d MiB", a.Name, done>>20, a.SizeBytes>>20)
			if done < a.SizeBytes {
				return
			}
			data := fleet.FetchData{Name: a.Name, Digest: string(a.Digest), DoneBytes: done, TotalBytes: a.SizeBytes, Seconds: time.Since(began).Seconds()}
			began = time.Now() // of the next file
			if err := s.up.Publish(fleet.SourceAgent, fleet.KindFetch, data); err != nil {
				s.say("fetch: %v", err)
			}
		},
		Retrying: func(a images.Artifact, err error, pause time.Duration) {
			s.say("fetch: %s: %v; again in %v", a.Name, err, pause)
		},
	})
	t, err := assemble(ctx, f, s.plan, s.dir)
	var digest *fetch.DigestError
	switch {
	case errors.As(err, &digest):
		return &refusal{fleet.ReasonDigestMismatch, "", err}
	case errors.Is(err, fetch.ErrAbsent):
		return &refusal{fleet.ReasonArtifactAbsent, "", err}
	case err != nil:
		return err
	}
	s.target = t
	took := time.Since(begin)
	s.say("fetch: %d MiB in %.1f s, every digest matches", s.plan.FetchBytes>>20, took.Seconds())
	return nil
}

// load makes the handoff, which is the last part of the initrd, and hands
// kernel and initrd to the running kernel.
func (s *server) load(context.Context) error {
	begin := time.Now()
	if err := s.appendHandoff(); err != nil {
		return err
	}
	if err := kexec.Load(s.target.kernel, s.target.initrd, s.plan.Cmdline); err != nil {
		return err
	}
	s.say("load: kernel and initrd are loaded (%.1f s)", time.Since(begin).Seconds())
	return nil
}

func (s *server) appendHandoff() error {
	if s.resident != "" {
		return nil // a second try: the initrd has it
	}
	seed, public, err := uplink.NewSeed()
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	token, err := s.up.SignHandoff(fleet.HandoffToken{
		Schema: fleet.HandoffSchema, Node: s.up.Node(), BootID: s.host.BootID, Attempt: s.up.Attempt(),
		StackDigest: s.verified.StackDigest, AgentKey: s.up.Key(), ResidentKey: public,
		Nonce: s.up.Nonce(), NotAfter: now.Add(time.Duration(s.verified.Manifest.Deadline)),
	})
	if err != nil {
		return err
	}
	err = appendHandoff(s.target.initrd, fleet.Handoff{
		Schema: fleet.HandoffSchema, Token: token, ResidentSeed: seed, Trust: s.trust,
		Node: s.up.Node(), Attempt: s.up.Attempt(), AgentBootID: s.host.BootID, JumpTime: now,
		Manifest: s.verified.Manifest, StackDigest: s.verified.StackDigest, Params: s.plan.Params,
		Placement: s.verified.Grant.Placement, MAC: s.network.MAC.String(), Delegations: s.bundle.Delegations,
	})
	if err != nil {
		return err
	}
	s.resident = public
	return nil
}

// announce says the last word of this boot and waits until the bus has stored
// it: nobody has to guess whether the jump was meant.
func (s *server) announce(ctx context.Context) error {
	err := s.up.PublishAcked(ctx, fleet.SourceAgent, fleet.KindHandoff, fleet.HandoffData{
		Stack: s.verified.Manifest.Ref(), StackDigest: string(s.verified.StackDigest), ResidentKey: s.resident,
		Deadline: time.Now().UTC().Add(time.Duration(s.verified.Manifest.Deadline)),
	})
	if err != nil {
		return err
	}
	s.say("handoff: the bus has stored it; jumping")
	return nil
}

// jump takes the NICs down first: one that goes on receiving would write into
// memory that is the next kernel's.
func (s *server) jump(ctx context.Context) error {
	s.reading.end(2 * time.Second)
	s.host.Console.Flush(time.Second)
	if err := host.Quiesce(); err != nil {
		s.say("jump: %v", err)
	}
	err := kexec.Jump()
	return errors.Join(err, s.bringUpNetwork(ctx))
}

// forget drops what a refused grant left in memory.
func (s *server) forget() {
	s.resident, s.target, s.plan, s.verified = "", target{}, boot.Plan{}, sign.Verified{}
	if err := os.RemoveAll(s.dir); err != nil {
		s.say("grant: %v", err)
	}
}
