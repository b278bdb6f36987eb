package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Uevent is the kernel's word that a device came, went or changed.
type Uevent struct {
	Action  string // add, remove, change, bind, …
	DevPath string // below /sys
	Env     map[string]string
}

// maxUevent is the kernel's own bound (UEVENT_BUFFER_SIZE) and the header.
const maxUevent = 2048 + 4096

// parseUevent reads one datagram: "add@/devices/…", then KEY=value, each with
// its NUL. ok is false for anything else, such as udev's own messages.
func parseUevent(msg []byte) (u Uevent, ok bool) {
	if len(msg) > maxUevent {
		return Uevent{}, false
	}
	head, rest, found := bytes.Cut(msg, []byte{0})
	if !found {
		return Uevent{}, false
	}
	action, path, found := strings.Cut(string(head), "@")
	if !found || action == "" || !strings.HasPrefix(path, "/") {
		return Uevent{}, false
	}
	u = Uevent{Action: action, DevPath: path, Env: map[string]string{}}
	for field := range bytes.SplitSeq(rest, []byte{0}) {
		if key, value, found := strings.Cut(string(field), "="); found {
			u.Env[key] = value
		}
	}
	return u, true
}

// ueventSocket hears the kernel's uevents.
type ueventSocket struct {
	f *os.File // non-blocking, so that Close ends a read
}

func listenUevents() (*ueventSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen for uevents: %w", err)
	}
	// A burst at start (a shelf of drives) must not overflow; as PID 1 we may.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	if err != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for uevents: %w", err), unix.Close(fd))
	}
	return &ueventSocket{f: os.NewFile(uintptr(fd), "uevent")}, nil
}

// errOverflow says that events were lost: look at everything again.
var errOverflow = errors.New("uevents were lost")

// next waits for an event of the kernel's; close ends the wait.
func (s *ueventSocket) next() (Uevent, error) {
	conn, err := s.f.SyscallConn()
	if err != nil {
		return Uevent{}, err
	}
	buf := make([]byte, maxUevent)
	for {
		var n int
		var from unix.Sockaddr
		var rerr error
		err := conn.Read(func(fd uintptr) bool {
			n, from, rerr = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		if err != nil {
			return Uevent{}, err
		}
		if errors.Is(rerr, unix.ENOBUFS) {
			return Uevent{}, errOverflow
		}
		if errors.Is(rerr, unix.EINTR) {
			continue
		}
		if rerr != nil {
			return Uevent{}, rerr
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue // another process, not the kernel
		}
		if u, ok := parseUevent(buf[:n]); ok {
			return u, nil
		}
	}
}

func (s *ueventSocket) close() error { return s.f.Close() }

// closeWith closes the socket when ctx ends, which ends a wait in next. The
// result of closing tells nothing then.
func (s *ueventSocket) closeWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = s.close() })
}
