package bus

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nkeys"
)

// CredentialsSchema is the schema of [Credentials].
const CredentialsSchema = "ingot.bus-credentials/v1"

// CredentialsFile is the name of the credentials that [Layout.Write] makes.
const CredentialsFile = "credentials.json"

// Credentials are what ingot serve holds of a bus that runs apart. All but the
// CA are seeds of nkeys, and secret.
type Credentials struct {
	Schema string `json:"schema"`
	CAPEM  string `json:"ca_pem"`
	// Control is the user of account INGOT with all rights over the streams,
	// Callout the one of AUTH that decides who is let in, System the one of
	// SYS that closes connections and reads how the servers are set.
	Control string `json:"control_seed"`
	Callout string `json:"callout_seed"`
	System  string `json:"system_seed"`
	// Issuer is the account key that signs what the callout answers.
	Issuer string `json:"issuer_seed"`
	// Operator is the seed of the first console.
	Operator string `json:"operator_seed"`
}

// String keeps secrets out of logs.
func (Credentials) String() string { return "[redacted]" }

// GoString is String.
func (c Credentials) GoString() string { return c.String() }

// Host is one nats-server of a bus that runs apart.
type Host struct {
	Name    string // of the server: n1
	Address string // host name or address, by which nodes and the others reach it
	Port    int    // of clients; 4222 when zero
	Cluster int    // port of the routes; 6222 when zero
	// Listen is the address of both listeners; all addresses when empty.
	Listen string
	// Store is where JetStream writes; /var/lib/nats/NAME when empty.
	Store string
	// Files is where the server finds its certificates; where [Layout.Write]
	// put them when empty.
	Files string
}

// Layout is a bus that runs apart: one nats-server, or a cluster of three or
// more.
type Layout struct {
	Dir     string // keys, certificates and configurations; made where missing
	Servers []Host
}

var serverName = func(s string) bool {
	return s != "" && len(s) <= 63 && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

func (l Layout) check() error {
	if len(l.Servers) == 0 {
		return errors.New("bus layout: no server is named")
	}
	if len(l.Servers) == 2 {
		return errors.New("bus layout: two servers survive the loss of none: name one, or three")
	}
	seen := map[string]bool{}
	for _, h := range l.Servers {
		if !serverName(h.Name) {
			return fmt.Errorf("bus layout: server name %.80q: want letters, digits, - and _, at most 63", h.Name)
		}
		if h.Address == "" || strings.ContainsAny(h.Address+h.Listen+h.Store+h.Files, "\"\\\n{}") {
			return fmt.Errorf("bus layout: server %s: address %.80q, or one of its paths, cannot be written into a configuration", h.Name, h.Address)
		}
		if seen[h.Name] {
			return fmt.Errorf("bus layout: two servers are named %s", h.Name)
		}
		seen[h.Name] = true
	}
	return nil
}

func (h Host) withDefaults(dir string) Host {
	h.Port, h.Cluster = cmp.Or(h.Port, 4222), cmp.Or(h.Cluster, 6222)
	h.Listen, h.Store = cmp.Or(h.Listen, "0.0.0.0"), cmp.Or(h.Store, "/var/lib/nats/"+h.Name)
	h.Files = cmp.Or(h.Files, filepath.Join(dir, h.Name))
	return h
}

// URLs are what nodes, consoles and ingot serve connect to.
func (l Layout) URLs() []string {
	var out []string
	for _, h := range l.Servers {
		out = append(out, "tls://"+net.JoinHostPort(h.Address, strconv.Itoa(cmp.Or(h.Port, 4222))))
	}
	return out
}

// Write makes what is missing in Dir: the keys, the CA, and for each server a
// directory of its name with nats.conf and its certificates. Keys that are
// there stay. It returns the configurations by the servers' names.
func (l Layout) Write() (map[string]string, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(l.Dir)
	if err != nil {
		return nil, fmt.Errorf("bus layout: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("bus layout: %w", err)
	}
	ca, public, err := l.keys(dir)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, h := range l.Servers {
		h = h.withDefaults(dir)
		if err := ca.certify(filepath.Join(dir, h.Name), h.Address); err != nil {
			return nil, fmt.Errorf("bus layout: server %s: %w", h.Name, err)
		}
		text, err := l.render(h, dir, public)
		if err != nil {
			return nil, err
		}
		if err := replaceFile(filepath.Join(dir, h.Name, "nats.conf"), []byte(text)); err != nil {
			return nil, err
		}
		out[h.Name] = text
	}
	return out, nil
}

// keys opens or makes the five keys and the CA, and writes the credentials. It
// returns the public halves by their names.
func (l Layout) keys(dir string) (ca *authorityKeys, public map[string]string, err error) {
	c := Credentials{Schema: CredentialsSchema}
	public = map[string]string{}
	for _, k := range []struct {
		name   string
		prefix nkeys.PrefixByte
		seed   *string
	}{
		{"control", nkeys.PrefixByteUser, &c.Control}, {"callout", nkeys.PrefixByteUser, &c.Callout}, {"system", nkeys.PrefixByteUser, &c.System},
		{"issuer", nkeys.PrefixByteAccount, &c.Issuer}, {"operator", nkeys.PrefixByteUser, &c.Operator},
	} {
		kp, err := keptKey(dir, k.name+".nk", k.prefix)
		if err != nil {
			return nil, nil, err
		}
		seed, err := kp.Seed()
		if err != nil {
			return nil, nil, fmt.Errorf("key %s: %v", k.name, err)
		}
		*k.seed = string(seed)
		if public[k.name], err = kp.PublicKey(); err != nil {
			return nil, nil, fmt.Errorf("key %s: %v", k.name, err)
		}
	}
	if ca, err = openAuthority(dir, time.Now()); err != nil {
		return nil, nil, err
	}
	c.CAPEM = string(ca.pem())
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, nil, fmt.Errorf("write credentials: %v", err)
	}
	return ca, public, replaceFile(filepath.Join(dir, CredentialsFile), append(b, '\n'))
}

// certify gives a server its certificate, which routes show each other too.
func (a *authorityKeys) certify(dir, address string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	names := []string{address, "127.0.0.1", "localhost"}
	crt, _, err := loadPair(dir, srvCertFile, srvKeyFile)
	if err != nil || !serves(crt, a.crt, names, time.Now()) {
		c := leaf(names, time.Now())
		c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		if _, _, err := makePair(dir, srvCertFile, srvKeyFile, c, a.crt, a.key); err != nil {
			return err
		}
	}
	return replaceFile(filepath.Join(dir, caCertFile), a.pem())
}

func (a *authorityKeys) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.crt.Raw})
}

