package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const noncePrefix = "nonce."

// nonces are the commands that were taken. They stand in the bucket of attempts
// beside what they led to, so that none is carried out again after a restart,
// or by another control.
type nonces struct{ table table[nonce] }

type nonce struct {
	NotAfter time.Time `json:"not_after"`
}

// take is false where the nonce was taken before.
func (n nonces) take(ctx context.Context, value string, until time.Time) (bool, error) {
	h := sha256.Sum256([]byte(value))
	_, err := n.table.put(ctx, noncePrefix+hex.EncodeToString(h[:16]), nonce{until}, 0)
	if errors.Is(err, errConflict) {
		return false, nil
	}
	return err == nil, err
}

// sweep forgets those that have expired: their commands are refused for that.
func (n nonces) sweep(ctx context.Context, now time.Time) error {
	keys, err := n.table.kv.ListKeysFiltered(ctx, noncePrefix+">")
	if errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list nonces: %w", err)
	}
	for k := range keys.Keys() {
		if !strings.HasPrefix(k, noncePrefix) {
			continue
		}
		v, rev, err := n.table.get(ctx, k)
		if err != nil {
			return err
		}
		// A minute more than needed: clocks of several controls differ.
		if rev > 0 && now.After(v.NotAfter.Add(time.Minute)) {
			if err := n.table.remove(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}
