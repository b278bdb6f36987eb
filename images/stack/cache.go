package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/images"
)

// builderVersion changes when the same recipe gives other bytes.
const builderVersion = "2"

// root gives a root as a squashfs, from a cache or made now.
func (b *builder) root(ctx context.Context, r Recipe) (images.Artifact, error) {
	name := r.Name + ".squashfs"
	key, err := json.Marshal(struct {
		Builder string
		Recipe  Recipe
	}{builderVersion, r})
	if err != nil {
		return images.Artifact{}, err
	}
	file := fmt.Sprintf("root-%s-%s.squashfs", r.Name, images.DigestOf(key).Short())
	cached := filepath.Join(b.Cache, file)
	if b.SecondCache != "" {
		if err := borrow(filepath.Join(b.SecondCache, file), cached); err != nil {
			b.Log.Warn("second cache", "cause", err)
		}
	}
	if _, err := os.Stat(cached); err == nil {
		return b.store.PutFile(cached, name, typeSquashFS)
	}
	start := time.Now()
	b.Log.Info("root: Debian packages are fetched and trimmed", "root", r.Name)
	made := filepath.Join(b.work, file)
	if err := makeRoot(ctx, r, b.Mirror, b.work, made); err != nil {
		return images.Artifact{}, fmt.Errorf("root %s: %w", r.Name, err)
	}
	if err := os.Rename(made, cached); err != nil {
		return images.Artifact{}, err
	}
	b.Log.Info("root: done", "root", r.Name, "seconds", time.Since(start).Round(time.Second).Seconds())
	if b.SecondCache != "" {
		if err := lend(cached, filepath.Join(b.SecondCache, file)); err != nil {
			b.Log.Warn("second cache", "cause", err)
		}
	}
	return b.store.PutFile(cached, name, typeSquashFS)
}

// makeRoot unpacks the recipe's packages, trims them and packs a squashfs.
func makeRoot(ctx context.Context, r Recipe, mirror, work, out string) error {
	debian := filepath.Join(work, r.Name+".debian.tar")
	if err := command(ctx, nil, "mmdebstrap", unpackArgs(r, mirror, debian, os.Geteuid())...); err != nil {
		return fmt.Errorf("unpack Debian %s: %w", r.Suite, err)
	}
	defer os.Remove(debian)
	in, err := os.Open(debian)
	if err != nil {
		return err
	}
	defer in.Close()
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(r.Trim(in, pw)) }()
	err = command(ctx, pr, "sqfstar", "-comp", "zstd", "-all-time", "0", "-mkfs-time", "0", "-all-root", "-quiet", "-no-progress", out)
	return errors.Join(err, pr.Close())
}

// debianKeyring is what Debian's archives are checked against. A machine that is
// not Debian does not trust it by itself.
const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// unpackArgs are mmdebstrap's for a recipe, whose files it puts into a tar;
// without a mirror it asks Debian's own.
func unpackArgs(r Recipe, mirror, tar string, euid int) []string {
	args := []string{"--mode=" + extractMode(euid), "--variant=extract", "--keyring=" + debianKeyring,
		"--aptopt=APT::Install-Recommends \"false\"", "--include=" + strings.Join(r.Packages, ","), r.Suite, tar}
	if mirror != "" {
		args = append(args, mirror)
	}
	return args
}

// extractMode is how mmdebstrap unpacks. Nothing is configured or executed, so
// that a plain user needs neither namespaces nor subordinate IDs for it;
// mmdebstrap refuses that mode to root.
func extractMode(euid int) string {
	if euid == 0 {
		return "root"
	}
	return "chrootless"
}

// command runs a program of this machine; what it says stands in the error.
func command(ctx context.Context, in io.Reader, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = in
	// Set, it contradicts the times that are given.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "SOURCE_DATE_EPOCH=") })
	out, err := cmd.CombinedOutput()
	if err != nil {
		if len(out) > 2000 {
			out = out[len(out)-2000:]
		}
		return fmt.Errorf("run %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// borrow copies a file from the second cache, unless it is here or not there.
func borrow(from, to string) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return copyFile(from, to)
}

func lend(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return copyFile(from, to)
}

// copyFile appears at its place only when it is whole.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".copy-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(0o644), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
