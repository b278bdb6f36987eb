// Command e2e does the main job on a lab without a hand and checks it; `make
// e2e` runs it. It exits 0 only if everything holds.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ingot-metal/ingot/qemu-tests/e2e"
)

func main() {
	o := e2e.Options{Stdout: os.Stdout}
	flag.StringVar(&o.Ingot, "ingot", "build/ingot", "the operator's binary")
	flag.StringVar(&o.Build, "build", "build", "directory that `make image stack` filled")
	flag.StringVar(&o.Stack, "stack", "hello", "stack to carry to both servers")
	flag.StringVar(&o.Out, "out", "build/e2e", "directory for result.json, consoles and logs")
	flag.DurationVar(&o.Deadline, "deadline", 15*time.Minute, "how long the whole may take")
	flag.BoolVar(&o.NoBreaking, "no-breaking", false, "leave out the proofs by breaking")
	flag.StringVar(&o.Policy, "policy", "open", "open; or approve: an operator lets each server in, and throws one out at the end")
	flag.BoolVar(&o.BadLuck, "bad-luck", false, "cut power, cables and ingot serve in every phase, instead of the main job")
	kind := flag.String("bus", "embedded", "embedded, or cluster: three servers that are killed in turn")
	flag.Parse()
	o.Cluster = *kind == "cluster"
	if *kind != "embedded" && *kind != "cluster" {
		fmt.Fprintf(os.Stderr, "e2e: -bus %q: want embedded or cluster\n", *kind)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	start := time.Now()
	if err := e2e.Run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: does not hold after %s:\n%v\n", time.Since(start).Round(time.Second), err)
		os.Exit(1)
	}
	fmt.Printf("e2e: all of it holds, in %s; see %s/result.json\n", time.Since(start).Round(time.Second), o.Out)
}
