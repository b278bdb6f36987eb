package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
)

const (
	readers      = 4               // clients that fetch at once
	fetchFor     = 3 * time.Second // each server, in turn
	fetchRounds  = 3
	nodes        = 500
	nodesAtOnce  = 16
	startLimit   = 30 * time.Second
	enrolLimit   = 2 * time.Minute
	packageLimit = 5 * time.Minute
)

// bootServer measures what machines fetch from.
func (r *run) bootServer(ctx context.Context) ([]Figure, error) {
	m, err := r.goBenchmark(ctx, "./boot/netboot", "BenchmarkScript200Clients", "20x")
	if err != nil {
		return nil, err
	}
	script := m["BenchmarkScript200Clients"]
	out := []Figure{
		{Name: "script-p50", What: "boot server: script, 200 clients at once beside four that fetch kernels, median", Value: script["p50-ms"], Unit: "ms"},
		{Name: "script-p99", What: "boot server: script, the same, 99th percentile", Value: script["p99-ms"], Unit: "ms"},
	}
	s, err := r.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	blob, err := largest(filepath.Join(r.o.Build, "stacks/blobs/sha256"))
	if err != nil {
		return nil, err
	}
	path := "/blobs/sha256/" + filepath.Base(blob)
	nginx, base, err := r.nginx(ctx, filepath.Join(r.o.Build, "stacks"))
	if err != nil {
		return nil, err
	}
	defer nginx.stop()
	var ours, peers []float64
	for range fetchRounds {
		a, err := throughput(ctx, s.http+path)
		if err != nil {
			return nil, err
		}
		b, err := throughput(ctx, base+path)
		if err != nil {
			return nil, err
		}
		ours, peers = append(ours, a), append(peers, b)
	}
	rss, err := s.peak()
	if err != nil {
		return nil, err
	}
	return append(out,
		Figure{Name: "http-rate", What: fmt.Sprintf("boot server: HTTP, %d clients", readers), Value: median(ours), Unit: "MB/s", Floor: median(peers), FloorWhat: "nginx, same file"},
		Figure{Name: "serve-memory", What: "`ingot serve` at its height after that, bus and control in it", Value: rss / mib, Unit: "MiB"}), nil
}

// bus measures the way of an event, and what a connected node costs.
func (r *run) bus(ctx context.Context) ([]Figure, error) {
	m, err := r.goBenchmark(ctx, "./agent/uplink", "BenchmarkEvents", "2s")
	if err != nil {
		return nil, err
	}
	ours, bare := m["BenchmarkEvents/uplinks-16"]["events/s"], m["BenchmarkEvents/bare-16"]["events/s"]
	each, err := r.connected(ctx)
	return []Figure{
		{Name: "events", What: "bus: durable events, 16 nodes, every one synced to disk", Value: ours, Unit: "1/s", Floor: bare, FloorWhat: "bare JetStream in the process, same sync"},
		{Name: "node-memory", What: fmt.Sprintf("bus and control: memory a connected node, of %d", nodes), Value: each / 1024, Unit: "KiB"},
	}, err
}

// connected is how much the server grows with each node that is enrolled and
// stays, in bytes.
func (r *run) connected(ctx context.Context) (_ float64, err error) {
	s, err := r.serve(ctx)
	if err != nil {
		return 0, err
	}
	defer s.stop()
	before, err := s.resident()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, enrolLimit)
	defer cancel()
	var mu sync.Mutex
	var up []*uplink.Uplink
	defer func() {
		for _, u := range up {
			u.Close()
		}
	}()
	var all sync.WaitGroup
	var errs []error
	var next atomic.Int64
	for range nodesAtOnce {
		all.Go(func() {
			for n := next.Add(1); n <= nodes && ctx.Err() == nil; n = next.Add(1) {
				u, err := enrol(ctx, s.context.Bus, int(n))
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				} else {
					up = append(up, u)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	after, err := s.resident()
	return (after - before) / float64(len(up)), err
}

func enrol(ctx context.Context, bus fleet.Bus, n int) (*uplink.Uplink, error) {
	u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: fmt.Sprintf("bench-boot-%d", n)})
	if err != nil {
		return nil, err
	}
	mac := fmt.Sprintf("52:54:00:ff:%02x:%02x", n>>8, n&0xff)
	_, err = u.Connect(ctx, uplink.Target{Bus: bus, Enroll: fleet.EnrollRequest{
		Serial: fmt.Sprintf("BENCH-%04d", n), MACs: []string{mac}, Aliases: []string{"mac:" + mac}, Summary: "bench", Address: "10.0.0.1",
	}})
	if err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// goBenchmark runs a benchmark that stands beside the code, and returns its
// metrics by name and unit.
func (r *run) goBenchmark(ctx context.Context, pkg, name, count string) (map[string]map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, packageLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+name+"$", "-benchtime", count, pkg).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("run %s of %s: %w: %s", name, pkg, err, out)
	}
	return parseBenchmarks(string(out)), nil
}

