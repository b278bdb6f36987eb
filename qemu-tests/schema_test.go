package qemutests

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
)

var update = flag.Bool("update", false, "write golden files")

// published are the documents of the wire and where their JSON Schemas lie,
// beside the Go types that they are made from.
var published = []struct {
	file  string
	value any
}{
	{"hardware/schema/ingot.inventory.v1.json", hardware.Inventory{}},
	{"hardware/schema/ingot.readings.v1.json", hardware.Readings{}},
	{"hardware/schema/ingot.expected.v1.json", hardware.Expected{}},
	{"images/schema/ingot.stack.v1.json", images.Manifest{}},
	{"images/schema/ingot.rule.v1.json", images.Rule{}},
	{"images/schema/ingot.grant.v1.json", images.Grant{}},
	{"images/schema/ingot.grant-bundle.v1.json", images.GrantBundle{}},
	{"images/schema/ingot.delegation.v1.json", images.Delegation{}},
	{"fleet/schema/ingot.event.v1.json", fleet.Event{}},
	{"fleet/schema/ingot.status.v1.json", fleet.Status{}},
	{"fleet/schema/ingot.heartbeat.v1.json", fleet.Heartbeat{}},
	{"fleet/schema/ingot.enroll.v1.json", fleet.EnrollRequest{}},
	{"fleet/schema/ingot.command.v1.json", fleet.Command{}},
	{"fleet/schema/ingot.trust.v1.json", fleet.Trust{}},
	{"fleet/schema/ingot.machine.v1.json", fleet.Machine{}},
	{"fleet/schema/ingot.baseline.v1.json", fleet.Baseline{}},
}

// TestSchemas keeps the published JSON Schemas those of the Go types. Unknown
// fields are allowed on the wire, but for what operators sign.
func TestSchemas(t *testing.T) {
	for _, p := range published {
		signed := filepath.Dir(p.file) == "images/schema"
		r := jsonschema.Reflector{AllowAdditionalProperties: !signed, Anonymous: true, Mapper: mapped}
		got, err := json.MarshalIndent(r.Reflect(p.value), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("..", p.file)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v (make golden writes it)", err)
		}
		if d := cmp.Diff(string(want), string(got)+"\n"); d != "" {
			t.Errorf("%s is not that of its Go type; make golden writes it (-want +got):\n%s", p.file, d)
		}
	}
}

// mapped are types that write themselves as something else than Go shows.
func mapped(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[images.Duration]():
		return &jsonschema.Schema{Type: "string", Description: "a duration: 90s, 5m"}
	case reflect.TypeFor[time.Time]():
		return &jsonschema.Schema{Type: "string", Format: "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return &jsonschema.Schema{Description: "by the kind of the event"}
	}
	return nil
}
