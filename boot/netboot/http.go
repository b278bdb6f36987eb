package netboot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/netutil"
)

// Limits of HTTP. The write time-out is for a whole body: a gigabyte at 2 MB/s.
const (
	httpConnections   = 8192
	httpHeaderTimeout = 15 * time.Second
	httpReadTimeout   = time.Minute
	httpWriteTimeout  = 10 * time.Minute
	httpIdleTimeout   = time.Minute
	httpHeaderBytes   = 16 << 10
)

// content is one file in memory.
type content struct {
	mime, etag string
	body       []byte
	loaded     time.Time
}

func newContent(mime string, body []byte) *content {
	sum := sha256.Sum256(body)
	return &content{mime: mime, body: body, etag: `"` + hex.EncodeToString(sum[:]) + `"`, loaded: time.Now()}
}

// httpHandler is a bare handler: http.ServeMux would redirect "//snponly.efi",
// and firmware does not follow.
type httpHandler struct {
	files  map[string]*content
	mounts []Mount
	emit   func(Event)
	holder func(netip.Addr) (Lease, bool)
}

func newHTTPHandler(files map[string]*content, mounts []Mount, emit func(Event), holder func(netip.Addr) (Lease, bool)) *httpHandler {
	return &httpHandler{files: files, mounts: mounts, emit: emit, holder: holder}
}

func (h *httpHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	path := oneSlash(r.URL.Path)
	cw := &countingWriter{ResponseWriter: w}
	if path == "/" {
		// An agent asks for nothing but the Date header.
		w.WriteHeader(http.StatusNoContent)
		return
	}
	aborted := true
	defer func() { h.report(r, path, start, cw, aborted) }()
	h.serve(cw, r, path)
	aborted = false
}

func (h *httpHandler) serve(w http.ResponseWriter, r *http.Request, path string) {
	c := h.files[path]
	switch {
	case c == nil:
		h.serveMounted(w, r, path)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET and HEAD only", http.StatusMethodNotAllowed)
	default:
		w.Header().Set("Content-Type", c.mime)
		w.Header().Set("ETag", c.etag)
		http.ServeContent(w, r, "", c.loaded, bytes.NewReader(c.body))
	}
}

func (h *httpHandler) serveMounted(w http.ResponseWriter, r *http.Request, path string) {
	for _, m := range h.mounts {
		if strings.HasPrefix(path, m.Prefix) {
			r2 := r.Clone(r.Context())
			r2.URL.Path, r2.URL.RawPath = path, ""
			m.Handler.ServeHTTP(w, r2)
			return
		}
	}
	http.Error(w, "no such file", http.StatusNotFound)
}

func (h *httpHandler) report(r *http.Request, path string, start time.Time, w *countingWriter, aborted bool) {
	e := Event{Kind: KindHTTPGet, Time: time.Now(), Duration: time.Since(start), Method: r.Method,
		File: printable(path), Bytes: w.bytes, Status: w.status}
	switch {
	case w.err != nil:
		e.Detail = "broken off: " + printable(w.err.Error())
	case aborted:
		e.Detail = "broken off by the handler"
	}
	if strings.HasPrefix(r.UserAgent(), "iPXE/") {
		e.Stage = StageIPXE
	} else if strings.HasPrefix(r.UserAgent(), "UefiHttpBoot/") {
		e.Stage = StageHTTP
	}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		e.Address = at.Addr().Unmap()
		if l, ok := h.holder(e.Address); ok {
			e.MAC, e.UUID, e.UUIDSwapped = l.MAC, l.UUID, l.UUIDSwapped
		}
	}
	h.emit(e)
}

// oneSlash makes runs of slashes one; it resolves no dots, so "/a/../b" is
// simply not a file of ours.
func oneSlash(p string) string {
	for strings.Contains(p, "//") {
		p = strings.ReplaceAll(p, "//", "/")
	}
	return p
}

// countingWriter notes status, bytes and the first write that went wrong.
type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
	err    error
}

func (w *countingWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.note(int64(n), err)
	return n, err
}

// ReadFrom keeps sendfile for mounted handlers that serve files.
func (w *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := io.Copy(w.ResponseWriter, r)
	w.note(n, err)
	return n, err
}

func (w *countingWriter) note(n int64, err error) {
	w.bytes += n
	if err != nil && w.err == nil {
		w.err = err
	}
}

// Unwrap serves http.ResponseController.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// serveHTTP serves until ctx ends, then lets short answers finish and cuts the
// rest.
func (s *Server) serveHTTP(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.http,
		ReadHeaderTimeout: httpHeaderTimeout,
		ReadTimeout:       httpReadTimeout,
		WriteTimeout:      httpWriteTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    httpHeaderBytes,
		ErrorLog:          log.New(logWriter{s.cfg.Logger}, "", 0),
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(netutil.LimitListener(l, httpConnections))
	if !stop() {
		<-done
	}
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve HTTP: %w", err)
}

type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	w.log.Warn("netboot: http", "msg", printable(strings.TrimSpace(string(b))))
	return len(b), nil
}
