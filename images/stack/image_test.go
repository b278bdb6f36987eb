package stack

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/ingot-metal/ingot/images/store"
)

func contents(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	tr := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = data
	}
}

func program(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// The archive is walked as containerd does: index, manifest, config, layer,
// each by its digest.
func TestArchiveIsAnImage(t *testing.T) {
	var b bytes.Buffer
	im := Image{Ref: "ingot.local/hello:1", Program: program(t, "#!/bin/true\n"), Arch: "amd64", Ports: []string{"8080/tcp"}}
	d, err := im.Archive(&b)
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, b.Bytes())
	blob := func(desc v1.Descriptor, into any) []byte {
		t.Helper()
		raw := files["blobs/sha256/"+desc.Digest.Encoded()]
		if got := images.DigestOf(raw); got != images.Digest(desc.Digest) || int64(len(raw)) != desc.Size {
			t.Fatalf("blob %s: %d bytes with digest %s", desc.Digest, len(raw), got)
		}
		if into != nil {
			if err := json.Unmarshal(raw, into); err != nil {
				t.Fatal(err)
			}
		}
		return raw
	}
	var index v1.Index
	if err := json.Unmarshal(files["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 1 || images.Digest(index.Manifests[0].Digest) != d || index.Manifests[0].Annotations["io.containerd.image.name"] != im.Ref {
		t.Fatalf("index names %+v; want %s with digest %s", index.Manifests, im.Ref, d)
	}
	var m v1.Manifest
	blob(index.Manifests[0], &m)
	var config v1.Image
	blob(m.Config, &config)
	if len(m.Layers) != 1 || config.RootFS.DiffIDs[0] != m.Layers[0].Digest || config.Config.User != containerUser {
		t.Errorf("config %+v does not fit layers %+v", config, m.Layers)
	}
	if layer := contents(t, blob(m.Layers[0], nil)); string(layer["hello"]) != "#!/bin/true\n" || len(layer) != 1 {
		t.Errorf("layer holds %d files, hello is %q", len(layer), layer["hello"])
	}
	var again bytes.Buffer
	if d2, err := im.Archive(&again); err != nil || d2 != d || !bytes.Equal(again.Bytes(), b.Bytes()) {
		t.Errorf("a second time: %s, %v; want the same bytes", d2, err)
	}
}

func TestDynamicProgramIsRefused(t *testing.T) {
	im := Image{Ref: "x", Program: program(t, elfFile(t, "libc.so.6")), Arch: "amd64"}
	if _, err := im.Archive(io.Discard); err == nil {
		t.Error("a program that needs libc became an image without one")
	}
}

func testManifest(t *testing.T, s *store.Store) images.Manifest {
	t.Helper()
	put := func(name string) images.Artifact {
		d, n, err := s.Put(bytes.NewReader([]byte(name)))
		if err != nil {
			t.Fatal(err)
		}
		return images.Artifact{Digest: d, SizeBytes: n, MediaType: "application/octet-stream", Name: name}
	}
	root := put("root.squashfs")
	return images.Manifest{
		Schema: images.ManifestSchema, Name: "test", Version: "1", Arch: "amd64", Deadline: images.Duration(time.Minute),
		Boot: images.Boot{Kernel: put("vmlinuz"), Initrds: []images.Artifact{put("root.initrd")}, Root: &root},
	}
}

func TestAddAndList(t *testing.T) {
	s, err := store.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	keys, err := sign.OpenOrCreate(filepath.Join(t.TempDir(), "keys"), true, now)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Add(s, testManifest(t, s), keys)
	if err != nil {
		t.Fatal(err)
	}
	list, err := List(s)
	if err != nil || len(list) != 1 || list[0].Ref != "test:1" {
		t.Fatalf("List = %+v, %v", list, err)
	}
	m, d, err := keys.Roots().OpenManifest(list[0].Delegations, list[0].Stack, now)
	if err != nil || d != want.Digest || m.Ref() != "test:1" {
		t.Errorf("OpenManifest = %s, %s, %v; want %s", m.Ref(), d, err, want.Digest)
	}
}

func TestAddRefusesWhatTheLayoutDoesNotHold(t *testing.T) {
	s, err := store.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sign.OpenOrCreate(filepath.Join(t.TempDir(), "keys"), true, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m := testManifest(t, s)
	m.Boot.Kernel.Digest = images.DigestOf([]byte("another kernel"))
	if _, err := Add(s, m, keys); err == nil {
		t.Error("a stack was signed whose kernel is not there")
	}
}
