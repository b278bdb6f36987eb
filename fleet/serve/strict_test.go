package serve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// typed writes a file, line by line.
func typed(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.json")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A file of machines with a typo says the file, the line and the key.
func TestMachinesWithATypo(t *testing.T) {
	const one = `    {"name": "r1u1", "macs": ["52:54:00:01:01:01"]},`
	for _, tt := range []struct {
		name, want string
		lines      []string
	}{
		{"an unknown key", `line 4: key "seral" is not known here: want schema, name, rack, unit, serial`, []string{`{`, `  "machines": [`, one, `    {"name": "b", "seral": "X1"}`, `]}`}},
		{"one in an object below", `line 3: key "adress" is not known here: want address, redfish`, []string{`{"machines": [{`, `  "name": "a",`, `  "bmc": {"adress": "10.0.0.1"}`, `}]}`}},
		{"one at the top", `line 1: key "machine" is not known here: want machines`, []string{`{"machine": []}`}},
		{"a key in capitals", `line 2: key "Name" is not known here`, []string{`{"machines": [`, `{"Name": "a"}]}`}},
		{"a key that stands twice", `line 3: key "rack" stands twice`, []string{`{"machines": [{"name": "a",`, `"rack": "1",`, `"rack": "2"}]}`}},
		{"text for a number", `line 3: key "machines.unit" holds a string, want a number`, []string{`{"machines": [{`, `"name": "a",`, `"unit": "one"}]}`}},
		{"text for an array", `line 2: key "machines.macs" holds a string, want an array`, []string{`{"machines": [{`, `"macs": "52:54:00:01:01:01"}]}`}},
		{"a comma too many", `line 4: invalid character '}'`, []string{`{"machines": [{`, `"name": "a",`, `"rack": "1",`, `}]}`}},
		{"an end that is missing", `line 2: unexpected end`, []string{`{"machines": [`, `{"name": "a"}`, ``}},
		{"something after the end", `line 2: invalid character '{' after top-level value`, []string{`{"machines": []}`, `{}`}},
		{"nothing", `line 1: unexpected end`, nil},
		{"too deep", `line 1: `, []string{strings.Repeat(`[`, 1<<20)}},
		{"no name", `line 2: this machine has no name`, []string{`{"machines": [`, `{"rack": "1"}]}`}},
		{"a name that is none", `line 3: name "a b": want letters`, []string{`{"machines": [`, `{`, `"name": "a b"}]}`}},
		{"a name twice", `line 4: name "r1u1" stands at two machines`, []string{`{`, `  "machines": [`, one, `    {"name": "r1u1"}`, `]}`}},
		{"a MAC that is none", `line 3: machine a: "52:54" is no MAC address`, []string{`{"machines": [{"name": "a", "macs": [`, `"52:54:00:01:01:01",`, `"52:54"]}]}`}},
		{"a MAC twice", `line 4: machine b: MAC address 52:54:00:01:01:01 stands at r1u1 already`, []string{`{`, `  "machines": [`, one, `    {"name": "b", "macs": ["52-54-00-01-01-01"]}`, `]}`}},
		{"a UUID that is none", `line 2: machine a: "1234" is no UUID`, []string{`{"machines": [{"name": "a",`, `"uuid": "1234"}]}`}},
	} {
		s := &server{Config: Config{Machines: typed(t, tt.lines...)}}
		_, _, err := s.inputs()
		if err == nil || !strings.Contains(err.Error(), s.Machines+" "+tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q", tt.name, err, tt.want)
		}
	}
	data := filepath.Join(t.TempDir(), "data")
	says(t, "serve with a typo", brief(Config{Data: data, Machines: typed(t, `{"machine": []}`)}).Error(), "line 1")
	if _, err := os.Stat(data); err == nil {
		t.Errorf("serve with a typo made %s; want nothing", data)
	}
	s := &server{Config: Config{Machines: typed(t, `{"machines": [`, strings.TrimSuffix(one, ","), `]}`)}}
	if got, _, err := s.inputs(); err != nil || len(got) != 1 || got[0].Name != "r1u1" || got[0].Schema == "" {
		t.Errorf("a sound file = %v, %v; want r1u1", got, err)
	}
}

func TestAccountWithATypo(t *testing.T) {
	for _, tt := range []struct{ want, line string }{
		{`line 1: key "pasword" is not known here: want user, password`, `{"user": "admin", "pasword": "x"}`},
		{`line 1: user or password is empty`, `{"user": "admin"}`},
		{`line 1: key "user" holds a number, want a string`, `{"user": 7}`},
	} {
		s := &server{Config: Config{Credentials: typed(t, tt.line)}}
		if _, _, err := s.inputs(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", tt.line, err, tt.want)
		}
	}
}

func FuzzDecodeStrict(f *testing.F) {
	f.Add([]byte(`{"machines": [{"name": "a", "bmc": {"address": "10.0.0.1"}}]}`))
	f.Add([]byte("{\n\"user\": [{}, null]}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v credentials
		lines, err := decodeStrict(b, &v)
		if err != nil && !strings.HasPrefix(err.Error(), "line ") {
			t.Errorf("no line is named: %v", err)
		}
		if err == nil && lines[""] < 1 {
			t.Errorf("lines = %v; want where the value begins", lines)
		}
	})
}
