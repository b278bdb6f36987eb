package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// refused are modules that the agent does not load for a device, whatever it
// shows; an operator's folder of modules may hold them.
var refused = map[string]string{
	"ipmi_watchdog": "it takes the BMC's only timer; the agent arms that itself",
	"nouveau":       "graphics drivers hang machines and show nothing that is needed",
	"nvidia":        "graphics drivers hang machines and show nothing that is needed",
	"amdgpu":        "graphics drivers hang machines and show nothing that is needed",
	"radeon":        "graphics drivers hang machines and show nothing that is needed",
	"pcspkr":        "it beeps",
	"floppy":        "it waits for a drive that is not there",
	"evbug":         "it writes every key to the log",
}

// ErrNoModule is a module that the initramfs does not hold.
var ErrNoModule = errors.New("no such module")

// ModuleLoad is one module that was loaded, or was not.
type ModuleLoad struct {
	Name  string
	For   string        // the modalias that asked for it; "" when loaded by name or for another
	Start time.Duration // since the kernel's start
	Took  time.Duration
	Err   error // the kernel's answer; ENODEV means that it found nothing to drive
}

// Modules loads kernel modules: each once, dependencies first, several at a time.
type Modules struct {
	index *modIndex
	slots *queue // bounds what runs at once, NICs first

	mu    sync.Mutex
	calls map[string]*moduleCall
	order []*moduleCall
}

type moduleCall struct {
	done chan struct{}
	load ModuleLoad
	rank int // of the device that asked first; what is needed by it inherits
}

// OpenModules reads the index of the modules that fit this kernel release.
func OpenModules(release string) (*Modules, error) {
	dir := filepath.Join(modulesRoot, release)
	x, err := readModIndex(dir)
	if err != nil {
		return nil, fmt.Errorf("module index for kernel %s: %w", release, err)
	}
	return newModules(x), nil
}

func newModules(x *modIndex) *Modules {
	// One more than there are processors, since loading waits for devices too.
	return &Modules{index: x, slots: newQueue(1 + runtime.NumCPU()), calls: map[string]*moduleCall{}}
}

// Load loads modules by name and waits for them. What is built in or loaded
// already is done. The error joins what each answered.
func (m *Modules) Load(ctx context.Context, names ...string) error {
	var errs []error
	for _, c := range m.startAll("", names) {
		select {
		case <-c.done:
			if c.load.Err != nil {
				errs = append(errs, fmt.Errorf("load module %s: %w", c.load.Name, c.load.Err))
			}
		case <-ctx.Done():
			return errors.Join(append(errs, ctx.Err())...)
		}
	}
	return errors.Join(errs...)
}

// Loads lists all that was tried so far and is over, in the order of asking.
func (m *Modules) Loads() []ModuleLoad {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ModuleLoad
	for _, c := range m.order {
		select {
		case <-c.done:
			out = append(out, c.load)
		default:
		}
	}
	return out
}

// forDevice starts what a modalias asks for.
func (m *Modules) forDevice(modalias string) []*moduleCall {
	names := slices.DeleteFunc(m.index.aliases.match(modalias), func(n string) bool { return refused[n] != "" })
	return m.startAll(modalias, names)
}

func (m *Modules) startAll(modalias string, names []string) []*moduleCall {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := make([]*moduleCall, len(names))
	for i, n := range names {
		calls[i] = m.start(modalias, canonical(n), rank(modalias), nil)
	}
	return calls
}

// start begins to load a module and what it needs, unless that is under way.
// above names the modules that are being started around this one. The caller
// holds mu.
func (m *Modules) start(modalias, name string, rank int, above []string) *moduleCall {
	if c, ok := m.calls[name]; ok {
		return c
	}
	c := &moduleCall{done: make(chan struct{}), load: ModuleLoad{Name: name, For: modalias}, rank: rank}
	m.calls[name] = c
	path := m.index.path[name]
	if path == "" {
		if !m.index.builtin[name] {
			c.load.Err = ErrNoModule
			m.order = append(m.order, c)
		}
		close(c.done)
		return c
	}
	above = append(slices.Clip(above), name)
	var hard, soft []*moduleCall
	for _, d := range m.index.soft[name] {
		if !m.waitsFor(d, above) {
			soft = append(soft, m.start("", d, rank, above))
		}
	}
	for _, d := range slices.Backward(m.index.deps[name]) {
		hard = append(hard, m.start("", d, rank, above))
	}
	m.order = append(m.order, c)
	go m.run(c, path, hard, soft)
	return c
}

// waitsFor tells whether a module is, or needs, one of those above it: soft
// dependencies may run in a circle, and that would wait for ever.
func (m *Modules) waitsFor(name string, above []string) bool {
	if slices.Contains(above, name) {
		return true
	}
	return slices.ContainsFunc(m.index.deps[name], func(d string) bool { return slices.Contains(above, d) })
}

func (m *Modules) run(c *moduleCall, path string, hard, soft []*moduleCall) {
	defer close(c.done)
	for _, d := range soft {
		<-d.done // its error is its own
	}
	for _, d := range hard {
		<-d.done
		if d.load.Err != nil {
			c.load.Err = fmt.Errorf("needs %s: %w", d.load.Name, d.load.Err)
			return
		}
	}
	m.slots.enter(c.rank)
	defer m.slots.leave()
	c.load.Start = Uptime()
	c.load.Err = insert(path)
	c.load.Took = Uptime() - c.load.Start
}

// insert gives a module file to the kernel, which unpacks it where it can.
func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if strings.HasSuffix(path, ".xz") {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	if flags != 0 && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) {
		err = insertUnpacked(f) // a kernel that does not unpack, or not this format
	}
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// maxModuleBytes bounds an unpacked module.
const maxModuleBytes = 64 << 20

func insertUnpacked(f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r, err := xz.NewReader(f)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	var raw bytes.Buffer
	if _, err := io.Copy(&raw, io.LimitReader(r, maxModuleBytes)); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return unix.InitModule(raw.Bytes(), "")
}
