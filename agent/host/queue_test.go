package host

import (
	"slices"
	"testing"
	"testing/synctest"
)

func TestQueueLetsLowRanksInFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		q.enter(3) // takes the only slot
		var order []int
		for _, rank := range []int{2, 0, 4, 0, 1} {
			go func() {
				q.enter(rank)
				order = append(order, rank)
				q.leave()
			}()
			synctest.Wait()
		}
		q.leave()
		synctest.Wait()
		if want := []int{0, 0, 1, 2, 4}; !slices.Equal(order, want) {
			t.Errorf("order = %v; want %v", order, want)
		}
		q.enter(9) // the slot is free again
	})
}
