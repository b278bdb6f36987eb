package vm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/agent/stage1"
	"github.com/ingot-metal/ingot/agent/vmlink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	namespace        = "ingot"
)

// startContainerd starts the daemon and gives a channel that is closed when it
// answers. When it ends, that is said for every container.
func (m *machine) startContainerd(ctx context.Context) <-chan struct{} {
	ready := make(chan struct{})
	tail := &tailBuffer{}
	cmd := exec.CommandContext(ctx, "/usr/bin/containerd", "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = tail, tail
	if err := m.procs.start(cmd); err != nil {
		m.log.Error("start containerd", "cause", err)
		return ready
	}
	go func() {
		err := m.procs.wait(cmd)
		m.log.Error("containerd ended", "cause", err, "output", tail.String())
		for _, l := range m.containers() {
			l.State, l.Reason = fleet.LayerDown, fleet.ReasonContainerd
			l.Evidence = clip(fmt.Sprintf("containerd ended: %v; %s", err, tail), 1000)
			m.layer(l)
		}
	}()
	go func() {
		for ctx.Err() == nil {
			c, err := net.Dial("unix", containerdSocket)
			if err == nil {
				c.Close()
				close(ready)
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return ready
}

func (m *machine) containers() []fleet.Layer {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []fleet.Layer
	for _, l := range m.layers {
		all = append(all, l)
	}
	return all
}

// containerdWait is how long containerd may take to answer.
const containerdWait = 2 * time.Minute

// runContainer brings one container up and stays with it until it ends.
func (m *machine) runContainer(ctx context.Context, c vmlink.Container, daemon <-chan struct{}) {
	l := fleet.Layer{Layer: fleet.LayerContainer, Name: c.Name, State: fleet.LayerStarting,
		Facts: map[string]string{"image_digest": string(c.ImageDigest)}}
	m.layer(l)
	down := func(reason fleet.ReasonCode, err error) {
		l.State, l.Reason, l.Evidence = fleet.LayerDown, reason, clip(err.Error(), 1000)
		m.layer(l)
	}
	select {
	case <-daemon:
	case <-time.After(containerdWait):
		down(fleet.ReasonContainerd, fmt.Errorf("%s does not answer after %v", containerdSocket, containerdWait))
		return
	case <-ctx.Done():
		return
	}
	m.say("containerd answers after %.1f s", uptime())
	device, err := stage1.WaitForDrive(ctx, c.Drive)
	if err != nil {
		down(fleet.ReasonImageImport, err)
		return
	}
	out, err := m.ctr(ctx, "images", "import", device)
	if err != nil {
		down(fleet.ReasonImageImport, fmt.Errorf("import %s: %w; %s", device, err, out))
		return
	}
	ref, err := imageRef(out, c.ImageDigest)
	if err != nil {
		down(fleet.ReasonImageDigestMismatch, err)
		return
	}
	id := c.Name + "-" + randomID()
	l.Facts["container_id"] = id
	m.say("image %s imported after %.1f s", c.ImageDigest, uptime())
	err = m.supervise(ctx, c, ref, id, l)
	if ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	l = m.layers[c.Name]
	m.mu.Unlock()
	reason := fleet.ReasonContainerExited
	if errors.Is(err, errNotStarted) {
		reason = fleet.ReasonContainerStart
	}
	down(reason, err)
}

var errNotStarted = errors.New("container did not start")

// supervise runs the container in the foreground of ctr, watches its health,
// and returns why it ended.
func (m *machine) supervise(ctx context.Context, c vmlink.Container, ref, id string, l fleet.Layer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	args := []string{"--namespace", namespace, "run", "--net-host"}
	env := map[string]string{"INGOT_CONTAINER_ID": id, "INGOT_IMAGE_DIGEST": string(c.ImageDigest)}
	for k, v := range c.Env {
		env[k] = v
	}
	for k, v := range env {
		args = append(args, "--env", k+"="+v)
	}
	tail := &tailBuffer{}
	cmd := exec.CommandContext(ctx, "/usr/bin/ctr", append(args, ref, id)...)
	cmd.Stdout, cmd.Stderr = tail, tail
	if err := m.procs.start(cmd); err != nil {
		return fmt.Errorf("%w: %v", errNotStarted, err)
	}
	wasUp := make(chan bool, 1)
	go func() { wasUp <- m.watchHealth(ctx, c, l) }()
	err := m.procs.wait(cmd)
	cancel()
	end := "exit status 0"
	if err != nil {
		end = err.Error()
	}
	if !<-wasUp {
		return fmt.Errorf("%w: %s; %s", errNotStarted, end, tail)
	}
	return fmt.Errorf("container %s ended: %s; %s", id, end, tail)
}

// How often a container's health is asked: until it is well, and then.
const (
	healthEveryStarting = 250 * time.Millisecond
	healthEvery         = 5 * time.Second
	healthTimeout       = 10 * time.Second
	healthTries         = 3
)

// watchHealth keeps the container's layer true until ctx ends, and says
// whether it was ever up.
func (m *machine) watchHealth(ctx context.Context, c vmlink.Container, l fleet.Layer) (wasUp bool) {
	client := &http.Client{Timeout: healthTimeout}
	failed := 0
	for {
		err := healthy(ctx, client, c.HealthURL)
		if ctx.Err() != nil {
			return wasUp
		}
		switch {
		case err == nil:
			failed, wasUp = 0, true
			l.State, l.Reason, l.Evidence = fleet.LayerUp, "", ""
			m.layer(l)
		case wasUp:
			if failed++; failed >= healthTries {
				l.State, l.Reason, l.Evidence = fleet.LayerDown, fleet.ReasonHealthCheck, clip(err.Error(), 500)
				m.layer(l)
			}
		}
		wait := healthEveryStarting
		if wasUp {
			wait = healthEvery
		}
		select {
		case <-ctx.Done():
			return wasUp
		case <-time.After(wait):
		}
	}
}

func healthy(ctx context.Context, client *http.Client, url string) error {
	if url == "" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return nil
}

// ctr runs one command of containerd's client and gives its last output.
func (m *machine) ctr(ctx context.Context, args ...string) (string, error) {
	tail := &tailBuffer{}
	cmd := exec.CommandContext(ctx, "/usr/bin/ctr", append([]string{"--namespace", namespace}, args...)...)
	cmd.Stdout, cmd.Stderr = tail, tail
	if err := m.procs.start(cmd); err != nil {
		return "", err
	}
	err := m.procs.wait(cmd)
	return tail.String(), err
}

// imported is what "ctr images import" prints for each image once containerd
// holds it: the name and digest of containerd's own record.
var imported = regexp.MustCompile(`unpacking (\S+) \((sha256:[0-9a-f]{64})\)`)

// imageRef finds the name under which containerd holds the image with exactly
// this digest.
func imageRef(output string, want images.Digest) (string, error) {
	var have []string
	for _, m := range imported.FindAllStringSubmatch(output, -1) {
		if m[2] == string(want) {
			return m[1], nil
		}
		have = append(have, m[2])
	}
	return "", fmt.Errorf("the stack names image %s, the archive holds %s", want, cmp.Or(strings.Join(have, ", "), "none"))
}

// randomID makes a container's ID unique over the VM's life.
func randomID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil || len(b) < 8 {
		return fmt.Sprint(time.Now().UnixNano())
	}
	return string(b[:8])
}

// tailBuffer keeps the last bytes written: a program's last words. Only the
// process that it is given to writes, and it is read after that ended, or for
// people's eyes.
type tailBuffer struct {
	buf bytes.Buffer
}

const tailBytes = 4096

func (t *tailBuffer) Write(b []byte) (int, error) {
	t.buf.Write(b)
	if over := t.buf.Len() - tailBytes; over > tailBytes {
		t.buf.Next(over)
	}
	return len(b), nil
}

func (t *tailBuffer) String() string { return strings.TrimSpace(t.buf.String()) }
