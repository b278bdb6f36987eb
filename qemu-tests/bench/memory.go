package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/stack"
	"github.com/ingot-metal/ingot/images/store"
	"github.com/ingot-metal/ingot/qemu-tests/scenario"
)

const mib = 1 << 20

// sizes are what is shipped, and what a boot of the stack fetches.
func (r *run) sizes(context.Context) ([]Figure, error) {
	size := func(path string) (float64, error) {
		st, err := os.Stat(filepath.Join(r.o.Build, path))
		if err != nil {
			return 0, err
		}
		return float64(st.Size()) / mib, nil
	}
	binary, err1 := size("ingot-agent")
	image, err2 := size("agent/initramfs.cpio.zst")
	fetch, err3 := r.fetchBytes()
	return []Figure{
		{Name: "agent-binary", What: "agent: binary", Value: binary, Unit: "MiB", Aim: "12 MiB"},
		{Name: "agent-initramfs", What: "agent: initramfs with all modules", Value: image, Unit: "MiB", Aim: "24 MiB"},
		{Name: "stack-bytes", What: "stack: bytes to fetch", Value: float64(fetch) / 1e6, Unit: "MB", Aim: "150 MB"},
	}, errors.Join(err1, err2, err3)
}

// fetchBytes adds up the blobs of the stacks' layout that a boot fetches, each
// once.
func (r *run) fetchBytes() (int64, error) {
	st, err := store.Open(filepath.Join(r.o.Build, "stacks"))
	if err != nil {
		return 0, err
	}
	all, err := st.Artifacts(stack.ArtifactType)
	if err != nil {
		return 0, err
	}
	seen := map[images.Digest]int64{}
	for _, a := range all {
		for _, l := range a.Layers {
			seen[images.Digest(l.Digest)] = l.Size
		}
	}
	var sum int64
	for _, n := range seen {
		sum += n
	}
	if sum == 0 {
		return 0, fmt.Errorf("read the stacks of %s: there is none", r.o.Build)
	}
	return sum, nil
}

const (
	leastMiB  = 192
	enoughMiB = 1024
	stepMiB   = 32
	// reportLimit is when a server that has too little memory is given up.
	reportLimit = time.Minute
)

// leastMemory looks for the least memory in which the agent boots and reports,
// between one that is surely too little and one that is surely enough.
func (r *run) leastMemory(ctx context.Context) ([]Figure, error) {
	low, high := leastMiB, enoughMiB
	if ok, err := r.reports(ctx, high); err != nil || !ok {
		return nil, errors.Join(err, fmt.Errorf("the agent does not report in %d MiB", high))
	}
	for high-low > stepMiB {
		mid := (low + high) / 2 / stepMiB * stepMiB
		ok, err := r.reports(ctx, mid)
		if err != nil {
			return nil, err
		}
		r.say("  %d MiB: reports: %v", mid, ok)
		if ok {
			high = mid
		} else {
			low = mid
		}
	}
	return []Figure{{Name: "least-memory", What: "least memory in which the agent boots and reports, all modules in the initramfs", Value: float64(high), Unit: "MiB", Aim: "384 MiB"}}, nil
}

// reports says whether a server of so much memory comes to wait for a stack.
func (r *run) reports(ctx context.Context, memory int) (_ bool, err error) {
	g, err := r.rig(ctx, fmt.Sprint("memory-", memory), r.o.Build, int64(memory)*mib)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if _, err := g.power(ctx, "on"); err != nil {
		return false, err
	}
	limited, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	job := scenario.Job{Client: g.client, Say: func(string) {}}
	_, err = job.Await(limited, g.server.Name, "inventoried", scenario.Waiting)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return err == nil, nil
}
