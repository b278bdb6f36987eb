package render

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Style is how a page is drawn. The zero value is plain text of any width.
type Style struct {
	// Width cuts lines; zero cuts none.
	Width int
	// Color draws with ANSI colours.
	Color bool
}

type color string

const (
	plain  color = ""
	bold   color = "1"
	dim    color = "2"
	red    color = "31"
	green  color = "32"
	yellow color = "33"
	cyan   color = "36"
)

func (s Style) paint(c color, text string) string {
	if !s.Color || c == plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// cut shortens text to n columns.
func cut(text string, n int) string {
	if n <= 0 || utf8.RuneCountInString(text) <= n {
		return text
	}
	if n == 1 {
		return "…"
	}
	r := []rune(text)
	return strings.TrimRight(string(r[:n-1]), " ") + "…"
}

// Clean makes text of a node safe for a terminal: printable, on one line.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
}

// Took is a duration as people say it: 0.4s, 12s, 3m05s, 2h10m, 4d.
func Took(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Truncate(time.Second).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// Size is a number of bytes as people say it.
func Size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

func ago(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return Took(now.Sub(t))
}

// short is the first 12 hex digits of a digest.
func short(digest string) string {
	h := strings.TrimPrefix(digest, "sha256:")
	return h[:min(12, len(h))]
}

// cell is one field of a table.
type cell struct {
	text  string
	color color
}

// table draws rows under a head; the last column takes what is left.
func (s Style) table(b *strings.Builder, indent string, head []string, rows [][]cell) {
	width := make([]int, len(head))
	for i, h := range head {
		width[i] = utf8.RuneCountInString(h)
	}
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c.text))
		}
	}
	line := func(cells []cell) {
		used := utf8.RuneCountInString(indent)
		out := indent
		for i, c := range cells {
			if i == len(cells)-1 {
				if s.Width > 0 {
					c.text = cut(c.text, max(s.Width-used, 8))
				}
				out += s.paint(c.color, c.text)
				break
			}
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c.text)+2)
			out += s.paint(c.color, c.text) + pad
			used += width[i] + 2
		}
		b.WriteString(strings.TrimRight(out, " ") + "\n")
	}
	if strings.Join(head, "") != "" {
		var cells []cell
		for _, h := range head {
			cells = append(cells, cell{h, dim})
		}
		line(cells)
	}
	for _, r := range rows {
		line(r)
	}
}

// Table draws plain rows under a head.
func (s Style) Table(head []string, rows [][]string) string {
	var b strings.Builder
	var cells [][]cell
	for _, r := range rows {
		var out []cell
		for _, c := range r {
			out = append(out, cell{text: Clean(c)})
		}
		cells = append(cells, out)
	}
	s.table(&b, "", head, cells)
	return b.String()
}
