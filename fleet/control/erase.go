package control

import (
	"fmt"
	"strings"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// eraseHeaders are what JetStream takes as an order about what is stored already,
// or about its life. The bucket refuses them, and only the writer hears of it.
var eraseHeaders = []string{jetstream.MsgRollup, jetstream.MsgTTLHeader, jetstream.MarkerReasonHeader, "KV-Operation"}

// inventoryWritten tells of a node that tried to erase: where it may write one
// key of a bucket, a header would do that to all of them.
func (c *Control) inventoryWritten(m *nats.Msg) {
	n := fleet.NodeID(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	for _, h := range eraseHeaders {
		v := m.Header.Get(h)
		if v == "" {
			continue
		}
		c.once(fmt.Sprintf("forbidden/%s/%s", n, h), func() error {
			return c.publish(c.ctx, n, fleet.SourceControl, fleet.KindFinding,
				*problemOf(fleet.ReasonForbidden, n, fmt.Sprintf("header %s: %.40q on its inventory, which the bucket does not take", h, v)))
		})
	}
}
