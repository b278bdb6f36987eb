package boot

import (
	"fmt"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
)

// PlanSchema is the schema of a [Plan].
const PlanSchema = "ingot.plan/v1"

// Plan is all that one boot needs: what to fetch, where it goes in the initrd,
// and with which cmdline the kernel starts.
type Plan struct {
	Schema string `json:"schema"`
	Stack  string `json:"stack"`
	// Kernel is loaded as it is.
	Kernel images.Artifact `json:"kernel"`
	// Initrds come first in the initrd, concatenated in this order.
	Initrds []images.Artifact `json:"initrds"`
	// Files follow in one newc archive.
	Files []File `json:"files,omitempty"`
	// Params are the stack's parameters, defaults filled in.
	Params  map[string]string `json:"params,omitempty"`
	Cmdline string            `json:"cmdline"`
	// FetchBytes is the sum of what is fetched; NeedBytes the memory that loading
	// and unpacking takes at its height.
	FetchBytes int64 `json:"fetch_bytes"`
	NeedBytes  int64 `json:"need_bytes"`
}

// File is an artifact that lies at a path of the target's initramfs.
type File struct {
	Path     string          `json:"path"`
	Artifact images.Artifact `json:"artifact"`
}

// Reason is why a boot was refused, as a code of the status.
type Reason string

// The reasons of a [RefusedError].
const (
	ReasonArch   Reason = "arch-mismatch"
	ReasonMemory Reason = "memory-too-small"
	ReasonParams Reason = "params-invalid"
	ReasonStack  Reason = "manifest-invalid"
)

// RefusedError says that this machine does not boot this stack.
type RefusedError struct {
	Reason Reason
	// Hint is what to do about it.
	Hint string
	Err  error
}

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// RootPath and PayloadDir are where the target's first process looks.
const (
	RootPath   = "ingot/root.squashfs"
	PayloadDir = "ingot/payload/"
)

// NewPlan plans the boot of manifest m with the given parameters on the machine
// of inv. It is pure: the same values give the same plan.
func NewPlan(inv hardware.Inventory, m images.Manifest, params map[string]string) (Plan, error) {
	if err := m.Validate(); err != nil {
		return Plan{}, &RefusedError{ReasonStack, "build and sign the stack again", err}
	}
	if inv.Kernel.Arch != m.Arch {
		return Plan{}, &RefusedError{ReasonArch, "assign a stack for this architecture",
			fmt.Errorf("stack %s is for %s, this machine is %q", m.Ref(), m.Arch, inv.Kernel.Arch)}
	}
	values, err := m.ResolveParams(params)
	if err != nil {
		return Plan{}, &RefusedError{ReasonParams, "see ingot stack show " + m.Ref(), err}
	}
	p := Plan{
		Schema: PlanSchema, Stack: m.Ref(), Kernel: m.Boot.Kernel, Initrds: m.Boot.Initrds,
		Params: values, Cmdline: strings.TrimSpace(m.Boot.Cmdline),
	}
	if m.Boot.Root != nil {
		p.Files = append(p.Files, File{RootPath, *m.Boot.Root})
	}
	for _, a := range m.Payload() {
		p.Files = append(p.Files, File{PayloadDir + a.Name, a})
	}
	p.FetchBytes, p.NeedBytes = p.sizes()
	return p, p.fits(inv, m)
}

// sizes adds up what is fetched, each digest once, and what must lie in memory
// at once: the agent's copy, the kernel's copy of it for kexec, and the unpacked
// initramfs, of which the last comes when the first is gone.
func (p Plan) sizes() (fetch, need int64) {
	all := append([]images.Artifact{p.Kernel}, p.Initrds...)
	for _, f := range p.Files {
		all = append(all, f.Artifact)
	}
	seen := map[images.Digest]bool{}
	var laid int64
	for _, a := range all {
		laid += a.SizeBytes
		if !seen[a.Digest] {
			seen[a.Digest] = true
			fetch += a.SizeBytes
		}
	}
	return fetch, 2*laid + kernelReserveBytes
}

// kernelReserveBytes is what the agent and two kernels need beside the images.
const kernelReserveBytes = 192 << 20

func (p Plan) fits(inv hardware.Inventory, m images.Manifest) error {
	have := int64(inv.Memory.SizeBytes)
	need := max(p.NeedBytes, m.MemoryBytes)
	if have == 0 || have >= need {
		return nil // unknown is no reason to refuse: the kernel says so itself
	}
	return &RefusedError{ReasonMemory, "add memory, or assign a smaller stack",
		fmt.Errorf("stack %s needs %d MiB of memory, this machine has %d MiB", m.Ref(), need>>20, have>>20)}
}
