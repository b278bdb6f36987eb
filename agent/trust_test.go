package agent

import (
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
)

func trustJSON(t *testing.T, change func(*fleet.Trust)) []byte {
	t.Helper()
	tr := fleet.Trust{Schema: fleet.TrustSchema, Roots: [][]byte{make([]byte, ed25519.PublicKeySize)}, Lab: true}
	change(&tr)
	b, err := json.Marshal(tr)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseTrust(t *testing.T) {
	for _, tc := range []struct {
		name, manufacturer, want string // want: a word of the refusal
		change                   func(*fleet.Trust)
	}{
		{"the lab's, in the lab", fleet.LabManufacturer, "", func(*fleet.Trust) {}},
		{"the lab's, elsewhere", "Dell Inc.", "Dell Inc.", func(*fleet.Trust) {}},
		{"the lab's, on a machine without SMBIOS", "", "lab", func(*fleet.Trust) {}},
		{"a fleet's own", "Dell Inc.", "", func(tr *fleet.Trust) { tr.Lab = false }},
		{"no root", fleet.LabManufacturer, "no key", func(tr *fleet.Trust) { tr.Roots = nil }},
		{"another schema", fleet.LabManufacturer, "schema", func(tr *fleet.Trust) { tr.Schema = "x" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr, roots, err := parseTrust(trustJSON(t, tc.change), tc.manufacturer)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) || len(roots.Keys) != 0 {
					t.Errorf("parseTrust = %d keys, %v; want none, and an error that names %q", len(roots.Keys), err, tc.want)
				}
				return
			}
			if err != nil || len(roots.Keys) != 1 || roots.Lab != tr.Lab {
				t.Errorf("parseTrust = %+v, %v; want one key", roots, err)
			}
		})
	}
}

func FuzzParseTrust(f *testing.F) {
	f.Add([]byte(`{"schema":"ingot.trust/v1","lab":true,"roots":["AAAA"]}`), "Dell Inc.")
	f.Fuzz(func(t *testing.T, b []byte, manufacturer string) {
		tr, roots, err := parseTrust(b, manufacturer)
		if err == nil && (len(roots.Keys) == 0 || tr.Lab && manufacturer != fleet.LabManufacturer) {
			t.Fatalf("parseTrust let pass %+v on a machine by %q", tr, manufacturer)
		}
	})
}

func TestFreshPassesOverEarlierBoots(t *testing.T) {
	b, err := json.Marshal(images.Grant{Schema: images.GrantSchema, Nonce: "this boot's"})
	if err != nil {
		t.Fatal(err)
	}
	if fresh(b, "another boot's") {
		t.Error("a grant for another boot's nonce is fresh; want it passed over")
	}
	if !fresh(b, "this boot's") || !fresh([]byte("{"), "x") {
		t.Error("a grant for this boot, or one that cannot be read, is passed over; want it looked at")
	}
}
