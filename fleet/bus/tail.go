package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ingot-metal/ingot/fleet"
)

const (
	tailBatch = 256
	// tailAnswer is how long the next message of a batch may take.
	tailAnswer = 2 * time.Second
	// A hint comes when a message is sent, before it is stored: for so long
	// after one the stream is looked at so often.
	tailEager      = time.Second
	tailEagerEvery = 10 * time.Millisecond
)

// Tail reads a stream in its order, from one place on. It reads by direct gets,
// not by a consumer: a consumer of one replica dies with the server of the bus
// that holds it, and until a new one is made, which needs a leader of the whole
// cluster, its reader is deaf. A get is answered by any replica that is left.
type Tail struct {
	JS     jetstream.JetStream
	Stream string
	Next   uint64 // the sequence that is read next; 1 when zero
	// Hints is a subject on which something is heard when a message comes; none
	// when empty.
	Hints string
	// Every is how often a stream that is silent is looked at; a second when
	// zero.
	Every time.Duration
}

// Stored is a message as it stands in a stream.
type Stored struct {
	Subject string
	Seq     uint64
	Time    time.Time
	Header  nats.Header
	Data    []byte
}

// Run calls see with every message that stands in the stream and with those
// that come, and ready, which may be nil, once those that stood are through. It
// returns when ctx ends or one of the two returns an error. Next is then the
// message after the last that see took.
func (t *Tail) Run(ctx context.Context, see func(Stored) error, ready func() error) error {
	if err := t.run(ctx, see, ready); err != nil {
		return fmt.Errorf("read %s: %w", t.Stream, err)
	}
	return nil
}

func (t *Tail) run(ctx context.Context, see func(Stored) error, ready func() error) error {
	hint, stop, err := t.hints()
	if err != nil {
		return err
	}
	defer stop()
	t.Next = max(t.Next, 1)
	stood := uint64(0)
	if ready != nil {
		if stood, err = t.last(ctx); err != nil {
			return err
		}
	}
	var eager time.Time
	for {
		begin := t.Next
		if err := t.batch(ctx, see); err != nil {
			return err
		}
		if t.Next > stood && ready != nil {
			if err := ready(); err != nil {
				return err
			}
			ready = nil
		}
		if t.Next > begin {
			continue
		}
		wait := cmp.Or(t.Every, time.Second)
		if time.Now().Before(eager) {
			wait = tailEagerEvery
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-hint:
			eager = time.Now().Add(tailEager)
		case <-time.After(wait):
		}
	}
}

func (t *Tail) hints() (<-chan struct{}, func(), error) {
	hint := make(chan struct{}, 1)
	if t.Hints == "" {
		return hint, func() {}, nil
	}
	sub, err := t.JS.Conn().Subscribe(t.Hints, func(*nats.Msg) {
		select {
		case hint <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, nil, err
	}
	return hint, func() { _ = sub.Unsubscribe() }, nil // the connection is gone if it does not
}

// last is the sequence of the newest message, by the word of the stream's
// leader; zero where there is none.
func (t *Tail) last(ctx context.Context) (uint64, error) {
	s, err := t.JS.Stream(ctx, t.Stream)
	if err != nil {
		return 0, err
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return 0, nil
	}
	return state.LastSeq, nil
}

// batch reads some messages. A replica that is behind has fewer, which is no
// error; one that does not answer is: another try reaches another.
func (t *Tail) batch(ctx context.Context, see func(Stored) error) error {
	req, err := json.Marshal(struct {
		Seq   uint64 `json:"seq"`
		Batch int    `json:"batch"`
	}{t.Next, tailBatch})
	if err != nil {
		return err
	}
	nc := t.JS.Conn()
	inbox := nc.NewInbox()
	// Not a synchronous subscription: that takes a node's message whose headers
	// say so for the word of the bus that nobody answers.
	answers := make(chan *nats.Msg, tailBatch+1)
	sub, err := nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection is gone if it does not
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+t.Stream, inbox, req); err != nil {
		return err
	}
	for before := uint64(0); ; {
		m, err := answer(ctx, answers)
		if err != nil {
			return err
		}
		if len(m.Header[jetstream.SequenceHeader]) == 0 { // no message of the stream
			switch status := m.Header.Get("Status"); status {
			case "204", "404": // the end of the batch; nothing from there on
				return nil
			case "503":
				return nats.ErrNoResponders
			default:
				return fmt.Errorf("the bus says %q %s", status, m.Header.Get("Description"))
			}
		}
		got, previous, err := decodeStored(m)
		if err != nil {
			return err
		}
		if previous != before || got.Seq < t.Next {
			return fmt.Errorf("message %d came after %d, and one between was lost", got.Seq, before)
		}
		if err := see(got); err != nil {
			return err
		}
		before, t.Next = got.Seq, got.Seq+1
	}
}

// errSilent is a request to a server of the bus that is gone.
var errSilent = fmt.Errorf("no answer from the bus within %v: %w", tailAnswer, nats.ErrTimeout)

func answer(ctx context.Context, answers <-chan *nats.Msg) (*nats.Msg, error) {
	select {
	case m := <-answers:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(tailAnswer):
		return nil, errSilent
	}
}

// decodeStored takes a message of a batch apart. previous is the sequence of
// the one before it in the same batch. The bus appends what it says to the
// headers that the writer gave, who may be hostile: the last value is the bus's.
func decodeStored(m *nats.Msg) (s Stored, previous uint64, err error) {
	last := func(name string) string {
		all := m.Header[name]
		return all[len(all)-1]
	}
	for _, name := range []string{jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer, jetstream.LastSequenceHeader} {
		if len(m.Header[name]) == 0 {
			return s, 0, fmt.Errorf("a message without the header %s", name)
		}
	}
	s = Stored{Subject: last(jetstream.SubjectHeader), Header: m.Header, Data: m.Data}
	var errs [3]error
	s.Seq, errs[0] = strconv.ParseUint(last(jetstream.SequenceHeader), 10, 64)
	s.Time, errs[1] = time.Parse(time.RFC3339Nano, last(jetstream.TimeStampHeaer))
	previous, errs[2] = strconv.ParseUint(last(jetstream.LastSequenceHeader), 10, 64)
	return s, previous, errors.Join(errs[:]...)
}

// TailBucket reads the values of a bucket whose keys have the prefix as
// [Tail.Run] reads a stream. see gets nil for a key that was deleted. A key that
// is written meanwhile is seen again.
func TailBucket(ctx context.Context, t Tail, bucket, prefix string, see func(key string, value []byte, rev uint64) error, ready func() error) error {
	root := string(fleet.KVSubject(bucket, ""))
	t.Stream = "KV_" + bucket
	return t.Run(ctx, func(m Stored) error {
		key, ok := strings.CutPrefix(m.Subject, root)
		if !ok || !strings.HasPrefix(key, prefix) {
			return nil
		}
		if m.Header.Get("KV-Operation") != "" {
			return see(key, nil, m.Seq)
		}
		return see(key, m.Data, m.Seq)
	}, ready)
}
