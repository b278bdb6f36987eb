// Package inventory reads the server that it runs on: readers side by side,
// one source each, each with a deadline. A reader that fails, panics or hangs
// costs its own facts and becomes a finding; nothing waits for it longer than
// its deadline.
package inventory

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/cpu"
	"github.com/ingot-metal/ingot/hardware/firmware"
	"github.com/ingot-metal/ingot/hardware/ipmi"
	"github.com/ingot-metal/ingot/hardware/lldp"
	"github.com/ingot-metal/ingot/hardware/memory"
	"github.com/ingot-metal/ingot/hardware/nic"
	"github.com/ingot-metal/ingot/hardware/pci"
	"github.com/ingot-metal/ingot/hardware/smbios"
	"github.com/ingot-metal/ingot/hardware/storage"
	"github.com/ingot-metal/ingot/hardware/sysfs"
	"github.com/ingot-metal/ingot/hardware/tpm"
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

// Readers is the table of those whose facts the first report carries. Where
// two know the same fact the earlier one stands. The deadlines are many times
// what a reader takes under emulation.
func Readers() []Reader {
	return []Reader{
		{tpm.Source, 15 * time.Second, facts(tpm.Read)}, // before the firmware's word on its firmware
		{smbios.Source, 5 * time.Second, facts(smbios.Read)},
		{firmware.Source, 4 * time.Second, facts(firmware.Read)},
		{cpu.Source, 3 * time.Second, facts(cpu.Read)},
		{memory.Source, 2 * time.Second, memory.Read},
		{"kernel", 2 * time.Second, facts(kernel)},
		{pci.Source, 10 * time.Second, facts(pci.Read)},
		{nic.Source, 5 * time.Second, facts(nic.Read)},
		{storage.Source, 10 * time.Second, storage.Read},
		{"usb", 2 * time.Second, facts(usb)},
		{"watchdog", 2 * time.Second, facts(watchdogs)},
		{ipmi.Source, 12 * time.Second, facts(ipmi.Read)},
	}
}

// Late is the table of those that follow the first report: what waits for a
// frame on a cable, and what asks a slow BMC or drive for logs and sensors.
func Late() []Reader {
	return []Reader{
		{lldp.Source, lldp.Interval + time.Second, facts(lldp.Read)},
		{"bmc", time.Minute, ipmi.Late},
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
	Readers   []Duration // of those that have answered, in the order of the tables
	Pending   []string   // the readers that have not
}

// Read runs the readers of the first table over the system below root ("/"
// for the running one). The facts of [Late] come with [Stream] alone.
func Read(ctx context.Context, root string) Result {
	return Run(ctx, root, Readers())
}

// FirstLimit is how long the first result of [Stream] waits for its readers.
const FirstLimit = 4 * time.Second

// Stream runs both tables over the system below root and tells what is known
// as it grows. told is called by the caller's goroutine: first when each
// reader of [Readers] has answered, or at [FirstLimit]; then, while the readers
// of [Late] are at work, each time that more have answered, in whole or in part
// (package partial). Every result holds all that was known before. The last, which has nothing pending, is returned
// too. Where ctx ends, the readers end, and so does Stream.
func Stream(ctx context.Context, root string, told func(Result)) Result {
	return stream(ctx, root, tables{Readers(), Late(), FirstLimit}, told)
}

// ErrHung is the error of a reader that did not return by its deadline.
var ErrHung = errors.New("did not return by its deadline")

// Run runs these readers side by side. It returns when each has answered or
// passed its deadline, or ctx ended. A reader that hangs in a system call is
// left behind: its goroutine ends when that call returns, its answer unread.
func Run(ctx context.Context, root string, readers []Reader) Result {
	return stream(ctx, root, tables{first: readers}, func(Result) {})
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

// answerOf runs one reader. It returns by the reader's deadline, or when ctx
// ended.
func answerOf(ctx context.Context, r Reader, root sysfs.Root) answer {
	begin := time.Now()
	c := make(chan answer, 1)
	go func() { c <- call(ctx, r, root) }()
	timer := time.NewTimer(r.Deadline + 50*time.Millisecond)
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
