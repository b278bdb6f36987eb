package store

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/google/go-cmp/cmp"
	"github.com/ingot-metal/ingot/images"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Create(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBlobRoundTrip(t *testing.T) {
	s := open(t)
	d, n, err := s.Put(strings.NewReader("bytes"))
	if err != nil {
		t.Fatal(err)
	}
	if want := images.DigestOf([]byte("bytes")); d != want || n != 5 {
		t.Errorf("Put = %s, %d; want %s, 5", d, n, want)
	}
	again, err := Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := again.Read(d, 5); err != nil || string(b) != "bytes" {
		t.Errorf("Read = %q, %v", b, err)
	}
	if _, err := again.Read(d, 4); err == nil {
		t.Error("a blob above the limit was read")
	}
}

func TestChangedBlobIsRefused(t *testing.T) {
	s := open(t)
	d, n, err := s.Put(strings.NewReader("bytes"))
	if err != nil {
		t.Fatal(err)
	}
	path, err := s.Path(d)
	if err != nil {
		t.Fatal(err)
	}
	a := images.Artifact{Digest: d, SizeBytes: n, Name: "x"}
	if err := s.Verify(a); err != nil {
		t.Errorf("the true blob: %v", err)
	}
	if err := os.WriteFile(path, []byte("bytez"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(a); err == nil {
		t.Error("Verify took a changed blob")
	}
	if _, err := s.Read(d, 100); err == nil {
		t.Error("Read gave a changed blob")
	}
}

func TestMalformedDigestIsNoPath(t *testing.T) {
	s := open(t)
	for _, d := range []images.Digest{"", "sha256:", "sha256:../../index.json", "md5:00", images.Digest("sha256:" + strings.Repeat("A", 64))} {
		if p, err := s.Path(d); err == nil {
			t.Errorf("Path(%q) = %q; want an error", d, p)
		}
	}
}

func TestArtifactsByName(t *testing.T) {
	s := open(t)
	put := func(ref, text string) {
		d, n, err := s.Put(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		a := images.Artifact{Digest: d, SizeBytes: n, MediaType: "text/plain", Name: text}
		if _, err := s.PutArtifact(Artifact{Type: "t/x", Ref: ref, Layers: []v1.Descriptor{Descriptor(a)}}); err != nil {
			t.Fatal(err)
		}
	}
	put("a:1", "one")
	put("b:1", "two")
	put("a:1", "three")
	got, err := s.Artifacts("t/x")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for _, a := range got {
		have[a.Ref] = a.Layers[0].Annotations[v1.AnnotationTitle]
	}
	if d := cmp.Diff(map[string]string{"a:1": "three", "b:1": "two"}, have); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
	if other, err := s.Artifacts("t/y"); err != nil || len(other) != 0 {
		t.Errorf("Artifacts of another type = %v, %v", other, err)
	}
}

func TestOtherLayoutIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"9.0.0"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a layout of version 9.0.0 was opened")
	}
	if _, err := Create(dir); err == nil {
		t.Error("a layout of version 9.0.0 was taken for one of ours")
	}
}

// Who only reads makes nothing: the folder may be another's.
func TestOpenWritesNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Open of a folder that is no layout = %v; want it named", err)
	}
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of no folder = %v; want it absent", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("Open left %v, %v; want nothing", left, err)
	}
}

func TestServeHTTP(t *testing.T) {
	s := open(t)
	d, _, err := s.Put(strings.NewReader("0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	defer srv.Close()
	for _, c := range []struct {
		method, path, ranges string
		status               int
		body                 string
	}{
		{"GET", "/blobs/sha256/" + d.Hex(), "", 200, "0123456789"},
		{"GET", "/blobs/sha256/" + d.Hex(), "bytes=4-6", 206, "456"},
		{"HEAD", "/blobs/sha256/" + d.Hex(), "", 200, ""},
		{"GET", "/blobs/sha256/" + strings.Repeat("0", 64), "", 404, "404 page not found\n"},
		{"GET", "/blobs/sha256/..%2f..%2findex.json", "", 404, "404 page not found\n"},
		{"GET", "/blobs/" + d.Hex(), "", 404, "404 page not found\n"},
		{"PUT", "/blobs/sha256/" + d.Hex(), "", 405, "only GET and HEAD\n"},
	} {
		req, err := http.NewRequest(c.method, srv.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.ranges != "" {
			req.Header.Set("Range", c.ranges)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || string(b) != c.body {
			t.Errorf("%s %s %s = %d %q, %v; want %d %q", c.method, c.path, c.ranges, res.StatusCode, b, err, c.status, c.body)
		}
	}
}
