package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/images/cpio"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
	"github.com/ingot-metal/ingot/qemu-tests/scenario"
)

// rig is a lab of one server, whose console is read with the time of each line.
type rig struct {
	r      *run
	name   string
	lab    *lab.Lab
	client *operator.Client
	server scenario.Server
	done   context.CancelFunc
	reader sync.WaitGroup

	mu    sync.Mutex
	lines []consoleLine
	more  chan struct{} // closed and made anew with every line
}

type consoleLine struct {
	at   time.Time
	text string
}

// rig makes the lab. build is its build directory: ours, or one with another
// initramfs; memory is the server's.
func (r *run) rig(ctx context.Context, what, build string, memory int64) (_ *rig, err error) {
	servers := lab.Rack()[:1]
	if memory > 0 {
		servers[0].DIMMs = []int64{memory}
	}
	program, err := filepath.Abs(r.o.Ingot)
	if err != nil {
		return nil, fmt.Errorf("path of the program: %w", err)
	}
	keys, err := filepath.Abs(filepath.Join(r.o.Build, "keys"))
	if err != nil {
		return nil, fmt.Errorf("path of the keys: %w", err)
	}
	if build, err = filepath.Abs(build); err != nil {
		return nil, fmt.Errorf("path of the build directory: %w", err)
	}
	g := &rig{r: r, name: fmt.Sprintf("bench-%d-%s", os.Getpid(), what), more: make(chan struct{})}
	g.lab, err = lab.Up(ctx, lab.Options{Name: g.name, Servers: servers, Build: build, Logs: filepath.Join(r.o.Out, what), Serve: lab.ServeArgs(program, build, keys)})
	if err != nil {
		return nil, err
	}
	ctx, g.done = context.WithCancel(ctx)
	if err := g.open(ctx); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *rig) open(ctx context.Context) error {
	st, err := lab.Status(ctx, g.name)
	if err != nil {
		return err
	}
	oc, err := scenario.Context(ctx, g.name)
	if err != nil {
		return err
	}
	if g.client, err = operator.Connect(oc, nil); err != nil {
		return err
	}
	g.server = scenario.Servers(st)[0]
	r, w := io.Pipe()
	g.reader.Go(func() { w.CloseWithError(lab.Console(ctx, g.name, g.server.Name, w)) })
	g.reader.Go(func() { g.read(r) })
	return nil
}

func (g *rig) read(r io.Reader) {
	in := bufio.NewReader(r)
	for {
		text, err := in.ReadString('\n')
		if err != nil {
			return // the lab is over
		}
		g.mu.Lock()
		g.lines = append(g.lines, consoleLine{time.Now(), strings.TrimRight(text, "\r\n")})
		close(g.more)
		g.more = make(chan struct{})
		g.mu.Unlock()
	}
}

func (g *rig) close() error {
	if g.client != nil {
		g.client.Close()
	}
	if g.done != nil {
		g.done()
	}
	g.reader.Wait()
	return g.lab.Close()
}

// power presses the power button and returns when that was.
func (g *rig) power(ctx context.Context, action string) (time.Time, error) {
	t, err := g.client.Find(ctx, g.server.Name)
	if err != nil {
		return time.Time{}, err
	}
	at := time.Now()
	_, err = g.client.Power(ctx, t, action, "redfish")
	return at, err
}

// heard waits for a line of the console from a time on, and returns when it
// came and what stands in its first group.
func (g *rig) heard(ctx context.Context, from time.Time, pattern string) (time.Time, string, error) {
	re := regexp.MustCompile(pattern)
	for {
		g.mu.Lock()
		more := g.more
		for _, l := range g.lines {
			if m := re.FindStringSubmatch(l.text); m != nil && l.at.After(from) {
				g.mu.Unlock()
				return l.at, m[len(m)-1], nil
			}
		}
		g.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return time.Time{}, "", fmt.Errorf("wait for %q on the console of %s: %w", pattern, g.server.Name, ctx.Err())
		}
	}
}

// program builds a first process of qemu-tests/testdata.
func (r *run) program(ctx context.Context, name string) ([]byte, error) {
	out, err := filepath.Abs(filepath.Join(r.o.Out, "programs", name))
	if err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./qemu-tests/testdata/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w: %s", name, err, said)
	}
	return os.ReadFile(out)
}

// floorBuild is a build directory like ours, whose initramfs holds these files
// alone.
func (r *run) floorBuild(name string, files ...cpio.File) (string, error) {
	dir := filepath.Join(r.o.Out, name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Join(dir, "agent"), 0o755)); err != nil {
		return "", fmt.Errorf("make %s: %w", dir, err)
	}
	for _, link := range []string{"tools", "stacks", "agent/vmlinuz"} {
		target, err := filepath.Abs(filepath.Join(r.o.Build, link))
		if err == nil {
			err = os.Symlink(target, filepath.Join(dir, link))
		}
		if err != nil {
			return "", fmt.Errorf("make %s: %w", dir, err)
		}
	}
	archive, err := cpio.Archive(slices.Concat([]cpio.File{}, files)...)
	if err != nil {
		return "", err
	}
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return "", err
	}
	if _, err := z.Write(archive); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "agent/initramfs.cpio.zst"), packed.Bytes(), 0o644)
}
