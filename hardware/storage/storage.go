// Package storage reads drives, and what they hang on: controllers,
// enclosures, and the arrays that the kernel makes of them. Facts come from
// sysfs where it has them; what only the drive knows is asked of it with
// commands that read (package passthru), each drive beside the others and for
// a bounded time. A drive that sleeps is left asleep. Nothing is opened for
// writing.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/storage/ata"
	"github.com/ingot-metal/ingot/hardware/sysfs"
)

// Source is how parts name this reader.
const Source = "storage"

// driveLimit is how long one drive may take. One that takes longer is left
// behind with what sysfs says of it.
const driveLimit = 3 * time.Second

// Read tells of the drives below root and of what they hang on.
func Read(ctx context.Context, root sysfs.Root) (hardware.View, error) {
	return read(ctx, root, driveLimit)
}

func read(ctx context.Context, root sysfs.Root, limit time.Duration) (hardware.View, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var running []*reading
	for _, u := range units(root) {
		running = append(running, start(ctx, root, u))
	}
	var v hardware.View
	inv := &v.Inventory
	around := within(ctx, func() hardware.Inventory {
		shelves, faults := enclosures(root)
		arrays, losses := volumes(root)
		return hardware.Inventory{StorageControllers: controllers(root), Enclosures: shelves, Volumes: arrays, Findings: append(faults, losses...)}
	})
	serials := map[string]string{} // by kernel name
	var denied []string
	for _, r := range running {
		got := r.wait(ctx, limit)
		if errors.Is(got.refused, fs.ErrPermission) {
			denied = append(denied, got.drive.Name)
		}
		for _, name := range r.unit.names {
			serials[name] = got.drive.Serial
		}
		if slices.ContainsFunc(inv.Drives, func(d hardware.Drive) bool { return sameDrive(d, got.drive) }) {
			continue // another path to it
		}
		inv.Drives = append(inv.Drives, got.drive)
		inv.Findings = append(inv.Findings, got.findings...)
		if got.knows() {
			v.Readings.Drives = append(v.Readings.Drives, got.health)
		}
	}
	*inv = hardware.Append(*inv, around())
	for i := range inv.Volumes {
		nameMembers(&inv.Volumes[i], serials)
	}
	if len(denied) > 0 {
		inv.Findings = append(inv.Findings, hardware.Finding{Code: hardware.CodeNotPermitted, Severity: hardware.Info, Part: "drives", Source: Source,
			Evidence: "open " + strings.Join(denied, ", ") + ": permission denied", Hint: "run as root: only root may ask drives for their health"})
	}
	return v, nil
}

// within runs f beside the caller, and gives its answer; nothing where it has
// none by the end of ctx.
func within(ctx context.Context, f func() hardware.Inventory) func() hardware.Inventory {
	c := make(chan hardware.Inventory, 1)
	go func() { c <- f() }()
	return func() hardware.Inventory {
		select {
		case v := <-c:
			return v
		case <-ctx.Done():
		}
		select {
		case v := <-c:
			return v
		default:
			return hardware.Inventory{Findings: []hardware.Finding{{Code: hardware.CodeReaderDeadline, Severity: hardware.Warning, Part: "storage", Source: Source,
				Evidence: "a file of sysfs was not read in time", Hint: "controllers, enclosures or arrays are missing from the inventory: look for a driver that hangs in the kernel's log"}}}
		}
	}
}

// sameDrive tells a second path to a drive by the names that the drive itself
// gives.
func sameDrive(a, b hardware.Drive) bool {
	return a.WWN != "" && a.WWN == b.WWN && a.Serial != "" && a.Serial == b.Serial && a.Name != b.Name
}

// result is all that is known of one drive.
type result struct {
	drive    hardware.Drive
	health   hardware.DriveReading
	findings []hardware.Finding
	refused  error // why the drive's node was not opened
	// What the steps of reading leave for each other.
	controller string // the NVMe controller that is asked
	portMbps   int    // the most that the other end of a SATA cable can
	ata        *ata.Identity
	signature  ata.Signature
	smart      ata.Smart
	statistics ata.Statistics
}

// knows reports whether the drive said anything of its health.
func (r *result) knows() bool {
	h := r.health
	return h.Health != "" || h.Celsius != nil || h.PowerOnHours != nil || len(h.Warnings) > 0
}

// find adds a finding on the drive.
func (r *result) find(code hardware.Code, severity hardware.Severity, evidence, hint string) {
	r.findings = append(r.findings, hardware.Finding{Code: code, Severity: severity, Part: "drive " + r.drive.Name, Evidence: evidence, Hint: hint, Source: Source})
}

// reading is one drive at work: base is what sysfs says, full what the drive
// says too.
type reading struct {
	unit       unit
	base, full chan result
	asks       *questions
}

// start reads one drive in a goroutine of its own, which ends when the drive
// has answered; one that never does is left behind with it.
func start(ctx context.Context, root sysfs.Root, u unit) *reading {
	r := &reading{unit: u, base: make(chan result, 1), full: make(chan result, 1), asks: &questions{ctx: ctx, root: root}}
	go func() {
		res := result{drive: hardware.Drive{Name: u.names[0], Sources: hardware.Sources{Source}}}
		defer func() {
			if p := recover(); p != nil {
				res.find(hardware.CodeReaderPanicked, hardware.Warning, fmt.Sprintf("panic: %v at %s", p, site(debug.Stack())), "report it: the drive's answer breaks its decoder")
			}
			r.asks.close()
			r.full <- res
		}()
		u.facts(root, &res)
		r.base <- res.clone()
		u.ask(r.asks, &res)
		res.finish()
	}()
	return r
}

// clone is what may be read while the drive is still being asked.
func (r *result) clone() result {
	c := *r
	c.drive.Namespaces, c.findings = slices.Clone(c.drive.Namespaces), slices.Clone(c.findings)
	return c
}

// wait is what the drive said by the end of ctx, and else what sysfs says of
// it.
func (r *reading) wait(ctx context.Context, limit time.Duration) result {
	select {
	case res := <-r.full:
		return res
	case <-ctx.Done():
	}
	select {
	case res := <-r.full: // it has answered while another was waited for
		return res
	default:
	}
	res := result{drive: hardware.Drive{Name: r.unit.names[0], Sources: hardware.Sources{Source}}}
	select {
	case res = <-r.base:
	default:
	}
	res.find(hardware.CodeDriveHung, hardware.Warning, fmt.Sprintf("no answer to %s within %v", r.asks.current(), limit),
		"the drive, its cable or its controller may be failing: look for resets in the kernel's log; replace "+label(res.drive)+" when it happens again")
	return res
}

// label is how a person finds a drive.
func label(d hardware.Drive) string {
	s := "drive " + d.Name
	if d.Serial != "" {
		s += ", serial " + d.Serial
	}
	if d.Slot != "" {
		s += ", in " + strings.TrimSpace(d.Enclosure+" "+d.Slot)
	}
	return s
}

// site is the frame that panicked: a file and a line.
func site(stack []byte) string {
	_, after, _ := strings.Cut(string(stack), "panic(")
	lines := strings.Split(after, "\n")
	if len(lines) < 4 {
		return "an unknown place"
	}
	s, _, _ := strings.Cut(strings.TrimSpace(lines[3]), " ")
	return s[strings.LastIndexByte(s, '/')+1:]
}
