package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/boot"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/cpio"
	"github.com/ingot-metal/ingot/images/store"
	"github.com/ingot-metal/ingot/qemu-tests/scenario"
)

// bootLimit bounds one boot, and what is asked of it.
const bootLimit = 5 * time.Minute

// life is what one boot of ours took, in seconds.
type life struct {
	report  float64 // power on → report acknowledged
	init    float64 // kernel start → /init
	inside  float64 // /init → report acknowledged
	readers map[string]float64
	phases  map[string]float64 // of the agent, up to the report
	assign  float64            // assignment → target's /init
	answer  float64            // jump → service's answer
	parts   parts
	plan    boot.Plan
	freeMiB float64
}

// parts are the floors of an answer, each read in the same life.
type parts struct{ vmInit, containerd, container float64 }

func (p parts) sum() float64 { return p.vmInit + p.containerd + p.container }

// boot measures whole lives of a server and, between them, the same boots with
// nothing of ours in them.
func (r *run) boot(ctx context.Context) ([]Figure, error) {
	idle, err := r.program(ctx, "idle")
	if err != nil {
		return nil, err
	}
	idleBuild, err := r.floorBuild("floor-idle", cpio.File{Name: "init", Perm: 0o755, Data: idle})
	if err != nil {
		return nil, err
	}
	bare, err := r.program(ctx, "barekexec")
	if err != nil {
		return nil, err
	}
	var ours []life
	var idles, kexecs, kernels []float64
	for i := range r.o.Repeat {
		l, err := r.life(ctx, fmt.Sprint("life-", i+1))
		if err != nil {
			return nil, err
		}
		ours = append(ours, l)
		d, err := r.idleBoot(ctx, idleBuild)
		if err != nil {
			return nil, err
		}
		idles = append(idles, d)
		load, kernel, err := r.bareKexec(ctx, bare, l.plan)
		if err != nil {
			return nil, err
		}
		kexecs, kernels = append(kexecs, load), append(kernels, kernel)
		r.say("  life %d: report after %.1f s (idle /init %.1f s), target's /init %.1f s after the assignment (bare kexec %.1f s), answer %.1f s after the jump",
			i+1, l.report, d, l.assign, load, l.answer)
	}
	return bootFigures(ours, idles, kexecs, kernels), nil
}

// beforeReport are the agent's phases that lead to the report, one after the
// other: inventory waits for what is left of drivers and readers.
var beforeReport = []string{"initramfs", "modules", "trust", "clock", "network", "inventory", "enrol", "report"}

// bootFigures are the medians over all lives, and of the ratios of each.
func bootFigures(ours []life, idles, kexecs, kernels []float64) []Figure {
	of := func(f func(life) float64) float64 {
		var v []float64
		for _, l := range ours {
			v = append(v, f(l))
		}
		return median(v)
	}
	// A life and the floors beside it ran under the same load.
	ratio := func(f func(life) float64, floor func(int) float64) float64 {
		var v []float64
		for i, l := range ours {
			v = append(v, f(l)/floor(i))
		}
		return median(v)
	}
	took := func(f func(life) map[string]float64) string {
		var all []map[string]float64
		for _, l := range ours {
			all = append(all, f(l))
		}
		return slowest(all)
	}
	out := []Figure{
		{Name: "power-to-report", What: "power on → acknowledged report", Value: of(func(l life) float64 { return l.report }), Unit: "s",
			Floor: median(idles), FloorWhat: "same firmware, kernel and path, an init that does nothing", Aim: "1.3",
			Ratio: ratio(func(l life) float64 { return l.report }, func(i int) float64 { return idles[i] })},
		{Name: "assign-to-init", What: "assignment → target's `/init`", Value: of(func(l life) float64 { return l.assign }), Unit: "s",
			Floor: median(kexecs), FloorWhat: "kexec of the same kernel and initrd from memory", Aim: "1.3",
			Ratio: ratio(func(l life) float64 { return l.assign }, func(i int) float64 { return kexecs[i] })},
		{Name: "jump-to-answer", What: "jump → service's answer", Value: of(func(l life) float64 { return l.answer }), Unit: "s",
			Floor: median(kernels) + of(func(l life) float64 { return l.parts.sum() }), FloorWhat: fmt.Sprintf("kernel → init %.1f, VM kernel → init %.1f, containerd %.1f, container %.1f",
				median(kernels), of(func(l life) float64 { return l.parts.vmInit }), of(func(l life) float64 { return l.parts.containerd }), of(func(l life) float64 { return l.parts.container })),
			Aim: "1.5", Ratio: ratio(func(l life) float64 { return l.answer }, func(i int) float64 { return kernels[i] + ours[i].parts.sum() })},
		{Name: "kernel-to-init", What: "kernel start → `/init`", Value: of(func(l life) float64 { return l.init }), Unit: "s"},
		{Name: "init-to-report", What: "`/init` → acknowledged report", Value: of(func(l life) float64 { return l.inside }), Unit: "s", Aim: "1.5 s",
			Note: took(func(l life) map[string]float64 { return l.phases }) + "; readers side by side: " + took(func(l life) map[string]float64 { return l.readers })},
		{Name: "memory-free", What: "memory that is free once the service answers, of 3 GiB", Value: of(func(l life) float64 { return l.freeMiB }), Unit: "MiB"},
	}
	return out
}

