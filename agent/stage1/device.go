package stage1

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-metal/ingot/agent/host"
)

// loadModules loads modules by name with all that they need.
func loadModules(ctx context.Context, names []string) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	m, err := host.OpenModules(unix.ByteSliceToString(uts.Release[:]))
	if err != nil {
		return err
	}
	return m.Load(ctx, names...)
}

// attachLoop puts a read-only loop device over a file and names it.
func attachLoop(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	var n int
	err = host.Uninterrupted(func() (err error) {
		n, err = unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("ask for a free loop device: %w", err)
	}
	name := fmt.Sprintf("/dev/loop%d", n)
	dev, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer dev.Close()
	config := unix.LoopConfig{Fd: uint32(file.Fd())}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY
	copy(config.Info.File_name[:len(config.Info.File_name)-1], path)
	if err := host.Uninterrupted(func() error { return unix.IoctlLoopConfigure(int(dev.Fd()), &config) }); err != nil {
		return "", fmt.Errorf("attach %s to %s: %w", path, name, err)
	}
	return name, nil
}

// deviceWait is how long a device may take to appear once its driver is loaded.
const deviceWait = 30 * time.Second

// WaitForDrive waits for the virtio drive with the given serial and names its
// device node. The order in which drives appear says nothing.
func WaitForDrive(ctx context.Context, serial string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deviceWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		files, err := filepath.Glob("/sys/block/vd*/serial")
		if err != nil {
			return "", err
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err == nil && strings.TrimSpace(string(b)) == serial {
				return "/dev/" + filepath.Base(filepath.Dir(f)), nil
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for drive %s: not there after %v", serial, deviceWait)
		case <-tick.C:
		}
	}
}
