package images

import (
	"strings"
	"testing"
	"time"
)

func digestOf(s string) Digest { return DigestOf([]byte(s)) }

func testManifest() Manifest {
	a := func(n string) Artifact { return Artifact{Name: n, Digest: digestOf(n), SizeBytes: 1} }
	return Manifest{
		Schema: ManifestSchema, Name: "hello", Version: "1.0", Arch: "amd64",
		Boot:       Boot{Kernel: a("vmlinuz"), Initrds: []Artifact{a("initrd")}, Cmdline: "quiet"},
		Params:     map[string]Param{"nonce": {Type: "string", Required: true, MaxLength: 8}},
		Hypervisor: &Hypervisor{Kind: "kvm"},
		VMs:        []VM{{Name: "vm1", Kernel: a("vmlinuz"), Initrd: a("vm.cpio"), Root: a("vm.squashfs"), CPUs: 1, MemoryBytes: 64 << 20, Forwards: []Forward{{8080, 80}}}},
		Containers: []Container{{Name: "c", VM: "vm1", ImageDigest: digestOf("i"), Archive: a("c.tar")}},
		Services:   []Service{{Name: "s", Container: "c", Port: 8080, HealthPath: "/healthz"}},
		Deadline:   Duration(time.Minute),
	}
}

func TestManifestRoundTrip(t *testing.T) {
	b, err := testManifest().JSON()
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.JSON()
	if err != nil || string(again) != string(b) {
		t.Errorf("JSON(ParseManifest(b)) = %s, %v; want the same bytes %s", again, err, b)
	}
}

func TestManifestRefuses(t *testing.T) {
	good, err := testManifest().JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, old, new, want string }{
		{"unknown key", `"name":"hello"`, `"name":"hello","colour":"red"`, "colour"},
		{"schema", "ingot.stack/v1", "ingot.stack/v9", "schema"},
		{"name with a path", `"name":"hello"`, `"name":"../hello"`, "name"},
		{"file with a path", `"name":"initrd"`, `"name":"../initrd"`, "artifact name"},
		{"digest", digestOf("initrd").Hex(), "00", "digest"},
		{"arch", `"amd64"`, `"vax"`, "arch"},
		{"cmdline", `"quiet"`, `"quiet\nroot=x"`, "cmdline"},
		{"cmdline key that nobody knows", `"quiet"`, `"quiet ingot.debug=1"`, "ingot.debug=1"},
		{"health path", `"/healthz"`, `"healthz"`, "health_path"},
		{"vm of container", `"vm":"vm1"`, `"vm":"vm2"`, "vm2"},
		{"port", `"port":8080`, `"port":8081`, "8081"},
		{"deadline", `"1m0s"`, `"-1s"`, "deadline"},
		{"trailing bytes", `"deadline":"1m0s"}`, `"deadline":"1m0s"} {}`, "more follows"},
		{"two files of one name", `"name":"c.tar"`, `"name":"vmlinuz"`, "vmlinuz"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad := strings.Replace(string(good), tc.old, tc.new, 1)
			if bad == string(good) {
				t.Fatalf("%q does not stand in the manifest", tc.old)
			}
			if _, err := ParseManifest([]byte(bad)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ParseManifest = %v; want an error that names %q", err, tc.want)
			}
		})
	}
	if _, err := ParseManifest(make([]byte, MaxManifestBytes+1)); err == nil {
		t.Error("ParseManifest of a manifest over the limit = nil; want an error")
	}
}

func TestResolveParams(t *testing.T) {
	m := testManifest()
	m.Params["place"] = Param{Type: "string", Default: "here"}
	got, err := m.ResolveParams(map[string]string{"nonce": "x"})
	if err != nil || got["place"] != "here" || got["nonce"] != "x" {
		t.Errorf("ResolveParams = %v, %v", got, err)
	}
	for _, bad := range []map[string]string{nil, {"nonce": "123456789"}, {"nonce": "x", "y": "z"}, {"nonce": "a\nb"}} {
		if _, err := m.ResolveParams(bad); err == nil {
			t.Errorf("ResolveParams(%v) = nil error; want one", bad)
		}
	}
}

func TestGrantCheck(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m := testManifest()
	stack, ruleDigest := digestOf("stack"), digestOf("rule")
	params := map[string]string{"nonce": "x"}
	pd, err := ParamsDigest(params)
	if err != nil {
		t.Fatal(err)
	}
	rule := Rule{Schema: RuleSchema, ID: "r", Selector: Selector{[]string{"n-1"}}, Stacks: []Digest{stack}, Params: params, Count: 1, NotAfter: now.Add(time.Hour)}
	grant := Grant{Schema: GrantSchema, Node: "n-1", BootID: "b", AgentKey: "U1", Nonce: "f", RuleDigest: ruleDigest, StackDigest: stack, Params: params, ParamsDigest: pd, NotAfter: now.Add(time.Hour)}
	me := BootIdentity{Node: "n-1", BootID: "b", AgentKey: "U1", Nonce: "f", Now: now}
	if err := grant.Check(me, rule, ruleDigest, m, stack); err != nil {
		t.Fatalf("Check of a good grant = %v", err)
	}
	for name, change := range map[string]func(g *Grant, r *Rule, me *BootIdentity){
		"another node":        func(g *Grant, r *Rule, me *BootIdentity) { me.Node = "n-2" },
		"another boot":        func(g *Grant, r *Rule, me *BootIdentity) { me.BootID = "c" },
		"another key":         func(g *Grant, r *Rule, me *BootIdentity) { me.AgentKey = "U2" },
		"replayed nonce":      func(g *Grant, r *Rule, me *BootIdentity) { me.Nonce = "g" },
		"expired":             func(g *Grant, r *Rule, me *BootIdentity) { me.Now = now.Add(2 * time.Hour) },
		"rule for others":     func(g *Grant, r *Rule, me *BootIdentity) { r.Selector.Nodes = []string{"n-2"} },
		"rule without stack":  func(g *Grant, r *Rule, me *BootIdentity) { r.Stacks = []Digest{digestOf("other")} },
		"another rule":        func(g *Grant, r *Rule, me *BootIdentity) { g.RuleDigest = digestOf("z") },
		"another stack":       func(g *Grant, r *Rule, me *BootIdentity) { g.StackDigest = digestOf("z") },
		"params not digested": func(g *Grant, r *Rule, me *BootIdentity) { g.Params = map[string]string{"nonce": "y"} },
		"params not the rule's": func(g *Grant, r *Rule, me *BootIdentity) {
			g.Params = map[string]string{"nonce": "y"}
			g.ParamsDigest, _ = ParamsDigest(g.Params)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, r, who := grant, rule, me
			change(&g, &r, &who)
			if err := g.Check(who, r, ruleDigest, m, stack); err == nil {
				t.Error("Check = nil; want a refusal")
			}
		})
	}
}

func FuzzParseManifest(f *testing.F) {
	b, err := testManifest().JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":"ingot.stack/v1"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		again, err := m.JSON()
		if err != nil {
			t.Fatalf("JSON of a parsed manifest: %v", err)
		}
		if n, err := ParseManifest(again); err != nil || n.Ref() != m.Ref() {
			t.Fatalf("ParseManifest(JSON) = %v, %v", n.Ref(), err)
		}
	})
}
