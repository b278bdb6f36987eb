package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/images/initramfs"
)

// Names of what `ingot image build` makes, which serve reads.
const (
	kernelFile    = "vmlinuz"
	initramfsFile = "initramfs.cpio.zst"
)

// built is what `ingot image build` says.
type built struct {
	Kernel         string  `json:"kernel"`
	KernelBytes    int64   `json:"kernel_bytes"`
	KernelVersion  string  `json:"kernel_version"`
	Initramfs      string  `json:"initramfs"`
	InitramfsBytes int64   `json:"initramfs_bytes"`
	Modules        int     `json:"modules"`
	Files          int     `json:"files"`
	Seconds        float64 `json:"seconds"`
}

func (a *app) imageCommand() *cobra.Command {
	var tools, agent, out string
	build := &cobra.Command{
		Use: "build", Short: "Make the agent's kernel and initramfs", Args: args(0, ""),
		Long: `Takes a Debian root with a kernel (make build/tools/.stamp unpacks one) and the
agent, and writes OUT/vmlinuz and OUT/initramfs.cpio.zst, which the boot server
gives to every machine. The time that stands in it, below which no machine sets
its clock, is $SOURCE_DATE_EPOCH, or that of the agent's file: with the first,
the same sources give the same bytes.`,
		Example: "  ingot image build --tools build/tools --agent build/ingot-agent --out build/agent",
		RunE: func(cmd *cobra.Command, _ []string) error {
			start := time.Now()
			epoch, err := sourceDate(a.env("SOURCE_DATE_EPOCH"))
			if err != nil {
				return err
			}
			k, err := initramfs.FindKernel(tools)
			if err != nil {
				return fmt.Errorf("%w (make build/tools/.stamp unpacks one)", err)
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return fmt.Errorf("make the output directory: %w", err)
			}
			a.progress("kernel %s and the modules of a rack into %s", k.Version, out)
			b := built{Kernel: filepath.Join(out, kernelFile), KernelVersion: k.Version, Initramfs: filepath.Join(out, initramfsFile)}
			if b.KernelBytes, err = copyFile(k.Image, b.Kernel); err != nil {
				return err
			}
			res, err := initramfs.Build(cmd.Context(), initramfs.Options{
				Agent: agent, ModulesDir: k.ModulesDir, Role: "agent", Output: b.Initramfs, Built: epoch, PCIIDs: existing(filepath.Join(tools, "usr/share/misc/pci.ids")),
			})
			if err != nil {
				return err
			}
			b.InitramfsBytes, b.Modules, b.Files, b.Seconds = res.SizeBytes, len(res.Modules), res.Files, time.Since(start).Seconds()
			return a.show(b, func(render.Style) string {
				return fmt.Sprintf("%s  %s\n%s  %s, %d modules, in %.1fs\n", b.Kernel, render.Size(b.KernelBytes),
					b.Initramfs, render.Size(b.InitramfsBytes), b.Modules, b.Seconds)
			})
		},
	}
	f := build.Flags()
	f.StringVar(&tools, "tools", "build/tools", "Debian root with the kernel")
	f.StringVar(&agent, "agent", "build/ingot-agent", "the agent, which becomes /init")
	f.StringVar(&out, "out", "build/agent", "directory to write to")
	return group(&cobra.Command{Use: "image", Short: "Make what servers boot before they have a stack"}, build)
}

// sourceDate is the time of the sources, as reproducible builds are told it:
// seconds since 1970. Zero without one.
func sourceDate(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %.40q: want seconds since 1970", s)
	}
	return time.Unix(n, 0).UTC(), nil
}

// existing is path, or empty where nothing is there.
func existing(path string) string {
	if path == "" {
		return ""
	}
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// copyFile copies whole or not at all.
func copyFile(from, to string) (int64, error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, fmt.Errorf("copy to %s: %w", to, err)
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+"-*")
	if err != nil {
		return 0, fmt.Errorf("copy to %s: %w", to, err)
	}
	n, err := io.Copy(out, in)
	if err == nil {
		err = out.Chmod(0o644)
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(out.Name(), to)
	}
	if err != nil {
		os.Remove(out.Name()) //nolint:errcheck // the first cause is told
		return 0, fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	return n, nil
}
