// Package fetch gets bytes by digest over HTTP. Nothing unverified leaves it:
// what did not match its digest is cut off the destination again.
package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/images"
)

// Options say where to fetch from; Base is required.
type Options struct {
	// Base is the URL below which /blobs/sha256/<hex> lies.
	Base string
	// Client defaults to one with sane connection time-outs.
	Client *http.Client
	// Tries is how often one artifact is tried without any progress in
	// between; default 5.
	Tries int
	// StallAfter ends a response that brings no byte for so long; default 20 s.
	StallAfter time.Duration
	// Progress, if set, is told the bytes of the present artifact, about ten
	// times for each.
	Progress func(a images.Artifact, doneBytes int64)
	// Retrying, if set, is told why a try ended and how long the pause is.
	Retrying func(a images.Artifact, err error, pause time.Duration)
}

// Fetcher gets artifacts one after another.
type Fetcher struct{ o Options }

// New returns a fetcher.
func New(o Options) *Fetcher {
	if o.Client == nil {
		o.Client = &http.Client{Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			ResponseHeaderTimeout: 10 * time.Second,
			DisableCompression:    true,
			ReadBufferSize:        256 << 10,
		}}
	}
	if o.Tries == 0 {
		o.Tries = 5
	}
	if o.StallAfter == 0 {
		o.StallAfter = 20 * time.Second
	}
	return &Fetcher{o}
}

// DigestError says that the server has other bytes than those that were asked
// for: as many with another digest, or too few.
type DigestError struct {
	Artifact images.Artifact
	Got      images.Digest
	// GotBytes is how many the server has in all, where these are too few.
	GotBytes int64
}

func (e *DigestError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("fetch %s: the server has %d bytes of it, want %d", e.Artifact.Name, e.GotBytes, e.Artifact.SizeBytes)
	}
	return fmt.Sprintf("fetch %s: digest is %s, want %s", e.Artifact.Name, e.Got.Short(), e.Artifact.Digest.Short())
}

// ErrAbsent says that the server has no such artifact.
var ErrAbsent = errors.New("the server does not have it")

// Append fetches a to the end of f and leaves f at its end. A broken connection
// is taken up where it broke. When Append returns an error, f is as long as
// before.
func (f *Fetcher) Append(ctx context.Context, file *os.File, a images.Artifact) error {
	start, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", a.Name, err)
	}
	err = f.Copy(ctx, file, a)
	if err != nil {
		if cut := file.Truncate(start); cut != nil {
			return errors.Join(err, fmt.Errorf("cut off what was fetched: %w", cut))
		}
		if _, seek := file.Seek(start, io.SeekStart); seek != nil {
			return errors.Join(err, seek)
		}
	}
	return err
}

// Copy writes a to w. When it returns an error, what was written is not to be
// used: the digest is known at the end only.
func (f *Fetcher) Copy(ctx context.Context, w io.Writer, a images.Artifact) error {
	s := &sink{w: w, hash: sha256.New(), left: a.SizeBytes, f: f, a: a}
	for try := 1; s.left > 0; {
		before := s.left
		err := f.once(ctx, s, a)
		if err == nil {
			continue
		}
		var short *DigestError
		if errors.As(err, &short) {
			return short // asking again brings no more
		}
		if s.left < before {
			try = 1
		}
		if try >= f.o.Tries || errors.Is(err, ErrAbsent) || errors.Is(err, errWrite) || ctx.Err() != nil {
			return fmt.Errorf("fetch %s: %w", a.Name, err)
		}
		pause := time.Duration(try*try) * 200 * time.Millisecond
		if f.o.Retrying != nil {
			f.o.Retrying(a, err, pause)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("fetch %s: %w", a.Name, ctx.Err())
		case <-time.After(pause):
		}
		try++
	}
	if got := images.DigestFromSum(s.hash.Sum(nil)); got != a.Digest {
		return &DigestError{Artifact: a, Got: got}
	}
	return nil
}

// once makes one request for what is left.
func (f *Fetcher) once(ctx context.Context, s *sink, a images.Artifact) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(f.o.StallAfter, func() { cancel(fmt.Errorf("no byte for %v", f.o.StallAfter)) })
	defer stall.Stop()
	url := strings.TrimSuffix(f.o.Base, "/") + "/blobs/sha256/" + a.Digest.Hex()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	offset := a.SizeBytes - s.left
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := f.o.Client.Do(req)
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	defer resp.Body.Close()
	if all, ok := total(resp); ok && all < a.SizeBytes {
		return &DigestError{Artifact: a, GotBytes: all}
	}
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("GET %s: %w", url, ErrAbsent)
	case offset == 0 && resp.StatusCode != http.StatusOK, offset > 0 && resp.StatusCode != http.StatusPartialContent:
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	// A server that sends more than the manifest says is cut off; the digest
	// then decides.
	_, err = io.CopyBuffer(s, &watched{io.LimitReader(resp.Body, s.left), stall, f.o.StallAfter}, make([]byte, 256<<10))
	if err == nil && s.left > 0 {
		err = fmt.Errorf("GET %s: ended %d bytes early", url, s.left)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// total is how many bytes the server says that the whole file has.
func total(resp *http.Response) (int64, bool) {
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.ContentLength, resp.ContentLength >= 0
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		_, all, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
		n, err := strconv.ParseInt(all, 10, 64)
		return n, err == nil && n >= 0
	}
	return 0, false
}

var errWrite = errors.New("no room for it")

// sink hashes what it writes.
type sink struct {
	w    io.Writer
	hash hash.Hash
	left int64
	said int64
	f    *Fetcher
	a    images.Artifact
}

func (s *sink) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.hash.Write(b[:n])
	s.left -= int64(n)
	done := s.a.SizeBytes - s.left
	if p := s.f.o.Progress; p != nil && (s.left == 0 || done-s.said >= s.a.SizeBytes/10) {
		s.said = done
		p(s.a, done)
	}
	if err != nil {
		return n, fmt.Errorf("%w: %v", errWrite, err)
	}
	return n, nil
}

// watched puts off the stall timer whenever bytes come.
type watched struct {
	r     io.Reader
	stall *time.Timer
	after time.Duration
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if n > 0 {
		w.stall.Reset(w.after)
	}
	return n, err
}
