package redfish

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/hardware"
)

// Result is one crawl of one BMC.
type Result struct {
	Views []hardware.View // of its systems, in its order
	Stats Stats
	// CacheErr says why the answers were not kept for the next crawl.
	CacheErr error
}

// Crawl is what a BMC says of its systems, all of them or the one that the
// options name. Resources that are missing or broken are findings; the rest is
// there. With [ErrDenied], or when the time is over, what was read until then
// comes with the error.
func Crawl(ctx context.Context, o Options) (Result, error) {
	begin := time.Now()
	s, err := open(ctx, o)
	if err != nil {
		return Result{Stats: Stats{Took: time.Since(begin)}}, err
	}
	views, err := s.crawl()
	return Result{Views: views, Stats: s.stats(begin), CacheErr: s.cacheErr}, err
}

func (s *session) crawl() ([]hardware.View, error) {
	defer s.close() // also when something here panics
	t := s.gather()
	views := t.assemble(s.options.System)
	base := s.guard.base
	if t.ended != nil {
		return views, fmt.Errorf("read %s: %w", base, t.ended)
	}
	if len(views) > 0 {
		return views, nil
	}
	for _, l := range append(s.root.targets("Systems"), t.follow(s.root, "Systems").list("Members")...) {
		if r := t.res[key(l.id())]; r != nil && r.err != nil {
			return nil, r.err
		}
	}
	return nil, fmt.Errorf("read %s: no system %q among %d", base, s.options.System, len(t.members(t.root, "Systems")))
}

// Read is what the BMC says of one server: the one that the options name, or
// the first. Errors are those of [Crawl].
func Read(ctx context.Context, o Options) (hardware.Inventory, hardware.Readings, Stats, error) {
	r, err := Crawl(ctx, o)
	if len(r.Views) == 0 {
		return hardware.Inventory{}, hardware.Readings{}, r.Stats, err
	}
	return r.Views[0].Inventory, r.Views[0].Readings, r.Stats, err
}

// system is the one that was asked for, or the first, for what is done to it.
func (s *session) system() (node, string, error) {
	collection, err := s.get(first(s.root.link("Systems"), rootPath+"Systems"))
	if err != nil {
		return nil, "", err
	}
	for _, m := range collection.list("Members") {
		path := m.id()
		if path == "" {
			continue
		}
		n, err := s.get(path)
		if err != nil {
			return nil, path, err
		}
		if s.options.System == "" || n.str("Id") == s.options.System {
			return n, path, nil
		}
	}
	return nil, "", fmt.Errorf("read %sSystems: no system %q among %d", rootPath, s.options.System, len(collection.list("Members")))
}

// findings are what of the tree was not to be had.
func (t *tree) findings() []hardware.Finding {
	var out []hardware.Finding
	var unread []string
	for _, r := range t.sorted() {
		switch {
		case r.unread:
			unread = append(unread, r.path)
		case r.err != nil:
			out = append(out, findingOf(r))
		case r.listed > 0:
			n := len(r.node.list("Members"))
			out = append(out, hardware.Finding{Code: hardware.CodeSourceMalformed, Severity: hardware.Info, Part: tail(r.path), Source: Source,
				Evidence: fmt.Sprintf("%s: says %d members and lists %d", r.path, r.node.small("Members@odata.count"), n),
				Hint:     "count the parts; a firmware update of the BMC may mend it"})
		}
	}
	const most = 96
	if n := len(out); n > most {
		out = append(out[:most], hardware.Finding{Code: hardware.CodeInventoryTruncated, Severity: hardware.Warning, Part: "findings", Source: Source,
			Evidence: fmt.Sprintf("%d of %d kept", most, n), Hint: "most of what the BMC lists does not answer: is it still starting?"})
	}
	if t.ended != nil {
		out = append(out, t.endFinding(unread))
	}
	return out
}

// endFinding says why the crawl ended before its time.
func (t *tree) endFinding(unread []string) hardware.Finding {
	f := hardware.Finding{Code: hardware.CodeReaderDeadline, Severity: hardware.Warning, Part: "bmc", Source: Source,
		Evidence: t.ended.Error(), Hint: "restart the BMC, or give it more time"}
	if errors.Is(t.ended, ErrDenied) {
		f.Code, f.Hint = hardware.CodeAccessDenied, "the session ended or the account has lost its rights: look at the BMC's sessions and accounts"
	}
	if len(unread) > 0 {
		f.Evidence += fmt.Sprintf("; %d resources were not read, %s first", len(unread), unread[0])
	}
	return f
}

// tail is the end of a path that a person knows a part by: Drives/9.
func tail(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	return strings.Join(parts[max(0, len(parts)-2):], "/")
}

func findingOf(r *resource) hardware.Finding {
	f := hardware.Finding{Code: hardware.CodeSourceMalformed, Severity: hardware.Info, Part: tail(r.path), Evidence: r.err.Error(), Source: Source,
		Hint: "a firmware update of the BMC may mend it"}
	status := statusOf(r.err)
	if status > 0 { // the error's text is the BMC's whole answer
		f.Evidence = fmt.Sprintf("read %s: %d %s", r.path, status, http.StatusText(status))
	}
	switch {
	case status == 404:
		f.Code = hardware.CodeResourceMissing
	case status == 403 || errors.Is(r.err, ErrDenied):
		f.Code, f.Hint = hardware.CodeAccessDenied, "give the account the right to read it"
	case status == 429 || status == 503:
		f.Code, f.Severity, f.Hint = hardware.CodeBMCBusy, hardware.Warning, "the BMC has too much to do: who else asks it?"
	case errors.Is(r.err, errPanic):
		f.Code, f.Severity, f.Hint = hardware.CodeReaderPanicked, hardware.Warning, "report it with this evidence"
	case timedOut(r.err):
		f.Code, f.Severity, f.Hint = hardware.CodeReaderDeadline, hardware.Warning, "restart the BMC when this stays"
	}
	return f
}
