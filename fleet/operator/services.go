package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-metal/ingot/fleet"
)

// FindService returns the server that name means, as [Client.Find] does, or the
// one on which a service of that name runs; NODE/SERVICE names both. The
// service is empty where a server was meant.
func (c *Client) FindService(ctx context.Context, name string) (t Target, service string, err error) {
	all, err := c.Targets(ctx)
	if err != nil {
		return Target{}, "", err
	}
	return pickService(all, name)
}

func pickService(all []Target, name string) (Target, string, error) {
	t, err := pick(all, name)
	if !errors.Is(err, ErrNotFound) {
		return t, "", err
	}
	if node, service, both := strings.Cut(name, "/"); both {
		if t, err = pick(all, node); err != nil {
			return t, "", err
		}
		if !t.runs(service) {
			return t, "", fmt.Errorf("service %q of %s: %w (known: %s)", service, t.Name(), ErrNotFound, orNone(services([]Target{t})))
		}
		return t, service, nil
	}
	on := slices.DeleteFunc(slices.Clone(all), func(t Target) bool { return !t.runs(name) })
	switch len(on) {
	case 0:
		return Target{}, "", fmt.Errorf("%w; services: %s", err, orNone(services(all)))
	case 1:
		return on[0], name, nil
	}
	var names []string
	for _, t := range on[:min(len(on), 12)] {
		names = append(names, t.Name()+"/"+name)
	}
	return Target{}, "", fmt.Errorf("service %q: runs on %d servers; name one: %s", name, len(on), strings.Join(names, ", "))
}

func (t Target) runs(service string) bool {
	return slices.Contains(services([]Target{t}), service)
}

// services are the names of the services of servers, each once.
func services(all []Target) []string {
	var out []string
	for _, t := range all {
		if t.Status == nil {
			continue
		}
		for _, l := range t.Status.Layers {
			if l.Layer == fleet.LayerService {
				out = append(out, l.Name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names[:min(len(names), 12)], ", ")
}
