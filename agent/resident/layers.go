package resident

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
)

// layers is the state of every layer of a stack. The order is from the lowest
// up, as the manifest has them.
type layers struct {
	tell func(fleet.Layer)
	// keep, if set, is given every layer of which anything changed, before tell.
	keep func(l fleet.Layer, told bool)
	now  func() time.Time

	mu   sync.Mutex
	list []fleet.Layer
	// on names the layer that each stands on, by index; -1 for the lowest.
	on []int
}

// newLayers lists what a manifest has; all are starting. tell hears of every
// change, in order.
func newLayers(m images.Manifest, tell func(fleet.Layer)) *layers {
	ls := &layers{tell: tell, now: time.Now}
	add := func(l fleet.LayerName, name string, on int) int {
		ls.list = append(ls.list, fleet.Layer{Layer: l, Name: name, State: fleet.LayerStarting, Since: ls.now().UTC()})
		ls.on = append(ls.on, on)
		return len(ls.list) - 1
	}
	below := add(fleet.LayerHost, "host", -1)
	if m.Hypervisor != nil {
		below = add(fleet.LayerHypervisor, m.Hypervisor.Kind, below)
	}
	vms, containers := map[string]int{}, map[string]int{}
	for _, vm := range m.VMs {
		vms[vm.Name] = add(fleet.LayerVM, vm.Name, below)
	}
	for _, c := range m.Containers {
		containers[c.Name] = add(fleet.LayerContainer, c.Name, vms[c.VM])
	}
	for _, s := range m.Services {
		add(fleet.LayerService, s.Name, containers[s.Container])
	}
	return ls
}

// restore makes layers what an earlier resident knew of them, and tells nobody.
func (ls *layers) restore(known []fleet.Layer) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range known {
		if i := ls.find(l.Layer, l.Name); i >= 0 {
			ls.list[i] = l
		}
	}
}

// all is a copy, safe to keep.
func (ls *layers) all() []fleet.Layer {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	out := make([]fleet.Layer, len(ls.list))
	for i, l := range ls.list {
		l.Facts = maps.Clone(l.Facts)
		out[i] = l
	}
	return out
}

// set notes what was seen of a layer. Facts are added to those known. When a
// layer goes down, all that stands on it becomes unknown. A name that the stack
// does not have is an error: it came from outside.
func (ls *layers) set(name fleet.LayerName, which string, s fleet.LayerState, reason fleet.ReasonCode, evidence string, facts map[string]string) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	i := ls.find(name, which)
	if i < 0 {
		return fmt.Errorf("layer %s %.80q: the stack has none", name, which)
	}
	ls.change(i, s, reason, evidence, facts)
	if s == fleet.LayerDown {
		ls.cover(i, ls.list[i])
	}
	return nil
}

// learn adds facts to a layer, whatever its state is.
func (ls *layers) learn(name fleet.LayerName, which string, facts map[string]string) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	i := ls.find(name, which)
	if i < 0 {
		return fmt.Errorf("layer %s %.80q: the stack has none", name, which)
	}
	l := ls.list[i]
	ls.change(i, l.State, l.Reason, l.Evidence, facts)
	return nil
}

// cover makes unknown what stands on layer i, however far up, because of the
// layer that is down.
func (ls *layers) cover(i int, down fleet.Layer) {
	for j := range ls.list {
		if ls.on[j] == i {
			ls.change(j, fleet.LayerUnknown, fleet.ReasonLayerBelow, fmt.Sprintf("%s %s is down", down.Layer, down.Name), nil)
			ls.cover(j, down)
		}
	}
}

func (ls *layers) change(i int, s fleet.LayerState, reason fleet.ReasonCode, evidence string, facts map[string]string) {
	l := &ls.list[i]
	old := *l
	if len(facts) > 0 {
		merged := maps.Clone(l.Facts)
		if merged == nil {
			merged = map[string]string{}
		}
		maps.Copy(merged, facts)
		l.Facts = merged
	}
	changed := l.State != s || l.Reason != reason
	if changed {
		l.Since = ls.now().UTC()
	}
	l.State, l.Reason, l.Evidence = s, reason, clip(evidence, 1000)
	if ls.keep != nil && (changed || old.Evidence != l.Evidence || !maps.Equal(old.Facts, l.Facts)) {
		kept := *l
		kept.Facts = maps.Clone(l.Facts)
		ls.keep(kept, changed)
	}
	if changed {
		ls.tell(*l)
	}
}

func (ls *layers) find(name fleet.LayerName, which string) int {
	for i, l := range ls.list {
		if l.Layer == name && l.Name == which {
			return i
		}
	}
	return -1
}

// fact is one fact of a layer, empty when it is not known.
func (ls *layers) fact(name fleet.LayerName, which, key string) string {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if i := ls.find(name, which); i >= 0 {
		return ls.list[i].Facts[key]
	}
	return ""
}

// state says how a layer is; unknown when the stack has none of the name.
func (ls *layers) state(name fleet.LayerName, which string) fleet.LayerState {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if i := ls.find(name, which); i >= 0 {
		return ls.list[i].State
	}
	return fleet.LayerUnknown
}

// clip cuts a text for people to about n bytes of its end, where programs say
// what went wrong, and makes it printable.
func clip(s string, n int) string {
	if len(s) > n {
		s = "…" + s[len(s)-n:]
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
