package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Autoload finds drivers for the hardware, and goes on for what appears later.
// It listens before it looks, so that a device that a driver brings forth
// (a disk behind a controller, a NIC behind virtio) is not missed.
//
// settled is called once, when every driver for what was there at the start,
// and for what those drivers showed, has been loaded. Autoload returns when ctx
// ends, or with what keeps it from listening.
func (m *Modules) Autoload(ctx context.Context, log *slog.Logger, settled func()) error {
	sock, err := listenUevents()
	if err != nil {
		return err
	}
	defer sock.closeWith(ctx)()
	scan := make(chan struct{})
	go func() {
		defer close(scan)
		m.coldplug(ctx, log)
		settled()
	}()
	err = m.follow(ctx, sock, log)
	<-scan
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(err, sock.close())
}

// coldplug loads for every device that is there, and again while that shows more.
func (m *Modules) coldplug(ctx context.Context, log *slog.Logger) {
	seen := map[string]bool{}
	for ctx.Err() == nil {
		aliases, err := deviceAliases("/sys")
		if err != nil {
			log.Warn("look for devices", "err", err)
			return
		}
		var calls []*moduleCall
		for _, a := range aliases {
			if !seen[a] {
				seen[a] = true
				calls = append(calls, m.forDevice(a)...)
			}
		}
		if len(calls) == 0 {
			return
		}
		for _, c := range calls {
			select {
			case <-c.done:
			case <-ctx.Done():
				return
			}
		}
	}
}

// follow loads for every device that the kernel adds.
func (m *Modules) follow(ctx context.Context, sock *ueventSocket, log *slog.Logger) error {
	for {
		u, err := sock.next()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errOverflow):
			m.coldplug(ctx, log)
		case err != nil:
			return fmt.Errorf("hear uevents: %w", err)
		case u.Action == "add" && u.Env["MODALIAS"] != "":
			m.forDevice(u.Env["MODALIAS"])
		}
	}
}

// deviceAliases lists the modaliases below /sys/bus/*/devices, each once, in
// the order in which they are worth loading.
func deviceAliases(sys string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(sys, "bus/*/devices/*/modalias"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue // gone again
		}
		if err != nil {
			return nil, err
		}
		for a := range strings.Lines(string(b)) { // ACPI devices may show two
			if a = strings.TrimSpace(a); a != "" {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(out), nil
}

// rank orders modaliases: NICs, since the lease takes longest; then the buses
// behind which more appears, then drives and the BMC; processors' last. What is
// loaded by name ("") is waited for by somebody.
func rank(modalias string) int {
	switch {
	case modalias == "", strings.HasPrefix(modalias, "virtio:d00000001"), // virtio NIC
		strings.HasPrefix(modalias, "pci:") && strings.Contains(modalias, "bc02"),
		strings.HasPrefix(modalias, "vmbus:"):
		return 0
	case strings.HasPrefix(modalias, "pci:") && strings.Contains(modalias, "bc01"),
		strings.HasPrefix(modalias, "virtio:"):
		return 1
	case strings.HasPrefix(modalias, "pci:"), strings.HasPrefix(modalias, "usb:"):
		return 2
	case strings.HasPrefix(modalias, "cpu:"):
		return 4
	default:
		return 3
	}
}
