package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var errEnough = errors.New("enough")

// publish writes one message as a node does that may be hostile.
func publish(t *testing.T, js jetstream.JetStream, subject, data string, headers ...string) {
	t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(data)
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// TestTail: what stands and what comes is seen once, in order, whatever the
// headers of a message say.
func TestTail(t *testing.T) {
	js := testStream(t)
	const standing, coming = 2*tailBatch + 10, 20
	subject := func(i int) string { return fmt.Sprintf("ingot.ev.n-%d.agent.step", i) }
	hostile := map[int][]string{
		3: {"Status", "503"}, 4: {"Status", "204"}, 5: {jetstream.SubjectHeader, subject(99)},
		6: {jetstream.SequenceHeader, "1"}, 7: {jetstream.LastSequenceHeader, "400"}, 8: {jetstream.TimeStampHeaer, "x"},
	}
	for i := range standing {
		data := "x"
		if hostile[i] != nil {
			data = ""
		}
		publish(t, js, subject(i), data, hostile[i]...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	wasReady := 0
	tl := &tail{js: js, stream: fleet.StreamEvents, next: 1}
	err := tl.run(ctx, "ingot.ev.>", func(m stored) error {
		if m.seq != uint64(len(got)+1) || time.Since(m.time).Abs() > time.Minute {
			t.Errorf("message %d: sequence %d at %v", len(got)+1, m.seq, m.time)
		}
		if got = append(got, m.subject); len(got) == standing+coming {
			return errEnough
		}
		return nil
	}, func() {
		wasReady = len(got)
		go func() {
			for i := range coming {
				if _, err := js.Publish(ctx, subject(standing+i), []byte("x")); err != nil {
					t.Error(err)
				}
			}
		}()
	})
	if !errors.Is(err, errEnough) || wasReady < standing {
		t.Errorf("run = %v, ready after %d of %d; want all that stood before", err, wasReady, standing)
	}
	want := make([]string, standing+coming)
	for i := range want {
		want[i] = subject(i)
	}
	if !slices.Equal(got, want) {
		t.Errorf("seen %d subjects, or others than were written", len(got))
	}
}

// TestTailGoesOn: a reader that was stopped goes on where it was, and a stream
// without a message is ready at once.
func TestTailGoesOn(t *testing.T) {
	js := testStream(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tl := &tail{js: js, stream: fleet.StreamEvents, next: 1}
	ended, end := context.WithCancel(ctx)
	if err := tl.run(ended, "ingot.ev.>", func(stored) error { return errEnough }, end); !errors.Is(err, context.Canceled) {
		t.Fatalf("an empty stream: %v; want ready", err)
	}
	for i := range 3 {
		publish(t, js, "ingot.ev.n-1.agent.step", fmt.Sprint(i))
	}
	for want := range 3 {
		err := tl.run(ctx, "ingot.ev.>", func(m stored) error {
			if string(m.data) == fmt.Sprint(want) {
				return errEnough
			}
			return fmt.Errorf("got %s", m.data)
		}, nil)
		if !errors.Is(err, errEnough) {
			t.Errorf("message %d: %v", want, err)
		}
		tl.next++ // see has ended the run before it counted
	}
}

// TestWatch: values, deletions and what cannot be read, under a prefix.
func TestWatch(t *testing.T) {
	js := testStream(t)
	tb, err := openTable[fleet.Machine](t.Context(), js, fleet.BucketConfig)
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, value string) {
		t.Helper()
		if _, err := tb.kv.Put(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	put("machine.a", `{"name":"a"}`)
	put("other.b", `{"name":"b"}`)
	put("machine.c", `nonsense`)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	err = tb.watch(ctx, js, "machine.", func(key string, m *fleet.Machine, _ uint64) {
		name := "nothing"
		if m != nil {
			name = m.Name
		}
		if got = append(got, key+" is "+name); len(got) == 4 {
			cancel()
		}
	}, func() {
		got = append(got, "ready")
		go func() {
			if err := tb.kv.Delete(ctx, "machine.a"); err != nil {
				t.Error(err)
			}
		}()
	})
	want := []string{"machine.a is a", "machine.c is nothing", "ready", "machine.a is nothing"}
	if !slices.Equal(got, want) {
		t.Errorf("watch = %v, %v; want %v", got, err, want)
	}
}
