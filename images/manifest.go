package images

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ManifestSchema is the schema of a [Manifest].
const ManifestSchema = "ingot.stack/v1"

// MaxManifestBytes bounds a manifest as JSON; a larger one is refused unread.
const MaxManifestBytes = 64 << 10

// Artifact names bytes that a boot needs.
type Artifact struct {
	Digest    Digest `json:"digest"`
	SizeBytes int64  `json:"size_bytes"`
	MediaType string `json:"media_type"`
	// Name is the file name that people and the stack's own scripts use.
	Name string `json:"name"`
}

// Manifest says what a stack is, layer by layer. It is written as YAML, stored
// and signed as JSON, and named by the digest of that JSON.
type Manifest struct {
	Schema  string `json:"schema"`
	Name    string `json:"name"`
	Version string `json:"version"`
	// Arch is the machine's architecture in Go's words: amd64, arm64.
	Arch       string           `json:"arch"`
	Boot       Boot             `json:"boot"`
	Params     map[string]Param `json:"params,omitempty"`
	Hypervisor *Hypervisor      `json:"hypervisor,omitempty"`
	VMs        []VM             `json:"vms,omitempty"`
	Containers []Container      `json:"containers,omitempty"`
	Services   []Service        `json:"services,omitempty"`
	// Deadline is how long after the handoff the first contact may take.
	Deadline Duration `json:"deadline"`
	// MemoryBytes is the least memory of a server that can run the stack.
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
}

// Boot is what kexec loads.
type Boot struct {
	Kernel Artifact `json:"kernel"`
	// Initrds are concatenated in order; the agent appends its own.
	Initrds []Artifact `json:"initrds"`
	// Root, a squashfs, is handed over inside the initrd.
	Root    *Artifact `json:"root,omitempty"`
	Cmdline string    `json:"cmdline"`
}

// Param is one value that a grant may give to this stack on one server.
type Param struct {
	// Type is "string"; nothing else is known yet.
	Type      string `json:"type"`
	Required  bool   `json:"required,omitempty"`
	Default   string `json:"default,omitempty"`
	MaxLength int    `json:"max_length,omitempty"`
}

// Hypervisor is the layer on the bare server.
type Hypervisor struct {
	// Kind is "kvm".
	Kind string `json:"kind"`
}

// VM is one virtual machine.
type VM struct {
	Name        string    `json:"name"`
	Kernel      Artifact  `json:"kernel"`
	Initrd      Artifact  `json:"initrd"`
	Root        Artifact  `json:"root"`
	CPUs        int       `json:"cpus"`
	MemoryBytes int64     `json:"memory_bytes"`
	Forwards    []Forward `json:"forwards,omitempty"`
}

// Forward leads a TCP port of the server into a VM.
type Forward struct {
	HostPort uint16 `json:"host_port"`
	VMPort   uint16 `json:"vm_port"`
}

// Container is one OCI image that runs in a VM.
type Container struct {
	Name string `json:"name"`
	// VM names the VM that it runs in.
	VM string `json:"vm"`
	// ImageDigest is the digest of the OCI image manifest inside Archive.
	ImageDigest Digest `json:"image_digest"`
	// Archive is the image as an OCI layout in a tar file.
	Archive Artifact `json:"archive"`
}

// Service is what the stack is for.
type Service struct {
	Name      string `json:"name"`
	Container string `json:"container"`
	// Port is the TCP port of the server where the service answers.
	Port uint16 `json:"port"`
	// HealthPath answers 200 to a GET when the service is well.
	HealthPath string `json:"health_path"`
}

// Duration is a time.Duration that is written as "90s" or "5m".
type Duration time.Duration

