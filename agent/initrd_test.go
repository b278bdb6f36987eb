package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/boot"
	"github.com/ingot-metal/ingot/boot/fetch"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/cpio"
	ucpio "github.com/u-root/u-root/pkg/cpio"
)

// blobs serves bytes by digest, as the boot server does.
type blobs map[images.Digest][]byte

func (b blobs) add(name string, content []byte) images.Artifact {
	d := images.DigestOf(content)
	b[d] = content
	return images.Artifact{Name: name, Digest: d, SizeBytes: int64(len(content))}
}

func (b blobs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, ok := b[images.Digest("sha256:"+strings.TrimPrefix(r.URL.Path, "/blobs/sha256/"))]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func testPlan(t *testing.T, b blobs) boot.Plan {
	t.Helper()
	stage1, err := cpio.Archive(cpio.File{Name: "init", Perm: 0o755, Data: []byte("stage 1")})
	if err != nil {
		t.Fatal(err)
	}
	kernel := b.add("vmlinuz", []byte("kernel"))
	return boot.Plan{
		Kernel:  kernel,
		Initrds: []images.Artifact{b.add("stage1.cpio", stage1)},
		Files: []boot.File{
			{Path: boot.RootPath, Artifact: b.add("root.squashfs", bytes.Repeat([]byte("root"), 1<<20))},
			{Path: boot.PayloadDir + "vmlinuz", Artifact: kernel},
		},
	}
}

// unpack reads all archives of an initrd, as the kernel does.
func unpack(t *testing.T, initrd string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(initrd)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for len(b) > 0 {
		i := bytes.Index(b, []byte("TRAILER!!!"))
		if i < 0 {
			t.Fatalf("%d bytes of the initrd are no archive", len(b))
		}
		end := min(len(b), (i+11+511)/512*512)
		records, err := ucpio.ReadAllRecords(ucpio.Newc.Reader(bytes.NewReader(b[:end])))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if r.Mode&0o170000 == 0o100000 {
				c, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
				if err != nil {
					t.Fatal(err)
				}
				files[r.Name] = string(c)
			}
		}
		b = b[end:]
	}
	return files
}

func TestAssemble(t *testing.T) {
	b := blobs{}
	p := testPlan(t, b)
	s := httptest.NewServer(b)
	defer s.Close()
	tg, err := assemble(context.Background(), fetch.New(fetch.Options{Base: s.URL}), p, filepath.Join(t.TempDir(), "stack"))
	if err != nil {
		t.Fatal(err)
	}
	if err := appendHandoff(tg.initrd, fleet.Handoff{Node: "n-1"}); err != nil {
		t.Fatal(err)
	}
	if k, err := os.ReadFile(tg.kernel); err != nil || string(k) != "kernel" {
		t.Errorf("kernel = %q, %v", k, err)
	}
	got := unpack(t, tg.initrd)
	for name, want := range map[string]string{
		"init":                      "stage 1",
		boot.RootPath:               strings.Repeat("root", 1<<20),
		boot.PayloadDir + "vmlinuz": "kernel",
	} {
		if got[name] != want {
			t.Errorf("initrd holds %q with %d bytes; want %d", name, len(got[name]), len(want))
		}
	}
	if !strings.Contains(got[fleet.HandoffPath], `"n-1"`) {
		t.Errorf("handoff = %q", got[fleet.HandoffPath])
	}
}

func TestAssembleLeavesNothingOfAWrongDigest(t *testing.T) {
	for i := range 3 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			b := blobs{}
			p := testPlan(t, b)
			wrong := []images.Artifact{p.Kernel, p.Initrds[0], p.Files[0].Artifact}[i]
			b[wrong.Digest] = bytes.ToUpper(b[wrong.Digest])
			s := httptest.NewServer(b)
			defer s.Close()
			dir := filepath.Join(t.TempDir(), "stack")
			_, err := assemble(context.Background(), fetch.New(fetch.Options{Base: s.URL}), p, dir)
			var digest *fetch.DigestError
			if !errors.As(err, &digest) || digest.Artifact.Name != wrong.Name {
				t.Errorf("assemble = %v; want a digest error of %s", err, wrong.Name)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after a refusal %s stands there (%v); want it gone", dir, err)
			}
		})
	}
}
