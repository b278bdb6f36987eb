package redfish

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// guard stands below the client, whatever the client does: it keeps requests
// and the token that they carry on one host, counts and bounds them, and ends
// the work at the first 401.
type guard struct {
	base      *url.URL
	next      *http.Transport
	requests  atomic.Int64
	refused   atomic.Int64
	unchanged atomic.Int64
	inFlight  atomic.Int64
	peak      atomic.Int64
	bytes     atomic.Int64
	// retryAfter is how long the last refusal asked to be left alone.
	retryAfter atomic.Int64
	answered   atomic.Bool // the root was read, see root
	denied     atomic.Bool
	farewell   atomic.Bool // only the logout may still pass
}

var (
	errTooMany = fmt.Errorf("more than %d requests for one BMC", maxRequests)
	errTooLong = fmt.Errorf("more than %d bytes in one answer", maxBody)
	errTooMuch = fmt.Errorf("more than %d bytes from one BMC", maxBytes)
)

// RoundTrip is one request.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != g.base.Scheme || r.URL.Host != g.base.Host || r.URL.User != nil {
		return nil, fmt.Errorf("the BMC led to another host: %.100q", r.URL.Redacted())
	}
	if res := g.root(r); res != nil {
		return res, nil
	}
	if !g.farewell.Load() {
		if g.denied.Load() {
			return nil, ErrDenied
		}
		if g.requests.Load() >= maxRequests {
			return nil, errTooMany
		}
		if g.bytes.Load() > maxBytes {
			return nil, errTooMuch
		}
	}
	g.requests.Add(1)
	now := g.inFlight.Add(1)
	for p := g.peak.Load(); now > p && !g.peak.CompareAndSwap(p, now); p = g.peak.Load() {
	}
	r = r.Clone(r.Context())
	r.Header.Set("OData-Version", "4.0") // without it an old iLO answers in its own dialect
	res, err := g.next.RoundTrip(r)
	if err != nil {
		g.inFlight.Add(-1)
		return nil, err
	}
	switch res.StatusCode {
	case http.StatusUnauthorized:
		g.denied.Store(true)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		g.refused.Add(1)
		g.retryAfter.Store(int64(retryAfter(res.Header.Get("Retry-After"))))
	case http.StatusNotModified:
		g.unchanged.Add(1)
	}
	res.Body = &bounded{body: res.Body, left: maxBody, guard: g}
	return res, nil
}

// retryAfter reads the header of that name: seconds, or a date (RFC 9110
// 10.2.3).
func retryAfter(s string) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSpace(s)); err == nil {
		return time.Duration(max(0, min(n, 3600))) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

// root answers for the service's root once it was read: the client asks for it
// with every connection, decodes it strictly, and needs nothing of it.
func (g *guard) root(r *http.Request) *http.Response {
	if !g.answered.Load() || r.Method != http.MethodGet || strings.TrimSuffix(r.URL.Path, "/")+"/" != rootPath {
		return nil
	}
	body := []byte(`{"@odata.id":"/redfish/v1/","Id":"RootService","Name":"Root"}`)
	return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}
}

// bounded is a body that ends with an error where it is too long.
type bounded struct {
	body   io.ReadCloser
	left   int64
	guard  *guard
	closed atomic.Bool
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.body.Read(p)
	b.left -= int64(n)
	b.guard.bytes.Add(int64(n))
	if errors.Is(err, io.EOF) {
		return n, io.EOF
	}
	return n, err
}

func (b *bounded) Close() error {
	if !b.closed.Swap(true) {
		b.guard.inFlight.Add(-1)
	}
	return b.body.Close()
}
