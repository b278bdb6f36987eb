package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
	"github.com/ingot-metal/ingot/qemu-tests/lab"
)

// Exit codes. `ingot help exit-codes` shows them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitTimeout     = 4
	exitRefused     = 5
	exitUnreachable = 6
	exitWrong       = 7
	exitInterrupted = 130
)

const exitCodes = `Exit codes of every command:

  0    done
  1    failed; the line on stderr says what was tried and the cause
  2    the command line is wrong
  3    no such node, stack or file
  4    not yet: the time was up while waiting; ask again
  5    refused: understood, and not allowed (a signature, a rule, a BMC)
  6    no fleet: no context is set, no lab is up, or the bus does not answer
  7    "ingot why" found something wrong; stdout says what, and what to do
  130  interrupted`

// app is one run of the program: its streams and its global flags.
type app struct {
	stdout, stderr io.Writer
	env            func(string) string
	now            func() time.Time

	output      string
	contextFile string
	labName     string
	timeout     time.Duration
}

func newApp(stdout, stderr io.Writer, env func(string) string) *app {
	return &app{stdout: stdout, stderr: stderr, env: env, now: time.Now}
}

// usageError is a wrong command line.
type usageError struct{ error }

// timeUp is a deadline that was passed, in the words of who waited.
type timeUp string

func (e timeUp) Error() string { return string(e) }
func (timeUp) Unwrap() error   { return context.DeadlineExceeded }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run runs one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	return a.caught(func() int { return a.carryOut(ctx, args) })
}

// caught makes of a panic one sentence, as of everything else that goes wrong;
// whoever mends it asks for the stack.
func (a *app) caught(f func() int) (code int) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		code = exitFailed
		fmt.Fprintf(a.stderr, "ingot: a bug of Ingot's: %.300v (report it with the command line; $INGOT_TRACE=1 shows where)\n", v)
		if a.env("INGOT_TRACE") != "" {
			fmt.Fprintf(a.stderr, "%s", debug.Stack())
		}
	}()
	return f()
}

func (a *app) carryOut(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	code := exitCode(ctx, err)
	if code == exitWrong {
		return code
	}
	if code == exitInterrupted {
		fmt.Fprintln(a.stderr, "ingot: interrupted")
		return code
	}
	fmt.Fprintf(a.stderr, "ingot: %v\n", err)
	if code == exitUsage {
		fmt.Fprintf(a.stderr, "See: %s --help\n", cmd.CommandPath())
	}
	return code
}

func exitCode(ctx context.Context, err error) int {
	var usage usageError
	var refused *operator.RefusedError
	var login refusedLogin
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errWrong):
		return exitWrong
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &refused) || errors.As(err, &login):
		return exitRefused
	case errors.Is(err, operator.ErrNotFound) || errors.Is(err, os.ErrNotExist):
		return exitNotFound
	case errors.Is(err, operator.ErrUnreachable) || errors.Is(err, errNoContext) || errors.Is(err, lab.ErrNotUp):
		return exitUnreachable
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitFailed
}

const rootLong = `Ingot turns bare servers into running stacks: it boots them over the network,
says what they are, gives them a signed stack, and shows every layer of it from
the firmware to the service's answer.

Try it on this machine, without hardware:

  ingot lab up --run hello      a rack of two virtual servers, from power button to service
  ingot node list               in another terminal: what the servers do
  ingot node show r1u1          one server: what it is, where it is in its life, its timeline
  ingot why r1u1                is something wrong with it, where, and what to do

Which fleet a command means: --context FILE, else $INGOT_CONTEXT, else the lab
that runs on this machine, else ~/.config/ingot/context.json. "ingot serve"
writes such a file into its data directory.`

func (a *app) root() *cobra.Command {
	root := group(&cobra.Command{
		Use: "ingot", Short: "Bare metal in, a running stack out", Long: rootLong,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "table" && a.output != "json" && a.output != "yaml" {
				return usagef("--output %q: want table, json or yaml", a.output)
			}
			return nil
		},
	}, a.versionCommand(), a.serveCommand(), a.busCommand(), a.labCommand(), a.nodeCommand(), a.auditCommand(), a.whyCommand(), a.explainCommand(),
		a.assignCommand(), a.unassignCommand(), a.stackCommand(), a.imageCommand(), a.hardwareCommand(), a.baselineCommand(), a.expectedCommand(), &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodes})
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetHelpCommand(helpCommand())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.StringVarP(&a.output, "output", "o", "table", "table, json or yaml")
	f.StringVar(&a.contextFile, "context", "", "file that says which fleet (default $INGOT_CONTEXT)")
	f.StringVar(&a.labName, "lab", "", "name of the lab that is meant (default \"default\")")
	f.DurationVar(&a.timeout, "timeout", 0, "how long to try (default 30s; 15m where a command waits for a node)")
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// helpCommand shows the help of the command that is named, and no other's.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "What a command does, its flags and examples",
		Example: "  ingot help\n  ingot help node power\n  ingot help exit-codes",
		RunE: func(c *cobra.Command, words []string) error {
			found, rest, err := c.Root().Find(words)
			if err != nil || len(rest) > 0 {
				return usagef("help: no command %q", strings.Join(words, " "))
			}
			return found.Help()
		},
	}
}

// group is a command that only holds others: an unknown one is a wrong command
// line, none shows the help.
func group(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var hint string
		if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
			hint = "; did you mean " + strings.Join(s, " or ") + "?"
		}
		return usagef("%s: no command %q%s", cmd.CommandPath(), args[0], hint)
	}
	c.AddCommand(children...)
	c.SuggestionsMinimumDistance = 2
	return c
}

// args checks the number of arguments and says what they are.
func args(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) == n {
			return nil
		}
		if n == 0 {
			return usagef("%s: takes no arguments, got %q", cmd.CommandPath(), strings.Join(given, " "))
		}
		return usagef("%s: want %s, got %d argument(s)", cmd.CommandPath(), what, len(given))
	}
}

// limited bounds a command in time.
func (a *app) limited(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, cmp.Or(a.timeout, most))
}

const (
	quick   = 30 * time.Second
	patient = 15 * time.Minute
)

// show prints v in the form that -o asks for; human is the table's.
func (a *app) show(v any, human func(render.Style) string) error {
	var b []byte
	var err error
	switch a.output {
	case "json":
		b, err = json.MarshalIndent(v, "", "  ")
		b = append(b, '\n')
	case "yaml":
		b, err = yaml.Marshal(v)
	default:
		b = []byte(human(a.style(a.stdout)))
	}
	if err != nil {
		return fmt.Errorf("write as %s: %v", a.output, err)
	}
	if _, err := a.stdout.Write(b); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// progress tells on stderr how long work goes on.
func (a *app) progress(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// style is that of a terminal, or plain and uncut.
func (a *app) style(w io.Writer) render.Style {
	f, ok := w.(*os.File)
	if !ok {
		return render.Style{}
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return render.Style{}
	}
	return render.Style{Width: int(size.Col), Color: a.env("NO_COLOR") == "" && a.env("TERM") != "dumb"}
}
