package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/images"
)

func artifact(b []byte) images.Artifact {
	return images.Artifact{Name: "root.squashfs", Digest: images.DigestOf(b), SizeBytes: int64(len(b))}
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// serve answers every blob with b, through change.
func serve(t *testing.T, b []byte, change func(w http.ResponseWriter, r *http.Request) bool) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !change(w, r) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func open(t *testing.T) *os.File {
	f, err := os.Create(filepath.Join(t.TempDir(), "initrd"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := io.WriteString(f, "before"); err != nil {
		t.Fatal(err)
	}
	return f
}

func content(t *testing.T, f *os.File) []byte {
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func asIs(http.ResponseWriter, *http.Request) bool { return false }

func TestAppend(t *testing.T) {
	b := random(3 << 20)
	s := serve(t, b, asIs)
	f := open(t)
	var last int64
	fetcher := New(Options{Base: s.URL, Progress: func(_ images.Artifact, n int64) { last = n }})
	if err := fetcher.Append(context.Background(), f, artifact(b)); err != nil {
		t.Fatal(err)
	}
	if got := content(t, f); !bytes.Equal(got, append([]byte("before"), b...)) {
		t.Errorf("Append wrote %d bytes that differ from the artifact", len(got))
	}
	if last != int64(len(b)) {
		t.Errorf("last progress = %d; want %d", last, len(b))
	}
}

func TestAppendTakesUpABrokenConnection(t *testing.T) {
	b := random(2 << 20)
	var ranges []string
	s := serve(t, b, func(w http.ResponseWriter, r *http.Request) bool {
		ranges = append(ranges, r.Header.Get("Range"))
		if len(ranges) == 1 {
			w.Header().Set("Content-Length", "2097152")
			w.Write(b[:1<<20])
			panic(http.ErrAbortHandler)
		}
		return false
	})
	f := open(t)
	if err := New(Options{Base: s.URL}).Append(context.Background(), f, artifact(b)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, f)[6:], b) {
		t.Error("bytes differ after a broken connection")
	}
	if len(ranges) != 2 || !strings.HasPrefix(ranges[1], "bytes=") || ranges[1] == "bytes=0-" {
		t.Errorf("ranges asked for = %q; want a second one from where the first broke", ranges)
	}
}

// TestAppendOutlivesTheServer: the boot server ends in the middle of a file,
// nobody listens for seconds, and another process takes the port.
func TestAppendOutlivesTheServer(t *testing.T) {
	if testing.Short() {
		t.Skip("the server is away for 4 s; -short is given")
	}
	const away = 4 * time.Second
	b := random(4 << 20)
	halfway := make(chan struct{})
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := first.Addr().String()
	one := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		if _, err := w.Write(b[:len(b)/2]); err != nil {
			t.Error(err)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		close(halfway)
		<-r.Context().Done()
	})}
	go one.Serve(first)
	var ranges []string
	two := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	})}
	t.Cleanup(func() { two.Close() })
	back := make(chan error, 1)
	go func() {
		<-halfway
		one.Close()
		time.Sleep(away)
		second, err := net.Listen("tcp", addr)
		back <- err
		if err == nil {
			two.Serve(second)
		}
	}()
	var refused int
	f, start := open(t), time.Now()
	err = New(Options{Base: "http://" + addr, Retrying: func(_ images.Artifact, err error, _ time.Duration) {
		if errors.Is(err, syscall.ECONNREFUSED) {
			refused++
		}
	}}).Append(context.Background(), f, artifact(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, f)[6:], b) {
		t.Error("bytes differ after the server came back")
	}
	if took := time.Since(start); took < away || refused == 0 {
		t.Errorf("took %v with %d connections refused; the server was away for %v", took, refused, away)
	}
	if len(ranges) != 1 || !strings.HasPrefix(ranges[0], "bytes=") || ranges[0] == "bytes=0-" {
		t.Errorf("the second server was asked for %q; want once, from where the first ended", ranges)
	}
}

func TestAppendRefuses(t *testing.T) {
	b := random(1 << 20)
	flipped := bytes.Clone(b)
	flipped[12345] ^= 4
	absent := func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }
	short := func(w http.ResponseWriter, r *http.Request) bool {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b[:1000]))
		return true
	}
	requests := 0
	shortLater := func(w http.ResponseWriter, r *http.Request) bool {
		if requests++; requests > 1 {
			return short(w, r)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.Write(b[:2000])
		panic(http.ErrAbortHandler)
	}
	tooFew := func(n int64) func(error) bool {
		return func(err error) bool { var d *DigestError; return errors.As(err, &d) && d.GotBytes == n && d.Got == "" }
	}
	stall := func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", "1048576")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	for _, tc := range []struct {
		name   string
		body   []byte
		change func(http.ResponseWriter, *http.Request) bool
		want   func(error) bool
		most   int // requests
	}{
		{"one bit turned", flipped, asIs, func(err error) bool { var d *DigestError; return errors.As(err, &d) }, 1},
		{"not there", b, absent, func(err error) bool { return errors.Is(err, ErrAbsent) }, 1},
		{"cut short", b, short, tooFew(1000), 1},
		{"cut short in between", b, shortLater, tooFew(1000), 2},
		{"stalls", b, stall, func(err error) bool { return err != nil && strings.Contains(err.Error(), "no byte for") }, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var asked int
			s := serve(t, tc.body, func(w http.ResponseWriter, r *http.Request) bool { asked++; return tc.change(w, r) })
			f := open(t)
			err := New(Options{Base: s.URL, Tries: 3, StallAfter: 50 * time.Millisecond}).Append(context.Background(), f, artifact(b))
			if !tc.want(err) {
				t.Errorf("Append = %v", err)
			}
			if asked > tc.most {
				t.Errorf("it was asked for %d times; want %d at most", asked, tc.most)
			}
			if got := string(content(t, f)); got != "before" {
				t.Errorf("after a refusal the file holds %d bytes; want what was there before", len(got))
			}
		})
	}
}

func BenchmarkAppend(bm *testing.B) {
	b := random(64 << 20)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}))
	defer s.Close()
	a := artifact(b)
	bm.SetBytes(int64(len(b)))
	for bm.Loop() {
		f, err := os.CreateTemp(bm.TempDir(), "")
		if err != nil {
			bm.Fatal(err)
		}
		if err := New(Options{Base: s.URL}).Append(context.Background(), f, a); err != nil {
			bm.Fatal(err)
		}
		f.Close()
		os.Remove(f.Name())
	}
}