// MarshalText writes d in the form of time.Duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads the form of time.ParseDuration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// ParseManifest reads and checks a manifest. An unknown key is refused: a
// manifest that means more than this agent knows is not carried out by half.
func ParseManifest(b []byte) (Manifest, error) {
	var m Manifest
	if err := decodeStrict(b, MaxManifestBytes, &m); err != nil {
		return Manifest{}, fmt.Errorf("stack manifest: %w", err)
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// JSON returns the bytes that are stored, named by digest, and signed.
func (m Manifest) JSON() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

// Ref is the name that people call a stack by: name and version.
func (m Manifest) Ref() string { return m.Name + ":" + m.Version }

// Artifacts lists what a server fetches, each digest once, in the order of use.
func (m Manifest) Artifacts() []Artifact {
	all := append([]Artifact{m.Boot.Kernel}, m.Boot.Initrds...)
	if m.Boot.Root != nil {
		all = append(all, *m.Boot.Root)
	}
	all = append(all, m.Payload()...)
	seen := map[Digest]bool{}
	return slices.DeleteFunc(all, func(a Artifact) bool {
		dup := seen[a.Digest]
		seen[a.Digest] = true
		return dup
	})
}

// Payload lists what the hypervisor needs beside its root: the files of VMs
// and containers, each name once.
func (m Manifest) Payload() []Artifact {
	var all []Artifact
	for _, vm := range m.VMs {
		all = append(all, vm.Kernel, vm.Initrd, vm.Root)
	}
	for _, c := range m.Containers {
		all = append(all, c.Archive)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(a Artifact) bool {
		dup := seen[a.Name]
		seen[a.Name] = true
		return dup
	})
}

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	versionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$`)
	fileForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	paramForm   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
)

// Validate checks everything that can be checked without the artifacts and
// returns all that is wrong.
func (m Manifest) Validate() error {
	var c checker
	c.that(m.Schema == ManifestSchema, "schema: is %.40q, want %q", m.Schema, ManifestSchema)
	c.that(nameForm.MatchString(m.Name), "name: %.80q is not lower-case letters, digits and dashes (63 at most)", m.Name)
	c.that(versionForm.MatchString(m.Version), "version: %.80q is not letters, digits and .+_- (64 at most)", m.Version)
	c.that(m.Arch == "amd64" || m.Arch == "arm64", "arch: %.40q is not amd64 or arm64", m.Arch)
	c.that(m.Deadline > 0 && time.Duration(m.Deadline) <= 24*time.Hour, "deadline: %v is not between 0 and 24h", time.Duration(m.Deadline))
	c.that(len(m.Boot.Initrds) > 0, "boot.initrds: is empty")
	c.that(len(m.Boot.Cmdline) <= 1024 && printable(m.Boot.Cmdline), "boot.cmdline: want at most 1024 printable ASCII characters")
	for _, w := range strings.Fields(m.Boot.Cmdline) {
		c.that(!strings.HasPrefix(strings.TrimLeft(w, `"`), "ingot."), "boot.cmdline: nobody reads %.80q: what a stack is told comes as params", w)
	}
	c.that(m.MemoryBytes >= 0, "memory_bytes: %d is negative", m.MemoryBytes)
	c.that(m.Hypervisor == nil || m.Hypervisor.Kind == "kvm", "hypervisor.kind: want \"kvm\"")
	c.that(len(m.VMs) == 0 || m.Hypervisor != nil, "vms: need a hypervisor")
	for _, a := range m.Artifacts() {
		c.artifact(a)
	}
	for k, p := range m.Params {
		c.that(paramForm.MatchString(k), "params: %.80q is not a name of lower-case letters, digits and _", k)
		c.that(p.Type == "string", "params.%s.type: %.40q is not \"string\"", k, p.Type)
	}
	m.validateLayers(&c)
	if len(c.errs) > 0 {
		return fmt.Errorf("stack manifest %.80q: %w", m.Name, errors.Join(c.errs...))
	}
	return nil
}

