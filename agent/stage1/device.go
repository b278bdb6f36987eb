package stage1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// moduleInitCompressed lets the kernel unpack an .xz module itself
// (MODULE_INIT_COMPRESSED_FILE in linux/module.h).
const moduleInitCompressed = 4

// ModulesDir is where every root of a stack has its kernel modules.
const ModulesDir = "/lib/modules"

// LoadModules loads modules by name with all that they need, as modules.dep of
// the running kernel has it. A module that the index does not hold is an error,
// unless the kernel says that it has it built in or loaded.
func LoadModules(names ...string) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	dir := filepath.Join(ModulesDir, unix.ByteSliceToString(uts.Release[:]))
	f, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return err
	}
	defer f.Close()
	deps, err := parseDeps(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	for _, name := range names {
		files, ok := deps[name]
		if !ok {
			if _, err := os.Stat("/sys/module/" + name); err == nil {
				continue
			}
			return fmt.Errorf("load module %s: %s does not hold it", name, f.Name())
		}
		for _, file := range files {
			if err := LoadModule(filepath.Join(dir, file)); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseDeps reads modules.dep(5): for every module's name its files in the
// order of loading, itself last.
func parseDeps(r io.Reader) (map[string][]string, error) {
	deps := map[string][]string{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		file, rest, ok := strings.Cut(sc.Text(), ":")
		if !ok {
			return nil, fmt.Errorf("line %.80q: no colon", sc.Text())
		}
		files := append([]string{file}, strings.Fields(rest)...)
		slices.Reverse(files)
		name, _, _ := strings.Cut(filepath.Base(file), ".ko")
		deps[strings.ReplaceAll(name, "-", "_")] = files
	}
	return deps, sc.Err()
}

// LoadModule loads one module file, .ko or .ko.xz. A module that is there
// already is no mistake.
func LoadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if strings.HasSuffix(path, ".xz") {
		flags = moduleInitCompressed
	}
	if err := unix.FinitModule(int(f.Fd()), "", flags); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", path, err)
	}
	return nil
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
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
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
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), &config); err != nil {
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
