// Command bench measures what the project claims, each figure beside its floor
// or its peer; `make bench` runs it and writes the table of the README.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/ingot-metal/ingot/qemu-tests/bench"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
)

func main() {
	lab.MaybeInit()
	o := bench.Options{Stdout: os.Stdout}
	flag.StringVar(&o.Ingot, "ingot", "build/ingot", "the operator's binary")
	flag.StringVar(&o.Build, "build", "build", "directory that `make image stack` filled")
	flag.StringVar(&o.Out, "out", "build/bench", "directory for result.json, consoles and logs")
	flag.StringVar(&o.README, "readme", "README.md", "file whose table is written anew, when everything is measured")
	flag.IntVar(&o.Repeat, "repeat", 3, "how many lives of a server to measure; the median counts")
	only := flag.String("only", "", "measure only these, separated by commas: "+strings.Join(bench.Names(), ", "))
	flag.Parse()
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench.Run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
