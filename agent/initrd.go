package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ingot-metal/ingot/boot"
	"github.com/ingot-metal/ingot/boot/fetch"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"github.com/ingot-metal/ingot/images/cpio"
)

// target is what kexec loads: two regular files on the tmpfs of this server.
type target struct {
	dir            string
	kernel, initrd string
}

// assemble fetches everything that p names and lays it out as a kernel and one
// initrd: the stack's own initrds, then an archive of p's files. Bytes go
// straight to their place, so that memory holds them once. Nothing is left of
// a try that failed.
func assemble(ctx context.Context, f *fetch.Fetcher, p boot.Plan, dir string) (t target, err error) {
	if err := os.RemoveAll(dir); err != nil {
		return t, fmt.Errorf("make room for the stack: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return t, fmt.Errorf("make room for the stack: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	t = target{dir: dir, kernel: filepath.Join(dir, "kernel"), initrd: filepath.Join(dir, "initrd")}
	if err := create(t.kernel, func(k *os.File) error { return f.Append(ctx, k, p.Kernel) }); err != nil {
		return t, err
	}
	return t, create(t.initrd, func(out *os.File) error {
		for _, a := range p.Initrds {
			if err := f.Append(ctx, out, a); err != nil {
				return err
			}
			if err := align(out); err != nil {
				return err
			}
		}
		return appendFiles(ctx, f, out, p, t.kernel)
	})
}

func create(path string, fill func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

// align pads an initrd to 512 bytes: the kernel wants an archive to begin at a
// multiple of four and skips zeros before it.
func align(f *os.File) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, (512-end%512)%512))
	return err
}

// appendFiles writes the archive of p's files. A file that is the kernel again
// is taken from where it lies, verified already.
func appendFiles(ctx context.Context, f *fetch.Fetcher, out io.Writer, p boot.Plan, kernel string) error {
	w := cpio.NewWriter(out)
	for _, file := range p.Files {
		a := file.Artifact
		var err error
		if a.Digest == p.Kernel.Digest {
			err = copyIn(w, file.Path, kernel)
		} else {
			err = stream(ctx, f, w, file.Path, a)
		}
		if err != nil {
			return err
		}
	}
	return w.Close()
}

func copyIn(w *cpio.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return w.File(name, 0o400, st.Size(), f)
}

// stream fetches a into the archive. The fetcher's word comes last and counts:
// only it knows whether the digest matched.
func stream(ctx context.Context, f *fetch.Fetcher, w *cpio.Writer, name string, a images.Artifact) error {
	r, pw := io.Pipe()
	fetched := make(chan error, 1)
	go func() {
		err := f.Copy(ctx, pw, a)
		pw.CloseWithError(err)
		fetched <- err
	}()
	err := w.File(name, 0o400, a.SizeBytes, r)
	r.CloseWithError(err)
	if ferr := <-fetched; ferr != nil {
		return ferr
	}
	return err
}

// appendHandoff adds the handoff file, the last archive of the initrd.
func appendHandoff(initrd string, h fleet.Handoff) (err error) {
	b, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("write handoff as JSON: %v", err)
	}
	f, err := os.OpenFile(initrd, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("append handoff: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := cpio.NewWriter(f)
	if err := w.Bytes(fleet.HandoffPath, 0o400, b); err != nil {
		return fmt.Errorf("append handoff: %w", err)
	}
	return w.Close()
}
