package redfish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/hardware"
)

// faultAt serves the recorded machine of our own, with one path that is
// broken, on a real HTTPS socket.
func faultAt(t *testing.T, path string, fault http.HandlerFunc) (*fakeBMC, Options) {
	t.Helper()
	b := serve(t, machine(t))
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if key(r.URL.Path) == key(path) {
			fault(w, r)
			return
		}
		b.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	o := b.options()
	o.URL = front.URL
	return b, o
}

const memoryPath = "/redfish/v1/Systems/1/Memory"

// TestFaultsOnTheWire breaks one resource as BMCs do. The crawl brings the
// rest, in time, and names the resource.
func TestFaultsOnTheWire(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	trickle := func(w http.ResponseWriter, r *http.Request) {
		body := `{"Members":[]}` + strings.Repeat(" ", 1000)
		for i := range len(body) {
			if _, err := io.WriteString(w, body[i:i+1]); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-time.After(time.Second):
			case <-r.Context().Done():
				return
			}
		}
	}
	for name, c := range map[string]struct {
		fault   http.HandlerFunc
		timeout time.Duration
		code    hardware.Code
		partial bool // the time is over: what was read comes with an error
	}{
		"hangs":    {hang, 2 * time.Second, hardware.CodeReaderDeadline, true},
		"trickles": {trickle, 2 * time.Second, hardware.CodeReaderDeadline, true},
		"closes in the middle": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000")
			fmt.Fprint(w, `{"Members":[{"@odata.id":`)
			panic(http.ErrAbortHandler)
		}, 10 * time.Second, hardware.CodeSourceMalformed, false},
		"closes at once": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 10 * time.Second, hardware.CodeSourceMalformed, false},
		"404":            {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, 10 * time.Second, hardware.CodeResourceMissing, false},
		"403":            {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, 10 * time.Second, hardware.CodeAccessDenied, false},
		"500":            {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 10 * time.Second, hardware.CodeSourceMalformed, false},
		"429 for ever": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(429)
		}, 30 * time.Second, hardware.CodeBMCBusy, false},
		"HTML": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>please log in</html>") }, 10 * time.Second, hardware.CodeSourceMalformed, false},
		"2 GB": {func(w http.ResponseWriter, _ *http.Request) {
			chunk := []byte(strings.Repeat(" ", 1<<20))
			for range 2 << 10 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, 10 * time.Second, hardware.CodeSourceMalformed, false},
		"ten thousand deep": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"Members":`+strings.Repeat(`[`, 10_001)+strings.Repeat(`]`, 10_001)+`}`)
		}, 10 * time.Second, hardware.CodeSourceMalformed, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, o := faultAt(t, memoryPath, c.fault)
			o.Timeout = c.timeout
			begin := time.Now()
			r, err := Crawl(t.Context(), o)
			if took := time.Since(begin); took > c.timeout+2*time.Second {
				t.Errorf("took %v; want at most %v", took, c.timeout)
			}
			if (err != nil) != c.partial || len(r.Views) != 1 {
				t.Fatalf("Crawl = %d views, %v", len(r.Views), err)
			}
			inv := r.Views[0].Inventory
			if len(inv.Drives) != 1 || len(inv.CPUs) != 1 || len(inv.NICs) != 1 {
				t.Errorf("the rest is not there: %s", inv.Summary())
			}
			named := false
			for _, f := range inv.Findings {
				named = named || f.Code == c.code && strings.Contains(f.Evidence, memoryPath)
			}
			if !named {
				t.Errorf("no finding %s names %s: %v", c.code, memoryPath, inv.Findings)
			}
			if r.Stats.Bytes > maxBody+1<<20 {
				t.Errorf("%d bytes were read", r.Stats.Bytes)
			}
		})
	}
}

// TestSilence has a BMC that answers nothing any more once it was asked for
// its DIMMs: it is given up before the time is over.
func TestSilence(t *testing.T) {
	b := serve(t, largeTree())
	var silent atomic.Bool
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if silent.Store(silent.Load() || strings.Contains(r.URL.Path, "/Memory/")); silent.Load() && r.Method == http.MethodGet {
			<-r.Context().Done()
			return
		}
		b.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	o := b.options()
	o.URL, o.patience = front.URL, 200*time.Millisecond
	begin := time.Now()
	r, err := Crawl(t.Context(), o)
	if !errors.Is(err, errSilent) || time.Since(begin) > 20*time.Second || len(r.Views) != 1 {
		t.Fatalf("Crawl = %d views, %v after %v", len(r.Views), err, time.Since(begin))
	}
	if codes(r.Views[0].Inventory)[hardware.CodeReaderDeadline] == 0 {
		t.Errorf("findings %v", r.Views[0].Inventory.Findings)
	}
}

// TestRetryAfter has a BMC that refuses, says for how long, and then answers.
func TestRetryAfter(t *testing.T) {
	var refused atomic.Int64
	var early atomic.Bool
	var first atomic.Int64
	var b *fakeBMC
	b, o := faultAt(t, memoryPath, func(w http.ResponseWriter, r *http.Request) {
		switch refused.Add(1) {
		case 1:
			first.Store(time.Now().UnixNano())
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			early.Store(time.Since(time.Unix(0, first.Load())) < 900*time.Millisecond)
			b.ServeHTTP(w, r)
		}
	})
	r, err := Crawl(t.Context(), o)
	if err != nil || len(r.Views[0].Inventory.DIMMs) != 2 || r.Stats.Refused != 1 {
		t.Errorf("Crawl = %v, %+v", err, r.Stats)
	}
	if early.Load() {
		t.Error("it was asked again before it said")
	}
}

// TestOneSessionClosed ends a crawl in every way that there is; serve checks
// that no session stays.
func TestOneSessionClosed(t *testing.T) {
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b, o := faultAt(t, memoryPath, func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		r, err := Crawl(ctx, o)
		if !errors.Is(err, context.Canceled) || b.logins != 1 {
			t.Errorf("Crawl = %v, %d logins", err, b.logins)
		}
		if len(r.Views) != 1 {
			t.Errorf("%d views", len(r.Views))
		}
	})
	t.Run("interrupted while logging in", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var b *fakeBMC
		b, o := faultAt(t, sessionsPath, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			time.Sleep(200 * time.Millisecond)
			b.ServeHTTP(w, r)
		})
		if _, err := Crawl(ctx, o); err == nil || b.logins != 1 {
			t.Errorf("Crawl = %v, %d logins", err, b.logins)
		}
	})
	t.Run("panic", func(t *testing.T) {
		b := serve(t, machine(t))
		o := b.options()
		o.Cache = panics{}
		defer func() {
			if recover() == nil || b.logins != 1 {
				t.Errorf("no panic, or %d logins", b.logins)
			}
		}()
		_, _ = Crawl(t.Context(), o)
	})
}

// panics is a cache that does.
type panics struct{}

func (panics) Load(string) Answers        { return nil }
func (panics) Save(string, Answers) error { panic("a cache that panics") }

// TestNothingAfterTheFirst401 has an account that is thrown out on the way.
func TestNothingAfterTheFirst401(t *testing.T) {
	var after atomic.Int64
	var out atomic.Bool
	b := serve(t, machine(t))
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if out.Load() && r.Method == http.MethodGet {
			after.Add(1)
		}
		if key(r.URL.Path) == key(memoryPath) {
			out.Store(true)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		b.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	o := b.options()
	o.URL = front.URL
	r, err := Crawl(t.Context(), o)
	if !errors.Is(err, ErrDenied) || len(r.Views) != 1 || codes(r.Views[0].Inventory)[hardware.CodeAccessDenied] != 1 {
		t.Errorf("Crawl = %d views, %v", len(r.Views), err)
	}
	if n := after.Load(); n > defaultWindow { // those in flight
		t.Errorf("%d requests after the first 401", n)
	}
}

// TestNoServiceThere has hosts that are no BMC.
func TestNoServiceThere(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	html := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	t.Cleanup(html.Close)
	gone := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(gone.Close)
	for url, says := range map[string]string{"https://" + dead.Addr().String(): "refused", html.URL: "no JSON", gone.URL: "no Redfish service"} {
		_, err := Crawl(t.Context(), Options{URL: url, User: user, Password: password, Insecure: true})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Crawl(%s) = %v; want %q", url, err, says)
		}
	}
}