// slowest names what takes the most of the time, by the medians over all lives.
func slowest(lives []map[string]float64) string {
	took := map[string][]float64{}
	for _, l := range lives {
		for name, s := range l {
			took[name] = append(took[name], s)
		}
	}
	names := slices.SortedFunc(maps.Keys(took), func(a, b string) int {
		return cmp.Or(cmp.Compare(median(took[b]), median(took[a])), cmp.Compare(a, b))
	})
	var out []string
	for _, n := range names[:min(4, len(names))] {
		out = append(out, fmt.Sprintf("%s %.0f ms", n, median(took[n])*1000))
	}
	return strings.Join(out, ", ")
}

// life carries one server from its power button to an answer.
func (r *run) life(ctx context.Context, name string) (l life, err error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	g, err := r.rig(ctx, name, r.o.Build, 0)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	job := scenario.Job{Client: g.client, Say: func(string) {}}
	on, err := g.power(ctx, "on")
	if err != nil {
		return l, err
	}
	if _, err := job.Await(ctx, g.server.Name, "inventoried", scenario.Waiting); err != nil {
		return l, err
	}
	at := time.Now()
	if err := scenario.Ingot(r.o.Ingot, g.name)(ctx, "assign", g.server.Name, "hello", "--param", "nonce=bench"); err != nil {
		return l, err
	}
	begun, _, err := g.heard(ctx, at, `ingot: stage 1: mounts done`)
	if err != nil {
		return l, err
	}
	l.assign = begun.Sub(at).Seconds()
	st, err := job.Await(ctx, g.server.Name, "running", scenario.Running)
	if err != nil {
		return l, err
	}
	if _, _, err := scenario.Ask(ctx, g.server.URL); err != nil {
		return l, err
	}
	answered := time.Now()
	if _, free, err := g.heard(ctx, at, `memory: (\d+) MiB of \d+ are free`); err != nil {
		return l, err
	} else if l.freeMiB, err = strconv.ParseFloat(free, 64); err != nil {
		return l, err
	}
	if err := l.console(ctx, g, at); err != nil {
		return l, err
	}
	if err := l.events(ctx, g, on, answered); err != nil {
		return l, err
	}
	l.plan, err = r.plan(ctx, g.client, st)
	return l, err
}

// console reads what the VM says of its own parts, in seconds of its uptime.
func (l *life) console(ctx context.Context, g *rig, from time.Time) error {
	second := func(pattern string) (time.Time, float64, error) {
		at, s, err := g.heard(ctx, from, pattern)
		if err != nil {
			return at, 0, err
		}
		v, err := strconv.ParseFloat(s, 64)
		return at, v, err
	}
	_, answers, err := second(`containerd answers after ([0-9.]+) s`)
	if err != nil {
		return err
	}
	imported, _, err := second(`imported after ([0-9.]+) s`)
	if err != nil {
		return err
	}
	up, _, err := g.heard(ctx, from, `container hello: up`)
	l.parts.containerd, l.parts.container = answers, up.Sub(imported).Seconds()
	return err
}

// events takes from the timeline what it holds.
func (l *life) events(ctx context.Context, g *rig, on, answered time.Time) error {
	t, err := g.client.Find(ctx, g.server.Name)
	if err != nil {
		return err
	}
	records, err := g.client.Events(ctx, t)
	if err != nil {
		return err
	}
	aligned := operator.Aligned(records)
	l.phases = map[string]float64{}
	var began, reported time.Time
	for i, e := range aligned {
		switch e.Kind {
		case fleet.KindInit:
			var d fleet.StepData
			if err := decode(e, &d); err != nil {
				return err
			}
			l.init, began = d.Seconds, e.Time
		case fleet.KindStep:
			var d fleet.StepData
			if err := decode(e, &d); err != nil {
				return err
			}
			if e.Source == fleet.SourceAgent && d.State == "done" && l.answer == 0 && slices.Contains(beforeReport, d.Step) {
				l.phases[d.Step] = d.Seconds
			}
		case fleet.KindReport:
			var d fleet.ReportData
			if err := decode(e, &d); err != nil {
				return err
			}
			reported = records[i].Received
			l.readers, l.report = d.Readers, reported.Sub(on).Seconds()
		case fleet.KindHandoff:
			l.answer = answered.Sub(records[i].Received).Seconds()
		case fleet.KindLayer:
			var d fleet.Layer
			if err := decode(e, &d); err != nil {
				return err
			}
			if d.Layer == fleet.LayerVM && d.State == fleet.LayerUp {
				if l.parts.vmInit, err = strconv.ParseFloat(d.Facts["hello_seconds"], 64); err != nil {
					return fmt.Errorf("read the VM's first word: %w", err)
				}
			}
		}
	}
	l.parts.containerd -= l.parts.vmInit // both are the VM's uptime
	l.inside = reported.Sub(began).Seconds()
	if began.IsZero() || reported.IsZero() || l.answer == 0 {
		return fmt.Errorf("read the timeline of %s: init, report or handoff does not stand in it", g.server.Name)
	}
	return nil
}

