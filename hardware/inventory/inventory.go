// Package inventory reads the server that it runs on: readers side by side,
// one source each, each with a deadline. A reader that fails, panics or hangs
// costs its own facts and becomes a finding; nothing waits for it longer than
// its deadline.
package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/ipmi"
	"github.com/ingot-metal/ingot/hardware/nic"
	"github.com/ingot-metal/ingot/hardware/pci"
	"github.com/ingot-metal/ingot/hardware/smbios"
	"github.com/ingot-metal/ingot/hardware/storage"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// Reader reads one source. Its view is partial: the parts that the source
// knows.
type Reader struct {
	Name     string
	Deadline time.Duration
	Read     func(context.Context, sysfs.Root) (hardware.View, error)
}

// facts makes a reader of one that reads nothing that moves.
func facts(read func(context.Context, sysfs.Root) (hardware.Inventory, error)) func(context.Context, sysfs.Root) (hardware.View, error) {
	return func(ctx context.Context, root sysfs.Root) (hardware.View, error) {
		inv, err := read(ctx, root)
		return hardware.View{Inventory: inv}, err
	}
}

// Readers is the table. Where two know the same fact the earlier one stands.
// The deadlines are many times what a reader takes under emulation.
func Readers() []Reader {
	return []Reader{
		{smbios.Source, 5 * time.Second, facts(smbios.Read)},
		{"firmware", 2 * time.Second, facts(firmware)},
		{"cpu", 2 * time.Second, facts(cpus)},
		{"memory", 2 * time.Second, facts(memory)},
		{"kernel", 2 * time.Second, facts(kernel)},
		{"tpm", 2 * time.Second, facts(tpm)},
		{pci.Source, 10 * time.Second, facts(pci.Read)},
		{nic.Source, 5 * time.Second, facts(nic.Read)},
		{storage.Source, 10 * time.Second, facts(storage.Read)},
		{ipmi.Source, 12 * time.Second, facts(ipmi.Read)},
	}
}

// Duration is how long one reader took; Err is empty where it succeeded.
type Duration struct {
	Reader string        `json:"reader"`
	Took   time.Duration `json:"took_ns"`
	Err    string        `json:"error,omitempty"`
}

// Result is an inventory and how it came to be.
type Result struct {
	Inventory hardware.Inventory
	Readings  hardware.Readings
	Took      time.Duration
	Readers   []Duration // in the order of the table
}

// Read runs all readers of the table over the system below root ("/" for the
// running one).
func Read(ctx context.Context, root string) Result {
	return Run(ctx, root, Readers())
}

// ErrHung is the error of a reader that did not return by its deadline.
var ErrHung = errors.New("did not return by its deadline")

// Run runs these readers side by side. It returns when each has answered or
// passed its deadline, or ctx ended. A reader that hangs in a system call is
// left behind: its goroutine ends when that call returns, its answer unread.
func Run(ctx context.Context, root string, readers []Reader) Result {
	begin := time.Now()
	answers := make([]chan answer, len(readers))
	for i, r := range readers {
		answers[i] = make(chan answer, 1)
		go func() { answers[i] <- call(ctx, r, sysfs.Root(root)) }()
	}
	res := Result{Readers: make([]Duration, len(readers))}
	for i, r := range readers {
		a := wait(ctx, answers[i], r, begin)
		res.Readers[i] = Duration{Reader: r.Name, Took: a.took}
		merge(&res.Inventory, a.view.Inventory)
		res.Readings.Add(a.view.Readings)
		if a.err != nil {
			res.Readers[i].Err = a.err.Error()
			res.Inventory.Findings = append(res.Inventory.Findings, failure(r, a))
		}
	}
	nameAdapters(&res.Inventory)
	res.Inventory.Normalize()
	res.Readings.Add(moving(res.Inventory))
	res.Readings.Normalize()
	res.Took = time.Since(begin)
	return res
}

type answer struct {
	view  hardware.View
	took  time.Duration
	err   error
	panic bool
}

