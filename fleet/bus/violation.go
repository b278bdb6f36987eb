package bus

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Violation is what a connection tried and the server refused: a subject that
// its laws do not have, a message that is too large, bytes that are no protocol.
type Violation struct {
	// Key is the one that the connection proved.
	Key string
	// Text is the server's own word for it.
	Text string
}

// OnViolation names who is told of violations, one at a time; the last one
// named is. What comes faster than it is taken stands in the log alone.
func (s *Server) OnViolation(f func(Violation)) { s.onViolation.Store(&f) }

// violationQueue bounds complaints that are under way.
const violationQueue = 256

// ofClient is how nats-server's log begins where it complains of a client; what
// the client says of itself comes after it.
var ofClient = regexp.MustCompile(`^\S+ - cid:(\d+) - `)

// complained takes a line of the server's log. It is called with the server's
// locks held and does not wait.
func (s *Server) complained(line string) {
	m := ofClient.FindStringSubmatch(line)
	if m == nil {
		return
	}
	cid, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		return
	}
	select {
	case s.complaints <- complaint{cid, line}:
	default: // the log has it
	}
}

type complaint struct {
	cid  uint64
	line string
}

// keyOf is the key that a connection proved, also where it was just closed: for
// a moment it is then in neither of the server's lists.
func (s *Server) keyOf(ctx context.Context, cid uint64) string {
	for range 20 {
		z, err := s.ns.Connz(&server.ConnzOptions{CID: cid, Username: true, State: server.ConnAll})
		if err == nil && len(z.Conns) > 0 && z.Conns[0] != nil {
			return z.Conns[0].AuthorizedUser
		}
		select {
		case <-ctx.Done():
			return ""
		case <-time.After(10 * time.Millisecond):
		}
	}
	return ""
}

// startTelling runs tell until stopTelling, which waits for it.
func (s *Server) startTelling() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.tell(ctx) })
	s.stopTelling = func() {
		cancel()
		wg.Wait()
	}
}

// tell finds out whose each complaint is, until ctx ends.
func (s *Server) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-s.complaints:
			f := s.onViolation.Load()
			key := s.keyOf(ctx, c.cid)
			if f == nil || key == "" {
				continue // nobody asks, or it proved no key
			}
			text := c.line
			if _, after, ok := strings.Cut(text, key+`" - `); ok {
				text = after
			}
			(*f)(Violation{Key: key, Text: strings.ToValidUTF8(text[:min(len(text), 200)], "?")})
		}
	}
}
