package resident

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// process is a QEMU: our child, or one that an earlier resident started.
type process struct {
	pid   int
	fd    int       // pidfd: it is this process for ever, a PID is not
	child *exec.Cmd // nil when it was adopted
}

// errNeverStarted means that a record was written and no QEMU after it.
var errNeverStarted = errors.New("QEMU was never started")

// watchChild takes a command that was started.
func watchChild(cmd *exec.Cmd) (*process, error) {
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		err = fmt.Errorf("watch QEMU (process %d): %w", cmd.Process.Pid, err)
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	return &process{pid: cmd.Process.Pid, fd: fd, child: cmd}, nil
}

// adopt finds the process that a record is of, if it lives.
func adopt(rec vmRecord) (*process, error) {
	pid := rec.PID
	if pid == 0 {
		// The earlier resident was killed while it started QEMU. Who listens on
		// the link is it.
		var err error
		if pid, err = listener(rec.Link); err != nil {
			return nil, fmt.Errorf("%w: %v", errNeverStarted, err)
		}
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	ticks, err := startTicks(pid)
	if err == nil && rec.PID != 0 && ticks != rec.StartTicks {
		err = fmt.Errorf("process %d is another one by now", pid)
	}
	if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err == nil && n > 0 {
		err = fmt.Errorf("process %d has ended", pid) // and is not reaped yet
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &process{pid: pid, fd: fd}, nil
}

// listener is the process that listens on a unix socket.
func listener(path string) (int, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Pid), nil
}

// startTicks is when a process started, in ticks since the kernel did.
func startTicks(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses that may hold anything.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("read /proc/%d/stat: %d fields after the name, want 20", pid, len(fields))
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// wait returns when the process has ended, with how, or when ctx has.
func (p *process) wait(ctx context.Context) (how string, ended bool) {
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int((500 * time.Millisecond).Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Sprintf("its end is not seen: poll: %v", err), true
		}
		if n > 0 {
			return p.reap(), true
		}
	}
	return "", false
}

// reap says how a process ended that has ended.
func (p *process) reap() string {
	if p.child == nil {
		return "exit status unknown, an earlier resident had started it"
	}
	return exitText(p.child.Wait())
}

func (p *process) kill() error { return unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0) }

// close lets go of a process, whether or not it lives.
func (p *process) close() {
	_ = unix.Close(p.fd) // nothing was written to it
}
