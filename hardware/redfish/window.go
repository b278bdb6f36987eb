package redfish

import (
	"context"
	"slices"
	"sync"
	"time"
)

// The bounds of a window. mostWindow is for connections and for quirks: no BMC
// gets more.
const (
	firstWindow   = 2
	defaultWindow = 6
	mostWindow    = 8
)

// window is how many requests may be in flight. It starts small, grows while
// answers come as fast as they did, holds where requests begin to wait inside
// the BMC for each other, and halves where the BMC refuses one or is silent.
//
// Waiting is told from working by time (as TCP Vegas does): with as many
// requests in flight as the BMC has workers an answer takes as long as alone;
// with more it takes longer in proportion, and limit*(1-alone/now) of the
// requests are waiting. A drive takes longer than a DIMM, so that only what
// stands in one collection is compared.
type window struct {
	mu       sync.Mutex
	limit    int
	most     int
	inFlight int
	full     bool                     // the limit was reached since the last look
	slow     bool                     // never grew too far yet: grow by doubling
	alone    map[string]time.Duration // by collection: the fastest answer
	longer   []float64                // the last answers' times, as multiples of that
	closed   time.Time                // until then nothing is sent
	branches []chan struct{}
	leaves   []chan struct{}
}

func newWindow(most int) *window {
	most = max(1, min(most, mostWindow))
	return &window{limit: min(firstWindow, most), most: most, slow: true, alone: map[string]time.Duration{}}
}

// atMost lowers the ceiling, once more is known of the BMC.
func (w *window) atMost(most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.most = max(1, min(w.most, most))
	w.limit = min(w.limit, w.most)
}

// enter waits for a turn. What leads on to other resources goes before what
// does not, so that the end of a crawl is not one long chain.
func (w *window) enter(ctx context.Context, leaf bool) error {
	turn := make(chan struct{})
	w.mu.Lock()
	if leaf {
		w.leaves = append(w.leaves, turn)
	} else {
		w.branches = append(w.branches, turn)
	}
	w.wake()
	w.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	gone := func(c chan struct{}) bool { return c == turn }
	if i := slices.IndexFunc(w.branches, gone); i >= 0 {
		w.branches = slices.Delete(w.branches, i, i+1)
	} else if i := slices.IndexFunc(w.leaves, gone); i >= 0 {
		w.leaves = slices.Delete(w.leaves, i, i+1)
	} else { // the turn came at the same time
		w.inFlight--
		w.wake()
	}
	return ctx.Err()
}

// wake gives turns. The mutex is held.
func (w *window) wake() {
	if wait := time.Until(w.closed); wait > 0 {
		return // refused opens it again
	}
	for w.inFlight < w.limit && len(w.branches)+len(w.leaves) > 0 {
		from := &w.branches
		if len(*from) == 0 {
			from = &w.leaves
		}
		close((*from)[0])
		*from = (*from)[1:]
		w.inFlight++
	}
	w.full = w.full || w.inFlight >= w.limit
}

// answered ends a turn with an answer that took so long, from a collection.
func (w *window) answered(from string, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inFlight--
	took = max(took, 1)
	if alone, known := w.alone[from]; !known || took < alone {
		w.alone[from] = took
	}
	w.longer = append(w.longer, float64(took)/float64(w.alone[from]))
	if len(w.longer) >= w.limit {
		w.adapt()
	}
	w.wake()
}

// adapt looks at one window's worth of answers.
func (w *window) adapt() {
	var sum float64
	for _, l := range w.longer {
		sum += min(l, 4) // one that is slow in itself is one, not the rule
	}
	waiting := float64(w.limit) * (1 - float64(len(w.longer))/sum)
	w.longer = w.longer[:0]
	switch {
	case waiting > 1.5 && w.limit > firstWindow:
		w.limit, w.slow = w.limit-1, false
	case waiting < 0.75 && w.full && w.limit < w.most:
		step := 1
		if w.slow {
			step = min(w.limit, 2)
		}
		w.limit = min(w.limit+step, w.most)
	}
	w.full = false
}

// refused ends a turn with an answer that says "not now", or with none. The
// window halves, and stays closed for a while.
func (w *window) refused(pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inFlight--
	w.limit, w.slow = max(1, w.limit/2), false
	w.longer = w.longer[:0]
	if until := time.Now().Add(pause); pause > 0 && until.After(w.closed) {
		w.closed = until
		time.AfterFunc(pause, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.wake()
		})
	}
	w.wake()
}
