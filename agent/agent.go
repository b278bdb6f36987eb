package agent

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/ingot-metal/ingot/agent/host"
	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
)

// Run is the first process of the inspecting initramfs. It never returns.
func Run() {
	var h *host.Host
	host.Init(func(ctx context.Context) error {
		var err error
		if h, err = host.Setup(); err != nil {
			// It goes on: a machine that speaks is better than one that does not.
			h.Console.Say("setup: %v", err)
		}
		return run(ctx, h)
	}, func(err error) {
		h.Console.Say("ended: %v; this machine waits for its power button", err)
	})
}

func run(ctx context.Context, h *host.Host) error {
	logger := slog.New(slog.NewTextHandler(consoleLog{h.Console}, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: plain}))
	up, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: h.BootID, Log: logger})
	if err != nil {
		return err
	}
	s := &server{host: h, up: up, logger: logger, dir: stackDir, reading: newReading()}
	s.step.Store("init")
	s.say("agent on kernel %s, /init after %.3f s", h.Kernel, h.Started.Seconds())
	if err := up.Publish(fleet.SourceAgent, fleet.KindInit, fleet.StepData{Step: "init", Seconds: h.Started.Seconds(), Text: h.Kernel}); err != nil {
		s.say("timeline: %v", err)
	}
	s.tellUnknownKeys()
	go s.heartbeats(ctx)
	if err := runPhases(ctx, phases(), phaseGrant, s, &timeline{s: s}); err != nil {
		return err
	}
	return fmt.Errorf("the last phase came to its end without a jump")
}

// tellUnknownKeys says which words of the kernel's command line are meant for
// Ingot and read by nobody. The boot goes on without them.
func (s *server) tellUnknownKeys() {
	for _, key := range s.host.Cmdline.Unknown() {
		p := fleet.NewProblem(fleet.ReasonCmdlineUnknown, fmt.Sprintf("the kernel's command line has %.80s; known are %s", key, strings.Join(host.KnownKeys(), ", ")))
		s.say("cmdline: %s: %s", p.Evidence, p.Hint)
		if err := s.up.Publish(fleet.SourceAgent, fleet.KindFinding, p); err != nil {
			s.say("timeline: %v", err)
		}
	}
}

// consoleLog is where the libraries' log lines go: beside the agent's own.
type consoleLog struct{ c *host.Console }

func (l consoleLog) Write(b []byte) (int, error) {
	l.c.Say("%s", strings.TrimSpace(string(b)))
	return len(b), nil
}

// plain drops what the console says already.
func plain(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
		return slog.Attr{}
	}
	return a
}
