package resident

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/agent/vmlink"
	"github.com/ingot-metal/ingot/fleet"
)

const residentEnv = "INGOT_TEST_RESIDENT"

// TestMain is, when the tests start themselves so, a resident that has one VM,
// or the QEMU of that VM.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "-name":
		standInQEMU()
	case os.Getenv(residentEnv) != "":
		standInResident(os.Getenv(residentEnv))
	default:
		os.Exit(m.Run())
	}
}

// standInResident is a real resident but for what needs KVM and a NIC.
func standInResident(dir string) {
	r, link, err := open(Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Say: func(f string, a ...any) { fmt.Printf(f+"\n", a...) }}, "hv-boot")
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	defer link.Close()
	r.qemu, _ = os.Executable()
	r.vmPause = 20 * time.Millisecond
	r.openTap = func(vmNet) (*os.File, error) { return os.Open(os.DevNull) }
	r.stopping = func() bool { return os.Getenv("INGOT_TEST_STOPS") != "" }
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	go func() { <-signals; cancel() }()
	signal.Notify(signals, syscall.SIGTERM)
	r.set(fleet.LayerHypervisor, "kvm", fleet.LayerUp, "", "", nil)
	defer r.leadPorts(ctx)()
	r.runVM(ctx, 0, r.handoff.Manifest.VMs[0])
	fmt.Println("left")
}

// standInQEMU listens where QEMU would, and is a guest that says hello once.
func standInQEMU() {
	var l net.Listener
	for _, a := range os.Args {
		if strings.HasPrefix(a, "socket,id=link,") {
			_, path, _ := strings.Cut(a, "path=")
			var err error
			if l, err = net.Listen("unix", path); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}
	fmt.Println("stand-in for QEMU")
	for configured := false; ; {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		w := vmlink.NewWriter(c)
		if !configured && w.Write(vmlink.Message{Hello: &vmlink.Hello{BootID: "guest-boot"}}) == nil {
			m, err := vmlink.NewReader(c).Read()
			configured = err == nil && m.Config != nil
		}
		up := fleet.Layer{Layer: fleet.LayerContainer, Name: "hello", State: fleet.LayerUp}
		for w.Write(vmlink.Message{Heartbeat: &vmlink.Heartbeat{BootID: "guest-boot", Layers: []fleet.Layer{up}}}) == nil {
			time.Sleep(50 * time.Millisecond)
		}
		c.Close()
	}
}

// handoffIn leaves a handoff as an agent does, with a free port to lead in.
func handoffIn(t *testing.T, dir string) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	seed, _, err := uplink.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	m := manifest()
	m.VMs[0].Forwards[0].HostPort = uint16(port)
	m.Services[0].Port = uint16(port)
	b, err := json.Marshal(fleet.Handoff{Schema: fleet.HandoffSchema, Node: "n-1", ResidentSeed: seed, Manifest: m})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "handoff.json"), b, 0o400); err != nil {
		t.Fatal(err)
	}
	return port
}

// child is a resident in a process of its own.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startResident(t *testing.T, dir string, env ...string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), residentEnv+"="+dir), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() }) // most have ended by then
	return &child{t, cmd, bufio.NewScanner(out)}
}

// until reads what the resident says up to a line.
func (c *child) until(want string) (said []string) {
	c.t.Helper()
	stop := time.AfterFunc(20*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer stop.Stop()
	for c.lines.Scan() {
		said = append(said, c.lines.Text())
		if strings.Contains(c.lines.Text(), want) {
			return said
		}
	}
	c.t.Fatalf("%q was not said: %q", want, said)
	return nil
}

func (c *child) end(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
	_ = c.cmd.Wait() // "signal: killed", or exit status 0
}

func sessionIn(t *testing.T, dir string) session {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "resident.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s session
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func lives(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so within 10 s: %s", what)
		}
	}
}

// told is what the session's events say of the layers, in their order.
func told(t *testing.T, s session) (out []string) {
	t.Helper()
	last := map[fleet.Source]uint64{}
	for _, e := range s.Unacked {
		if e.Seq <= last[e.Source] {
			t.Errorf("%s event %d comes after %d", e.Source, e.Seq, last[e.Source])
		}
		last[e.Source] = e.Seq
		var l fleet.Layer
		if err := json.Unmarshal(e.Data, &l); err != nil {
			t.Fatal(err)
		}
		if e.Kind == fleet.KindLayer {
			out = append(out, fmt.Sprintf("%s %s", l.Layer, l.State))
		} else {
			out = append(out, e.Kind)
		}
	}
	return out
}

