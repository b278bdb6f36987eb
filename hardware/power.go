package hardware

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
