package host

import (
	"container/heap"
	"sync"
)

// queue lets a bounded number in at a time: of those that wait, the lowest rank
// first, then the one that came first.
type queue struct {
	mu      sync.Mutex
	free    int
	arrived int
	waiting waiters
}

type waiter struct {
	rank, arrived int
	in            chan struct{}
}

func newQueue(slots int) *queue { return &queue{free: slots} }

func (q *queue) enter(rank int) {
	q.mu.Lock()
	if q.free > 0 {
		q.free--
		q.mu.Unlock()
		return
	}
	q.arrived++
	w := waiter{rank: rank, arrived: q.arrived, in: make(chan struct{})}
	heap.Push(&q.waiting, w)
	q.mu.Unlock()
	<-w.in
}

func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.free++
		return
	}
	close(heap.Pop(&q.waiting).(waiter).in) // its slot is ours
}

// waiters is a heap.Interface.
type waiters []waiter

func (w waiters) Len() int      { return len(w) }
func (w waiters) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w waiters) Less(i, j int) bool {
	if w[i].rank != w[j].rank {
		return w[i].rank < w[j].rank
	}
	return w[i].arrived < w[j].arrived
}
func (w *waiters) Push(x any) { *w = append(*w, x.(waiter)) }
func (w *waiters) Pop() any {
	last := len(*w) - 1
	x := (*w)[last]
	*w = (*w)[:last]
	return x
}
