package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/operator"
	"github.com/ingot-metal/ingot/fleet/render"
)

// errWrong says that `ingot why` found something: all is said on stdout.
var errWrong = errors.New("something is wrong")

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "why NODE|SERVICE", Short: "Why a server, or a service, is as it is, and what to do", Args: args(1, "one NODE or SERVICE"),
		Long: `Says in one sentence whether something is wrong with a server; which phase it is
in, since when and until when; which of its layers is the lowest at fault, with
the reason, what was seen and when; the last events that bear on it; and what to
do. Give a NODE as everywhere, a SERVICE that runs on one server only, or
NODE/SERVICE.

Exit code 0 says that nothing is wrong: it runs, it gets along in time, or it
waits for a person. Exit code 7 says that something is.`,
		Example: "  ingot why r1u1\n  ingot why r1u1/hello\n  ingot why r1u1 -o json | jq -r '.verdict, .lowest.reason'\n  ingot why r1u1 >/dev/null || echo r1u1 needs somebody",
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, cancel := a.limited(cmd.Context(), quick)
			defer cancel()
			return a.withClient(ctx, func(c *operator.Client) error {
				t, service, err := c.FindService(ctx, given[0])
				if err != nil {
					return err
				}
				n, err := loadNode(ctx, c, t)
				if err != nil {
					return err
				}
				w := render.Explain(n, service, a.now())
				if err := a.show(w, func(s render.Style) string { return w.Page(s, a.now()) }); err != nil {
					return err
				}
				if w.Verdict == render.Wrong {
					return errWrong
				}
				return nil
			})
		},
	}
}

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain [CODE]", Short: "What a reason code means, why it comes, and what to do",
		Long: `Explains one of the codes that stand as the reason of a node, a layer, a finding
or a refusal; without CODE lists them all. It asks no fleet: the table is that of
this version, and the same as fleet/REASONS.md.`,
		Example: "  ingot explain\n  ingot explain qemu-exited\n  ingot explain -o json | jq -r '.[] | select(.class == \"waits\") | .code'",
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) > 1 {
				return usagef("%s: want one CODE or none, got %d argument(s)", cmd.CommandPath(), len(given))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, given []string) error {
			if len(given) == 0 {
				all := fleet.Reasons()
				return a.show(all, func(s render.Style) string { return render.Reasons(s, all) })
			}
			r, ok := fleet.Explain(fleet.ReasonCode(given[0]))
			if !ok {
				return fmt.Errorf("reason %.64q: %w%s; ingot explain lists them all", given[0], operator.ErrNotFound, similar(given[0]))
			}
			return a.show(r, func(s render.Style) string { return render.Reason(s, r) })
		},
	}
}

// similar names the codes that share the most words with one that is not there.
func similar(code string) string {
	words := strings.FieldsFunc(strings.ToLower(code), func(r rune) bool { return r < 'a' || r > 'z' })
	var best []string
	most := 0
	for _, r := range fleet.Reasons() {
		n := 0
		for _, w := range strings.Split(string(r.Code), "-") {
			if slices.Contains(words, w) {
				n++
			}
		}
		switch {
		case n > most:
			most, best = n, []string{string(r.Code)}
		case n == most && n > 0:
			best = append(best, string(r.Code))
		}
	}
	if len(best) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(best[:min(len(best), 6)], " or ") + "?"
}
