package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBusConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bus")
	code, first, said := try(t, nil, "bus", "config", "--out", dir, "--servers", "n1=10.0.0.1,n2=10.0.0.2,n3=10.0.0.3", "--store", "/srv/nats")
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, said)
	}
	for _, want := range []string{`server_name: "n1"`, "sync_interval: always", `"nats-route://10.0.0.3:6222"`, "auth_callout", "/srv/nats"} {
		if !strings.Contains(first, want) {
			t.Errorf("the configuration lacks %q:\n%s", want, first)
		}
	}
	if !strings.Contains(said, "--bus tls://10.0.0.1:4222,tls://10.0.0.2:4222,tls://10.0.0.3:4222 --creds "+dir+"/credentials.json") {
		t.Errorf("stderr = %q", said)
	}
	secrets, err := os.ReadFile(filepath.Join(dir, "credentials.json"))
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(strings.NewReplacer(`"`, " ", ",", " ").Replace(string(secrets))) {
		if strings.HasPrefix(word, "SU") || strings.HasPrefix(word, "SA") {
			if strings.Contains(first, word) {
				t.Error("the configuration holds a seed")
			}
		}
	}
	// Keys stay, and so does what was made of them.
	if _, again, _ := try(t, nil, "bus", "config", "--out", dir, "--servers", "n1=10.0.0.1,n2=10.0.0.2,n3=10.0.0.3", "--store", "/srv/nats"); again != first {
		t.Error("a second run prints another configuration")
	}
}

func TestBusRefusals(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open.json")
	if err := os.WriteFile(open, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	typo := filepath.Join(dir, "typo.json")
	if err := os.WriteFile(typo, []byte("{\n \"control_sed\": \"x\"\n}"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"bus config --servers n1", exitUsage, `--servers "n1": want NAME=ADDRESS`},
		{"bus config --out " + dir + "/x --servers a=1,b=2", exitFailed, "two servers survive the loss of none"},
		{"bus config --out " + dir + "/x --server n9", exitUsage, `--server "n9": is none of --servers`},
		{"bus run " + dir + "/none.conf", exitNotFound, "read bus configuration"},
		{"serve --bus tls://127.0.0.1:1", exitUsage, "name its credentials too, with --creds FILE"},
		{"serve --creds x", exitUsage, "name the bus too, with --bus"},
		{"serve --bus tls://127.0.0.1:1 --creds " + dir + "/none", exitNotFound, "read the credentials of the bus"},
		{"serve --bus tls://127.0.0.1:1 --creds " + open, exitFailed, "may be read by others, and holds secrets: chmod 600"},
		{"serve --data " + data + " --bus tls://127.0.0.1:1 --creds " + typo, exitFailed, "typo.json line 2"},
		{"serve --bus tls://127.0.0.1:1 --creds " + typo + " --nats-listen 127.0.0.1:0", exitUsage, "name one of them"},
	} {
		code, _, said := try(t, nil, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("ingot %s: exit %d, %q; want %d, %q", c.args, code, said, c.code, c.want)
		}
	}
}
