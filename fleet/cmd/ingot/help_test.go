package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// everyCommand calls f with every command of the program.
func everyCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, child := range c.Commands() {
		everyCommand(child, f)
	}
}

// Every page of help says what the command does, shows an example, fits a
// terminal, and names the values of its flags by one word.
func TestHelpReadsWell(t *testing.T) {
	a := newApp(nil, nil, func(string) string { return "" })
	n := 0
	everyCommand(a.root(), func(c *cobra.Command) {
		n++
		words := append(strings.Fields(c.CommandPath())[1:], "--help")
		code, page, stderr := try(t, nil, words...)
		if code != exitOK || stderr != "" {
			t.Errorf("ingot %s = %d, %q", strings.Join(words, " "), code, stderr)
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: says of itself %q; want half a sentence", c.CommandPath(), c.Short)
		}
		if !c.HasSubCommands() && c.Runnable() && c.Example == "" {
			t.Errorf("%s: shows no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Long) {
			if most := map[bool]int{true: 110, false: 84}[strings.HasPrefix(line, "  ")]; len(line) > most {
				t.Errorf("%s: a line of %d columns: %q", c.CommandPath(), len(line), line)
			}
		}
		for line := range strings.Lines(page) {
			usage, value, ok := strings.Cut(strings.TrimLeft(line, " "), " ")
			if !ok || !strings.HasPrefix(usage, "-") {
				continue
			}
			if strings.HasPrefix(usage, "-") && len(usage) == 3 { // -o, --output
				_, value, _ = strings.Cut(value, " ")
			}
			if name, rest, _ := strings.Cut(value, "   "); strings.Contains(name, " ") && rest != "" {
				t.Errorf("%s: the value of %s is called %q; want one word", c.CommandPath(), usage, name)
			}
		}
	})
	if n < 40 {
		t.Errorf("%d commands were looked at; the walk does not see them all", n)
	}
}

func TestHelpOfACommand(t *testing.T) {
	if code, page, _ := try(t, nil, "help", "node", "power", "cycle"); code != exitOK || !strings.Contains(page, "ingot node power cycle r1u1") {
		t.Errorf("ingot help node power cycle = %d, %q", code, page)
	}
	for _, line := range []string{"help nothere", "help node nothere", "help assign r1u1"} {
		if code, page, stderr := try(t, nil, strings.Fields(line)...); code != exitUsage || page != "" || !strings.Contains(stderr, "no command") {
			t.Errorf("ingot %s = %d, %q, %q; want it refused", line, code, page, stderr)
		}
	}
}

// No command line brings the program down: what it cannot mean is said in one
// line and by the exit code.
func TestHostileCommandLines(t *testing.T) {
	a := newApp(nil, nil, func(string) string { return "" })
	var paths [][]string
	everyCommand(a.root(), func(c *cobra.Command) {
		// These would start, build or write something.
		switch c.CommandPath() {
		case "ingot serve", "ingot bus run", "ingot bus config", "ingot stack build", "ingot image build", "ingot lab up", "ingot lab doctor":
		default:
			paths = append(paths, strings.Fields(c.CommandPath())[1:])
		}
	})
	env := map[string]string{"INGOT_CONTEXT": "/dev/null"}
	hostile := []string{"", "-", "--", "\x00", "\xff\xfe", "../../etc", "{{.}}", "%s%n", "*.>", strings.Repeat("x", 1<<16), "a\nb", "\x1b[2J"}
	for _, path := range paths {
		for _, h := range hostile {
			for _, more := range [][]string{{h}, {h, h}, {"--timeout", "50ms", h}, {"-o", h}, {"--lab", h, h}} {
				if strings.Contains(strings.Join(path, " "), "write") || len(more) > 1 && more[0] == "--lab" && h == "" {
					continue
				}
				_, _, stderr := try(t, env, append(append([]string{}, path...), more...)...)
				if strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "panic") {
					t.Errorf("ingot %q %q: %.300s", path, more, stderr)
				}
			}
		}
	}
}

func TestPanicIsASentence(t *testing.T) {
	for trace, lines := range map[string]int{"": 1, "1": 5} {
		var errs bytes.Buffer
		a := newApp(nil, &errs, func(k string) string { return map[string]string{"INGOT_TRACE": trace}[k] })
		code := a.caught(func() int { return []int{}[len(trace)] })
		said := errs.String()
		if n := strings.Count(said, "\n"); code != exitFailed || !strings.HasPrefix(said, "ingot: a bug of Ingot's: runtime error: index out of range") || n < lines || lines == 1 && n > 1 {
			t.Errorf("INGOT_TRACE=%q: %d, %q", trace, code, said)
		}
	}
}
