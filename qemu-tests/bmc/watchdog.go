package bmc

import (
	"context"
	"encoding/binary"
	"sync"
	"time"
)

// watchdogTick is the unit of the countdown (IPMI 2.0, 27.6).
const watchdogTick = 100 * time.Millisecond

// Watchdog actions (IPMI 2.0, table 27-3, byte 2).
const (
	watchdogHardReset  = 1
	watchdogPowerDown  = 2
	watchdogPowerCycle = 3
)

// watchdog is the BMC's watchdog timer. fire is set once, before use.
type watchdog struct {
	mu      sync.Mutex
	fire    func(action uint8)
	set     bool
	use     uint8
	action  uint8
	pre     uint8
	expired uint8
	initial uint16
	ends    time.Time
	timer   *time.Timer
}

// configure is Set Watchdog Timer; body is its six bytes.
func (w *watchdog) configure(body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	keepRunning := body[0]&0x40 != 0 && w.timer != nil
	w.set = true
	w.use, w.action, w.pre = body[0]&0x87, body[1]&0x77, body[2]
	w.expired &^= body[3]
	w.initial = binary.LittleEndian.Uint16(body[4:])
	w.stopLocked()
	if keepRunning {
		w.startLocked()
	}
}

// reset is Reset Watchdog Timer: it starts the countdown anew and reports
// whether there was one to start.
func (w *watchdog) reset() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.set {
		return false
	}
	w.stopLocked()
	w.startLocked()
	return true
}

func (w *watchdog) startLocked() {
	d := time.Duration(w.initial) * watchdogTick
	w.ends = time.Now().Add(d)
	var own *time.Timer
	own = time.AfterFunc(d, func() {
		w.mu.Lock()
		if w.timer != own { // stopped or started anew while we waited for the lock
			w.mu.Unlock()
			return
		}
		w.timer = nil
		w.expired |= 1 << (w.use & 7)
		action := w.action & 7
		w.mu.Unlock()
		w.fire(action)
	})
	w.timer = own
}

func (w *watchdog) stopLocked() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopLocked()
}

// state is the answer to Get Watchdog Timer (IPMI 2.0, table 27-4).
func (w *watchdog) state() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]byte, 8)
	out[0], out[1], out[2], out[3] = w.use, w.action, w.pre, w.expired
	present := w.initial
	if w.timer != nil {
		out[0] |= 0x40
		present = uint16(max(0, time.Until(w.ends)) / watchdogTick)
	}
	binary.LittleEndian.PutUint16(out[4:], w.initial)
	binary.LittleEndian.PutUint16(out[6:], present)
	return out
}

func (b *BMC) watchdogFired(action uint8) {
	e := eventWatchdog
	e.offset = action
	b.sel.add(e)
	actions := map[uint8]PowerAction{watchdogHardReset: PowerReset, watchdogPowerDown: PowerOff, watchdogPowerCycle: PowerCycle}
	power, ok := actions[action]
	if !ok {
		return
	}
	if err := b.power(context.Background(), "watchdog", power); err != nil {
		b.cfg.Log.Warn("watchdog", "server", b.cfg.Machine.Name, "cause", err)
	}
}
