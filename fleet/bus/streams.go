package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nats.go/jetstream"
)

// duplicateWindow is how long the stream remembers message IDs: an agent that
// lost the bus sends its spool again within it.
const duplicateWindow = 10 * time.Minute

const (
	// maxPerSubject bounds what one node keeps of one kind: a flood drowns
	// itself first.
	maxPerSubject  = 10000
	defaultMaxAge  = 30 * 24 * time.Hour
	reconcileLimit = 15 * time.Second
)

// reconcile makes every stream and bucket what this version of the program
// wants it to be; a bucket that exists keeps no old limits.
func (s *Server) reconcile(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reconcileLimit)
	defer cancel()
	js, err := jetstream.New(s.control)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	for _, c := range s.streams() {
		if _, err := js.CreateOrUpdateStream(ctx, c); err != nil {
			return fmt.Errorf("bus: bring stream %s up to date: %w", c.Name, err)
		}
	}
	return nil
}

func (s *Server) streams() []jetstream.StreamConfig {
	age := s.cfg.EventsMaxAge
	if age == 0 {
		age = defaultMaxAge
	}
	all := []jetstream.StreamConfig{{
		Name: fleet.StreamEvents, Subjects: []string{"ingot.ev.>"},
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxAge: age, MaxBytes: s.eventsMaxBytes(), MaxMsgs: -1, MaxConsumers: -1,
		MaxMsgsPerSubject: maxPerSubject, MaxMsgSize: fleet.MaxMessageBytes,
		Duplicates: min(duplicateWindow, age), Replicas: s.replicas,
		AllowDirect: true, DenyDelete: true, DenyPurge: true,
	}}
	for _, b := range []string{
		fleet.BucketInventory, fleet.BucketReadings, fleet.BucketStatus, fleet.BucketGrant,
		fleet.BucketNodes, fleet.BucketAttempts, fleet.BucketConfig,
	} {
		all = append(all, bucket(b, s.replicas))
	}
	return all
}

// bucket is a stream that KV clients understand, without rollup: who may write
// one key could erase all of them with it.
func bucket(name string, replicas int) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name: "KV_" + name, Subjects: []string{string(fleet.KVSubject(name, ">"))},
		Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew,
		MaxMsgsPerSubject: 1, MaxMsgs: -1, MaxBytes: -1, MaxConsumers: -1, MaxMsgSize: fleet.MaxMessageBytes,
		Duplicates: 2 * time.Minute, Replicas: replicas,
		AllowDirect: true, AllowRollup: false, DenyDelete: true, DenyPurge: true,
	}
	if name == fleet.BucketGrant {
		// Only headers: the copy is a hint that there is something to fetch.
		c.RePublish = &jetstream.RePublish{
			Source: string(fleet.KVSubject(name, ">")), Destination: "ingot.granted.>", HeadersOnly: true,
		}
	}
	return c
}
