// Package store keeps bytes by digest in an OCI image layout: a folder with
// oci-layout, index.json and blobs/sha256/<hex>, as any registry tool reads it
// (OCI image specification 1.1, image-layout.md).
package store

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocidigest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ingot-metal/ingot/images"
)

// maxIndexBytes bounds index.json and manifests.
const maxIndexBytes = 4 << 20

// ErrNotFound is a blob or name that the store does not hold.
var ErrNotFound = errors.New("not in the store")

// Store is one layout. Blobs never change once written, so a Store may be read
// while another process adds to it; writers must be one at a time.
type Store struct{ dir string }

// Create opens a layout, and makes an empty one where there is none.
func Create(dir string) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(dir, v1.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return nil, fmt.Errorf("make OCI layout: %w", err)
	}
	file := filepath.Join(dir, v1.ImageLayoutFile)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if err := writeFile(file, []byte(`{"imageLayoutVersion":"`+v1.ImageLayoutVersion+`"}`)); err != nil {
			return nil, fmt.Errorf("make OCI layout: %w", err)
		}
	}
	return Open(dir)
}

// Open opens a layout that is there, and writes nothing.
func Open(dir string) (*Store, error) {
	file := filepath.Join(dir, v1.ImageLayoutFile)
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open OCI layout: %s is none: it has no file %s: %w", dir, v1.ImageLayoutFile, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("open OCI layout: %w", err)
	}
	var l v1.ImageLayout
	if err := json.Unmarshal(b, &l); err != nil || l.Version != v1.ImageLayoutVersion {
		return nil, fmt.Errorf("open OCI layout: %s says version %.40q, this program reads %s", file, l.Version, v1.ImageLayoutVersion)
	}
	return &Store{dir}, nil
}

// Dir is the layout's folder.
func (s *Store) Dir() string { return s.dir }

// Path is where the blob of a digest lies, or would lie.
func (s *Store) Path(d images.Digest) (string, error) {
	if _, err := images.ParseDigest(string(d)); err != nil {
		return "", err
	}
	return filepath.Join(s.dir, v1.ImageBlobsDir, "sha256", d.Hex()), nil
}

// Put stores what r gives and names it.
func (s *Store) Put(r io.Reader) (images.Digest, int64, error) {
	tmp, err := os.CreateTemp(filepath.Join(s.dir, v1.ImageBlobsDir), ".new-*")
	if err != nil {
		return "", 0, fmt.Errorf("store blob: %w", err)
	}
	defer os.Remove(tmp.Name())
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, h), r)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err != nil {
		return "", 0, fmt.Errorf("store blob: %w", err)
	}
	d := images.DigestFromSum(h.Sum(nil))
	path, err := s.Path(d)
	if err != nil {
		return "", 0, err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return "", 0, fmt.Errorf("store blob: %w", err)
	}
	return d, n, nil
}

// PutFile stores a file as an artifact. The name is what people call it.
func (s *Store) PutFile(path, name, mediaType string) (images.Artifact, error) {
	f, err := os.Open(path)
	if err != nil {
		return images.Artifact{}, fmt.Errorf("store %s: %w", name, err)
	}
	defer f.Close()
	d, n, err := s.Put(f)
	if err != nil {
		return images.Artifact{}, fmt.Errorf("store %s: %w", name, err)
	}
	return images.Artifact{Digest: d, SizeBytes: n, MediaType: mediaType, Name: name}, nil
}

// Read gives a blob of at most limit bytes, checked against its digest.
func (s *Store) Read(d images.Digest, limit int64) ([]byte, error) {
	path, err := s.Path(d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read blob %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read blob %s: is larger than %d bytes", d, limit)
	}
	if got := images.DigestOf(b); got != d {
		return nil, fmt.Errorf("read blob %s: its bytes have digest %s", d, got)
	}
	return b, nil
}