func decode(e fleet.Event, v any) error {
	if err := json.Unmarshal(e.Data, v); err != nil {
		return fmt.Errorf("read event %s: %w", e.Kind, err)
	}
	return nil
}

// plan is how the stack that a server runs was booted.
func (r *run) plan(ctx context.Context, c *operator.Client, st fleet.Status) (boot.Plan, error) {
	all, err := c.Stacks(ctx)
	if err != nil {
		return boot.Plan{}, err
	}
	i := slices.IndexFunc(all, func(e fleet.StackEntry) bool { return string(e.Digest) == st.StackDigest })
	if i < 0 {
		return boot.Plan{}, fmt.Errorf("find stack %s: the fleet does not hold it", st.StackDigest)
	}
	m, err := images.ParseManifest(all[i].Stack.Payload)
	if err != nil {
		return boot.Plan{}, err
	}
	inv := hardware.Inventory{Kernel: hardware.Kernel{Arch: m.Arch}, Memory: hardware.Memory{SizeBytes: 3 << 30}}
	return boot.NewPlan(inv, m, map[string]string{"nonce": "bench"})
}

// idleBoot is from the power button to an /init that does nothing.
func (r *run) idleBoot(ctx context.Context, build string) (_ float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	g, err := r.rig(ctx, "idle", build, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	on, err := g.power(ctx, "on")
	if err != nil {
		return 0, err
	}
	at, _, err := g.heard(ctx, on, `FLOOR init`)
	return at.Sub(on).Seconds(), err
}

// bareKexec loads and starts what the plan names from memory, as soon as the
// kernel runs. It returns seconds from the beginning of the load, and from the
// jump, to the target's /init.
func (r *run) bareKexec(ctx context.Context, program []byte, p boot.Plan) (load, kernel float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	kernelBytes, initrd, err := r.payload(p)
	if err != nil {
		return 0, 0, err
	}
	build, err := r.floorBuild("floor-kexec", cpio.File{Name: "init", Perm: 0o755, Data: program},
		cpio.File{Name: "kernel", Data: kernelBytes}, cpio.File{Name: "initrd", Data: initrd}, cpio.File{Name: "cmdline", Data: []byte(p.Cmdline)})
	if err != nil {
		return 0, 0, err
	}
	g, err := r.rig(ctx, "kexec", build, 0)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	on, err := g.power(ctx, "on")
	if err != nil {
		return 0, 0, err
	}
	began, _, err := g.heard(ctx, on, `FLOOR load`)
	if err != nil {
		return 0, 0, err
	}
	jump, _, err := g.heard(ctx, began, `FLOOR jump`)
	if err != nil {
		return 0, 0, err
	}
	at, _, err := g.heard(ctx, jump, `ingot: stage 1: mounts done`)
	return at.Sub(began).Seconds(), at.Sub(jump).Seconds(), err
}

// payload is the kernel and the one initrd that the agent would make.
func (r *run) payload(p boot.Plan) (kernel, initrd []byte, err error) {
	st, err := store.Open(filepath.Join(r.o.Build, "stacks"))
	if err != nil {
		return nil, nil, err
	}
	read := func(a images.Artifact) ([]byte, error) {
		path, err := st.Path(a.Digest)
		if err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	}
	if kernel, err = read(p.Kernel); err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	for _, a := range p.Initrds {
		b, err := read(a)
		if err != nil {
			return nil, nil, err
		}
		out.Write(b)
		out.Write(make([]byte, (512-out.Len()%512)%512))
	}
	var files []cpio.File
	for _, f := range p.Files {
		b, err := read(f.Artifact)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, cpio.File{Name: f.Path, Perm: 0o400, Data: b})
	}
	archive, err := cpio.Archive(files...)
	if err != nil {
		return nil, nil, err
	}
	out.Write(archive)
	return kernel, out.Bytes(), nil
}
