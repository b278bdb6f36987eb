package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/images/initramfs"
)

// Accel is what runs the servers' processors.
type Accel string

// Accelerators. AccelAuto is KVM where a guest has really started under it and
// may have virtual machines of its own, else TCG.
const (
	AccelAuto Accel = "auto"
	AccelTCG  Accel = "tcg"
	AccelKVM  Accel = "kvm"
)

const (
	kvmDevice     = "/dev/kvm"
	kvmProbeLimit = 10 * time.Second
	// A kernel that is given no root ends with these words: it has run through
	// all of its own start.
	kernelRan = "VFS: Unable to mount root fs"
	// QEMU stops such a guest and waits for ever.
	kvmGaveUp = "KVM internal error"
	kvmFile   = "kvm.json"
	outputCap = 256 << 10
)

// kvmVerdict says whether lab servers can run under KVM, and why or why not.
type kvmVerdict struct {
	Works     bool
	Why, Mend string
}

// kvmTrial is how a guest fared that was started under KVM. It is kept in the
// build directory, and holds for one boot of the machine, one user, one QEMU.
type kvmTrial struct {
	Seconds float64 `json:"seconds,omitempty"`
	Failure string  `json:"failure,omitempty"`
	BootID  string  `json:"boot_id"`
	UID     int     `json:"uid"`
	Tools   string  `json:"tools"`
}

// chooseAccel decides what lab servers run under, and says why.
func chooseAccel(ctx context.Context, o Options) (Accel, string, error) {
	if o.Accel == AccelTCG {
		return AccelTCG, "asked for", nil
	}
	v := judgeKVM(ctx, thisHost(), o, false)
	switch {
	case ctx.Err() != nil:
		return "", "", fmt.Errorf("try KVM: %w", ctx.Err())
	case v.Works:
		return AccelKVM, v.Why, nil
	case o.Accel == AccelKVM:
		return "", "", fmt.Errorf("kvm: %s (%s)", v.Why, orElse(v.Mend, "use --accel tcg"))
	}
	return AccelTCG, v.Why, nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// judgeKVM finds out whether servers can run under KVM: the device opens,
// guests may have guests, and one has really started, now or, unless afresh,
// since this machine did.
func judgeKVM(ctx context.Context, h host, o Options, afresh bool) kvmVerdict {
	f, err := os.OpenFile(h.path(kvmDevice), os.O_RDWR, 0)
	if err == nil {
		err = f.Close()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return kvmVerdict{Why: "this machine has no " + kvmDevice, Mend: "switch virtualisation on in its firmware, then: sudo modprobe -a kvm_intel kvm_amd"}
	case errors.Is(err, fs.ErrPermission):
		return kvmVerdict{Why: "this user may not open " + kvmDevice, Mend: `sudo usermod -aG kvm "$USER", then log in again`}
	case err != nil:
		return kvmVerdict{Why: err.Error()}
	}
	module, nested := h.nested()
	if module != "" && !nested {
		return kvmVerdict{
			Why:  "guests may have no guests of their own, which the stack needs: nested is off in " + module,
			Mend: fmt.Sprintf("sudo modprobe -r %s && sudo modprobe %s nested=1", module, module),
		}
	}
	trial, known := recallTrial(h, o)
	if !known || afresh {
		trial = tryKVM(ctx, h, o)
	}
	switch {
	case trial.Failure != "":
		return kvmVerdict{Why: trial.Failure}
	case module == "":
		return kvmVerdict{Why: "a guest starts, but neither kvm_intel nor kvm_amd says whether it may have guests of its own, which the stack needs"}
	}
	return kvmVerdict{Works: true, Why: fmt.Sprintf("a guest started in %.1f s and may have guests of its own", trial.Seconds)}
}

// nested tells which module of KVM is loaded, and whether guests may have
// guests.
func (h host) nested() (module string, on bool) {
	for _, module := range []string{"kvm_intel", "kvm_amd"} {
		if v := h.read("/sys/module/" + module + "/parameters/nested"); v != "" {
			return module, v == "Y" || v == "1"
		}
	}
	return "", false
}

// tryKVM starts a kernel under KVM, which either ends in a known way within
// the limit or does not work here.
func tryKVM(ctx context.Context, h host, o Options) kvmTrial {
	trial := h.trial(o)
	t := tools(o.Tools)
	kernel, err := initramfs.FindKernel(string(t))
	if err != nil {
		trial.Failure = fmt.Sprintf("no guest was started: %v (make build/tools/.stamp)", err)
		return trial
	}
	took, err := bootProbe(ctx, probeArgs(t, kernel.Image, "kvm", "host"), kvmProbeLimit)
	if trial.Seconds = took.Seconds(); err != nil {
		trial.Failure = err.Error()
	}
	if ctx.Err() == nil {
		// A trial that is not kept is made again: slower, and no worse.
		_ = keepTrial(o, trial)
	}
	return trial
}

func probeArgs(t tools, kernel, accel, cpu string) []string {
	return append(t.qemu(), "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
		"-machine", "q35", "-accel", accel, "-cpu", cpu, "-smp", "2", "-m", "256",
		"-kernel", kernel, "-append", "console=ttyS0 panic=-1 reboot=t", "-serial", "stdio")
}

// bootProbe runs a QEMU until its kernel has said that it ran, it has given
// up, or the time is over.
func bootProbe(ctx context.Context, args []string, limit time.Duration) (time.Duration, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	said := newWatcher(kernelRan, kvmGaveUp)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start a guest: %w", err)
	}
	stop := context.AfterFunc(said.seen, cancel)
	defer stop()
	err := cmd.Wait()
	switch said.found() {
	case kernelRan:
		return time.Since(start), nil
	case kvmGaveUp:
		return 0, fmt.Errorf("a guest was started and did not run: %s", said.line(kvmGaveUp))
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return 0, fmt.Errorf("a guest was started and its kernel had not come up after %s", limit)
	}
	return 0, fmt.Errorf("a guest was started and QEMU ended: %v: %s", err, said.line(""))
}