func (l Layout) render(h Host, dir string, public map[string]string) (string, error) {
	var routes []string
	for _, o := range l.Servers {
		if o.Name != h.Name {
			routes = append(routes, "nats-route://"+net.JoinHostPort(o.Address, strconv.Itoa(o.withDefaults(dir).Cluster)))
		}
	}
	var b strings.Builder
	err := configuration.Execute(&b, map[string]any{
		"Host": h, "Routes": routes, "Key": public, "Requests": crossings, "MaxPayload": fleet.MaxMessageBytes,
		"Hints": slices.Clone(hints), "CA": caCertFile, "Cert": srvCertFile, "PrivateKey": srvKeyFile,
	})
	if err != nil {
		return "", fmt.Errorf("write configuration of %s: %w", h.Name, err)
	}
	return b.String(), nil
}

// hints are the subjects that lead from INGOT into NODES without an answer.
var hints = []string{"ingot.granted.*", "ingot.wake.*"}

// configuration is the same bus as [Server.options] and [Server.bridge] make,
// in nats-server's own language.
var configuration = template.Must(template.New("nats.conf").Parse(`# nats-server configuration of an Ingot bus, written by: ingot bus config
# Needs nats-server 2.11 or later. Check it with: nats-server -t -c nats.conf
server_name: "{{.Host.Name}}"
listen: "{{.Host.Listen}}:{{.Host.Port}}"
max_payload: {{.MaxPayload}}
max_connections: 20000
max_subscriptions: 512
max_pending: 32MB
ping_interval: "20s"
ping_max: 3
write_deadline: "10s"

tls {
  cert_file: "{{.Host.Files}}/{{.Cert}}"
  key_file: "{{.Host.Files}}/{{.PrivateKey}}"
  min_version: "1.3"
  timeout: 20
}

# Every write reaches the disk before it is acknowledged: without
# "always" an acknowledged event may be lost with the power.
jetstream {
  store_dir: "{{.Host.Store}}"
  sync_interval: always
  max_memory_store: 64MB
  max_file_store: 16GB
}
{{if .Routes}}
cluster {
  name: "ingot"
  listen: "{{.Host.Listen}}:{{.Host.Cluster}}"
  routes: [{{range .Routes}}
    "{{.}}"{{end}}
  ]
  tls {
    cert_file: "{{.Host.Files}}/{{.Cert}}"
    key_file: "{{.Host.Files}}/{{.PrivateKey}}"
    ca_file: "{{.Host.Files}}/{{.CA}}"
    verify: true
    timeout: 20
  }
}
{{end}}
# Streams, buckets, control and operators live in INGOT; nodes in NODES, where
# nothing is stored. Just the subjects of the laws lead from one to the other.
accounts {
  INGOT {
    jetstream: enabled
    users: [ {nkey: {{.Key.control}}} ]
    exports: [{{range .Requests}}
      {service: "{{.}}", accounts: [NODES]}{{end}}{{range .Hints}}
      {stream: "{{.}}", accounts: [NODES]}{{end}}
    ]
    imports: [
      {service: {account: NODES, subject: "ingot.cmd.>"}}
    ]
  }
  NODES {
    exports: [
      {service: "ingot.cmd.>", accounts: [INGOT]}
    ]
    imports: [{{range .Requests}}
      {service: {account: INGOT, subject: "{{.}}"}{{if eq . "ingot.ctl.enroll"}}, share: true{{end}}}{{end}}{{range .Hints}}
      {stream: {account: INGOT, subject: "{{.}}"}}{{end}}
    ]
  }
  AUTH { users: [ {nkey: {{.Key.callout}}} ] }
  SYS { users: [ {nkey: {{.Key.system}}} ] }
}
system_account: SYS

# Whoever is none of the three is let in, or not, by ingot serve.
authorization {
  timeout: 8
  auth_callout {
    issuer: {{.Key.issuer}}
    account: AUTH
    auth_users: [ {{.Key.control}}, {{.Key.callout}}, {{.Key.system}} ]
  }
}
`))
