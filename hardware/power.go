package hardware

import "errors"

// PowerAction is what one may ask of a server's power.
type PowerAction string

// The power actions.
const (
	ActionOn       PowerAction = "on"
	ActionOff      PowerAction = "off"      // at once, as by a long press
	ActionShutdown PowerAction = "shutdown" // asks the running system
	ActionReset    PowerAction = "reset"    // the reset line; power stays on
	ActionCycle    PowerAction = "cycle"    // off, then on
)

// ErrNotKept says that a BMC reported success and then read back otherwise.
var ErrNotKept = errors.New("the BMC said yes and did not keep it")
