package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/cpio"
	"github.com/ingot-metal/ingot/images/initramfs"
	"github.com/ingot-metal/ingot/images/sign"
	"github.com/ingot-metal/ingot/images/store"
)

// Options say what a stack is built from and where it goes.
type Options struct {
	// Tools is a root with the kernel and its modules (boot/, lib/modules/).
	Tools string
	// Agent is the static ingot-agent.
	Agent string
	// Hello is the static program of the container; when empty it is built
	// with the go command from the module that the working folder is in.
	Hello string
	// Cache keeps the roots between builds, SecondCache between clones; both
	// are optional, and may be deleted at any time.
	Cache, SecondCache string
	// Mirror is the Debian mirror that roots are made from; Debian's own when
	// empty.
	Mirror string
	// Out is the OCI layout that the stack is added to.
	Out string
	// Keys sign the stack.
	Keys sign.Keyring
	// Name and Version call it; "first-light" and "1" when empty.
	Name, Version string
	// Log is told what takes time; discarded when nil.
	Log *slog.Logger
}

// Result names what was built.
type Result struct {
	Manifest images.Manifest
	Digest   images.Digest
	// ArtifactDigest is the OCI manifest's in the layout.
	ArtifactDigest images.Digest
}

// Media types of the stack's parts.
const (
	ArtifactType   = "application/vnd.ingot.stack.v1"
	typeEnvelope   = "application/vnd.dsse.envelope.v1+json"
	typeDelegation = "application/vnd.ingot.delegations.v1+json"
	typeKernel     = "application/vnd.ingot.kernel"
	typeInitrd     = "application/vnd.ingot.initrd"
	typeSquashFS   = "application/vnd.ingot.squashfs"
	typeOCIArchive = "application/vnd.ingot.oci-archive+tar"
)

// What the parts are called.
const (
	containerName = "hello"
	imageRef      = "ingot.local/hello:1"
	vmName        = "vm0"
	servicePort   = 8080
)

// Build makes the stack and puts it, signed, into the layout. The same packages
// and programs give the same bytes; only the signature's keys differ.
func Build(ctx context.Context, o Options) (Result, error) {
	if o.Name == "" {
		o.Name = "first-light"
	}
	if o.Version == "" {
		o.Version = "1"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Cache == "" {
		o.Cache = filepath.Join(filepath.Dir(o.Out), "cache")
	}
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return Result{}, fmt.Errorf("build stack: %w", err)
	}
	work, err := os.MkdirTemp(o.Cache, ".work-*")
	if err != nil {
		return Result{}, fmt.Errorf("build stack: %w", err)
	}
	defer os.RemoveAll(work)
	s, err := store.Create(o.Out)
	if err != nil {
		return Result{}, fmt.Errorf("build stack: %w", err)
	}
	b := &builder{Options: o, store: s, work: work}
	m, err := b.parts(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("build stack: %w", err)
	}
	res, err := Add(s, m, o.Keys)
	if err != nil {
		return Result{}, fmt.Errorf("build stack: %w", err)
	}
	return res, nil
}

// builder is one build.
type builder struct {
	Options
	store *store.Store
	work  string
}

