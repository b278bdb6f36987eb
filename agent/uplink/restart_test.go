package uplink_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/ingot-metal/ingot/fleet/control"
	"github.com/ingot-metal/ingot/images/sign"
)

// serve is a house whose bus and control end and come again, at the same
// address and over the same directory.
type serve struct {
	*house
	dir, addr string
}

func newServe(t *testing.T) *serve {
	t.Helper()
	dir := t.TempDir()
	h := newHouse(t, bus.Config{Dir: dir})
	return &serve{h, dir, h.bus.Addr().String()}
}

func (s *serve) stop() {
	s.t.Helper()
	s.ctl.Close()
	if err := s.bus.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *serve) again() {
	s.t.Helper()
	b, err := bus.Start(s.t.Context(), bus.Config{Dir: s.dir, Listen: s.addr})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = b.Close() }) // closed already when it is stopped once more
	s.bus, s.cfg.Bus = b, b
	s.start()
}

// say publishes one event, whether or not the bus is there.
func say(t *testing.T, u *uplink.Uplink, source fleet.Source, kind string, data any) {
	t.Helper()
	if err := u.Publish(source, kind, data); err != nil {
		t.Fatal(err)
	}
}

// flush waits until all that was said is acknowledged.
func flush(t *testing.T, u *uplink.Uplink) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	if err := u.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// inTheMiddle restarts bus and control; u speaks before, during and after.
func (s *serve) inTheMiddle(u *uplink.Uplink, source fleet.Source, kind string, data func(string) any) {
	s.t.Helper()
	say(s.t, u, source, kind, data("before"))
	s.stop()
	say(s.t, u, source, kind, data("during"))
	if err := u.Heartbeat(fleet.Heartbeat{Source: source}); err == nil {
		s.t.Log("a heartbeat was taken before the connection was seen to be gone")
	}
	time.Sleep(300 * time.Millisecond)
	s.again()
	say(s.t, u, source, kind, data("after"))
	flush(s.t, u)
}

// onceAndInOrder checks that every (boot, source) counts 1, 2, 3 … in the order
// of the stream, up to what it was made to say.
func onceAndInOrder(t *testing.T, got []fleet.Event, want map[string]uint64) {
	t.Helper()
	next := map[string]uint64{}
	for _, e := range got {
		if e.Source != fleet.SourceAgent && e.Source != fleet.SourceResident && e.Source != fleet.SourceVM {
			continue
		}
		key := e.BootID + "/" + string(e.Source)
		if next[key]++; e.Seq != next[key] {
			t.Fatalf("%s: event %d (%s) came where %d was due", key, e.Seq, e.Kind, next[key])
		}
	}
	for key, n := range want {
		if next[key] != n {
			t.Errorf("%s: %d events are stored; want %d", key, next[key], n)
		}
	}
}

