package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
)

// Answer is what the shipped stack's service says of itself.
type Answer struct {
	Service          string `json:"service"`
	ContainerID      string `json:"container_id"`
	ImageDigest      string `json:"image_digest"`
	VM               string `json:"vm"`
	VMBootID         string `json:"vm_boot_id"`
	Hypervisor       string `json:"hypervisor"`
	HypervisorBootID string `json:"hypervisor_boot_id"`
	Node             string `json:"node"`
	Name             string `json:"name"`
	Nonce            string `json:"nonce"`
	Stack            string `json:"stack"`
	StackDigest      string `json:"stack_digest"`
}

const (
	askTimeout = 5 * time.Second
	askPause   = 250 * time.Millisecond
	maxAnswer  = 64 << 10
)

// client keeps no connection: each question is a new one, as another client's
// would be.
var client = &http.Client{Timeout: askTimeout, Transport: &http.Transport{DisableKeepAlives: true}}

// Ask asks a service until it answers.
func Ask(ctx context.Context, url string) ([]byte, Answer, error) {
	var last error
	for {
		b, err := once(ctx, url)
		if err == nil {
			a, err := decode(b)
			return b, a, err
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return nil, Answer{}, fmt.Errorf("ask the service: %w: %v", ctx.Err(), last)
		case <-time.After(askPause):
		}
	}
}

// Silent waits until a service no longer answers: several questions in a row
// go without.
func Silent(ctx context.Context, url string) error {
	for quiet := 0; quiet < 3; {
		if _, err := once(ctx, url); err != nil {
			quiet++
		} else {
			quiet = 0
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to fall silent: %w", url, ctx.Err())
		case <-time.After(askPause):
		}
	}
	return nil
}

func once(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s: %.200q", res.Status, b)
	}
	return b, nil
}

// Check says all that is wrong with a service's answer: it must carry the
// nonce that was assigned, the node's ID, the image digest of the signed
// manifest, and the boot ID of the VM as the resident reported it.
func (o Outcome) Check() error {
	var errs []error
	that := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	a := o.Answer
	that(a.Nonce != "" && a.Nonce == o.Nonce, "nonce is %q, assigned was %q", a.Nonce, o.Nonce)
	that(a.Node != "" && a.Node == string(o.Node), "node is %q, want %q", a.Node, o.Node)
	that(a.ContainerID != "", "container_id is empty")
	that(a.StackDigest == string(o.Digest) && o.Digest != "", "stack_digest is %q, the manifest is %q", a.StackDigest, o.Digest)
	want, err := imageDigest(o.Manifest, a.Service)
	that(err == nil, "%v", err)
	that(err != nil || a.ImageDigest == string(want), "image_digest is %q, the manifest says %q", a.ImageDigest, want)
	boot, err := vmBootID(o.Status, a.VM)
	that(err == nil, "%v", err)
	that(err != nil || a.VMBootID == boot, "vm_boot_id is %q, the resident reported %q", a.VMBootID, boot)
	if len(errs) > 0 {
		return fmt.Errorf("the answer of %s: %w", o.Name, errors.Join(errs...))
	}
	return nil
}

// imageDigest is that of the container that a service runs in.
func imageDigest(m images.Manifest, service string) (images.Digest, error) {
	for _, s := range m.Services {
		if s.Name != service {
			continue
		}
		for _, c := range m.Containers {
			if c.Name == s.Container {
				return c.ImageDigest, nil
			}
		}
	}
	return "", fmt.Errorf("service %q is not in the manifest", service)
}

// vmBootID is what the resident reported of a VM.
func vmBootID(st fleet.Status, vm string) (string, error) {
	for _, l := range st.Layers {
		if l.Layer == fleet.LayerVM && l.Name == vm {
			if id := strings.TrimSpace(l.Facts["boot_id"]); id != "" {
				return id, nil
			}
			return "", fmt.Errorf("the resident reported VM %q without a boot_id", vm)
		}
	}
	return "", fmt.Errorf("the resident reported no VM %q", vm)
}