// parts builds all that the manifest names, independent ones at once.
func (b *builder) parts(ctx context.Context) (images.Manifest, error) {
	kernel, err := initramfs.FindKernel(b.Tools)
	if err != nil {
		return images.Manifest{}, err
	}
	var (
		kernelFile, rootInitrd, root, vmInitrd, vm, archive images.Artifact
		imageDigest                                         images.Digest
		wg                                                  sync.WaitGroup
		mu                                                  sync.Mutex
		errs                                                []error
	)
	for _, f := range []func() error{
		func() (err error) { root, err = b.root(ctx, hypervisorRoot()); return },
		func() (err error) { vm, err = b.root(ctx, vmRoot()); return },
		func() (err error) { archive, imageDigest, err = b.container(ctx); return },
		func() (err error) {
			rootInitrd, err = b.initrd(ctx, kernel, "root", hypervisorModules(), overlay())
			return
		},
		func() (err error) { vmInitrd, err = b.initrd(ctx, kernel, "vm-root", vmModules(), nil); return },
		func() (err error) { kernelFile, err = b.store.PutFile(kernel.Image, "vmlinuz", typeKernel); return },
	} {
		wg.Go(func() {
			if err := f(); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return images.Manifest{}, errors.Join(errs...)
	}
	return images.Manifest{
		Schema: images.ManifestSchema, Name: b.Name, Version: b.Version, Arch: "amd64",
		Boot: images.Boot{
			Kernel: kernelFile, Initrds: []images.Artifact{rootInitrd}, Root: &root,
			Cmdline: "console=tty0 console=ttyS0,115200 quiet loglevel=4 panic=30 no_timer_check net.ifnames=0 systemd.tty.term.console=dumb systemd.show_status=no",
		},
		Params:     map[string]images.Param{"nonce": {Type: "string", MaxLength: 128}},
		Hypervisor: &images.Hypervisor{Kind: "kvm"},
		VMs: []images.VM{{
			Name: vmName, Kernel: kernelFile, Initrd: vmInitrd, Root: vm, CPUs: 1, MemoryBytes: 640 << 20,
			Forwards: []images.Forward{{HostPort: servicePort, VMPort: servicePort}},
		}},
		Containers: []images.Container{{Name: containerName, VM: vmName, ImageDigest: imageDigest, Archive: archive}},
		Services:   []images.Service{{Name: containerName, Container: containerName, Port: servicePort, HealthPath: "/healthz"}},
		Deadline:   images.Duration(5 * time.Minute), MemoryBytes: 2 << 30,
	}, nil
}

// Add signs a manifest and puts it into the layout as an OCI artifact: first
// the signed manifest, then the delegations, then every artifact as a layer.
func Add(s *store.Store, m images.Manifest, keys sign.Keyring) (Result, error) {
	payload, err := m.JSON()
	if err != nil {
		return Result{}, err
	}
	envelope, err := sign.Sign(keys.Operator, images.ManifestType, payload)
	if err != nil {
		return Result{}, err
	}
	signed, err := putJSON(s, envelope, "stack.dsse.json", typeEnvelope)
	if err != nil {
		return Result{}, err
	}
	delegations, err := putJSON(s, keys.Delegations, "delegations.json", typeDelegation)
	if err != nil {
		return Result{}, err
	}
	layers := []v1.Descriptor{store.Descriptor(signed), store.Descriptor(delegations)}
	for _, a := range m.Artifacts() {
		if err := s.Verify(a); err != nil {
			return Result{}, err
		}
		layers = append(layers, store.Descriptor(a))
	}
	d, err := s.PutArtifact(store.Artifact{
		Type: ArtifactType, Ref: m.Ref(), Layers: layers,
		Annotations: map[string]string{v1.AnnotationTitle: m.Name, v1.AnnotationVersion: m.Version},
	})
	if err != nil {
		return Result{}, err
	}
	return Result{Manifest: m, Digest: images.DigestOf(payload), ArtifactDigest: d}, nil
}

func putJSON(s *store.Store, v any, name, mediaType string) (images.Artifact, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return images.Artifact{}, fmt.Errorf("store %s: %w", name, err)
	}
	d, n, err := s.Put(bytes.NewReader(b))
	return images.Artifact{Digest: d, SizeBytes: n, MediaType: mediaType, Name: name}, err
}

// Signed is a stack as it stands in a layout. Nobody has checked its signature.
type Signed struct {
	Ref         string
	Stack       images.Envelope
	Delegations []images.Envelope
}

// maxSignedBytes bounds an envelope and the delegations.
const maxSignedBytes = 1 << 20

// List reads the stacks of a layout.
func List(s *store.Store) ([]Signed, error) {
	artifacts, err := s.Artifacts(ArtifactType)
	if err != nil {
		return nil, fmt.Errorf("list stacks: %w", err)
	}
	var out []Signed
	for _, a := range artifacts {
		one := Signed{Ref: a.Ref}
		for _, l := range a.Layers {
			var into any
			switch l.MediaType {
			case typeEnvelope:
				into = &one.Stack
			case typeDelegation:
				into = &one.Delegations
			default:
				continue
			}
			b, err := s.Read(images.Digest(l.Digest), maxSignedBytes)
			if err == nil {
				err = json.Unmarshal(b, into)
			}
			if err != nil {
				return nil, fmt.Errorf("list stacks: %s: %w", a.Ref, err)
			}
		}
		if len(one.Stack.Signatures) == 0 {
			return nil, fmt.Errorf("list stacks: %s holds no signed manifest", a.Ref)
		}
		out = append(out, one)
	}
	return out, nil
}

// container builds the container's image.
func (b *builder) container(ctx context.Context) (images.Artifact, images.Digest, error) {
	program := filepath.Join(b.work, containerName)
	if b.Hello != "" {
		raw, err := os.ReadFile(b.Hello)
		if err == nil {
			err = os.WriteFile(program, raw, 0o755)
		}
		if err != nil {
			return images.Artifact{}, "", err
		}
	} else {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "github.com/ingot-metal/ingot/images/cmd/hello")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			return images.Artifact{}, "", fmt.Errorf("build the container's program: %w: %s", err, bytes.TrimSpace(out))
		}
	}
	var archive bytes.Buffer
	im := Image{Ref: imageRef, Program: program, Arch: "amd64", Ports: []string{fmt.Sprintf("%d/tcp", servicePort)}}
	imageDigest, err := im.Archive(&archive)
	if err != nil {
		return images.Artifact{}, "", err
	}
	d, n, err := b.store.Put(&archive)
	return images.Artifact{Digest: d, SizeBytes: n, MediaType: typeOCIArchive, Name: containerName + ".oci.tar"}, imageDigest, err
}

// initrd builds what stage 1 runs from: the agent, its modules, and files that
// it lays over the root.
func (b *builder) initrd(ctx context.Context, kernel initramfs.Kernel, role string, modules []initramfs.Group, files map[string]string) (images.Artifact, error) {
	out := filepath.Join(b.work, role+".initrd")
	_, err := initramfs.Build(ctx, initramfs.Options{
		Agent: b.Agent, ModulesDir: kernel.ModulesDir, Role: role, Groups: modules, Built: time.Unix(0, 0), Output: out,
	})
	if err != nil {
		return images.Artifact{}, err
	}
	if len(files) > 0 {
		if err := appendFiles(out, files); err != nil {
			return images.Artifact{}, fmt.Errorf("initrd %s: %w", role, err)
		}
	}
	return b.store.PutFile(out, role+".initrd", typeInitrd)
}

// appendFiles adds one more archive to an initrd; the kernel unpacks both.
func appendFiles(initrd string, files map[string]string) error {
	f, err := os.OpenFile(initrd, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = func() error {
		end, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if _, err := f.Write(make([]byte, (512-end%512)%512)); err != nil {
			return err
		}
		w := cpio.NewWriter(f)
		for _, name := range sortedKeys(files) {
			if target, ok := strings.CutPrefix(files[name], "-> "); ok {
				err = w.Symlink(name, target)
			} else {
				err = w.Bytes(name, 0o644, []byte(files[name]))
			}
			if err != nil {
				return err
			}
		}
		return w.Close()
	}()
	return errors.Join(err, f.Close())
}
