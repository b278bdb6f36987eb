package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"github.com/nats-io/nats.go"
)

// ackTimeout is how long one try waits for JetStream. nats.go's own JetStream
// and KV clients are not used here: they want STREAM.INFO, which a node has not.
const ackTimeout = 5 * time.Second

// pubAck is JetStream's answer to a publish.
type pubAck struct {
	Stream    string `json:"stream"`
	Seq       uint64 `json:"seq"`
	Duplicate bool   `json:"duplicate"`
	Error     *struct {
		Code        int    `json:"code"`
		Description string `json:"description"`
	} `json:"error"`
}

func (u *Uplink) conn() *nats.Conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.nc
}

var errNotConnected = errors.New("the bus is not there")

func (u *Uplink) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	nc := u.conn()
	if nc == nil || !nc.IsConnected() {
		return nil, errNotConnected
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	return nc.RequestMsgWithContext(ctx, m)
}

// store publishes into a stream and waits for the acknowledgement, once.
func (u *Uplink) store(ctx context.Context, m *nats.Msg) error {
	r, err := u.request(ctx, m)
	if err != nil {
		return fmt.Errorf("publish %s: %w", m.Subject, err)
	}
	var ack pubAck
	if err := json.Unmarshal(r.Data, &ack); err != nil {
		return fmt.Errorf("publish %s: read acknowledgement: %v", m.Subject, err)
	}
	if ack.Error != nil {
		return fmt.Errorf("publish %s: %s (code %d)", m.Subject, ack.Error.Description, ack.Error.Code)
	}
	if ack.Stream == "" || ack.Seq == 0 {
		return fmt.Errorf("publish %s: the answer is no acknowledgement", m.Subject)
	}
	return nil
}

// send empties the spool, in order, for as long as the uplink lives.
func (u *Uplink) send() {
	tries := 0
	for {
		en := u.spool.head()
		nc := u.conn()
		if en == nil || nc == nil || !nc.IsConnected() {
			select {
			case <-u.spool.wake:
			case <-u.ctx.Done():
				return
			case <-time.After(time.Second):
			}
			continue
		}
		m, err := u.message(en.event)
		if err == nil {
			err = u.store(u.ctx, m)
		}
		if err == nil {
			tries = 0
			u.spool.acked()
			continue
		}
		if u.ctx.Err() != nil {
			return
		}
		u.log.Warn("event not stored yet", "try", tries, "err", err)
		if !sleep(u.ctx, backoff(tries)) {
			return
		}
		tries++
	}
}

// message completes an event with what is known only now: node, attempt, and
// the time of day, which is counted back from the present.
func (u *Uplink) message(e fleet.Event) (*nats.Msg, error) {
	u.mu.Lock()
	e.Node, e.Attempt, e.ClockState = u.reply.Node, u.reply.Attempt, u.clock
	u.mu.Unlock()
	e.ID = fleet.MessageID(u.bootKey, e.Source, e.Seq)
	if e.MonoNS > 0 {
		e.Time = time.Now().Add(-time.Duration(monoNS() - e.MonoNS))
	}
	e.Time = u.inOrder(e)
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("publish %s: write JSON: %v", e.Kind, err)
	}
	m := nats.NewMsg(string(fleet.EventSubject(e.Node, e.Source, e.Kind)))
	m.Header.Set(nats.MsgIdHdr, e.ID)
	m.Data = b
	return m, nil
}

// inOrder is the event's time, not before that of the event before it: between
// reading the two clocks the process may be put aside for a moment. A clock
// that was set back by more than a moment is told as it is.
func (u *Uplink) inOrder(e fleet.Event) time.Time {
	at := e.Time.UTC().Truncate(time.Microsecond)
	u.mu.Lock()
	defer u.mu.Unlock()
	if e.MonoNS >= u.lastMonoNS && at.Before(u.lastTime) && u.lastTime.Sub(at) < time.Second {
		at = u.lastTime
	}
	u.lastMonoNS, u.lastTime = e.MonoNS, at
	return at
}

// PutInventory stores the inventory, which is JSON of package hardware. It
// tries until ctx ends.
func (u *Uplink) PutInventory(ctx context.Context, inventory []byte) error {
	return u.put(ctx, "inventory", fleet.BucketInventory, inventory)
}

// PutReadings stores the readings, as [Uplink.PutInventory] does the inventory.
func (u *Uplink) PutReadings(ctx context.Context, readings []byte) error {
	return u.put(ctx, "readings", fleet.BucketReadings, readings)
}

// put writes the node's own key of a bucket, as of this boot.
func (u *Uplink) put(ctx context.Context, what, bucket string, value []byte) error {
	if len(value) > fleet.MaxMessageBytes-1024 {
		return fmt.Errorf("store %s: it is %d bytes, at most %d fit", what, len(value), fleet.MaxMessageBytes-1024)
	}
	for n := 0; ; n++ {
		m := nats.NewMsg(string(fleet.KVSubject(bucket, string(u.Node()))))
		m.Header.Set(fleet.HeaderAttempt, strconv.FormatInt(u.Attempt(), 10))
		m.Data = value
		err := u.store(ctx, m)
		if err == nil {
			return nil
		}
		u.log.Warn(what+" not stored yet", "try", n, "err", err)
		if !sleep(ctx, backoff(n)) {
			return fmt.Errorf("store %s: %w", what, err)
		}
	}
}

// Grant asks for the present grant; nil means that there is none. It is not
// checked: that is for images/sign.
func (u *Uplink) Grant(ctx context.Context) (*images.GrantBundle, error) {
	m := nats.NewMsg(string(fleet.DirectGetSubject(fleet.BucketGrant, string(u.Node()))))
	r, err := u.request(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("ask for the grant: %w", err)
	}
	switch status := r.Header.Get("Status"); status {
	case "":
	case "404":
		return nil, nil
	default:
		return nil, fmt.Errorf("ask for the grant: status %s %s", status, r.Header.Get("Description"))
	}
	if r.Header.Get("KV-Operation") != "" {
		return nil, nil // it was taken back
	}
	var b images.GrantBundle
	if err := json.Unmarshal(r.Data, &b); err != nil {
		return nil, fmt.Errorf("read the grant: %v", err)
	}
	return &b, nil
}

// Heartbeat says that the node lives. Schema, Node, BootID, Attempt and Time
// are filled in. Without a bus it says nothing and returns an error.
func (u *Uplink) Heartbeat(hb fleet.Heartbeat) error {
	nc, r := u.conn(), u.enrolled()
	if nc == nil || !nc.IsConnected() {
		return fmt.Errorf("heartbeat: %w", errNotConnected)
	}
	hb.Schema, hb.Node, hb.BootID, hb.Attempt = fleet.HeartbeatSchema, r.Node, u.cfg.BootID, r.Attempt
	hb.Time = time.Now().UTC().Truncate(time.Microsecond)
	b, err := json.Marshal(hb)
	if err != nil {
		return fmt.Errorf("heartbeat: write JSON: %v", err)
	}
	if err := nc.Publish(string(fleet.HeartbeatSubject(r.Node)), b); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	return nil
}
