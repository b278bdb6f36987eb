package bus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"
	"golang.org/x/sys/unix"
)

// layoutVersion is what the file "version" of a data directory says.
const layoutVersion = "ingot-bus/1"

// openDir makes or opens the data directory and holds it: two servers on one
// directory would destroy each other's streams.
func openDir(dir string) (*os.File, error) {
	if dir == "" {
		return nil, errors.New("open bus data directory: none is named")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open bus data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open bus data directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("open bus data directory %s: another server holds it: end that one, or name another directory", dir), lock.Close())
	}
	if err := checkVersion(filepath.Join(dir, "version")); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

func checkVersion(path string) error {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return replaceFile(path, []byte(layoutVersion+"\n"))
	case err != nil:
		return fmt.Errorf("open bus data directory: %w", err)
	case strings.TrimSpace(string(b)) != layoutVersion:
		return fmt.Errorf("open bus data directory: %s says %.40q, this program reads %q: start the program that wrote it, or name another directory", path, strings.TrimSpace(string(b)), layoutVersion)
	}
	return nil
}

// keptKey reads an nkey's seed from dir, or makes it.
func keptKey(dir, name string, prefix nkeys.PrefixByte) (nkeys.KeyPair, error) {
	path := filepath.Join(dir, name)
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		kp, err := nkeys.CreatePair(prefix)
		if err != nil {
			return nil, fmt.Errorf("make %s: %v", name, err)
		}
		if seed, err = kp.Seed(); err != nil {
			return nil, fmt.Errorf("make %s: %v", name, err)
		}
		return kp, replaceFile(path, seed)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("read %s: %v", path, err)
	}
	if got, err := kp.PublicKey(); err != nil || nkeys.Prefix(got) != prefix {
		return nil, fmt.Errorf("read %s: it holds another kind of key", path)
	}
	return kp, nil
}
