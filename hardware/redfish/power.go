package redfish

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
)

// How long a server may take to go off, and how often that is looked at.
const (
	offLimit = time.Minute
	pollStep = time.Second
	keepPoll = 5 // a boot override may show only after some seconds
)

// Power reads whether the server is on.
func Power(ctx context.Context, o Options) (hardware.PowerState, error) {
	s, err := open(ctx, o)
	if err != nil {
		return "", fmt.Errorf("read power state: %w", err)
	}
	defer s.close()
	n, path, err := s.system()
	if err != nil {
		return "", fmt.Errorf("read power state: %w", err)
	}
	if p := powerState(n); p != "" {
		return p, nil
	}
	return "", fmt.Errorf("read power state: %s: power state %.40q is not known", path, n.str("PowerState"))
}

// SetPower asks for a power action. It returns when the BMC has taken it; a
// server may take seconds to obey. A BMC without a power cycle gets off and
// then on.
func SetPower(ctx context.Context, o Options, action hardware.PowerAction) error {
	types, ok := map[hardware.PowerAction][]string{ // DSP0268 Resource.ResetType
		hardware.ActionOn:       {"On", "ForceOn"},
		hardware.ActionOff:      {"ForceOff"},
		hardware.ActionShutdown: {"GracefulShutdown"},
		hardware.ActionReset:    {"ForceRestart"},
		hardware.ActionCycle:    {"PowerCycle"},
	}[action]
	if !ok {
		return fmt.Errorf("set power: action %.20q is not known", action)
	}
	s, err := open(ctx, o)
	if err != nil {
		return fmt.Errorf("set power %s: %w", action, err)
	}
	defer s.close()
	n, path, err := s.system()
	if err != nil {
		return fmt.Errorf("set power %s: %w", action, err)
	}
	offered := s.offered(n)
	for _, t := range types {
		if len(offered) == 0 || slices.Contains(offered, t) {
			return s.reset(n, path, t)
		}
	}
	if action == hardware.ActionCycle && slices.Contains(offered, "ForceOff") && slices.Contains(offered, "On") {
		return s.offAndOn(n, path)
	}
	return fmt.Errorf("set power %s: the BMC offers only %s", action, strings.Join(offered, ", "))
}

// offered are the reset types that the BMC names; none where it names none.
func (s *session) offered(system node) []string {
	a := system.obj("Actions", "#ComputerSystem.Reset")
	if v := a.texts("ResetType@Redfish.AllowableValues"); len(v) > 0 {
		return v
	}
	info, _ := a["@Redfish.ActionInfo"].(string)
	path := node{"@odata.id": info}.id()
	if path == "" {
		return nil
	}
	n, err := s.get(path)
	if err != nil {
		return nil // then the action itself will say
	}
	for _, p := range n.list("Parameters") {
		if p.str("Name") == "ResetType" {
			return p.texts("AllowableValues")
		}
	}
	return nil
}

func (s *session) reset(system node, path, kind string) error {
	target := node{"@odata.id": system.str("Actions", "#ComputerSystem.Reset", "target")}.id()
	if target == "" {
		target = strings.TrimSuffix(path, "/") + "/Actions/ComputerSystem.Reset"
	}
	res, err := s.api.Post(target, map[string]string{"ResetType": kind})
	if err != nil {
		return fmt.Errorf("reset %s: %w", kind, s.denied(err))
	}
	return res.Body.Close()
}

func (s *session) denied(err error) error {
	if s.guard.denied.Load() {
		return ErrDenied
	}
	return err
}

func (s *session) offAndOn(system node, path string) error {
	if powerState(system) == hardware.PowerOn {
		if err := s.reset(system, path, "ForceOff"); err != nil {
			return err
		}
	}
	for end := time.Now().Add(offLimit); ; {
		n, err := s.get(path)
		if err == nil && powerState(n) == hardware.PowerOff {
			return s.reset(n, path, "On")
		}
		if err != nil && s.guard.denied.Load() || time.Now().After(end) {
			return fmt.Errorf("power cycle: the server is not off after %v: %v", offLimit, err)
		}
		if err := s.pause(); err != nil {
			return fmt.Errorf("power cycle: the server was sent off and not on again: %w", err)
		}
	}
}

