package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nats.go/jetstream"
)

const noncePrefix = "nonce."

// nonces are the commands that were taken. They stand in the bucket of attempts
// beside what they led to, so that none is carried out again after a restart,
// or by another control.
type nonces struct{ table table[nonce] }

type nonce struct {
	NotAfter time.Time `json:"not_after"`
	// Reply is what came of the command; nil while it is under way.
	Reply *fleet.CommandReply `json:"reply,omitempty"`
}

// answerWait is how long a command that came a second time waits for the answer
// to the first: whoever sent it waits a little longer.
const (
	answerWait = 10 * time.Second
	answerPoll = 200 * time.Millisecond
)

// take is false where the nonce was taken before.
func (n nonces) take(ctx context.Context, value string, until time.Time) (bool, error) {
	_, err := n.table.put(ctx, nonceKey(value), nonce{NotAfter: until}, 0)
	if errors.Is(err, errConflict) {
		return false, nil
	}
	return err == nil, err
}

func nonceKey(value string) string {
	h := sha256.Sum256([]byte(value))
	return noncePrefix + hex.EncodeToString(h[:16])
}

// answer writes down what came of a command that was taken.
func (n nonces) answer(ctx context.Context, value string, r fleet.CommandReply) error {
	_, _, err := n.table.update(ctx, nonceKey(value), func(v *nonce, there bool) error {
		if !there {
			return errUnchanged
		}
		v.Reply = &r
		return nil
	})
	return err
}

// answered is what came of a command; it waits for a while where that is not
// known yet, and is nil where it stays so.
func (n nonces) answered(ctx context.Context, value string) *fleet.CommandReply {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	for {
		if v, rev, err := n.table.get(ctx, nonceKey(value)); err != nil || rev == 0 || v.Reply != nil {
			return v.Reply
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(answerPoll):
		}
	}
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