func (m Manifest) validateLayers(c *checker) {
	vms, containers := map[string]bool{}, map[string]bool{}
	ports := map[uint16]bool{}
	files := map[string]Digest{}
	for _, a := range m.Payload() {
		files[a.Name] = a.Digest
	}
	for _, vm := range m.VMs {
		c.that(nameForm.MatchString(vm.Name) && !vms[vm.Name], "vms: name %.80q is malformed or stands twice", vm.Name)
		vms[vm.Name] = true
		c.that(vm.CPUs >= 1 && vm.CPUs <= 1024, "vms.%s.cpus: %d is not between 1 and 1024", vm.Name, vm.CPUs)
		c.that(vm.MemoryBytes >= 64<<20, "vms.%s.memory_bytes: %d is less than 64 MiB", vm.Name, vm.MemoryBytes)
		for _, f := range vm.Forwards {
			c.that(f.HostPort != 0 && f.VMPort != 0 && !ports[f.HostPort], "vms.%s.forwards: port %d is zero or taken twice", vm.Name, f.HostPort)
			ports[f.HostPort] = true
		}
		for _, a := range []Artifact{vm.Kernel, vm.Initrd, vm.Root} {
			c.that(files[a.Name] == a.Digest, "vms.%s: two files are called %.80q", vm.Name, a.Name)
		}
	}
	for _, ct := range m.Containers {
		c.that(nameForm.MatchString(ct.Name) && !containers[ct.Name], "containers: name %.80q is malformed or stands twice", ct.Name)
		containers[ct.Name] = true
		c.that(vms[ct.VM], "containers.%s.vm: there is no VM %.80q", ct.Name, ct.VM)
		_, err := ParseDigest(string(ct.ImageDigest))
		c.that(err == nil, "containers.%s.image_digest: %v", ct.Name, err)
		c.that(files[ct.Archive.Name] == ct.Archive.Digest, "containers.%s: two files are called %.80q", ct.Name, ct.Archive.Name)
	}
	for _, s := range m.Services {
		c.that(nameForm.MatchString(s.Name), "services: name %.80q is malformed", s.Name)
		c.that(containers[s.Container], "services.%s.container: there is no container %.80q", s.Name, s.Container)
		c.that(ports[s.Port], "services.%s.port: no VM forwards port %d", s.Name, s.Port)
		c.that(strings.HasPrefix(s.HealthPath, "/") && printable(s.HealthPath), "services.%s.health_path: want a path that starts with /", s.Name)
	}
}

// ResolveParams fills in defaults and refuses values that the manifest does not
// know, that are missing, or too long.
func (m Manifest) ResolveParams(given map[string]string) (map[string]string, error) {
	var c checker
	out := map[string]string{}
	for k, v := range given {
		p, ok := m.Params[k]
		c.that(ok, "param %.80q: stack %s has no such parameter", k, m.Ref())
		limit := p.MaxLength
		if limit == 0 {
			limit = 256
		}
		c.that(len(v) <= limit && printable(v), "param %.80q: want at most %d printable ASCII characters", k, limit)
		out[k] = v
	}
	for k, p := range m.Params {
		if _, ok := out[k]; ok {
			continue
		}
		c.that(!p.Required, "param %q: stack %s requires it", k, m.Ref())
		if p.Default != "" {
			out[k] = p.Default
		}
	}
	return out, errors.Join(c.errs...)
}

// checker collects what is wrong; the zero value has found nothing.
type checker struct{ errs []error }

func (c *checker) that(ok bool, format string, args ...any) {
	if !ok {
		c.errs = append(c.errs, fmt.Errorf(format, args...))
	}
}

func (c *checker) artifact(a Artifact) {
	_, err := ParseDigest(string(a.Digest))
	c.that(err == nil, "artifact %.80q: %v", a.Name, err)
	c.that(a.SizeBytes > 0 && a.SizeBytes <= 64<<30, "artifact %.80q: size_bytes %d is not between 1 and 64 GiB", a.Name, a.SizeBytes)
	c.that(fileForm.MatchString(a.Name), "artifact name %.140q: want letters, digits and ._- (128 at most)", a.Name)
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0
}

// decodeStrict reads exactly one JSON value of at most limit bytes into v and
// refuses unknown keys and trailing bytes.
func decodeStrict(b []byte, limit int, v any) error {
	if len(b) > limit {
		return fmt.Errorf("is %d bytes, at most %d are read", len(b), limit)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("read JSON at byte %d: %w", d.InputOffset(), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("read JSON at byte %d: more follows the value", d.InputOffset())
	}
	return nil
}