func (s *session) pause() error {
	select {
	case <-time.After(pollStep):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// BootOncePXE makes the next boot, and only that, a PXE boot in the given
// mode, and reads it back: see [hardware.ErrNotKept].
func BootOncePXE(ctx context.Context, o Options, mode hardware.BootMode) error {
	word, ok := map[hardware.BootMode]string{hardware.ModeBIOS: "Legacy", hardware.ModeUEFI: "UEFI"}[mode]
	if !ok {
		return fmt.Errorf("boot once by PXE: mode %.20q is not known", mode)
	}
	s, err := open(ctx, o)
	if err != nil {
		return fmt.Errorf("boot once by PXE: %w", err)
	}
	defer s.close()
	n, path, err := s.system()
	if err != nil {
		return fmt.Errorf("boot once by PXE: %w", err)
	}
	if err := s.bootOnce(n, path, word); err != nil {
		return fmt.Errorf("boot once by PXE: %w", err)
	}
	return nil
}

// bootOnce sends the override: to the system, then, where that is refused or
// not kept, to its settings resource, which some BMCs want (DSP0266 9.10). The
// mode goes along each time: some BMCs fall back to another without it, and
// some, without a choice, refuse it.
func (s *session) bootOnce(system node, path, mode string) error {
	full := map[string]string{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe", "BootSourceOverrideMode": mode}
	plain := map[string]string{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}
	err := s.patch(system, path, full)
	if statusOf(err) == http.StatusBadRequest && system.str("Boot", "BootSourceOverrideMode") == "" {
		err = s.patch(system, path, plain)
	}
	if err == nil {
		if err = s.kept(path, mode); err == nil {
			return nil
		}
	}
	settings := system.link("@Redfish.Settings", "SettingsObject")
	if settings == "" || s.guard.denied.Load() {
		return err
	}
	pending, e := s.get(settings)
	if e != nil {
		return fmt.Errorf("%w; and its settings: %v", err, e)
	}
	if e := s.patch(pending, settings, full); e != nil {
		return fmt.Errorf("%w; and its settings: %v", err, e)
	}
	return s.kept(settings, mode)
}

// patch sends the ETag that was read, which some BMCs demand and others
// refuse.
func (s *session) patch(n node, path string, boot map[string]string) error {
	body := map[string]any{"Boot": boot}
	headers := map[string]string{}
	if tag := n.str("@odata.etag"); tag != "" {
		headers["If-Match"] = tag
	}
	res, err := s.api.PatchWithHeaders(path, body, headers)
	if statusOf(err) == http.StatusPreconditionFailed {
		res, err = s.api.PatchWithHeaders(path, body, map[string]string{"If-Match": "*"})
	}
	if statusOf(err) == http.StatusPreconditionFailed {
		res, err = s.api.Patch(path, body)
	}
	if err != nil {
		return fmt.Errorf("patch %s: %w", path, s.denied(err))
	}
	return res.Body.Close()
}

// kept reads the override back.
func (s *session) kept(path, mode string) error {
	var boot node
	for range keepPoll {
		n, err := s.get(path)
		if err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		boot = n.obj("Boot")
		got := boot.str("BootSourceOverrideMode")
		if boot.str("BootSourceOverrideEnabled") == "Once" && boot.str("BootSourceOverrideTarget") == "Pxe" && (got == mode || got == "") {
			return nil
		}
		if err := s.pause(); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
	}
	return fmt.Errorf("%w: %s says %q, target %q, mode %q", hardware.ErrNotKept, path, boot.str("BootSourceOverrideEnabled"),
		boot.str("BootSourceOverrideTarget"), boot.str("BootSourceOverrideMode"))
}