// watcher looks for one of some words in what a program writes.
type watcher struct {
	seen  context.Context // ends with the first of the words
	end   context.CancelFunc
	words []string

	mu    sync.Mutex // guards what follows
	text  []byte
	which string
}

func newWatcher(words ...string) *watcher {
	w := &watcher{words: words}
	w.seen, w.end = context.WithCancel(context.Background())
	return w
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.text) < outputCap {
		w.text = append(w.text, p...)
	}
	for _, word := range w.words {
		if w.which == "" && bytes.Contains(w.text, []byte(word)) {
			w.which = word
			w.end()
		}
	}
	return len(p), nil
}

func (w *watcher) found() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.which
}

// line is the line with the word in it, or with no word the last one.
func (w *watcher) line(word string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(w.text)), "\n")
	for _, l := range lines {
		if at := strings.Index(l, word); word != "" && at >= 0 {
			return strings.TrimSpace(l[at:])
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// trial is a trial without its outcome.
func (h host) trial(o Options) kvmTrial {
	return kvmTrial{BootID: h.read("/proc/sys/kernel/random/boot_id"), UID: h.euid, Tools: o.Tools}
}

// recallTrial reads the trial of an earlier lab, if it still holds.
func recallTrial(h host, o Options) (kvmTrial, bool) {
	var t kvmTrial
	b, err := os.ReadFile(filepath.Join(o.Build, kvmFile))
	if err != nil || json.Unmarshal(b, &t) != nil || t.BootID == "" {
		return kvmTrial{}, false
	}
	want := h.trial(o)
	want.Seconds, want.Failure = t.Seconds, t.Failure
	return t, t == want
}

func keepTrial(o Options, t kvmTrial) error {
	path := filepath.Join(o.Build, kvmFile)
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := writeJSON(tmp, 0o644, t); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
