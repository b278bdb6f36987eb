package host

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// consoleBacklog is how many lines wait for a console that is slow; more are
// dropped and counted, since a stuck serial line must not stop a boot.
const consoleBacklog = 512

// Console writes lines to every console that the kernel has. The kernel itself
// gives /dev/console only the last one named, and who stands at the machine may
// look at another.
type Console struct {
	outs []*consoleOut
}

type consoleOut struct {
	w       io.Writer
	lines   chan string
	pending sync.WaitGroup
	dropped atomic.Int64
}

// OpenConsole opens the kernel's consoles for a program that is not PID 1.
func OpenConsole() *Console { return openConsoles() }

// openConsoles opens what /proc/consoles lists, else standard output.
func openConsoles() *Console {
	var files []io.Writer
	for _, name := range consoleNames("/proc/consoles") {
		// Not the controlling terminal, and no waiting for a modem's carrier.
		if f, err := os.OpenFile("/dev/"+name, os.O_WRONLY|oNoCTTY, 0); err == nil {
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		files = append(files, os.Stdout)
	}
	return newConsole(files...)
}

// consoleNames reads the first word of each line: "ttyS0   -W- (EC p a) 4:64".
func consoleNames(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var names []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if w := strings.Fields(sc.Text()); len(w) > 0 && !strings.ContainsAny(w[0], "/.") {
			names = append(names, w[0])
		}
	}
	return names
}

// newConsole starts a writer for each; they live as long as the process.
func newConsole(ws ...io.Writer) *Console {
	c := &Console{}
	for _, w := range ws {
		o := &consoleOut{w: w, lines: make(chan string, consoleBacklog)}
		c.outs = append(c.outs, o)
		go o.run()
	}
	return c
}

func (o *consoleOut) run() {
	for line := range o.lines {
		if n := o.dropped.Swap(0); n > 0 {
			line = fmt.Sprintf("ingot: console: %d lines dropped\n%s", n, line)
		}
		if _, err := io.WriteString(o.w, line); err != nil {
			o.dropped.Add(1)
		}
		o.pending.Done()
	}
}

// Say writes one line with the time since the kernel's start, as the kernel
// writes its own: "[    3.214] ingot: network: eth0 …". What would break the
// line or the terminal is replaced.
func (c *Console) Say(format string, args ...any) {
	line := fmt.Sprintf("[%9.3f] ingot: %s\n", Uptime().Seconds(), printable(fmt.Sprintf(format, args...)))
	for _, o := range c.outs {
		o.pending.Add(1)
		select {
		case o.lines <- line:
		default:
			o.pending.Done()
			o.dropped.Add(1)
		}
	}
}

// Flush waits until everything said is written, at most so long. It is called
// before a jump or a reset.
func (c *Console) Flush(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, o := range c.outs {
			o.pending.Wait()
		}
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// printable keeps foreign text (a DHCP option, a serial) from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}
