package control

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publisher writes events of our own sources.
type publisher struct {
	js  jetstream.JetStream
	key []byte
	// lasting is the key of what is said once over the life of all controls.
	lasting []byte
	seq     atomic.Uint64
}

func newPublisher(js jetstream.JetStream, lasting []byte) *publisher {
	p := &publisher{js: js, key: []byte(rand.Text()), lasting: lasting}
	// No kernel of the node speaks, so there is no boot ID to count in: the
	// numbers of one control go on after the last one's.
	p.seq.Store(uint64(time.Now().UnixMilli()) * 1000)
	return p
}

func (p *publisher) publish(ctx context.Context, n fleet.NodeID, attempt int64, source fleet.Source, kind string, at time.Time, data any) error {
	return p.publishOnce(ctx, "", n, attempt, source, kind, at, data)
}

// publishOnce is publish of a word that this control may have said before it was
// ended and started again. What has the same name has the same message ID, of
// which the stream keeps one; no name is of this word alone. Like every message
// ID it must be one that no node can guess, and silence.
func (p *publisher) publishOnce(ctx context.Context, name string, n fleet.NodeID, attempt int64, source fleet.Source, kind string, at time.Time, data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("publish %s of %s: %v", kind, n, err)
	}
	e := fleet.Event{
		Schema: fleet.EventSchema, Node: n, Attempt: attempt, Source: source, Seq: p.seq.Add(1),
		Time: at.UTC().Truncate(time.Microsecond), ClockState: "synced", Kind: kind, Data: raw,
	}
	if e.ID = fleet.MessageID(p.key, source, e.Seq); name != "" {
		e.ID = fleet.MessageID(fmt.Appendf(p.lasting, "/%s/%s/%s", n, kind, name), source, 1)
	}
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("publish %s of %s: %v", kind, n, err)
	}
	m := nats.NewMsg(string(fleet.EventSubject(n, source, kind)))
	m.Data = b
	if _, err := led(ctx, func() (any, error) { return p.js.PublishMsg(ctx, m, jetstream.WithMsgID(e.ID)) }); err != nil {
		return fmt.Errorf("publish %s of %s: %w", kind, n, err)
	}
	return nil
}
