package bus_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// wire is a connection without a client library: what that would refuse to
// send, an attacker sends.
type wire struct {
	net.Conn
	r *bufio.Reader
}

func dialWire(t *testing.T, s *bus.Server, key nkeys.KeyPair, user string) *wire {
	t.Helper()
	raw, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() }) //nolint:errcheck // most of them are closed by the server
	if err := raw.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var line []byte // byte by byte: what follows is TLS
	for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, b[0]) {
		if _, err := io.ReadFull(raw, b); err != nil {
			t.Fatal(err)
		}
	}
	var info struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(line, []byte("INFO ")), &info); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.Trust().CAPEM))
	c := tls.Client(raw, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13})
	sig, err := key.Sign([]byte(info.Nonce))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{c, bufio.NewReader(c)}
	if _, err := fmt.Fprintf(w, "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"tls_required\":true,\"nkey\":%q,\"sig\":%q,\"user\":%q}\r\nPING\r\n",
		pub, base64.RawURLEncoding.EncodeToString(sig), user); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := w.r.ReadString('\n')
		if err != nil {
			t.Fatalf("connect by hand: %v", err)
		}
		if strings.HasPrefix(line, "PONG") {
			return w
		}
		if strings.HasPrefix(line, "-ERR") {
			t.Fatalf("connect by hand: %s", line)
		}
	}
}

// TestWire: what no client library sends ends that connection, and nothing
// else.
func TestWire(t *testing.T) {
	s, a := start(t, bus.Config{})
	other := node(t, s, a, "n-other", fleet.RoleAgent)
	mb := strings.Repeat("x", 1<<20)
	for _, tt := range []struct{ name, user, sends, says string }{
		{"1 MB as an event", fleet.UserNode, "PUB ingot.ev.n-me.agent.step 1048576\r\n" + mb + "\r\n", "Maximum Payload Violation"},
		{"1 MB as inventory", fleet.UserNode, "PUB $KV.ingot-inventory.n-me 1048576\r\n" + mb + "\r\n", "Maximum Payload Violation"},
		{"1 MB as readings", fleet.UserNode, "PUB $KV.ingot-readings.n-me 1048576\r\n" + mb + "\r\n", "Maximum Payload Violation"},
		{"1 MB of headers", fleet.UserNode, "HPUB ingot.ev.n-me.agent.step 1048576 1048576\r\n" + mb + "\r\n", "Maximum Payload Violation"},
		{"1 MB as an enrolment", fleet.UserEnroll, "PUB ingot.ctl.enroll 1048576\r\n" + mb + "\r\n", "Maximum Payload Violation"},
		{"a size that overflows", fleet.UserNode, "PUB ingot.ev.n-me.agent.step 99999999999999999999\r\n", ""},
		{"a negative size", fleet.UserNode, "PUB ingot.ev.n-me.agent.step -5\r\n", ""},
		{"headers longer than the message", fleet.UserNode, "HPUB ingot.ev.n-me.agent.step 50 10\r\nxxxxxxxxxx\r\n", ""},
		{"a subject of 1 MB", fleet.UserNode, "PUB " + mb + " 0\r\n", "maximum control line"},
		{"no protocol", fleet.UserNode, "GET / HTTP/1.1\r\n\r\n", "Unknown Protocol Operation"},
		{"zeroes", fleet.UserEnroll, strings.Repeat("\x00", 1<<16), ""},
		{"a route's words", fleet.UserNode, "RS+ INGOT ingot.> 1\r\n", ""},
		{"an account's words", fleet.UserNode, "A+ INGOT\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, pub := newKey(t)
			a.add(pub, "n-me", fleet.RoleAgent)
			w := dialWire(t, s, k, tt.user)
			go io.Copy(w, bytes.NewReader([]byte(tt.sends))) //nolint:errcheck // the server hangs up on it
			said, err := io.ReadAll(w.r)
			if err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("the server goes on listening; it said %q", said)
			}
			if tt.says != "" && len(said) > 0 && !strings.Contains(string(said), tt.says) {
				t.Errorf("the server said %q, want %q", said, tt.says)
			}
			if ack := ask(t, other, "ingot.ev.n-other.agent.step", "x"); !strings.Contains(ack, `"seq"`) {
				t.Errorf("the other node is answered %q", ack)
			}
		})
	}
}

// TestViolationsAreTold: whoever tries what it may not is told of by the key
// that it proved, not by what it calls itself.
func TestViolationsAreTold(t *testing.T) {
	s, a := start(t, bus.Config{})
	told := make(chan bus.Violation, 64)
	s.OnViolation(func(v bus.Violation) { told <- v })
	_, framed := newKey(t)
	k, pub := newKey(t)
	a.add(pub, "n-me", fleet.RoleAgent)
	c, err := dial(t, s, k, fleet.UserNode, fleet.InboxPrefix("n-me"), nats.Name(`x" - "NODES/user:`+framed+`" - cid:1 - `))
	if err != nil {
		t.Fatal(err)
	}
	want := func(text string) {
		t.Helper()
		select {
		case v := <-told:
			if v.Key != pub || !strings.Contains(v.Text, text) || len(v.Text) > 200 {
				t.Errorf("told %+v; want %q by %s", v, text, pub)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("nobody was told of %q", text)
		}
	}
	if err := c.Publish("ingot.cmd.n-other.reboot", nil); err != nil {
		t.Fatal(err)
	}
	want(`Publish Violation - Subject "ingot.cmd.n-other.reboot"`)
	if _, err := c.Subscribe("ingot.granted.*", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	want(`Subscription Violation - Subject "ingot.granted.*"`)
	w := dialWire(t, s, k, fleet.UserNode)
	go io.Copy(w, strings.NewReader("PUB ingot.ev.n-me.agent.step 1048576\r\n"+strings.Repeat("x", 1<<20))) //nolint:errcheck // the server hangs up on it
	want("maximum payload exceeded: 1048576")
	if err := c.PublishRequest("ingot.ev.n-me.agent.step", "ingot.cmd.n-other.reboot", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}
