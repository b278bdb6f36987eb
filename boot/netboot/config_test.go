package netboot

import (
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Each refusal says what is wrong, in words that a person can act on.
func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := func() Config {
		f := File{Bytes: []byte("x")}
		return Config{Interface: "lo", Address: netip.MustParsePrefix("127.0.0.1/8"),
			Pool:         Range{netip.MustParseAddr("127.0.1.1"), netip.MustParseAddr("127.0.1.9")},
			UndionlyKPXE: f, SNPOnlyEFI: f, Kernel: File{Bytes: bzImage(1)}, Initramfs: f, Trust: f}
	}
	if _, err := New(good()); err != nil {
		t.Fatalf("New with a good configuration: %v", err)
	}
	for want, change := range map[string]func(*Config){
		"no interface named":                func(c *Config) { c.Interface = "" },
		"interface none0":                   func(c *Config) { c.Interface = "none0" },
		"ip addr add 10.9.9.1/24 dev lo":    func(c *Config) { c.Address = netip.MustParsePrefix("10.9.9.1/24") },
		"load vmlinuz: open":                func(c *Config) { c.Kernel = File{Path: filepath.Join(dir, "none")} },
		"empty is empty":                    func(c *Config) { c.Kernel = File{Path: empty} },
		"not a Linux kernel":                func(c *Config) { c.Kernel = File{Bytes: []byte("#!ipxe")} },
		"is not a regular file":             func(c *Config) { c.Kernel = File{Path: dir} },
		"neither a path nor bytes":          func(c *Config) { c.Trust = File{} },
		"at most 1048576":                   func(c *Config) { c.Trust = File{Bytes: make([]byte, maxTrust+1)} },
		"lease of 1s":                       func(c *Config) { c.Lease = time.Second },
		"mount \"blobs\"":                   func(c *Config) { c.Mounts = []Mount{{"blobs", http.NotFoundHandler()}} },
		"value \"a b\"":                     func(c *Config) { c.Cmdline = []Param{{Key: "k", Value: "a b"}} },
		"in order":                          func(c *Config) { c.Pool.First, c.Pool.Last = c.Pool.Last, c.Pool.First },
		"at most 65536":                     func(c *Config) { c.Pool.Last = netip.MustParseAddr("127.9.9.9") },
		"router 10.0.0.1 is not in":         func(c *Config) { c.Router = netip.MustParseAddr("10.0.0.1") },
		"overlaps":                          func(c *Config) { c.Relayed = []Subnet{{Prefix: netip.MustParsePrefix("127.3.0.0/16")}} },
		"want an IPv4 prefix of 8 to 30":    func(c *Config) { c.Relayed = []Subnet{{Prefix: netip.MustParsePrefix("fe80::/64")}} },
		"DNS server ::1 is not IPv4":        func(c *Config) { c.DNS = []netip.Addr{netip.IPv6Loopback()} },
		"relayed subnet 10.1.1.0/31: want ": func(c *Config) { c.Relayed = []Subnet{{Prefix: netip.MustParsePrefix("10.1.1.0/31")}} },
	} {
		c := good()
		change(&c)
		want = strings.TrimPrefix(want, "relayed ")
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "netboot: ") {
			t.Errorf("New = %v; want %q in it", err, want)
		}
	}
}

func TestDefaultPoolIsUpperHalf(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.77.0.1/24":  "10.77.0.128-10.77.0.254",
		"10.77.0.1/30":  "10.77.0.2-10.77.0.2",
		"10.0.0.1/8":    "10.128.0.0-10.128.255.255",
		"172.16.9.9/16": "172.16.128.0-172.16.255.254",
	} {
		got, err := subnetOf(Subnet{Prefix: netip.MustParsePrefix(prefix)})
		if err != nil || got.Pool.String() != want {
			t.Errorf("pool of %s = %v, %v; want %s", prefix, got.Pool, err, want)
		}
	}
}

func TestObserverTooSlowLosesEventsOnly(t *testing.T) {
	var got []Event
	r := newReporter(func(e Event) { got = append(got, e) }, Config{}.withDefaults().Logger)
	for range cap(r.queue) + 10 {
		r.emit(Event{}) // would block here
	}
	if n := r.dropped.Load(); n != 10 {
		t.Errorf("events lost = %d; want 10", n)
	}
	stop := make(chan struct{})
	close(stop)
	r.run(stop)
	if len(got) != cap(r.queue) || r.dropped.Load() != 0 {
		t.Errorf("delivered %d, %d not yet told; want %d, 0", len(got), r.dropped.Load(), cap(r.queue))
	}
}
