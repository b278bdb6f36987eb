package stack

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	ocidigest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ingot-metal/ingot/images"
)

// containerUser runs the container: nobody.
const containerUser = "65534:65534"

// Image is a container's image: one static program.
type Image struct {
	// Ref is the name inside the archive, as containerd lists it.
	Ref string
	// Program is the static binary; it becomes /<base name>.
	Program string
	Arch    string
	Ports   []string // "8080/tcp"
}

// Archive writes the image as an OCI layout in a tar file, which containerd
// imports, and gives the digest of its manifest. The same program gives the
// same bytes.
func (im Image) Archive(out io.Writer) (images.Digest, error) {
	layer, err := im.layer()
	if err != nil {
		return "", fmt.Errorf("image %s: %w", im.Ref, err)
	}
	blobs := map[string][]byte{}
	put := func(mediaType string, b []byte) v1.Descriptor {
		d := ocidigest.FromBytes(b)
		blobs[d.Encoded()] = b
		return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
	}
	layerDesc := put(v1.MediaTypeImageLayer, layer)
	config, err := json.Marshal(im.config(layerDesc.Digest))
	if err != nil {
		return "", fmt.Errorf("image %s: %w", im.Ref, err)
	}
	manifest, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: put(v1.MediaTypeImageConfig, config), Layers: []v1.Descriptor{layerDesc},
	})
	if err != nil {
		return "", fmt.Errorf("image %s: %w", im.Ref, err)
	}
	desc := put(v1.MediaTypeImageManifest, manifest)
	desc.Annotations = map[string]string{"io.containerd.image.name": im.Ref, v1.AnnotationRefName: im.Ref}
	index, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{desc},
	})
	if err != nil {
		return "", fmt.Errorf("image %s: %w", im.Ref, err)
	}
	files := map[string]member{
		v1.ImageLayoutFile: regular([]byte(`{"imageLayoutVersion":"`+v1.ImageLayoutVersion+`"}`), 0o644),
		v1.ImageIndexFile:  regular(index, 0o644),
	}
	for hex, b := range blobs {
		files[path.Join(v1.ImageBlobsDir, "sha256", hex)] = regular(b, 0o644)
	}
	if err := writeTar(out, files); err != nil {
		return "", fmt.Errorf("image %s: write archive: %w", im.Ref, err)
	}
	return images.Digest(desc.Digest), nil
}

func regular(b []byte, mode int64) member {
	return member{Header: tar.Header{Typeflag: tar.TypeReg, Mode: mode}, data: b}
}

func (im Image) layer() ([]byte, error) {
	b, err := os.ReadFile(im.Program)
	if err != nil {
		return nil, err
	}
	if libs := needed(b); len(libs) > 0 {
		return nil, fmt.Errorf("%s is linked against %s; want a static program", im.Program, strings.Join(libs, ", "))
	}
	var out bytes.Buffer
	err = writeTar(&out, map[string]member{path.Base(im.Program): regular(b, 0o755)})
	return out.Bytes(), err
}

func (im Image) config(layer ocidigest.Digest) v1.Image {
	created := time.Unix(0, 0).UTC()
	ports := map[string]struct{}{}
	for _, p := range im.Ports {
		ports[p] = struct{}{}
	}
	return v1.Image{
		Created:  &created,
		Platform: v1.Platform{Architecture: im.Arch, OS: "linux"},
		Config: v1.ImageConfig{
			User: containerUser, Entrypoint: []string{"/" + path.Base(im.Program)}, WorkingDir: "/", ExposedPorts: ports,
		},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []ocidigest.Digest{layer}},
	}
}
