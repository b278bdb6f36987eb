package redfish

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
)

// guard stands below the client, whatever the client does: it keeps requests
// and the token that they carry on one host, counts and bounds them, and ends
// the work at the first 401.
type guard struct {
	base     *url.URL
	next     *http.Transport
	requests atomic.Int64
	bytes    atomic.Int64
	denied   atomic.Bool
	farewell atomic.Bool // only the logout may still pass
}

var errTooMany = fmt.Errorf("more than %d requests for one server", maxRequests)

// RoundTrip is one request.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != g.base.Scheme || r.URL.Host != g.base.Host || r.URL.User != nil {
		return nil, fmt.Errorf("the BMC led to another host: %.100q", r.URL.Redacted())
	}
	if !g.farewell.Load() {
		if g.denied.Load() {
			return nil, ErrDenied
		}
		if g.requests.Add(1) > maxRequests {
			return nil, errTooMany
		}
	}
	res, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusUnauthorized {
		g.denied.Store(true)
	}
	res.Body = &bounded{body: res.Body, left: maxBody, count: &g.bytes}
	return res, nil
}

var errTooLong = fmt.Errorf("more than %d bytes in one answer", maxBody)

// bounded is a body that ends with an error where it is too long.
type bounded struct {
	body  io.ReadCloser
	left  int64
	count *atomic.Int64
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
	b.count.Add(int64(n))
	if errors.Is(err, io.EOF) {
		return n, io.EOF
	}
	return n, err
}

func (b *bounded) Close() error { return b.body.Close() }
