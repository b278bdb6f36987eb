package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/boot/netboot"
)

// roomVariable makes the test binary a process that lives in namespaces of its
// own, and does there what the variable says.
const roomVariable = "INGOT_SERVE_ROOM"

func TestMain(m *testing.M) {
	what := os.Getenv(roomVariable)
	if what == "" {
		os.Exit(m.Run())
	}
	if err := rooms[what](os.Args[len(os.Args)-1]); err != nil {
		fmt.Println("THE ROOM:", err)
		os.Exit(3)
	}
	os.Exit(0)
}

// rooms are given a directory, and print what serve says.
var rooms = map[string]func(dir string) error{
	"read-only": func(dir string) error {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, ""); err != nil {
			return err
		}
		fmt.Println(errors.Join(brief(Config{Data: dir}), brief(Config{Data: filepath.Join(dir, "data")})))
		return nil
	},
	"full": func(dir string) error {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			return err
		}
		fmt.Println(brief(Config{Data: filepath.Join(dir, "data")}))
		entries, err := os.ReadDir(filepath.Join(dir, "data"))
		fmt.Println(len(entries), "files are left")
		return err
	},
	"fills": fillsRoom,
	"rival": rivalRoom,
}

// fillsRoom is a disk that fills up while serve runs, and has room again.
func fillsRoom(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return err
	}
	filler := filepath.Join(dir, "filler")
	for _, fill := range []int{82 << 20, 0} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		c := Config{Data: filepath.Join(dir, "data"), Keys: filepath.Join(dir, "data", "keys"), Listen: "127.0.0.1:0", HTTPPort: 8080}
		c.Ready = func(line string) {
			switch {
			case !strings.HasPrefix(line, "context"):
			case fill == 0:
				fmt.Println("serves again")
				cancel()
			default:
				fmt.Println("filled:", os.WriteFile(filler, make([]byte, fill), 0o600))
			}
		}
		fmt.Println(Run(ctx, c))
		cancel()
		if err := os.Remove(filler); err != nil && fill > 0 {
			return err
		}
	}
	return nil
}

// rivalRoom is a network on which another DHCP server answers.
func rivalRoom(dir string) error {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near0"}, PeerName: "far0"}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	for name, address := range map[string]string{"lo": "127.0.0.1/8", "near0": "10.9.1.1/24", "far0": "10.9.0.1/24"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, emptyKernel(), 0o600); err != nil {
		return err
	}
	rival, err := netboot.New(netboot.Config{
		Interface: "far0", Address: netip.MustParsePrefix("10.9.0.1/24"), Known: netboot.AnyMachine, RivalWait: -1, NoRouterAdvertisement: true,
		UndionlyKPXE: netboot.File{Path: file}, SNPOnlyEFI: netboot.File{Path: file}, Kernel: netboot.File{Path: file},
		Initramfs: netboot.File{Path: file}, Trust: netboot.File{Path: file},
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return rival.Run(ctx) })
	<-rival.Ready()
	fmt.Println(brief(Config{
		Data: filepath.Join(dir, "data"), Interface: "near0", HTTPPort: 8080, Undionly: file, SNPOnly: file, Kernel: file, Initramfs: file,
	}))
	_, err = os.Stat(filepath.Join(dir, "data", ContextFile))
	fmt.Println("context:", errors.Is(err, fs.ErrNotExist))
	cancel()
	return g.Wait()
}

// emptyKernel has the head of a kernel, of which the boot server is sure, and
// nothing after it.
func emptyKernel() []byte {
	b := make([]byte, 5*512)
	b[0x1f1], b[0x1fe], b[0x1ff] = 4, 0x55, 0xaa
	copy(b[0x202:], "HdrS")
	return b
}

// brief serves for as long as a bad start may take, on ports of its own.
func brief(c Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if c.Listen == "" && c.Interface == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Keys == "" {
		c.Keys = filepath.Join(c.Data, "keys")
	}
	if err := Run(ctx, c); err != nil {
		return err
	}
	return errors.New("serve runs, as if nothing were wrong")
}

// room runs one of the rooms and returns what it printed.
func room(t *testing.T, what string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", t.TempDir())
	cmd.Env = append(os.Environ(), roomVariable+"="+what)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.Output()
	if errors.Is(err, fs.ErrPermission) && os.Getenv("CI") != "true" {
		t.Skipf("missing: namespaces: %v", err)
	}
	if err != nil {
		t.Fatalf("room %s: %v: %s", what, err, out)
	}
	return string(out)
}

// says fails unless every one of the words stands in a text.
func says(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: %q; want it to say %q", what, text, w)
		}
	}
}

