package uplink_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/fleet/bus"
	"github.com/nats-io/nats.go/jetstream"
)

// BenchmarkEvents is acknowledged events a second, every one synced to disk:
// through uplinks over TLS and the accounts, and bare from inside the process.
func BenchmarkEvents(b *testing.B) {
	s, err := bus.Start(b.Context(), bus.Config{Dir: b.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // the benchmark is over
	r := &registrar{sessions: map[string]bus.Session{}}
	r.answer = func(q fleet.EnrollRequest) fleet.EnrollReply {
		return fleet.EnrollReply{State: fleet.EnrollAccepted, Node: fleet.NodeID("n-" + q.Serial), Attempt: 1}
	}
	s.SetAuthorizer(r)
	r.serve(b, s.Conn())
	data := fleet.FetchData{Name: "root.squashfs", Digest: "sha256:0123456789abcdef", DoneBytes: 1 << 20, TotalBytes: 1 << 26}
	for _, nodes := range []int{1, 16} {
		b.Run(fmt.Sprintf("uplinks-%d", nodes), func(b *testing.B) {
			var us []*uplink.Uplink
			for i := range nodes {
				u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot", SpoolBytes: 1 << 30})
				if err != nil {
					b.Fatal(err)
				}
				defer u.Close()
				if _, err := u.Connect(b.Context(), uplink.Target{Bus: s.Trust(), Enroll: fleet.EnrollRequest{Serial: fmt.Sprint(i)}}); err != nil {
					b.Fatal(err)
				}
				us = append(us, u)
			}
			b.ResetTimer()
			for i := range b.N {
				if err := us[i%nodes].Publish(fleet.SourceAgent, fleet.KindFetch, data); err != nil {
					b.Fatal(err)
				}
			}
			for _, u := range us {
				if err := u.Flush(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
		b.Run(fmt.Sprintf("bare-%d", nodes), func(b *testing.B) {
			js, err := jetstream.New(s.Conn())
			if err != nil {
				b.Fatal(err)
			}
			payload := make([]byte, 400)
			var wg sync.WaitGroup
			b.ResetTimer()
			for n := range nodes {
				wg.Go(func() {
					for range b.N / nodes {
						if _, err := js.Publish(context.Background(), fmt.Sprintf("ingot.ev.bare-%d.agent.fetch", n), payload); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkConnect is both connections and the enrolment, over TLS.
func BenchmarkConnect(b *testing.B) {
	s, err := bus.Start(b.Context(), bus.Config{Dir: b.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // the benchmark is over
	r := &registrar{sessions: map[string]bus.Session{}, answer: accept}
	s.SetAuthorizer(r)
	r.serve(b, s.Conn())
	for b.Loop() {
		u, err := uplink.New(uplink.Config{Role: fleet.RoleAgent, BootID: "boot"})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
		if _, err := u.Connect(ctx, uplink.Target{Bus: s.Trust()}); err != nil {
			b.Fatal(err)
		}
		cancel()
		u.Close()
	}
}
