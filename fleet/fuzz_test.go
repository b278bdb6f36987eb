package fleet

import (
	"encoding/json"
	"testing"
)

// FuzzParseEvent: what is let through survives being written and read again,
// and names a subject of three tokens and a kind.
func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"schema":"ingot.event/v1","node":"n-a","source":"agent","seq":1,"kind":"bmc.error","data":{"a":1}}`))
	f.Add([]byte(`{"schema":"ingot.event/v1","node":"n-a.b","seq":1,"kind":">"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEvent(b)
		if err != nil {
			return
		}
		if _, err := ParseNodeID(string(e.Node)); err != nil {
			t.Error(err)
		}
		again, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > MaxMessageBytes {
			return
		}
		e2, err := ParseEvent(again)
		if err != nil {
			t.Fatal(err)
		}
		if e2.Node != e.Node || e2.Seq != e.Seq || e2.Kind != e.Kind || !e2.Time.Equal(e.Time) {
			t.Errorf("%+v became %+v", e, e2)
		}
	})
}
