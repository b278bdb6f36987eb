package control

import (
	"fmt"
	"slices"
	"time"

	"github.com/ingot-metal/ingot/fleet"
)

// order is the layers from the lowest up.
var order = []fleet.LayerName{fleet.LayerHost, fleet.LayerHypervisor, fleet.LayerVM, fleet.LayerContainer, fleet.LayerService}

func reduceLayer(s *fleet.Status, e fleet.Event, now time.Time) {
	l := read[fleet.Layer](e)
	if l.Layer == "" || overtaken(s, l) {
		return
	}
	mergeLayers(s, l)
	judge(s, now, complete(s.Layers))
}

// overtaken says whether a heartbeat, which takes a shorter way than an event,
// has already told a later state of the layer. Both times are of one clock, the
// resident's. A heartbeat itself always counts: it is the present.
func overtaken(s *fleet.Status, l fleet.Layer) bool {
	return slices.ContainsFunc(s.Layers, func(o fleet.Layer) bool {
		return o.Layer == l.Layer && o.Name == l.Name && l.Since.Before(o.Since) && !l.Since.IsZero()
	})
}

func mergeLayers(s *fleet.Status, layers ...fleet.Layer) {
	for _, l := range layers {
		if !slices.Contains(order, l.Layer) {
			continue
		}
		i := slices.IndexFunc(s.Layers, func(o fleet.Layer) bool { return o.Layer == l.Layer && o.Name == l.Name })
		switch {
		case i >= 0:
			s.Layers[i] = l
		case len(s.Layers) < maxLayers:
			s.Layers = append(s.Layers, l)
		}
	}
	slices.SortStableFunc(s.Layers, func(a, b fleet.Layer) int {
		return slices.Index(order, a.Layer) - slices.Index(order, b.Layer)
	})
}

func layerText(l fleet.Layer) string {
	t := fmt.Sprintf("%s %s is %s", l.Layer, l.Name, l.State)
	if l.Reason != "" {
		t += ": " + string(l.Reason)
	}
	if l.Evidence != "" {
		t += ": " + l.Evidence
	}
	return t
}

// judge says from the layers whether the stack runs; whole means that every
// layer of the stack has spoken.
func judge(s *fleet.Status, now time.Time, whole bool) {
	switch s.Phase {
	case fleet.PhaseStarting, fleet.PhaseRunning, fleet.PhaseDegraded, fleet.PhaseFailed, fleet.PhaseHandingOff:
	default:
		return
	}
	l, bad := fleet.LowestFault(s.Layers)
	switch {
	case !bad && whole:
		enter(s, fleet.PhaseRunning, now)
		s.Step = "all layers are up"
	case !bad: // only the lower layers have spoken
		if s.Phase != fleet.PhaseStarting && s.Phase != fleet.PhaseFailed {
			enter(s, fleet.PhaseStarting, now)
		}
		s.Step = "first layers are up"
	case l.State == fleet.LayerDown || s.Phase == fleet.PhaseRunning || s.Phase == fleet.PhaseDegraded:
		text := layerText(l)
		if s.Phase == fleet.PhaseDegraded && s.Step == text {
			return
		}
		enter(s, fleet.PhaseDegraded, now)
		s.Step, s.WaitingFor = text, string(l.Layer)+" "+l.Name
		at := l.Since
		if at.IsZero() {
			at = now
		}
		blame(s, fleet.FaultOf(l.Layer, l.State), at, text)
	default:
		if s.Phase == fleet.PhaseFailed {
			return
		}
		deadline := s.Deadline
		enter(s, fleet.PhaseStarting, now)
		if deadline != nil { // layers that come up are no reason to wait for ever
			s.Deadline = deadline
		}
		s.Step, s.WaitingFor = layerText(l), string(l.Layer)+" "+l.Name
	}
}

// complete says whether the stack has spoken up to its top.
func complete(layers []fleet.Layer) bool {
	return slices.ContainsFunc(layers, func(l fleet.Layer) bool { return l.Layer == fleet.LayerService })
}

func reduceHeartbeat(s *fleet.Status, hb fleet.Heartbeat, now time.Time) {
	if hb.Attempt != 0 && hb.Attempt < s.Attempt || s.BootID != "" && hb.BootID != s.BootID {
		return // an earlier boot's
	}
	s.LastSeen = now
	s.Applied[appliedHeartbeat] = 1
	if s.Phase == fleet.PhaseLost {
		back := s.Before
		if back == "" {
			back = fleet.PhaseInspecting
		}
		enter(s, back, now)
		s.Step = "heard again"
	}
	if hb.Source != fleet.SourceResident {
		return
	}
	if s.Phase == fleet.PhaseHandingOff || s.Phase == fleet.PhaseFailed && len(hb.Layers) > 0 {
		enter(s, fleet.PhaseStarting, now)
	}
	mergeLayers(s, hb.Layers...)
	if len(hb.Layers) > 0 {
		judge(s, now, true) // a heartbeat lists them all
	}
}
