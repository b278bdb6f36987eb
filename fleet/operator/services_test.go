package operator

import (
	"errors"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/fleet"
)

func TestPickService(t *testing.T) {
	runs := func(name string, services ...string) Target {
		st := &fleet.Status{Node: fleet.NodeID("n-" + name), Name: name}
		for _, s := range services {
			st.Layers = append(st.Layers, fleet.Layer{Layer: fleet.LayerVM, Name: "vm"}, fleet.Layer{Layer: fleet.LayerService, Name: s})
		}
		return Target{Status: st}
	}
	all := []Target{runs("r1u1", "hello", "db"), runs("r1u2", "hello"), runs("hello2"), {Machine: &fleet.Machine{Name: "r1u9"}}}
	for _, tt := range []struct{ ask, node, service, err string }{
		{"r1u1", "r1u1", "", ""},
		{"r1u9", "r1u9", "", ""},
		{"db", "r1u1", "db", ""},
		{"hello", "", "", "r1u1/hello, r1u2/hello"},
		{"r1u2/hello", "r1u2", "hello", ""},
		{"r1u2/db", "", "", "known: hello"},
		{"r1u9/db", "", "", "known: none"},
		{"r9/db", "", "", "known: r1u1"},
		{"vm", "", "", "services: db, hello"},
		{"", "", "", "not found"},
	} {
		got, service, err := pickService(all, tt.ask)
		switch {
		case tt.err == "" && (err != nil || got.Name() != tt.node || service != tt.service):
			t.Errorf("pickService(%q) = %v, %q, %v; want %s, %q", tt.ask, got, service, err, tt.node, tt.service)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("pickService(%q) = %v; want an error that says %q", tt.ask, err, tt.err)
		case tt.err != "" && tt.ask != "hello" && !errors.Is(err, ErrNotFound):
			t.Errorf("pickService(%q) = %v; want ErrNotFound", tt.ask, err)
		}
	}
}