var cpuSuffix = regexp.MustCompile(`-\d+$`)

func parseBenchmarks(text string) map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		m := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				m[f[i+1]] = v
			}
		}
		all[cpuSuffix.ReplaceAllString(f[0], "")] = m
	}
	return all
}

// child is a server that is measured.
type child struct {
	cmd     *exec.Cmd
	dir     string // made for it
	http    string
	context fleet.OperatorContext
}

func (c *child) stop() {
	_ = c.cmd.Process.Signal(os.Interrupt) // it may have ended
	_ = c.cmd.Wait()
	_ = os.RemoveAll(c.dir)
}

// resident is the memory that the process holds now, peak what it held at its
// height, in bytes (proc_pid_status(5)).
func (c *child) resident() (float64, error) { return c.memory("VmRSS:") }
func (c *child) peak() (float64, error)     { return c.memory("VmHWM:") }

func (c *child) memory(what string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == what {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("read the memory of process %d: no %s", c.cmd.Process.Pid, what)
}

// serve starts ingot serve without a boot network: bus, control, and blobs over
// HTTP.
func (r *run) serve(ctx context.Context) (*child, error) {
	dir, err := os.MkdirTemp("", "ingot-bench-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c := &child{dir: dir, http: fmt.Sprintf("http://127.0.0.1:%d", port)}
	c.cmd = exec.CommandContext(ctx, r.o.Ingot, "serve", "--lab", "--data", filepath.Join(dir, "data"), "--keys", filepath.Join(dir, "keys"), "--policy", "open",
		"--stacks", filepath.Join(r.o.Build, "stacks"), "--nats-listen", "127.0.0.1:0", "--http-port", strconv.Itoa(port))
	var said bytes.Buffer
	c.cmd.Stdout, c.cmd.Stderr = &said, &said
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	err = until(ctx, func() error {
		b, err := os.ReadFile(filepath.Join(dir, "data/context.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &c.context)
	})
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("start ingot serve: %w: %s", err, said.String())
	}
	return c, nil
}

// nginx starts the peer over the same files.
func (r *run) nginx(ctx context.Context, root string) (*child, string, error) {
	argv, err := r.findNginx()
	if err != nil {
		return nil, "", err
	}
	dir, err := os.MkdirTemp("", "ingot-bench-")
	if err != nil {
		return nil, "", err
	}
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, "", err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;\n"
	}
	config := fmt.Sprintf("%sdaemon off;\nworker_processes 2;\npid %[2]s/pid;\nerror_log stderr;\nevents {}\nhttp { access_log off; sendfile on; tcp_nopush on;\n"+
		"client_body_temp_path %[2]s/b; proxy_temp_path %[2]s/p; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;\n"+
		"server { listen 127.0.0.1:%[3]d; root %[4]s; } }\n", user, dir, port, root)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o644); err != nil {
		return nil, "", err
	}
	c := &child{dir: dir}
	c.cmd = exec.CommandContext(ctx, argv[0], append(argv[1:], "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"))...)
	var said bytes.Buffer
	c.cmd.Stderr = &said
	if err := c.cmd.Start(); err != nil {
		return nil, "", errors.Join(err, os.RemoveAll(dir))
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	if err := until(ctx, func() error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	}); err != nil {
		c.stop()
		return nil, "", fmt.Errorf("start nginx: %w: %s", err, said.String())
	}
	return c, "http://" + address, nil
}

// findNginx is this machine's, or the one that make unpacked.
func (r *run) findNginx() ([]string, error) {
	if path, err := exec.LookPath("nginx"); err == nil {
		return []string{path}, nil
	}
	peers, err := filepath.Abs(filepath.Join(r.o.Build, "peers"))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(peers, "usr/sbin/nginx")
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("find nginx, the peer: %w (make bench unpacks it)", err)
	}
	lib := filepath.Join(peers, "usr/lib/x86_64-linux-gnu")
	return []string{filepath.Join(lib, "ld-linux-x86-64.so.2"), "--library-path", lib, path}, nil
}

func until(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func largest(dir string) (string, error) {
	var path string
	var size int64
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Size() > size {
			path, size = p, st.Size()
		}
		return err
	})
	if err == nil && path == "" {
		err = fmt.Errorf("find a blob in %s: there is none", dir)
	}
	return path, err
}

// throughput is how many megabytes a second some clients get of one file.
func throughput(ctx context.Context, url string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchFor)
	defer cancel()
	var bytes atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, readers)
	begin := time.Now()
	for i := range readers {
		all.Go(func() {
			for ctx.Err() == nil && errs[i] == nil {
				errs[i] = fetch(ctx, url, &bytes)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	return float64(bytes.Load()) / 1e6 / time.Since(begin).Seconds(), nil
}

func fetch(ctx context.Context, url string, got *atomic.Int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, resp.Status)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	got.Add(n)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
