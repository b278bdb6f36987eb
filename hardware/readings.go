package hardware

// ReadingsSchema is the schema of [Readings].
const ReadingsSchema = "ingot.readings/v1"

// PowerState is the state of a server's power.
type PowerState string

// The power states.
const (
	PowerOn  PowerState = "on"
	PowerOff PowerState = "off"
)

// Readings are what moves about a server.
type Readings struct {
	Schema       string        `json:"schema"`
	PowerState   PowerState    `json:"power_state,omitempty"`
	Health       string        `json:"health,omitempty"` // ok, warning, critical, as the BMC has it
	Temperatures []Temperature `json:"temperatures,omitempty"`
	Fans         []Fan         `json:"fans,omitempty"`
	Links        []Link        `json:"links,omitempty"`
}

// Temperature is one sensor; without Celsius where it reads nothing now.
type Temperature struct {
	Name    string   `json:"name"`
	Celsius *float64 `json:"celsius,omitempty"`
}

// Fan is one fan. Some BMCs know percent only, some RPM only; one that is not
// fitted has neither.
type Fan struct {
	Name    string   `json:"name"`
	RPM     *float64 `json:"rpm,omitempty"`
	Percent *float64 `json:"percent,omitempty"`
}

// Link is one port's link.
type Link struct {
	MAC      MAC    `json:"mac"`
	Carrier  Switch `json:"carrier,omitempty"`
	LinkMbps int    `json:"link_mbps,omitempty"`
}