func call(ctx context.Context, r Reader, root sysfs.Root) (a answer) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.Deadline)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			a.err = fmt.Errorf("panic: %v at %s", p, panicSite(debug.Stack()))
			a.panic = true
		}
		a.took = time.Since(begin)
	}()
	a.view, a.err = r.Read(ctx, root)
	return a
}

// panicSite is the first frame below the panic itself.
func panicSite(stack []byte) string {
	_, after, _ := strings.Cut(string(stack), "panic(")
	lines := strings.Split(after, "\n")
	if len(lines) < 4 {
		return "an unknown place"
	}
	site, _, _ := strings.Cut(strings.TrimSpace(lines[3]), " ")
	return site[strings.LastIndexByte(site, '/')+1:]
}

func wait(ctx context.Context, c chan answer, r Reader, begin time.Time) answer {
	timer := time.NewTimer(time.Until(begin.Add(r.Deadline + 50*time.Millisecond)))
	defer timer.Stop()
	select {
	case a := <-c:
		return a
	case <-timer.C:
	case <-ctx.Done():
		timer.Reset(50 * time.Millisecond) // those that heed the context still answer
		select {
		case a := <-c:
			return a
		case <-timer.C:
		}
	}
	select {
	case a := <-c:
		return a
	default:
		return answer{took: time.Since(begin), err: ErrHung}
	}
}

func failure(r Reader, a answer) hardware.Finding {
	f := hardware.Finding{Code: hardware.CodeReaderFailed, Severity: hardware.Warning, Part: r.Name,
		Evidence: a.err.Error(), Source: r.Name, Hint: "what this reader knows is missing from the inventory"}
	switch {
	case a.panic:
		f.Code = hardware.CodeReaderPanicked
	case errors.Is(a.err, ErrHung), errors.Is(a.err, context.DeadlineExceeded):
		f.Code = hardware.CodeReaderDeadline
		f.Evidence = fmt.Sprintf("%v after %v", a.err, a.took.Round(time.Millisecond))
	}
	return f
}

// nameAdapters gives each port the name of its PCI function.
func nameAdapters(inv *hardware.Inventory) {
	for i := range inv.NICs {
		n := &inv.NICs[i]
		if n.Adapter != "" || n.BDF == "" || n.Bus != "pci" {
			continue
		}
		for _, p := range inv.PCI {
			if p.BDF == n.BDF {
				n.Adapter = strings.TrimSpace(p.Vendor + " " + p.Device)
			}
		}
	}
}

// moving is what moves of the parts themselves: whoever reads is on.
func moving(inv hardware.Inventory) hardware.Readings {
	r := hardware.Readings{PowerState: hardware.PowerOn}
	for _, n := range inv.NICs {
		if n.MAC != "" && n.Carrier != "" {
			r.Links = append(r.Links, hardware.Link{MAC: n.MAC, Carrier: n.Carrier, LinkMbps: n.LinkMbps})
		}
	}
	return r
}

// merge adds a partial inventory: single parts by the rule of
// [hardware.Join], lists one after the other, except that the second source
// on CPUs completes the first.
func merge(inv *hardware.Inventory, part hardware.Inventory) {
	cpus := mergeCPUs(inv.CPUs, part.CPUs)
	*inv = hardware.Append(*inv, part)
	inv.CPUs = cpus
}

// mergeCPUs joins sockets by order. The model that the CPU itself tells the
// kernel stands before the firmware's, which virtual machines fill with the
// machine type; counts stay the firmware's.
func mergeCPUs(a, b []hardware.CPU) []hardware.CPU {
	if len(a) == 0 {
		return b
	}
	for i := range min(len(a), len(b)) {
		x, y := &a[i], b[i]
		x.Model = cmp.Or(y.Model, x.Model)
		x.Manufacturer = cmp.Or(y.Manufacturer, x.Manufacturer)
		x.Cores, x.Threads = cmp.Or(x.Cores, y.Cores), cmp.Or(x.Threads, y.Threads)
		x.MaxMHz = cmp.Or(y.MaxMHz, x.MaxMHz)
		x.Sources = append(x.Sources, y.Sources...)
	}
	return a
}
