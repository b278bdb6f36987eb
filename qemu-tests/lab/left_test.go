package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stmcginnis/gofish/schemas"
)

// TestNothingIsLeft ends labs in every way there is, with a server running, and
// looks for what is left: processes, namespaces, the control socket, files.
func TestNothingIsLeft(t *testing.T) {
	root := testTools(t)
	if err := Doctor(t.Context(), Options{Tools: string(root)}); err != nil {
		lacking(t, err)
	}
	for name, end := range map[string]func(t *testing.T, holder *exec.Cmd, init int, lab string){
		"interrupt": func(t *testing.T, holder *exec.Cmd, _ int, _ string) { signalTo(t, holder.Process.Pid, os.Interrupt) },
		"kill":      func(t *testing.T, holder *exec.Cmd, _ int, _ string) { signalTo(t, holder.Process.Pid, os.Kill) },
		"kill-init": func(t *testing.T, _ *exec.Cmd, init int, _ string) { signalTo(t, init, os.Kill) },
		"down": func(t *testing.T, _ *exec.Cmd, _ int, lab string) {
			if err := Down(t.Context(), lab); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			lab := "left-" + name + "-" + strconv.Itoa(os.Getpid())
			files := filesOf(t, stateDir)
			holder, init := holdLab(t, lab, string(root))
			namespaces := map[string]string{}
			for _, kind := range []string{"pid", "mnt", "net", "ipc", "uts"} {
				namespaces[kind] = namespaceOf(t, init, kind)
				if namespaces[kind] == namespaceOf(t, os.Getpid(), kind) {
					t.Fatalf("init shares our %s namespace", kind)
				}
			}
			if _, err := redfishSystem(t, lab, "r1u1").Reset(schemas.OnResetType); err != nil {
				t.Fatal(err)
			}
			if n := len(inNamespace(t, "pid", namespaces["pid"])); n < 2 {
				t.Fatalf("processes in the lab = %d; want init and QEMU", n)
			}
			start := time.Now()
			end(t, holder, init, lab)
			eventually(t, "no process in the lab's namespaces", 10*time.Second, func() bool {
				for kind, id := range namespaces {
					if len(inNamespace(t, kind, id)) > 0 {
						return false
					}
				}
				return true
			})
			_ = holder.Wait() // its status differs from end to end
			t.Logf("gone after %s", time.Since(start).Round(time.Millisecond))
			if _, err := Status(t.Context(), lab); !errors.Is(err, ErrNotUp) {
				t.Errorf("status = %v; want %v", err, ErrNotUp)
			}
			if got := filesOf(t, stateDir); got != files {
				t.Errorf("files in %s = %s; want %s", stateDir, got, files)
			}
		})
	}
}

func signalTo(t *testing.T, pid int, sig os.Signal) {
	t.Helper()
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func filesOf(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// holdLab makes a lab in a process of its own and returns its init's PID.
func holdLab(t *testing.T, name, root string) (*exec.Cmd, int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), holdVariable+"="+name, "INGOT_TOOLS="+root)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	buf := make([]byte, 4096)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatalf("the holder says nothing: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(string(buf[:n]), "up ")))
	if err != nil {
		t.Fatalf("the holder says %q", buf[:n])
	}
	return cmd, pid
}

// killQEMU ends the QEMU of a server from outside, as a crash would. It picks
// it among the processes of the lab's own PID namespace.
func killQEMU(t *testing.T, server string, init int) {
	t.Helper()
	for _, pid := range inNamespace(t, "pid", namespaceOf(t, init, "pid")) {
		args, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && strings.Contains(string(args), "\x00-name\x00"+server+"\x00") {
			p, err := os.FindProcess(pid)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Kill(); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("QEMU of %s is not among the lab's processes", server)
}

func namespaceOf(t *testing.T, pid int, kind string) string {
	t.Helper()
	id, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns", kind))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// inNamespace lists the processes in a namespace.
func inNamespace(t *testing.T, kind, id string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if got, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns", kind)); err == nil && got == id {
			pids = append(pids, pid)
		}
	}
	return pids
}
