package resident

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vmNet is the point-to-point network of the i-th virtual machine, out of the
// block that RFC 6598 keeps for such use.
type vmNet struct{ tap, host, guest string }

func vmNetwork(i int) vmNet {
	base := fmt.Sprintf("100.64.%d.", i)
	return vmNet{tap: fmt.Sprintf("ivm%d", i), host: base + "1/30", guest: base + "2/30"}
}

func (n vmNet) guestIP() string { ip, _, _ := strings.Cut(n.guest, "/"); return ip }
func (n vmNet) hostIP() string  { ip, _, _ := strings.Cut(n.host, "/"); return ip }

// openTap makes the TAP of a VM, with the host's address on it.
func openTap(n vmNet) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	f := os.NewFile(uintptr(fd), "/dev/net/tun")
	req, err := unix.NewIfreq(n.tap)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, errors.Join(fmt.Errorf("create TAP %s: %w", n.tap, err), f.Close())
	}
	if err := tapUp(n); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func tapUp(n vmNet) error {
	l, err := netlink.LinkByName(n.tap)
	if err != nil {
		return fmt.Errorf("find TAP %s: %w", n.tap, err)
	}
	addr, err := netlink.ParseAddr(n.host)
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(l, addr); err != nil {
		return fmt.Errorf("set %s on %s: %w", n.host, n.tap, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", n.tap, err)
	}
	return nil
}

// leadPorts leads every VM's ports before anything else is done: to a VM that an
// earlier resident started they are all that its service lacks. stop ends them.
func (r *resident) leadPorts(ctx context.Context) (stop func()) {
	var stops []func()
	r.portTrouble = map[string]error{}
	for i, vm := range r.handoff.Manifest.VMs {
		for _, f := range vm.Forwards {
			s, err := forward(ctx, f.HostPort, net.JoinHostPort(vmNetwork(i).guestIP(), strconv.Itoa(int(f.VMPort))))
			if err != nil {
				r.portTrouble[vm.Name] = err
				continue
			}
			stops = append(stops, s)
		}
	}
	return func() {
		for _, s := range stops {
			s()
		}
	}
}

// forward leads a TCP port of the server to a VM until stop is called.
func forward(ctx context.Context, port uint16, to string) (stop func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(int(port))))
	if err != nil {
		return nil, fmt.Errorf("lead port %d to %s: %w", port, to, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
					return
				}
				if !pause(ctx, 100*time.Millisecond) { // out of files, most likely
					return
				}
				continue
			}
			wg.Go(func() { relayTCP(ctx, c, to) })
		}
	})
	return func() {
		cancel()
		l.Close()
		wg.Wait()
	}, nil
}

// relayTCP carries one connection in both directions; when the VM does not
// answer, the connection is reset.
func relayTCP(ctx context.Context, c net.Conn, to string) {
	defer c.Close()
	d := net.Dialer{Timeout: 5 * time.Second}
	v, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // a reset says more than an empty answer
		}
		return
	}
	defer v.Close()
	defer context.AfterFunc(ctx, func() { c.Close(); v.Close() })()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(v, c) // either end may hang up at any time
		if t, ok := v.(*net.TCPConn); ok {
			_ = t.CloseWrite()
		}
	}()
	_, _ = io.Copy(c, v)
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	<-done
}
