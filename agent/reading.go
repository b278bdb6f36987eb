package agent

import (
	"bytes"
	"context"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware/inventory"
)

// reading is the hardware as it is read: the first facts for the report, and
// after it what slower readers find. Nothing of the boot waits for the latter.
type reading struct {
	first    chan inventory.Result // one value
	later    chan inventory.Result // the newest only
	reported chan struct{}         // closed when the report is stored
	ended    chan struct{}         // closed when no reader is at work any more
	stop     context.CancelFunc    // ends the readers
}

func newReading() *reading {
	return &reading{first: make(chan inventory.Result, 1), later: make(chan inventory.Result, 1),
		reported: make(chan struct{}), ended: make(chan struct{}), stop: func() {}}
}

// run runs the readers by stream, as inventory.Stream does. Those that follow
// the first report begin when that is stored: what they ask of the BMC and of
// the drives takes none of its time.
func (r *reading) run(ctx context.Context, stream func(context.Context, func(inventory.Result))) {
	defer close(r.ended)
	defer close(r.later)
	told := false
	stream(ctx, func(res inventory.Result) {
		if told {
			select {
			case <-r.later: // nobody has taken the one before: it is in this one
			default:
			}
			r.later <- res
			return
		}
		told = true
		r.first <- res
		select {
		case <-r.reported:
		case <-ctx.Done():
		}
	})
}

// end ends the readers, for the jump: none may be amid a transaction with the
// BMC. It does not wait for one that hangs.
func (r *reading) end(most time.Duration) {
	r.stop()
	select {
	case <-r.ended:
	case <-time.After(most):
	}
}

// readHardware runs the readers over the running system.
func (s *server) readHardware(ctx context.Context) {
	s.reading.run(ctx, func(ctx context.Context, told func(inventory.Result)) { inventory.Stream(ctx, "/", told) })
}

// storeLater stores the readings of the report, and then what comes after it,
// until the readers have ended.
func (s *server) storeLater(ctx context.Context, first inventory.Result) {
	k := &keeper{up: s.up, say: s.say}
	k.last.inventory, _ = first.Inventory.Encode() // it is stored: an error was the report's
	k.keep(ctx, first)
	for res := range s.reading.later {
		k.keep(ctx, res)
	}
}

// keeper stores what differs from what it stored before.
type keeper struct {
	up   *uplink.Uplink
	say  func(string, ...any)
	last struct{ inventory, readings []byte }
}

// keep stores one result, and says so in the timeline where parts were found.
func (k *keeper) keep(ctx context.Context, res inventory.Result) {
	if b, err := res.Readings.Encode(); err != nil {
		k.say("readings: %v", err)
	} else if !bytes.Equal(b, k.last.readings) {
		if err := k.up.PutReadings(ctx, b); err != nil {
			k.say("readings: %v", err)
			return
		}
		k.last.readings = b
	}
	b, err := res.Inventory.Encode()
	if err != nil {
		k.say("inventory: %v", err)
		return
	}
	if bytes.Equal(b, k.last.inventory) {
		return
	}
	if err := k.up.PutInventory(ctx, b); err != nil {
		k.say("inventory: %v", err)
		return
	}
	k.last.inventory = b
	if err := k.up.Publish(fleet.SourceAgent, fleet.KindInventory, reportData(res)); err != nil {
		k.say("timeline: %v", err)
	}
	k.say("inventory: %s (%d ms)", res.Inventory.Summary(), res.Took.Milliseconds())
}

// reportData is what an event says of an inventory.
func reportData(res inventory.Result) fleet.ReportData {
	took := map[string]float64{}
	for _, r := range res.Readers {
		took[r.Reader] = r.Took.Seconds()
	}
	return fleet.ReportData{Digest: string(res.Inventory.Digest()), Summary: res.Inventory.Summary(),
		Seconds: res.Took.Seconds(), Readers: took, Pending: res.Pending}
}
