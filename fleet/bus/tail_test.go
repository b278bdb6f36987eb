package bus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func aloneJetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	s, err := bus.Start(t.Context(), bus.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return jetstreamOf(t, s)
}

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
	js := aloneJetStream(t)
	const standing, coming = 2*256 + 10, 20
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
	tl := &bus.Tail{JS: js, Stream: fleet.StreamEvents, Hints: "ingot.ev.>"}
	err := tl.Run(ctx, func(m bus.Stored) error {
		if m.Seq != uint64(len(got)+1) || time.Since(m.Time).Abs() > time.Minute {
			t.Errorf("message %d: sequence %d at %v", len(got)+1, m.Seq, m.Time)
		}
		if got = append(got, m.Subject); len(got) == standing+coming {
			return errEnough
		}
		return nil
	}, func() error {
		wasReady = len(got)
		go func() {
			for i := range coming {
				if _, err := js.Publish(ctx, subject(standing+i), []byte("x")); err != nil {
					t.Error(err)
				}
			}
		}()
		return nil
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
	js := aloneJetStream(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tl := &bus.Tail{JS: js, Stream: fleet.StreamEvents, Hints: "ingot.ev.>"}
	ended, end := context.WithCancel(ctx)
	if err := tl.Run(ended, func(bus.Stored) error { return errEnough }, func() error { end(); return nil }); !errors.Is(err, context.Canceled) {
		t.Fatalf("an empty stream: %v; want ready", err)
	}
	for i := range 3 {
		publish(t, js, "ingot.ev.n-1.agent.step", fmt.Sprint(i))
	}
	for want := range 3 {
		err := tl.Run(ctx, func(m bus.Stored) error {
			if string(m.Data) == fmt.Sprint(want) {
				return errEnough
			}
			return fmt.Errorf("got %s", m.Data)
		}, nil)
		if !errors.Is(err, errEnough) {
			t.Errorf("message %d: %v", want, err)
		}
		tl.Next++ // see has ended the run before it counted
	}
}

// TestTailBucket: values and deletions under a prefix.
func TestTailBucket(t *testing.T) {
	js := aloneJetStream(t)
	kv, err := js.KeyValue(t.Context(), fleet.BucketConfig)
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, value string) {
		t.Helper()
		if _, err := kv.Put(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	put("machine.a", "1")
	put("other.b", "2")
	put("machine.c", "3")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got []string
	err = bus.TailBucket(ctx, bus.Tail{JS: js}, fleet.BucketConfig, "machine.", func(key string, value []byte, rev uint64) error {
		if value == nil {
			value = []byte("deleted")
		}
		if got = append(got, fmt.Sprintf("%s %s %d", key, value, rev)); len(got) == 4 {
			return errEnough
		}
		return nil
	}, func() error {
		got = append(got, "ready")
		return kv.Delete(ctx, "machine.a")
	})
	want := []string{"machine.a 1 1", "machine.c 3 3", "ready", "machine.a deleted 4"}
	if !slices.Equal(got, want) || !errors.Is(err, errEnough) {
		t.Errorf("TailBucket = %q, %v; want %q", got, err, want)
	}
}