// Verify reads a whole blob and compares digest and size.
func (s *Store) Verify(a images.Artifact) error {
	path, err := s.Path(a.Digest)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("verify %s (%s): %w", a.Name, a.Digest, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("verify %s: %w", a.Name, err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return fmt.Errorf("verify %s: %w", a.Name, err)
	}
	if got := images.DigestFromSum(h.Sum(nil)); got != a.Digest || n != a.SizeBytes {
		return fmt.Errorf("verify %s: %d bytes with digest %s, want %d with %s", a.Name, n, got, a.SizeBytes, a.Digest)
	}
	return nil
}

// Artifact is an OCI artifact: blobs that belong together under a type and,
// maybe, a name.
type Artifact struct {
	// Type is the artifactType.
	Type string
	// Ref is the name in index.json; an older artifact of that name loses it.
	Ref         string
	Layers      []v1.Descriptor
	Annotations map[string]string
}

// Descriptor describes an artifact's blob as a layer.
func Descriptor(a images.Artifact) v1.Descriptor {
	return v1.Descriptor{
		MediaType: a.MediaType, Digest: ocidigest.Digest(a.Digest), Size: a.SizeBytes,
		Annotations: map[string]string{v1.AnnotationTitle: a.Name},
	}
}

// PutArtifact writes the artifact's manifest and names it in index.json.
func (s *Store) PutArtifact(a Artifact) (images.Digest, error) {
	config, n, err := s.Put(strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, ArtifactType: a.Type,
		Config: v1.Descriptor{MediaType: v1.MediaTypeEmptyJSON, Digest: ocidigest.Digest(config), Size: n},
		Layers: a.Layers, Annotations: a.Annotations,
	})
	if err != nil {
		return "", fmt.Errorf("store artifact %s: %w", a.Ref, err)
	}
	d, n, err := s.Put(strings.NewReader(string(b)))
	if err != nil {
		return "", fmt.Errorf("store artifact %s: %w", a.Ref, err)
	}
	index, err := s.index()
	if err != nil {
		return "", err
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(m v1.Descriptor) bool {
		return m.Annotations[v1.AnnotationRefName] == a.Ref
	})
	index.Manifests = append(index.Manifests, v1.Descriptor{
		MediaType: v1.MediaTypeImageManifest, ArtifactType: a.Type, Digest: ocidigest.Digest(d), Size: n,
		Annotations: map[string]string{v1.AnnotationRefName: a.Ref},
	})
	if b, err = json.Marshal(index); err != nil {
		return "", fmt.Errorf("store artifact %s: %w", a.Ref, err)
	}
	if err := writeFile(filepath.Join(s.dir, v1.ImageIndexFile), b); err != nil {
		return "", fmt.Errorf("store artifact %s: %w", a.Ref, err)
	}
	return d, nil
}

// index reads index.json; a layout without one is empty.
func (s *Store) index() (v1.Index, error) {
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	f, err := os.Open(filepath.Join(s.dir, v1.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return index, nil
	}
	if err != nil {
		return index, fmt.Errorf("read index: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndexBytes+1))
	if err == nil && len(b) > maxIndexBytes {
		err = fmt.Errorf("is larger than %d bytes", maxIndexBytes)
	}
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	if err != nil {
		return index, fmt.Errorf("read index: %w", err)
	}
	return index, nil
}

// Artifacts lists the named artifacts of a type, newest last.
func (s *Store) Artifacts(artifactType string) ([]Artifact, error) {
	index, err := s.index()
	if err != nil {
		return nil, err
	}
	var out []Artifact
	for _, d := range index.Manifests {
		if d.ArtifactType != artifactType {
			continue
		}
		b, err := s.Read(images.Digest(d.Digest), maxIndexBytes)
		if err != nil {
			return nil, err
		}
		var m v1.Manifest
		if err := json.Unmarshal(b, &m); err != nil {
			return nil, fmt.Errorf("read manifest %s: %w", d.Digest, err)
		}
		out = append(out, Artifact{Type: m.ArtifactType, Ref: d.Annotations[v1.AnnotationRefName], Layers: m.Layers, Annotations: m.Annotations})
	}
	return out, nil
}

// ServeHTTP answers GET and HEAD of …/sha256/<hex> with the blob, ranges
// included. What it serves is not checked here: whoever fetches checks.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	rest, hex, ok := cutLast(r.URL.Path, "/")
	d := images.Digest("sha256:" + hex)
	path, err := s.Path(d)
	if !ok || !strings.HasSuffix(rest, "/sha256") || err != nil {
		http.NotFound(w, r)
		return
	}
	f, err := os.Open(path)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		http.Error(w, "the blob is not readable", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+string(d)+`"`)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", st.ModTime(), f)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// writeFile replaces a file as a whole.
func writeFile(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
