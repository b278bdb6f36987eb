package netboot

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

var testFiles = map[string]*content{
	PathScript: newContent("text/plain", []byte("#!ipxe\n")),
	PathKernel: newContent("application/octet-stream", bytes.Repeat([]byte("kernel"), 1000)),
}

type eventList struct {
	mu   sync.Mutex
	list []Event
}

func (l *eventList) add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, e)
}

func (l *eventList) all() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Event(nil), l.list...)
}

func testHTTP(t testing.TB) (*httptest.Server, *eventList) {
	t.Helper()
	var events eventList
	blobs := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "blob %s", r.URL.Path)
	})
	holder := func(a netip.Addr) (Lease, bool) {
		return Lease{MAC: MAC{2, 0, 0, 0, 0, 1}, UUID: "u"}, a == netip.MustParseAddr("127.0.0.1")
	}
	srv := httptest.NewServer(newHTTPHandler(testFiles, []Mount{{Prefix: "/blobs/", Handler: blobs}}, events.add, holder))
	t.Cleanup(srv.Close)
	return srv, &events
}

func TestHTTP(t *testing.T) {
	srv, _ := testHTTP(t)
	for _, c := range []struct {
		method, path, rang string
		status             int
		body               string
	}{
		{"GET", "/boot.ipxe", "", 200, "#!ipxe\n"},
		{"GET", "//boot.ipxe", "", 200, "#!ipxe\n"},
		{"GET", "/boot//vmlinuz", "bytes=3-8", 206, "nelker"},
		{"GET", "/boot/vmlinuz", "bytes=9000-", 416, ""},
		{"HEAD", "/boot/vmlinuz", "", 200, ""},
		{"POST", "/boot.ipxe", "", 405, "GET and HEAD only\n"},
		{"GET", "/", "", 204, ""},
		{"GET", "/boot/", "", 404, "no such file\n"},
		{"GET", "/boot/../boot.ipxe", "", 404, "no such file\n"},
		{"GET", "/grubx64.efi", "", 404, "no such file\n"},
		{"GET", "/blobs//sha256/ab", "", 200, "blob /blobs/sha256/ab"},
	} {
		req, err := http.NewRequest(c.method, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = strings.TrimPrefix(srv.URL, "http:") + c.path // as typed
		if c.rang != "" {
			req.Header.Set("Range", c.rang)
		}
		resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.status || (c.body != "" && string(body) != c.body) {
			t.Errorf("%s %s = %d %q; want %d %q", c.method, c.path, resp.StatusCode, body, c.status, c.body)
		}
		if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
			t.Errorf("%s %s: Date %q", c.method, c.path, resp.Header.Get("Date"))
		}
		if c.method == "HEAD" && resp.ContentLength != 6000 {
			t.Errorf("HEAD %s: length %d; want 6000", c.path, resp.ContentLength)
		}
	}
}

func TestHTTPEvents(t *testing.T) {
	srv, events := testHTTP(t)
	for _, p := range []string{"/boot/vmlinuz", "/none", "/blobs/x"} {
		resp, err := http.Get(srv.URL + p)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	srv.Close() // waits for the handlers
	got := events.all()
	want := []struct {
		file   string
		status int
		bytes  int64
	}{{"/boot/vmlinuz", 200, 6000}, {"/none", 404, 13}, {"/blobs/x", 200, 13}}
	if len(got) != len(want) {
		t.Fatalf("%d events; want %d", len(got), len(want))
	}
	for i, w := range want {
		e := got[i]
		if e.Kind != KindHTTPGet || e.File != w.file || e.Status != w.status || e.Bytes != w.bytes || e.MAC.String() != "02:00:00:00:00:01" {
			t.Errorf("event = %+v; want %+v", e, w)
		}
	}
}

func TestHTTPEventOfBrokenTransfer(t *testing.T) {
	var events eventList
	big := map[string]*content{"/big": newContent("x/y", make([]byte, 64<<20))}
	srv := httptest.NewServer(newHTTPHandler(big, nil, events.add, func(netip.Addr) (Lease, bool) { return Lease{}, false }))
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	srv.Close()
	if got := events.all(); len(got) != 1 || !strings.HasPrefix(got[0].Detail, "broken off") || got[0].Bytes >= 64<<20 {
		t.Errorf("events = %+v; want one that was broken off", got)
	}
}

// BenchmarkScript200Clients is a rack row powered on at once: 200 machines fetch
// the script, each over a connection of its own, while four fetch a kernel.
func BenchmarkScript200Clients(b *testing.B) {
	const clients = 200
	files := map[string]*content{PathScript: testFiles[PathScript], PathKernel: newContent("x/y", make([]byte, 12<<20))}
	srv := httptest.NewServer(newHTTPHandler(files, nil, func(Event) {}, func(netip.Addr) (Lease, bool) { return Lease{}, false }))
	defer srv.Close()
	fetch := func(path string) error {
		tr := &http.Transport{DisableKeepAlives: true}
		resp, err := (&http.Client{Transport: tr}).Get(srv.URL + path)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var bulk sync.WaitGroup
	for range 4 {
		bulk.Go(func() {
			for ctx.Err() == nil {
				if err := fetch(PathKernel); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	defer func() { stop(); bulk.Wait() }()
	var took []time.Duration
	for b.Loop() {
		var mu sync.Mutex
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				start := time.Now()
				err := fetch(PathScript)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					b.Error(err)
				}
				took = append(took, time.Since(start))
			})
		}
		all.Wait()
	}
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
}