// TestServeRestartedAtEveryPhase: bus and control are stopped and started
// again while a server is inspected, waits, fetches, jumps, starts and runs.
// What it says before, during and after is stored once and in order, heartbeats
// count again, status goes on, and a grant that is given afterwards arrives.
func TestServeRestartedAtEveryPhase(t *testing.T) {
	if testing.Short() {
		t.Skip("a server is restarted six times; -short is given")
	}
	s := newServe(t)
	step := func(text string) any { return fleet.StepData{Step: text} }
	u, reply := s.boot(one, "boot-one")
	n := reply.Node
	s.phase(n, fleet.PhaseInspecting)
	s.inTheMiddle(u, fleet.SourceAgent, fleet.KindStep, step)
	s.phase(n, fleet.PhaseInspecting)
	if err := u.PutInventory(t.Context(), []byte(`{"schema":"ingot.inventory/v1"}`)); err != nil {
		t.Fatal(err)
	}
	say(t, u, fleet.SourceAgent, fleet.KindReport, fleet.ReportData{Summary: "one"})
	s.inTheMiddle(u, fleet.SourceAgent, fleet.KindWaiting, step)
	s.phase(n, fleet.PhaseWaiting)

	d := s.stack()
	s.rule("r1", time.Now(), 1, d, n)
	if v := s.granted(u); v.StackDigest != d {
		t.Fatalf("the grant given after a restart names %s; want %s", v.StackDigest, d)
	}
	s.phase(n, fleet.PhaseFetching)
	s.inTheMiddle(u, fleet.SourceAgent, fleet.KindStep, step)
	s.phase(n, fleet.PhaseFetching)
	if v := s.granted(u); v.StackDigest != d {
		t.Errorf("the grant did not survive the restart: %s", v.StackDigest)
	}

	seed, pub, err := uplink.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	token := s.token(u, d, pub)
	if err := u.PublishAcked(t.Context(), fleet.SourceAgent, fleet.KindHandoff,
		fleet.HandoffData{Stack: "hello:1", StackDigest: string(d), ResidentKey: pub, Deadline: time.Now().Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	s.phase(n, fleet.PhaseHandingOff)
	// The jump: the agent is gone, nobody listens when the resident comes.
	trust := s.bus.Trust()
	s.stop()
	u.Close()
	r, err := uplink.New(uplink.Config{Role: fleet.RoleResident, BootID: "boot-one-stack", Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	layer := func(state fleet.LayerState) func(string) any {
		return func(text string) any {
			return fleet.Layer{Layer: fleet.LayerVM, Name: "app", State: state, Evidence: text, Since: time.Now()}
		}
	}
	say(t, r, fleet.SourceResident, fleet.KindLayer, layer(fleet.LayerStarting)("spooled before the first connection"))
	connected := make(chan error, 1)
	go func() {
		_, err := r.Connect(t.Context(), uplink.Target{Bus: trust, Enroll: fleet.EnrollRequest{Token: &token}})
		connected <- err
	}()
	time.Sleep(300 * time.Millisecond)
	s.again()
	select {
	case err := <-connected:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(40 * time.Second):
		t.Fatalf("the resident is not in: %s", r.Waiting())
	}
	s.inTheMiddle(r, fleet.SourceResident, fleet.KindLayer, layer(fleet.LayerStarting))
	s.beat(r, fleet.LayerUp)
	s.phase(n, fleet.PhaseRunning)
	s.inTheMiddle(r, fleet.SourceVM, fleet.KindLayer, func(text string) any {
		return fleet.Layer{Layer: fleet.LayerContainer, Name: "hello", State: fleet.LayerUp, Evidence: text, Since: time.Now()}
	})
	s.phase(n, fleet.PhaseRunning)
	s.beat(r, fleet.LayerDown)
	bad := s.phase(n, fleet.PhaseDegraded)
	if bad.Attempt != reply.Attempt || bad.Applied["heartbeat"] == 0 {
		t.Errorf("after the last restart: %+v", bad)
	}
	onceAndInOrder(t, events(t, s.bus.Conn()), map[string]uint64{
		"boot-one/agent": 3 + 1 + 3 + 3 + 1, "boot-one-stack/resident": 1 + 3, "boot-one-stack/vm": 3,
	})
}

// TestControlRestartedAlone: with the bus up and control away, what a node says
// is stored, and control takes it up when it is back.
func TestControlRestartedAlone(t *testing.T) {
	s := newServe(t)
	u, reply := s.boot(one, "boot-one")
	s.phase(reply.Node, fleet.PhaseInspecting)
	s.ctl.Close()
	if err := u.PublishAcked(t.Context(), fleet.SourceAgent, fleet.KindWaiting, fleet.StepData{Step: "waiting"}); err != nil {
		t.Fatal(err)
	}
	d := s.stack()
	s.rule("r1", time.Now(), 1, d, reply.Node)
	if got, _ := s.status(reply.Node); got.Phase != fleet.PhaseInspecting {
		t.Errorf("with no control the phase is %s; status has one writer", got.Phase)
	}
	s.start()
	if v := s.granted(u); v.StackDigest != d {
		t.Errorf("granted %s; want %s", v.StackDigest, d)
	}
	s.phase(reply.Node, fleet.PhaseFetching)
	onceAndInOrder(t, events(t, s.bus.Conn()), map[string]uint64{"boot-one/agent": 1})
}

const serveDirEnv, serveAddrEnv = "INGOT_TEST_SERVE_DIR", "INGOT_TEST_SERVE_ADDR"

// TestMain is a bus with control when the tests start themselves as one.
func TestMain(m *testing.M) {
	if dir := os.Getenv(serveDirEnv); dir != "" {
		if err := serveUntilKilled(dir, os.Getenv(serveAddrEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func serveUntilKilled(dir, addr string) error {
	ring, err := sign.OpenOrCreate(dir+"/keys", true, time.Now())
	if err != nil {
		return err
	}
	b, err := bus.Start(context.Background(), bus.Config{Dir: dir + "/bus", Listen: addr})
	if err != nil {
		return err
	}
	if _, err := control.Start(context.Background(), control.Config{
		Bus: b, Roots: ring.Roots(), Reconciler: ring.Reconciler, Delegations: ring.Delegations, Policy: control.PolicyOpen, BMCEvery: -1,
	}); err != nil {
		return err
	}
	fmt.Println(b.Addr())
	select {}
}

// startServer starts a bus with control as a process of its own.
func startServer(t *testing.T, dir, addr string) (*exec.Cmd, string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), serveDirEnv+"="+dir, serveAddrEnv+"="+addr)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() }) // most are dead by then
	line, _, err := bufio.NewReader(out).ReadLine()
	if err != nil {
		t.Fatalf("the server said nothing: %v", err)
	}
	return cmd, string(line)
}

// TestServerKilled: the process of bus and control is killed, as by a power
// cut, again and again while a node speaks. Every event is stored once, in
// order; none that was acknowledged is lost.
func TestServerKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("a server is started four times; -short is given")
	}
	dir := t.TempDir()
	cmd, addr := startServer(t, dir, "127.0.0.1:0")
	// The CA outlives the server: it stands in the directory.
	ca, err := os.ReadFile(dir + "/bus/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot-one"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	if _, err := u.Connect(t.Context(), uplink.Target{
		Bus: fleet.Bus{URLs: []string{"tls://" + addr}, CAPEM: string(ca)}, Enroll: one.request(),
	}); err != nil {
		t.Fatal(err)
	}
	const kills, burst = 3, 40
	total := 0
	for range kills {
		for range burst {
			say(t, u, fleet.SourceAgent, fleet.KindStep, fleet.StepData{Step: fmt.Sprint(total)})
			total++
		}
		time.Sleep(15 * time.Millisecond) // some of them are on their way
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // "signal: killed"
		say(t, u, fleet.SourceAgent, fleet.KindStep, fleet.StepData{Step: fmt.Sprint(total)})
		total++
		cmd, _ = startServer(t, dir, addr)
	}
	flush(t, u)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	b, err := bus.Start(t.Context(), bus.Config{Dir: dir + "/bus", Listen: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	onceAndInOrder(t, events(t, b.Conn()), map[string]uint64{"boot-one/agent": uint64(total)})
}

// TestProgramThatIsKilledTakesUpItsEvents: a second process of the same boot
// sends what the first had not seen acknowledged, some of which is stored
// already, and goes on counting above.
func TestProgramThatIsKilledTakesUpItsEvents(t *testing.T) {
	s, _ := startBus(t, bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	seed, _, err := uplink.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var kept []fleet.Event
	var most []fleet.Event // the journal as it stood when the most was in it
	cfg := uplink.Config{
		Role: fleet.RoleResident, BootID: "boot-1", Seed: seed, BootKey: uplink.NewBootKey(),
		Journal: func(unacked []fleet.Event) {
			mu.Lock()
			defer mu.Unlock()
			if kept = unacked; len(kept) > len(most) {
				most = kept
			}
		},
	}
	first, err := uplink.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	const total = 5
	for i := range total {
		say(t, first, fleet.SourceResident, fleet.KindLayer, fleet.Layer{Name: fmt.Sprint(i)})
	}
	if _, err := first.Connect(t.Context(), uplink.Target{Bus: s.Trust()}); err != nil {
		t.Fatal(err)
	}
	flush(t, first)
	first.Close()
	mu.Lock()
	if len(kept) != 0 || len(most) != total {
		t.Errorf("the journal held %d events at most and %d at the end; want %d and 0", len(most), len(kept), total)
	}
	// As if it had been killed before any acknowledgement was read: all are
	// stored, and all are sent again.
	cfg.Unacked, cfg.FirstSeq = most, uplink.ResumeSeq()
	mu.Unlock()
	second, err := uplink.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Close)
	say(t, second, fleet.SourceResident, fleet.KindLayer, fleet.Layer{Name: "since"})
	if _, err := second.Connect(t.Context(), uplink.Target{Bus: s.Trust()}); err != nil {
		t.Fatal(err)
	}
	flush(t, second)
	got := events(t, s.Conn())
	if len(got) != total+1 {
		t.Fatalf("%d events are stored; want %d", len(got), total+1)
	}
	for i, e := range got[:total] {
		if e.Seq != uint64(i+1) {
			t.Errorf("event %d has number %d", i, e.Seq)
		}
	}
	if got[total].Seq < cfg.FirstSeq {
		t.Errorf("the event since has number %d; want at least %d", got[total].Seq, cfg.FirstSeq)
	}
}
