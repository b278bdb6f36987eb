package resident

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images/sign"
)

// commands are what operators may ask of a running stack.
func (r *resident) commands() *uplink.Commands {
	roots := sign.Roots{Lab: r.handoff.Trust.Lab}
	for _, k := range r.handoff.Trust.Roots {
		roots.Keys = append(roots.Keys, ed25519.PublicKey(k))
	}
	return &uplink.Commands{
		Roots: roots, Delegations: r.handoff.Delegations,
		Verbs: map[string]func(context.Context, fleet.Command) (string, error){
			fleet.VerbStopVM: r.stopVM,
		},
	}
}

// stopVM ends a virtual machine as pulling its power would. It is not started
// again.
func (r *resident) stopVM(_ context.Context, c fleet.Command) (string, error) {
	name := c.Args["vm"]
	v, ok := r.vms.Load(name)
	if !ok {
		return "", fmt.Errorf("stop VM %.80q: this stack runs none of that name", name)
	}
	p := v.(*process)
	r.keep(func(s *session) {
		rec := s.VMs[name]
		rec.Stopped = true
		s.VMs[name] = rec
	})
	if err := p.kill(); err != nil {
		return "", fmt.Errorf("stop VM %s: %w", name, err)
	}
	return fmt.Sprintf("VM %s (process %d) was stopped", name, p.pid), nil
}
