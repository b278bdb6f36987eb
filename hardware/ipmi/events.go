package ipmi

import (
	"fmt"

	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/ingot-metal/ingot/hardware"
)

// eventName is the state or event of an offset (tables 42-2 and 42-3), or the
// number where it is an OEM's or not in the tables.
func eventName(eventType, kind, offset byte) string {
	e := types.EventReadingType(eventType).EventForOffset(types.SensorType(kind), offset)
	if e == nil || e.EventName == "" {
		if eventType >= 0x70 || kind >= 0xc0 {
			return fmt.Sprintf("oem state %d", offset)
		}
		return fmt.Sprintf("state %d", offset)
	}
	return e.EventName
}

func eventSeverity(eventType, kind, offset byte, deasserted bool) hardware.Severity {
	if eventType == sensorSpecific && present(kind, offset) {
		return hardware.Info
	}
	switch types.EventReadingType(eventType).EventSeverity(types.SensorType(kind), types.EventData{EventData1: offset & 0xf}, types.EventDir(deasserted)) {
	case types.EventSeverityCritical:
		return hardware.Critical
	case types.EventSeverityWarning, types.EventSeverityDegraded, types.EventSeverityNonFatal:
		return hardware.Warning
	}
	return hardware.Info
}

// present says that a state tells only that the part is there.
func present(kind, offset byte) bool {
	switch kind {
	case 0x07: // processor
		return offset == 7
	case 0x08, 0x0d: // power supply, drive slot
		return offset == 0
	case 0x0c: // memory
		return offset == 6
	case 0x29: // battery
		return offset == 2
	}
	return false
}
