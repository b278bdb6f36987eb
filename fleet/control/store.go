package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/nats-io/nats.go/jetstream"
)

// casTries bounds how often a write is repeated because somebody else wrote
// first; beyond it something writes in a loop.
const casTries = 16

// errUnchanged says that there is nothing to write.
var errUnchanged = errors.New("unchanged")

// electing is how long a request waits for a bus that has lost a server, and
// electingEvery how often it is sent again.
const (
	electing      = 15 * time.Second
	electingEvery = 200 * time.Millisecond
)

// led sends a request again while no server leads the stream that it is for.
func led[T any](ctx context.Context, f func() (T, error)) (T, error) {
	for begin := time.Now(); ; {
		v, err := f()
		if err == nil || !bus.NoLeader(err) || time.Since(begin) > electing {
			return v, err
		}
		select {
		case <-ctx.Done():
			return v, err
		case <-time.After(electingEvery):
		}
	}
}

// table is one bucket of values of one type.
type table[T any] struct{ kv jetstream.KeyValue }

func openTable[T any](ctx context.Context, js jetstream.JetStream, bucket string) (table[T], error) {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return table[T]{}, fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	return table[T]{kv}, nil
}

// get returns the value of a key and its revision; revision 0 means that there
// is none.
func (t table[T]) get(ctx context.Context, key string) (v T, rev uint64, err error) {
	e, err := led(ctx, func() (jetstream.KeyValueEntry, error) { return t.kv.Get(ctx, key) })
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return v, 0, nil
	}
	if err != nil {
		return v, 0, fmt.Errorf("read %s of %s: %w", key, t.kv.Bucket(), err)
	}
	if err := json.Unmarshal(e.Value(), &v); err != nil {
		return v, 0, fmt.Errorf("read %s of %s: %v", key, t.kv.Bucket(), err)
	}
	return v, e.Revision(), nil
}

// put writes v where the key still is at revision rev, and returns the new one.
// A conflict is errConflict.
func (t table[T]) put(ctx context.Context, key string, v T, rev uint64) (uint64, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("write %s of %s: %v", key, t.kv.Bucket(), err)
	}
	got, err := led(ctx, func() (uint64, error) {
		if rev == 0 {
			return t.kv.Create(ctx, key, b)
		}
		return t.kv.Update(ctx, key, b, rev)
	})
	if bus.Conflict(err) {
		return 0, errConflict
	}
	if err != nil {
		return 0, fmt.Errorf("write %s of %s: %w", key, t.kv.Bucket(), err)
	}
	return got, nil
}

var errConflict = errors.New("somebody else wrote first")

// update reads, changes and writes a value until no one comes between. change
// sees whether the value is there; errUnchanged from it ends without a write.
func (t table[T]) update(ctx context.Context, key string, change func(v *T, there bool) error) (T, uint64, error) {
	for range casTries {
		v, rev, err := t.get(ctx, key)
		if err != nil {
			return v, 0, err
		}
		if err := change(&v, rev > 0); errors.Is(err, errUnchanged) {
			return v, rev, nil
		} else if err != nil {
			return v, 0, err
		}
		got, err := t.put(ctx, key, v, rev)
		if errors.Is(err, errConflict) {
			continue
		}
		return v, got, err
	}
	var zero T
	return zero, 0, fmt.Errorf("write %s of %s: %d times: %w", key, t.kv.Bucket(), casTries, errConflict)
}

// remove deletes a key; one that is not there is no error.
func (t table[T]) remove(ctx context.Context, key string) error {
	_, err := led(ctx, func() (any, error) { return nil, t.kv.Delete(ctx, key) })
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("delete %s of %s: %w", key, t.kv.Bucket(), err)
	}
	return nil
}

// watch calls see with every value whose key has the prefix, as it stands and
// as it changes, and ready once the standing ones are through. It returns when
// ctx ends.
func (t table[T]) watch(ctx context.Context, js jetstream.JetStream, prefix string, see func(key string, v *T, rev uint64), ready func()) error {
	bucket := t.kv.Bucket()
	tail := bus.Tail{JS: js, Hints: string(fleet.KVSubject(bucket, prefix+">"))}
	return bus.TailBucket(ctx, tail, bucket, prefix, func(key string, b []byte, rev uint64) error {
		v := new(T)
		// A value that cannot be read counts as none; its writer is an operator
		// or a newer program.
		if b == nil || json.Unmarshal(b, v) != nil {
			v = nil
		}
		see(key, v, rev)
		return nil
	}, func() error { ready(); return nil })
}
