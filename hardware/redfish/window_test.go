package redfish

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestWindowFindsTheWorkers drives BMCs with so many workers, each request
// taking 100 ms of one. The window comes to rest where all are busy and few
// requests wait, and never passes its ceiling.
func TestWindowFindsTheWorkers(t *testing.T) {
	for _, c := range []struct{ workers, most, low, high int }{
		{1, 8, 1, 3}, {2, 8, 2, 4}, {3, 8, 3, 5}, {4, 8, 4, 6}, {8, 6, 6, 6}, {4, 2, 2, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWindow(c.most)
			workers := make(chan struct{}, c.workers)
			var now, peak atomic.Int64
			const requests = 400
			begin := time.Now()
			for range requests {
				go func() {
					if err := w.enter(t.Context(), true); err != nil {
						t.Error(err)
						return
					}
					if n := now.Add(1); n > peak.Load() {
						peak.Store(n)
					}
					start := time.Now()
					workers <- struct{}{}
					time.Sleep(100 * time.Millisecond)
					<-workers
					now.Add(-1)
					w.answered("dimms", time.Since(start))
				}()
			}
			time.Sleep(20 * time.Second) // most are done
			synctest.Wait()
			if w.limit < c.low || w.limit > c.high {
				t.Errorf("%d workers, at most %d: the window rests at %d; want %d to %d", c.workers, c.most, w.limit, c.low, c.high)
			}
			if peak.Load() > int64(c.most) {
				t.Errorf("%d in flight; at most %d", peak.Load(), c.most)
			}
			for w.idle() > 0 {
				time.Sleep(100 * time.Millisecond)
			}
			bound := time.Duration(requests/min(c.workers, c.most)) * 100 * time.Millisecond
			if took := time.Since(begin); took > bound+bound/8 && bound > 20*time.Second {
				t.Errorf("%d workers: %v; the bound is %v", c.workers, took, bound)
			}
		})
	}
}

// idle is how many wait or are under way.
func (w *window) idle() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inFlight + len(w.leaves) + len(w.branches)
}

func TestWindowHalvesAndPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(8)
		w.limit = 6
		for range 6 {
			if err := w.enter(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}
		w.refused(3 * time.Second)
		if w.limit != 3 {
			t.Errorf("after a refusal the window is %d; want 3", w.limit)
		}
		for range 5 {
			w.answered("dimms", time.Millisecond)
		}
		begin := time.Now()
		if err := w.enter(t.Context(), true); err != nil || time.Since(begin) != 3*time.Second {
			t.Errorf("the next turn came after %v, %v; want 3s", time.Since(begin), err)
		}
	})
}

func TestWindowBranchesBeforeLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(1)
		if err := w.enter(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		order := make(chan string, 2)
		for _, kind := range []string{"leaf", "branch"} {
			go func() {
				if w.enter(t.Context(), kind == "leaf") == nil {
					order <- kind
					w.answered("dimms", time.Millisecond)
				}
			}()
			synctest.Wait()
		}
		w.answered("dimms", time.Millisecond)
		if first := <-order; first != "branch" {
			t.Errorf("%s came first", first)
		}
		<-order
	})
}

// TestWindowWhoLeaves gives the turn of one that no longer waits to the next.
func TestWindowWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWindow(1)
		if err := w.enter(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { left <- w.enter(ctx, true) }()
		synctest.Wait()
		cancel()
		if err := <-left; err == nil {
			t.Error("a turn came")
		}
		w.answered("dimms", time.Millisecond)
		if err := w.enter(t.Context(), false); err != nil || w.idle() != 1 {
			t.Errorf("enter = %v, %d in flight", err, w.idle())
		}
	})
}
