// Command ingot is all that an operator needs: it serves the fleet, shows and
// steers nodes, builds stacks, and makes the lab.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ingot-metal/ingot/qemu-tests/lab"
)

func main() {
	lab.MaybeInit()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := newApp(os.Stdout, os.Stderr, os.Getenv).run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
