package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Value is the latest value of a bucket's key.
type Value struct {
	Data []byte
	Time time.Time
	// Attempt is the boot that it is of, where control wrote it.
	Attempt int64
}

// valueTimeout bounds one request: it may be lost with a server of the bus.
const valueTimeout = 5 * time.Second

// ErrNoValue says that a key has no value.
var ErrNoValue = errors.New("it has no value")

// GetValue reads a key with the boot that it is of. Any replica answers.
func GetValue(ctx context.Context, nc *nats.Conn, bucket, key string) (Value, error) {
	ctx, cancel := context.WithTimeout(ctx, valueTimeout)
	defer cancel()
	v, err := getValue(ctx, nc, bucket, key)
	if err != nil {
		return Value{}, fmt.Errorf("read %s of %s: %w", key, bucket, err)
	}
	return v, nil
}

func getValue(ctx context.Context, nc *nats.Conn, bucket, key string) (Value, error) {
	m, err := nc.RequestWithContext(ctx, string(fleet.DirectGetSubject(bucket, key)), nil)
	if err != nil {
		return Value{}, err
	}
	last := func(name string) string { // the bus appends to what the writer gave
		all := m.Header[name]
		if len(all) == 0 {
			return ""
		}
		return all[len(all)-1]
	}
	switch {
	case last(jetstream.SequenceHeader) == "" && m.Header.Get("Status") == "404", m.Header.Get("KV-Operation") != "":
		return Value{}, ErrNoValue
	case last(jetstream.SequenceHeader) == "":
		return Value{}, fmt.Errorf("the bus says %q %s", m.Header.Get("Status"), m.Header.Get("Description"))
	}
	v := Value{Data: m.Data}
	if v.Time, err = time.Parse(time.RFC3339Nano, last(jetstream.TimeStampHeaer)); err != nil {
		return Value{}, err
	}
	if text := m.Header.Get(fleet.HeaderAttempt); text != "" {
		if v.Attempt, err = strconv.ParseInt(text, 10, 64); err != nil {
			return Value{}, fmt.Errorf("header %s: %v", fleet.HeaderAttempt, err)
		}
	}
	return v, nil
}

// PutValue writes a key as one of a boot; the last writer's stands.
func PutValue(ctx context.Context, js jetstream.JetStream, bucket, key string, attempt int64, b []byte) error {
	m := nats.NewMsg(string(fleet.KVSubject(bucket, key)))
	m.Data = b
	m.Header.Set(fleet.HeaderAttempt, strconv.FormatInt(attempt, 10))
	if _, err := js.PublishMsg(ctx, m); err != nil {
		return fmt.Errorf("write %s of %s: %w", key, bucket, err)
	}
	return nil
}
