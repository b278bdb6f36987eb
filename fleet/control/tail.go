package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The messages of a stream are read by direct gets, not by a consumer. A
// consumer of one replica dies with the server of the bus that holds it, and
// until a new one is made, which needs a leader of the whole cluster, control
// is deaf; a get is answered by any replica that is left.
const (
	tailBatch = 256
	// tailAnswer is how long the next message of a batch may take.
	tailAnswer = 2 * time.Second
	// tailIdle is how often a stream that is silent is looked at.
	tailIdle = time.Second
	// A hint comes when a message is sent, before it is stored: for so long
	// after one the stream is looked at so often.
	tailEager      = time.Second
	tailEagerEvery = 10 * time.Millisecond
)

// stored is a message as it stands in a stream.
type stored struct {
	subject string
	seq     uint64
	time    time.Time
	header  nats.Header
	data    []byte
}

// tail reads a stream in its order, from one place on.
type tail struct {
	js     jetstream.JetStream
	stream string
	next   uint64 // the sequence that is read next, from 1
}

// run calls see with every message that stands in the stream and with those
// that come, and ready once those that stood are through, until ctx ends or
// see returns an error. hints is a subject on which something is heard when a
// message comes.
func (t *tail) run(ctx context.Context, hints string, see func(stored) error, ready func()) error {
	hint := make(chan struct{}, 1)
	nc := t.js.Conn()
	sub, err := nc.Subscribe(hints, func(*nats.Msg) {
		select {
		case hint <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return fmt.Errorf("follow %s: %w", t.stream, err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection is gone if it does not
	stood := uint64(0)
	if ready != nil {
		if stood, err = t.last(ctx); err != nil {
			return err
		}
	}
	var eager time.Time
	for {
		begin := t.next
		if err := t.batch(ctx, see); err != nil {
			return err
		}
		if t.next > stood && ready != nil {
			ready()
			ready = nil
		}
		wait := tailIdle
		switch {
		case t.next > begin:
			continue
		case time.Now().Before(eager):
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

// last is the sequence of the newest message, by the word of the stream's
// leader; zero where there is none.
func (t *tail) last(ctx context.Context) (uint64, error) {
	s, err := t.js.Stream(ctx, t.stream)
	if err != nil {
		return 0, fmt.Errorf("follow %s: %w", t.stream, err)
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return 0, nil
	}
	return state.LastSeq, nil
}

// batch reads some messages. A replica that is behind has fewer, which is no
// error; one that does not answer is: another try reaches another.
func (t *tail) batch(ctx context.Context, see func(stored) error) error {
	req, err := json.Marshal(struct {
		Seq   uint64 `json:"seq"`
		Batch int    `json:"batch"`
	}{t.next, tailBatch})
	if err != nil {
		return err
	}
	nc := t.js.Conn()
	inbox := nc.NewInbox()
	// Not a synchronous subscription: that takes a node's message whose headers
	// say so for the word of the bus that nobody answers.
	answers := make(chan *nats.Msg, tailBatch+1)
	sub, err := nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return fmt.Errorf("follow %s: %w", t.stream, err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // as above
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+t.stream, inbox, req); err != nil {
		return fmt.Errorf("follow %s: %w", t.stream, err)
	}
	for before := uint64(0); ; {
		m, err := t.answer(ctx, answers)
		if err != nil {
			return err
		}
		if len(m.Header[jetstream.SequenceHeader]) == 0 { // no message of the stream
			switch status := m.Header.Get("Status"); status {
			case "204", "404": // the end of the batch; nothing from there on
				return nil
			default:
				return fmt.Errorf("follow %s: the bus says %q %s", t.stream, status, m.Header.Get("Description"))
			}
		}
		got, previous, err := decodeStored(m)
		if err != nil {
			return fmt.Errorf("follow %s: %w", t.stream, err)
		}
		if previous != before || got.seq < t.next {
			return fmt.Errorf("follow %s: message %d came after %d, and one between was lost", t.stream, got.seq, before)
		}
		if err := see(got); err != nil {
			return err
		}
		before, t.next = got.seq, got.seq+1
	}
}

func (t *tail) answer(ctx context.Context, answers <-chan *nats.Msg) (*nats.Msg, error) {
	select {
	case m := <-answers:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(tailAnswer):
		return nil, fmt.Errorf("follow %s: no answer from the bus within %v", t.stream, tailAnswer)
	}
}

// decodeStored takes a message of a batch apart. previous is the sequence of
// the one before it in the same batch. The bus appends what it says to the
// headers that the writer gave, who may be hostile: the last value is the bus's.
func decodeStored(m *nats.Msg) (s stored, previous uint64, err error) {
	last := func(name string) string {
		all := m.Header[name]
		return all[len(all)-1]
	}
	for _, name := range []string{jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer, jetstream.LastSequenceHeader} {
		if len(m.Header[name]) == 0 {
			return s, 0, fmt.Errorf("a message without the header %s", name)
		}
	}
	s = stored{subject: last(jetstream.SubjectHeader), header: m.Header, data: m.Data}
	var errs [3]error
	s.seq, errs[0] = strconv.ParseUint(last(jetstream.SequenceHeader), 10, 64)
	s.time, errs[1] = time.Parse(time.RFC3339Nano, last(jetstream.TimeStampHeaer))
	previous, errs[2] = strconv.ParseUint(last(jetstream.LastSequenceHeader), 10, 64)
	return s, previous, errors.Join(errs[:]...)
}

// watch calls see with every value whose key has the prefix, as it stands and
// as it changes, and ready once the standing ones are through. It returns when
// ctx ends.
func (t table[T]) watch(ctx context.Context, js jetstream.JetStream, prefix string, see func(key string, v *T, rev uint64), ready func()) error {
	root := "$KV." + t.kv.Bucket() + "."
	tail := &tail{js: js, stream: "KV_" + t.kv.Bucket(), next: 1}
	return tail.run(ctx, root+prefix+">", func(m stored) error {
		key, ok := strings.CutPrefix(m.subject, root)
		if !ok || !strings.HasPrefix(key, prefix) {
			return nil
		}
		v := new(T)
		// A value that cannot be read counts as none; its writer is an operator
		// or a newer program.
		if m.header.Get("KV-Operation") != "" || json.Unmarshal(m.data, v) != nil {
			v = nil
		}
		see(key, v, m.seq)
		return nil
	}, ready)
}
