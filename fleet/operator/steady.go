package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ingot-metal/ingot/fleet/bus"
)

// oneTry is how long one request may wait. On a bus of several servers one of
// them may be lost with the request; the next try reaches another.
const oneTry = 3 * time.Second

// steady repeats what may be repeated, each try for at most so long, while its
// request was lost and ctx lasts.
func steady[T any](ctx context.Context, most time.Duration, f func(context.Context) (T, error)) (T, error) {
	for {
		try, cancel := context.WithTimeout(ctx, most)
		v, err := f(try)
		cancel()
		if err == nil || ctx.Err() != nil || !lost(err) {
			return v, err
		}
		select {
		case <-ctx.Done():
			return v, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// lost says of an error that nobody answered, and not that the answer was no.
func lost(err error) bool {
	if bus.NoLeader(err) {
		return true
	}
	for _, e := range []error{context.DeadlineExceeded, nats.ErrTimeout, nats.ErrDisconnected,
		nats.ErrReconnectBufExceeded, jetstream.ErrJetStreamNotEnabled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// bucket opens a bucket.
func (c *Client) bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	kv, err := steady(ctx, oneTry, func(ctx context.Context) (jetstream.KeyValue, error) { return c.js.KeyValue(ctx, name) })
	if err != nil {
		return nil, c.explain(fmt.Errorf("open bucket %s: %w", name, err))
	}
	return kv, nil
}

// entry reads one key.
func entry(ctx context.Context, kv jetstream.KeyValue, key string) (jetstream.KeyValueEntry, error) {
	return steady(ctx, oneTry, func(ctx context.Context) (jetstream.KeyValueEntry, error) { return kv.Get(ctx, key) })
}
