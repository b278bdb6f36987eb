package redfish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stmcginnis/gofish/schemas"
)

// The bounds of one crawl, beyond those of a session.
const (
	maxMembers   = 1024 // of one collection
	maxPages     = 64   // of one collection
	maxChassis   = 256
	maxDepth     = 12 // links from the root
	maxTries     = 5  // of one resource that is refused
	maxSilence   = 6  // requests in a row without an answer
	maxPause     = 30 * time.Second
	firstPause   = 500 * time.Millisecond
	maxResources = maxRequests
)

var errSilent = errors.New("the BMC answers no more")

// resource is one path of the service.
type resource struct {
	path   string
	node   node
	err    error
	unread bool // it was not asked for: the work had ended
	listed int  // Members@odata.count, where it is not the number of members
	kinds  map[kind]bool
	loaded bool
}

// tree is what was gathered, by key.
type tree struct {
	root  node
	res   map[string]*resource
	boxes []node // see allChassis
	ended error  // why not all was asked for
}

// gatherer follows links from the root, each resource once.
type gatherer struct {
	*session
	ctx     context.Context
	stop    context.CancelCauseFunc
	wg      sync.WaitGroup
	mu      sync.Mutex
	tree    tree
	turn    sync.Once
	leading atomic.Int32 // resources under way that may lead on
	silence atomic.Int32
	expand  atomic.Int32 // see tryExpand
	old     Answers
	kept    Answers
}

// gather reads all that the table of links leads to.
func (s *session) gather() *tree {
	ctx, stop := context.WithCancelCause(s.ctx)
	defer stop(nil)
	g := &gatherer{session: s, ctx: ctx, stop: stop, kept: Answers{}, tree: tree{root: s.root, res: map[string]*resource{}}}
	scope := ""
	if s.options.Cache != nil {
		scope = scopeOf(s.guard.base.String(), s.options.User, s.root)
		g.old = s.options.Cache.Load(scope)
	}
	if s.root.link("Systems") == "" { // some forget to name them
		s.root["Systems"] = map[string]any{"@odata.id": rootPath + "Systems"}
	}
	g.leading.Store(1)
	g.meet()
	g.follow(s.root, kindRoot, 0)
	g.led()
	g.wg.Wait()
	if ctx.Err() != nil {
		g.tree.ended = context.Cause(ctx)
	}
	if s.options.Cache != nil && g.tree.ended == nil {
		s.cacheErr = s.options.Cache.Save(scope, g.kept)
	}
	return &g.tree
}

// meet reads the first manager before anything else where the quirks of its
// vendor depend on what it is.
func (g *gatherer) meet() {
	if !undecided(g.root) {
		return
	}
	managers := g.readNow(g.root.link("Managers"), kindManager|collectionOf)
	for _, m := range managers.list("Members") {
		if n := g.readNow(m.id(), kindManager); n != nil {
			g.learn(n)
			return
		}
	}
}

// readNow reads a resource whose links are followed when it is visited.
func (g *gatherer) readNow(path string, k kind) node {
	if path == "" {
		return nil
	}
	n, listed, err := g.load(path, k)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tree.res[key(path)] = &resource{path: path, node: n, listed: listed, err: err, loaded: true, unread: err != nil && g.ctx.Err() != nil, kinds: map[kind]bool{}}
	return n
}

// visit reads a resource, unless that was done, and follows the links that
// one of its kind has.
func (g *gatherer) visit(path string, k kind, depth int) {
	if path == "" || depth > maxDepth {
		return
	}
	g.mu.Lock()
	r := g.tree.res[key(path)]
	switch {
	case r == nil && len(g.tree.res) < maxResources:
		r = &resource{path: path, kinds: map[kind]bool{k: true}}
		g.tree.res[key(path)] = r
		if k != kindLeaf {
			g.leading.Add(1)
		}
		g.wg.Add(1)
		go g.work(r, k, depth)
	case r != nil && !r.kinds[k]:
		r.kinds[k] = true
		if r.loaded {
			g.mu.Unlock()
			g.follow(r.node, k, depth)
			return
		}
	}
	g.mu.Unlock()
}

// work loads one resource and follows it. A panic in a decoder is an answer
// that cannot be borne, and stops nobody else.
func (g *gatherer) work(r *resource, k kind, depth int) {
	defer g.wg.Done()
	defer func() {
		if p := recover(); p != nil {
			g.mu.Lock()
			r.loaded, r.err = true, fmt.Errorf("read %s: %w: %v", r.path, errPanic, p)
			g.mu.Unlock()
		}
	}()
	if k != kindLeaf {
		defer g.led()
	}
	n, listed, err := g.load(r.path, k)
	g.mu.Lock()
	r.node, r.listed, r.err, r.loaded = n, listed, err, true
	r.unread = err != nil && g.ctx.Err() != nil
	kinds := maps.Clone(r.kinds)
	g.mu.Unlock()
	for k := range kinds {
		g.follow(n, k, depth)
	}
}

// led ends one of those that may lead on. The last lets stand-ins have their
// turn; what those lead to comes after, and needs none.
func (g *gatherer) led() {
	if g.leading.Add(-1) == 0 {
		g.turn.Do(g.otherwise)
	}
}

