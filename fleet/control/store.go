package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// casTries bounds how often a write is repeated because somebody else wrote
// first; beyond it something writes in a loop.
const casTries = 16

// errUnchanged says that there is nothing to write.
var errUnchanged = errors.New("unchanged")

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
	e, err := t.kv.Get(ctx, key)
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
	var got uint64
	if rev == 0 {
		got, err = t.kv.Create(ctx, key, b)
	} else {
		got, err = t.kv.Update(ctx, key, b, rev)
	}
	if conflict(err) {
		return 0, errConflict
	}
	if err != nil {
		return 0, fmt.Errorf("write %s of %s: %w", key, t.kv.Bucket(), err)
	}
	return got, nil
}

var errConflict = errors.New("somebody else wrote first")

func conflict(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

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
	if err := t.kv.Delete(ctx, key); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("delete %s of %s: %w", key, t.kv.Bucket(), err)
	}
	return nil
}

// watch calls see with every value under the filter, as it stands and as it
// changes, and ready once the standing ones are through. It returns when ctx
// ends.
func watch[T any](ctx context.Context, t table[T], filter string, see func(key string, v *T, rev uint64), ready func()) error {
	w, err := t.kv.Watch(ctx, filter)
	if err != nil {
		return fmt.Errorf("watch %s: %w", t.kv.Bucket(), err)
	}
	defer w.Stop() //nolint:errcheck // the watch is over
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return fmt.Errorf("watch %s: the bus closed it", t.kv.Bucket())
			case e == nil: // the end of the standing values
				ready()
			case e.Operation() != jetstream.KeyValuePut:
				see(e.Key(), nil, e.Revision())
			default:
				var v T
				if err := json.Unmarshal(e.Value(), &v); err != nil {
					// A value that cannot be read counts as none; its writer
					// is an operator or a newer program.
					see(e.Key(), nil, e.Revision())
					continue
				}
				see(e.Key(), &v, e.Revision())
			}
		}
	}
}