func TestDataDirectoryReadOnly(t *testing.T) {
	out := room(t, "read-only")
	says(t, "a data directory that is read-only", out, "write into the data directory: open ", "make the data directory: mkdir ", "read-only file system")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 {
		t.Errorf("two starts say %q; want a line each", lines)
	}
}

func TestDataDirectoryFull(t *testing.T) {
	says(t, "a disk that is full", room(t, "full"), "write into the data directory: ", " KiB free, at least 65536 are wanted: no space left on device", "0 files are left")
}

func TestDataDirectoryFillsUp(t *testing.T) {
	says(t, "a disk that fills up", room(t, "fills"), "filled: <nil>\nstop before the disk is full: ", " KiB free, at least 16384 are wanted: no space left on device\nserves again\n<nil>\n")
}

func TestAnotherDHCPServer(t *testing.T) {
	says(t, "a network with another DHCP server", room(t, "rival"), "netboot on near0: another DHCP server, 10.9.0.1, answers on this interface", "context: true")
}

// started serves until the test ends, and returns its bus and its end.
func started(t *testing.T, c Config) (end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	c.Ready = func(line string) {
		if strings.HasPrefix(line, "context") {
			close(ready)
		}
	}
	go func() { done <- Run(ctx, c) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("serve = %v; want it to run", err)
	case <-time.After(30 * time.Second):
		t.Fatal("serve is not ready after 30 s")
	}
	t.Cleanup(cancel)
	return func() error { cancel(); return <-done }
}

// freePort is a port that was free a moment ago.
func freePort(t *testing.T) (uint16, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return uint16(l.Addr().(*net.TCPAddr).Port), l
}

// TestServe starts from an empty directory, refuses a second server on it, and
// starts again from what the first one left.
func TestServe(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	port, l := freePort(t)
	c := Config{Data: data, Keys: filepath.Join(data, "keys"), Listen: "127.0.0.1:0", HTTPPort: port}
	taken := brief(Config{Data: filepath.Join(t.TempDir(), "b"), Listen: l.Addr().String()})
	if !errors.Is(taken, syscall.EADDRINUSE) {
		t.Errorf("a bus on a port that is taken = %v; want it refused", taken)
	}
	taken = brief(Config{Data: filepath.Join(t.TempDir(), "h"), HTTPPort: port})
	if !errors.Is(taken, syscall.EADDRINUSE) {
		t.Errorf("HTTP on a port that is taken = %v; want it refused", taken)
	}
	says(t, "ports that are taken", taken.Error(), "serve HTTP", l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	end := started(t, c)
	says(t, "a second server", brief(Config{Data: data}).Error(), "another server holds it")
	if err := end(); err != nil {
		t.Errorf("serve ends with %v; want nil", err)
	}
	end = started(t, c)
	if err := end(); err != nil {
		t.Errorf("serve on what was left ends with %v; want nil", err)
	}
}

func TestDataDirectoryOfAnotherVersion(t *testing.T) {
	data := t.TempDir()
	version := filepath.Join(data, "bus", "version")
	if err := os.MkdirAll(filepath.Dir(version), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(version, []byte("ingot-bus/9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, "a data directory of another version", brief(Config{Data: data}).Error(), version, `"ingot-bus/9"`, "this program reads", "name another directory")
	if b, err := os.ReadFile(version); err != nil || string(b) != "ingot-bus/9\n" {
		t.Errorf("version afterwards = %q, %v; want it left alone", b, err)
	}
}

func TestBadStarts(t *testing.T) {
	lab := filepath.Join(t.TempDir(), "keys")
	says(t, "an interface that is not there", brief(Config{Lab: true, Keys: lab, Data: t.TempDir(), Interface: "none0"}).Error(), "find interface none0")
	says(t, "the lab's keys elsewhere", brief(Config{Keys: lab, Data: t.TempDir()}).Error(), "the lab's", "name other --keys")
	says(t, "policy open elsewhere", brief(Config{Data: t.TempDir(), Policy: "open"}).Error(), "for the lab only")
	says(t, "stacks that are not there", brief(Config{Data: t.TempDir(), Stacks: "/none/stacks"}).Error(), "make stack")
	half := t.TempDir()
	if err := os.WriteFile(filepath.Join(half, "root.key"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, "half a keyring", brief(Config{Data: t.TempDir(), Keys: half}).Error(), "root.key is there already", "root.pub is not")
	if entries, err := os.ReadDir(half); err != nil || len(entries) != 1 {
		t.Errorf("half a keyring afterwards = %v, %v; want it left alone", entries, err)
	}
}