var errPanic = errors.New("a decoder panicked")

// load reads a resource; a collection with all its pages.
func (g *gatherer) load(path string, k kind) (n node, listed int, err error) {
	if !k.many() {
		n, err = g.fetch(path, k == kindLeaf)
		return n, 0, err
	}
	if n, err = g.collection(path); err != nil {
		return nil, 0, err
	}
	members, _ := n["Members"].([]any)
	turned := map[string]bool{key(path): true}
	for page := n; page.next() != "" && !turned[key(page.next())] && len(turned) < maxPages && len(members) < maxMembers; {
		turned[key(page.next())] = true
		if page, err = g.fetch(page.next(), false); err != nil {
			break // what was read of it stands
		}
		more, _ := page["Members"].([]any)
		members = append(members, more...)
	}
	if count := n.small("Members@odata.count"); n["Members@odata.count"] != nil && count != len(members) {
		listed = max(count, 1)
	}
	n["Members"] = members[:min(len(members), maxMembers)]
	return n, listed, err
}

// collection reads a collection's first page, with its members in it where
// the BMC is trusted with that. The first answer shows whether it does it at
// all; until then nobody else tries.
func (g *gatherer) collection(path string) (node, error) {
	const untried, trying, works, not = 0, 1, 2, 3
	query := g.quirksNow().expand
	if query == "" || g.expand.Load() == not || g.expand.Load() != works && !g.expand.CompareAndSwap(untried, trying) {
		return g.fetch(path, false)
	}
	n, err := g.fetch(path+query, false)
	whole := err == nil
	for _, m := range n.list("Members") {
		whole = whole && inline(m)
	}
	if whole && len(n.list("Members")) > 0 {
		g.expand.Store(works)
	} else if whole {
		g.expand.CompareAndSwap(trying, untried)
	} else {
		g.expand.Store(not)
	}
	if status := statusOf(err); status >= 400 && status != http.StatusNotFound && status != http.StatusUnauthorized {
		return g.fetch(path, false)
	}
	return n, err
}

// inline reports whether a member of a list is the resource, not only a link.
func inline(n node) bool { return len(n) > 3 && (n["Id"] != nil || n["Name"] != nil) }

// quirksNow are the quirks by all that is known.
func (g *gatherer) quirksNow() quirks {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.quirks
}

// learn takes what a manager says about itself.
func (g *gatherer) learn(manager node) {
	g.mu.Lock()
	g.quirks = quirksOf(g.root, manager)
	most := g.most()
	g.mu.Unlock()
	g.window.atMost(most)
}

// fetch asks for one path, again where the BMC says "not now".
func (g *gatherer) fetch(path string, leaf bool) (node, error) {
	for try := 1; ; try++ {
		if err := g.window.enter(g.ctx, leaf); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		begin := time.Now()
		n, err := g.ask(path)
		status := statusOf(err)
		switch {
		case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
			g.window.refused(g.pause(try))
			if try < maxTries && g.ctx.Err() == nil {
				continue
			}
		case timedOut(err):
			g.window.refused(0)
			if g.silence.Add(1) >= maxSilence {
				g.stop(errSilent)
			}
		default:
			g.window.answered(collectionOfPath(path), time.Since(begin))
			g.silence.Store(0)
		}
		if g.guard.denied.Load() {
			g.stop(ErrDenied)
			err = ErrDenied
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		return n, nil
	}
}

// collectionOfPath is what a resource stands in.
func collectionOfPath(path string) string { return strings.TrimSuffix(key(path), leaf(key(path))) }

// pause is how long the BMC wants to be left alone.
func (g *gatherer) pause(try int) time.Duration {
	if asked := time.Duration(g.guard.retryAfter.Swap(0)); asked > 0 {
		return min(asked, maxPause)
	}
	return min(firstPause<<(try-1), maxPause)
}

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// ask is one request.
func (g *gatherer) ask(path string) (node, error) {
	known, had := g.old[path]
	headers := map[string]string{}
	if had && !g.quirksNow().noETag {
		headers["If-None-Match"] = known.ETag
	}
	res, err := g.api.WithContext(g.ctx).GetWithHeaders(path, headers)
	if errors.Is(err, schemas.ErrNotModified) && had {
		res.Body.Close()
		g.keep(path, known)
		return prune(decode(known.Body))
	}
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	n, err := decode(body)
	if err != nil {
		return nil, err
	}
	tag := res.Header.Get("ETag")
	if tag == "" {
		tag = n.str("@odata.etag")
	}
	if g.options.Cache != nil && tag != "" {
		g.keep(path, Answer{ETag: tag, Body: body})
	}
	return prune(n, nil)
}

// keep remembers an answer that was one whole JSON value.
func (g *gatherer) keep(path string, a Answer) {
	if !json.Valid(a.Body) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kept[path] = a
}

// prune drops what no part is made of, which is half of what a BMC sends.
func prune(n node, err error) (node, error) {
	for k := range n {
		if k == "Actions" || k == "Description" || k == "@odata.context" || strings.Contains(k, "@Redfish.") {
			delete(n, k)
		}
	}
	return n, err
}