// TestKilledResidentGoesOn: a resident is killed twice while its VM runs. The
// VM lives on, the next resident takes it up, leads its port again, and tells
// no change twice and misses none.
func TestKilledResidentGoesOn(t *testing.T) {
	dir := t.TempDir()
	port := handoffIn(t, dir)
	first := startResident(t, dir)
	first.until("container hello: up")
	pid := sessionIn(t, dir).VMs["vm0"].PID
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) }) // dead by then, or the test failed
	if _, err := os.Stat(filepath.Join(dir, "handoff.json")); !os.IsNotExist(err) {
		t.Errorf("the handoff lies there still: %v", err)
	}
	fi, err := os.Stat(filepath.Join(dir, "resident.json"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the session is %v, %v; want it readable by root alone", fi.Mode(), err)
	}
	first.end(syscall.SIGKILL)
	for range 2 {
		if !lives(pid) {
			t.Fatal("the VM died with its resident")
		}
		next := startResident(t, dir)
		next.until(fmt.Sprintf("QEMU (process %d) is taken up", pid))
		eventually(t, "the port is led", func() bool {
			c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		time.Sleep(300 * time.Millisecond) // heartbeats of the VM arrive
		next.end(syscall.SIGKILL)
	}
	resumed, layers := 0, ""
	for _, what := range told(t, sessionIn(t, dir)) {
		if what == fleet.KindResumed {
			resumed++
			continue
		}
		layers += what + ", "
	}
	if want := "hypervisor up, vm up, container up, "; layers != want || resumed != 2 {
		t.Errorf("told %sand %d times resumed; want %sand 2", layers, resumed, want)
	}
	last := startResident(t, dir)
	last.until("is taken up")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	last.until("vm vm0: down (qemu-exited)")
	last.until("QEMU started")
	last.until("container hello: up")
	last.endWithVM(dir)
}

// endWithVM kills a resident, and then its VM.
func (c *child) endWithVM(dir string) {
	c.t.Helper()
	pid := sessionIn(c.t, dir).VMs["vm0"].PID
	c.end(syscall.SIGKILL)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
}

// A VM that ends again and again is started again some times, and then left
// alone, which is said and holds for the next resident too.
func TestVMThatEndsAgainAndAgain(t *testing.T) {
	dir := t.TempDir()
	handoffIn(t, dir)
	r := startResident(t, dir)
	for range vmTries + 1 {
		r.until("vm vm0: up")
		if err := syscall.Kill(sessionIn(t, dir).VMs["vm0"].PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.until("vm vm0: down (qemu-exited)")
	}
	said := strings.Join(r.until("left"), "\n")
	if strings.Contains(said, "QEMU started") {
		t.Errorf("it was started once more: %s", said)
	}
	if rec := sessionIn(t, dir).VMs["vm0"]; rec.Failures != vmTries+1 || !rec.Ended {
		t.Errorf("the session has %+v; want that it ended %d times", rec, vmTries+1)
	}
	next := startResident(t, dir)
	if said := strings.Join(next.until("left"), "\n"); strings.Contains(said, "QEMU started") || strings.Contains(said, "qemu-exited") {
		t.Errorf("the next resident said: %s", said)
	}
}

// A VM that an operator stopped is not started again.
func TestVMThatWasStopped(t *testing.T) {
	dir := t.TempDir()
	handoffIn(t, dir)
	var said lines
	r, link, err := open(Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Say: said.add}, "hv-boot")
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	if r.qemu, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	r.vmPause = time.Millisecond
	r.openTap = func(vmNet) (*os.File, error) { return os.Open(os.DevNull) }
	r.set(fleet.LayerHypervisor, "kvm", fleet.LayerUp, "", "", nil)
	ended := make(chan struct{})
	go func() { r.runVM(t.Context(), 0, r.handoff.Manifest.VMs[0]); close(ended) }()
	eventually(t, "the VM is up", func() bool { return r.layers.state(fleet.LayerVM, "vm0") == fleet.LayerUp })
	if _, err := r.stopVM(t.Context(), fleet.Command{Args: map[string]string{"vm": "vm0"}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it was started again")
	}
	if !said.has("vm vm0: down (qemu-exited): an operator stopped it") {
		t.Errorf("said %q; want that an operator stopped it", said.all())
	}
}

// lines is what was said.
type lines struct {
	mu sync.Mutex
	s  []string
}

func (l *lines) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s = append(l.s, fmt.Sprintf(format, args...))
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.s)
}

func (l *lines) has(text string) bool {
	return slices.ContainsFunc(l.all(), func(s string) bool { return strings.Contains(s, text) })
}

// A VM that ended while no resident ran is said to have, once, with its last
// words, and is started again.
func TestVMThatEndedMeanwhile(t *testing.T) {
	dir := t.TempDir()
	handoffIn(t, dir)
	r := startResident(t, dir)
	r.until("container hello: up")
	pid := sessionIn(t, dir).VMs["vm0"].PID
	r.end(syscall.SIGKILL)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the VM ended", func() bool { return !lives(pid) })
	next := startResident(t, dir)
	said := strings.Join(next.until("container hello: up"), "\n")
	if n := strings.Count(said, "vm0: down (qemu-exited)"); n != 1 || !strings.Contains(said, "stand-in for QEMU") || !strings.Contains(said, "QEMU started") {
		t.Errorf("the next resident said: %s", said)
	}
	next.endWithVM(dir)
}

// A resident that is asked to end leaves its VM, unless the server goes down.
func TestAskedToEnd(t *testing.T) {
	dir := t.TempDir()
	handoffIn(t, dir)
	r := startResident(t, dir)
	r.until("container hello: up")
	pid := sessionIn(t, dir).VMs["vm0"].PID
	r.end(syscall.SIGTERM)
	if !lives(pid) {
		t.Fatal("the VM ended with a resident that is restarted")
	}
	r = startResident(t, dir, "INGOT_TEST_STOPS=1")
	r.until("is taken up")
	r.end(syscall.SIGTERM)
	eventually(t, "the VM ends with the server", func() bool { return !lives(pid) })
}

// TestKilledWhileItStartsQEMU: the record is there, the PID is not.
func TestKilledWhileItStartsQEMU(t *testing.T) {
	dir := t.TempDir()
	handoffIn(t, dir)
	r := startResident(t, dir)
	r.until("container hello: up")
	pid := sessionIn(t, dir).VMs["vm0"].PID
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) }) // as above
	r.end(syscall.SIGKILL)
	forget := func() {
		f, _, err := openSession(dir, "hv-boot")
		if err == nil {
			err = f.update(func(s *session) {
				rec := s.VMs["vm0"]
				rec.PID, rec.StartTicks = 0, 0
				s.VMs["vm0"] = rec
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	forget()
	r = startResident(t, dir)
	r.until(fmt.Sprintf("QEMU (process %d) is taken up", pid))
	r.end(syscall.SIGKILL)
	forget()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the VM ended", func() bool { return !lives(pid) })
	r = startResident(t, dir)
	r.until("QEMU started")
	r.until("vm vm0: up")
	second := sessionIn(t, dir).VMs["vm0"].PID
	r.end(syscall.SIGKILL)
	if err := syscall.Kill(second, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestPIDOfAnotherIsNotAdopted(t *testing.T) {
	ticks, err := startTicks(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p, err := adopt(vmRecord{PID: os.Getpid(), StartTicks: ticks})
	if err != nil {
		t.Fatalf("the right process: %v", err)
	}
	p.close()
	if p, err := adopt(vmRecord{PID: os.Getpid(), StartTicks: ticks + 1}); err == nil {
		p.close()
		t.Error("a process that started at another time was adopted")
	}
}

func TestSessionThatIsNotUnderstoodIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := openSession(dir, "b"); err == nil || !strings.Contains(err.Error(), "no agent started this stack") {
		t.Errorf("an empty folder: %v; want that no agent started this stack", err)
	}
	handoffIn(t, dir)
	if _, resumed, err := openSession(dir, "b"); err != nil || resumed {
		t.Fatalf("from the handoff: resumed %v, %v", resumed, err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "resident.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, resumed, err := openSession(dir, "b"); err != nil || !resumed {
		t.Errorf("a second time: resumed %v, %v", resumed, err)
	}
	if _, _, err := openSession(dir, "another boot"); err == nil || !strings.Contains(err.Error(), "boot") {
		t.Errorf("of another boot: %v", err)
	}
	for name, text := range map[string]string{
		"empty": "", "schema": `{"schema":"ingot.resident/v9"}`, "cut short": string(good[:len(good)/2]),
		"no key": `{"schema":"ingot.resident/v1","boot_id":"b"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, "resident.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := openSession(dir, "b"); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

// TestNothingToTakeUpIsFinal: the program's exit status hangs on it, and with it
// that systemd does not start it for ever.
func TestNothingToTakeUpIsFinal(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Say: t.Logf}
	if err := Run(t.Context(), o); !errors.Is(err, ErrNothing) {
		t.Errorf("Run in an empty folder: %v; want ErrNothing", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "resident.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), o); !errors.Is(err, ErrNothing) {
		t.Errorf("Run with a session cut short: %v; want ErrNothing", err)
	}
}

func TestHandoffThatIsNotUnderstoodIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty":    "",
		"schema":   `{"schema":"ingot.handoff/v9"}`,
		"manifest": `{"schema":"ingot.handoff/v1","manifest":{"name":"../x"}}`,
		"too long": strings.Repeat(" ", maxHandoffBytes+1),
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "handoff.json")
		if err := os.WriteFile(path, []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
		if _, _, err := openSession(dir, "b"); err == nil {
			t.Errorf("%s: was taken", name)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s: its secrets lie there still: %v", name, err)
		}
	}
}
