// Command hello is the service of the shipped stack: it answers who it is and,
// layer by layer, where it runs. Every value comes from its surroundings.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const bootIDPath = "/proc/sys/kernel/random/boot_id"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Getenv, bootIDPath); err != nil {
		slog.Error("hello ends", "cause", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, env func(string) string, bootIDFile string) error {
	answer, err := newAnswer(env, bootIDFile)
	if err != nil {
		return err
	}
	addr := env("INGOT_LISTEN")
	if addr == "" {
		addr = ":8080"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	slog.Info("hello listens", "address", l.Addr().String())
	s := &http.Server{Handler: handler(answer), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		<-ctx.Done()
		s.Close()
	}()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// answer is what the service says of itself.
type answer struct {
	Service     string `json:"service"`
	ContainerID string `json:"container_id"`
	ImageDigest string `json:"image_digest"`
	VM          string `json:"vm"`
	// VMBootID is read from the kernel that the service runs on.
	VMBootID         string `json:"vm_boot_id"`
	Hypervisor       string `json:"hypervisor"`
	HypervisorBootID string `json:"hypervisor_boot_id"`
	Node             string `json:"node"`
	Name             string `json:"name,omitempty"`
	Rack             string `json:"rack,omitempty"`
	Unit             int    `json:"unit,omitempty"`
	Nonce            string `json:"nonce,omitempty"`
	Stack            string `json:"stack"`
	StackDigest      string `json:"stack_digest"`
}

func newAnswer(env func(string) string, bootIDFile string) (answer, error) {
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return answer{}, fmt.Errorf("read this kernel's boot ID: %w", err)
	}
	unit := 0
	if s := env("INGOT_UNIT"); s != "" {
		if unit, err = strconv.Atoi(s); err != nil {
			return answer{}, fmt.Errorf("read INGOT_UNIT: %w", err)
		}
	}
	return answer{
		Service:          env("INGOT_SERVICE"),
		ContainerID:      env("INGOT_CONTAINER_ID"),
		ImageDigest:      env("INGOT_IMAGE_DIGEST"),
		VM:               env("INGOT_VM"),
		VMBootID:         strings.TrimSpace(string(boot)),
		Hypervisor:       env("INGOT_HYPERVISOR"),
		HypervisorBootID: env("INGOT_HYPERVISOR_BOOT_ID"),
		Node:             env("INGOT_NODE"),
		Name:             env("INGOT_NAME"),
		Rack:             env("INGOT_RACK"),
		Unit:             unit,
		Nonce:            env("INGOT_NONCE"),
		Stack:            env("INGOT_STACK"),
		StackDigest:      env("INGOT_STACK_DIGEST"),
	}, nil
}

func handler(a answer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(a); err != nil {
			slog.Warn("answer a request", "cause", err)
		}
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	return mux
}
