package render

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func TestYAML(t *testing.T) {
	in := `{"schema":"ingot.inventory/v1","n":3,"f":1.50,"on":true,"none":null,"empty":{},"list":[],"text":"a: b # c","yes":"no",
		"parts":[{"a":1,"b":["x","0x10",[1,[]]]},"2026-01-01",{"c":{"d":"e"}}],"bmc":"ff:ff"}`
	want := `schema: ingot.inventory/v1
"n": 3
f: 1.50
"on": true
none: null
empty: {}
list: []
text: "a: b # c"
"yes": "no"
parts:
  - a: 1
    b:
      - x
      - "0x10"
      - - 1
        - []
  - "2026-01-01"
  - c:
      d: e
bmc: "ff:ff"
`
	got, err := YAML([]byte(in))
	if d := cmp.Diff(want, string(got)); d != "" || err != nil {
		t.Errorf("YAML: %v (-want +got):\n%s", err, d)
	}
	for _, bad := range []string{"", "{", `{"a"`, `[1,`, "}"} {
		if got, err := YAML([]byte(bad)); err == nil {
			t.Errorf("YAML(%q) = %q; want an error", bad, got)
		}
	}
}

// same fails where a library reads the YAML otherwise than as the JSON.
func same(t *testing.T, document []byte) {
	t.Helper()
	out, err := YAML(document)
	if err != nil {
		t.Fatal(err)
	}
	back, err := yaml.YAMLToJSON(out)
	if err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if want, got := canonical(t, document), canonical(t, back); want != got {
		t.Errorf("%s\nis read as %s\nwant %s", out, got, want)
	}
}

// canonical is a document as canonical JSON.
func canonical(t *testing.T, document []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(document, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestYAMLOfMachines(t *testing.T) {
	files, err := filepath.Glob("../testdata/machines/*/want*.json")
	if err != nil || len(files) < 3 {
		t.Fatalf("machines: %v, %v", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		same(t, b)
	}
}

// FuzzYAML: what YAML reads is what the JSON said.
func FuzzYAML(f *testing.F) {
	f.Add(`{"a":["b: c","0x1","-","? x","~","\u0085\u2028\u007f",{"":"'"}]}`)
	f.Fuzz(func(t *testing.T, s string) {
		var v any
		numbers := strings.ContainsAny(s, "eE") && strings.ContainsAny(s, "0123456789") || strings.Contains(s, "-0")
		if json.Unmarshal([]byte(s), &v) != nil || numbers {
			return // exponents and a zero below zero are another matter
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) < 1<<12 && !bytes.Contains(b, []byte("<<")) { // a merge of maps in YAML 1.1, which the library reads
			same(t, b)
		}
	})
}
