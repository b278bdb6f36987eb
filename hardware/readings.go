package hardware

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

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
	Schema       string         `json:"schema"`
	PowerState   PowerState     `json:"power_state,omitempty"`
	Health       string         `json:"health,omitempty"` // ok, warning, critical, as the BMC has it
	Watts        *float64       `json:"watts,omitempty"`
	Temperatures []Temperature  `json:"temperatures,omitempty" most:"512"`
	Fans         []Fan          `json:"fans,omitempty" most:"256"`
	Sensors      []Sensor       `json:"sensors,omitempty" most:"512"`
	PSUs         []PSUReading   `json:"psus,omitempty" most:"32"`
	Drives       []DriveReading `json:"drives,omitempty" most:"512"`
	ECC          []ECCReading   `json:"ecc,omitempty" most:"256"`
	Links        []Link         `json:"links,omitempty" most:"256"`
	Logs         []Log          `json:"logs,omitempty" most:"16"`
	BMCTime      *time.Time     `json:"bmc_time,omitempty"`
}

// Temperature is one sensor; without Celsius where it reads nothing now.
type Temperature struct {
	Name    string   `json:"name"`
	Celsius *float64 `json:"celsius,omitempty"`
	// UpperCelsius is the upper critical threshold.
	UpperCelsius *float64 `json:"upper_celsius,omitempty"`
}

// Fan is one fan. Some BMCs know percent only, some RPM only; one that is not
// fitted has neither.
type Fan struct {
	Name    string   `json:"name"`
	RPM     *float64 `json:"rpm,omitempty"`
	Percent *float64 `json:"percent,omitempty"`
}

// Sensor is one sensor of any kind, as the BMC's own records describe it
// (IPMI 2.0 43, Redfish Sensor). Value is absent where it reads nothing now.
type Sensor struct {
	Name       string      `json:"name"`
	ID         string      `json:"id,omitempty" clean:"word"` // its number as IPMI events name it: 0x1f
	Entity     string      `json:"entity,omitempty"`          // what it stands on: processor 1 (IPMI 2.0 table 43-13)
	Kind       string      `json:"kind,omitempty"`            // temperature, voltage, fan, processor
	Value      *float64    `json:"value,omitempty"`
	Unit       string      `json:"unit,omitempty"`   // degrees C, volts, RPM
	States     []string    `json:"states,omitempty"` // of a discrete sensor
	Status     string      `json:"status,omitempty"` // ok, non-critical, critical, non-recoverable
	Thresholds *Thresholds `json:"thresholds,omitempty"`
	Source     string      `json:"source,omitempty" clean:"word"`
}

// Thresholds are where a sensor's status changes, in its unit.
type Thresholds struct {
	LowerNonRecoverable *float64 `json:"lower_non_recoverable,omitempty"`
	LowerCritical       *float64 `json:"lower_critical,omitempty"`
	LowerNonCritical    *float64 `json:"lower_non_critical,omitempty"`
	UpperNonCritical    *float64 `json:"upper_non_critical,omitempty"`
	UpperCritical       *float64 `json:"upper_critical,omitempty"`
	UpperNonRecoverable *float64 `json:"upper_non_recoverable,omitempty"`
}

// PSUReading is what one power supply does now.
type PSUReading struct {
	Name        string   `json:"name"`
	InputVolts  *float64 `json:"input_volts,omitempty"`
	InputWatts  *float64 `json:"input_watts,omitempty"`
	OutputWatts *float64 `json:"output_watts,omitempty"`
	Health      string   `json:"health,omitempty"`
}

// DriveReading is what wears and errs in one drive (SMART). A count that the
// drive does not keep is absent.
type DriveReading struct {
	Name              string   `json:"name,omitempty"`
	Serial            string   `json:"serial,omitempty" clean:"serial"`
	Health            string   `json:"health,omitempty"` // ok, warning, critical
	Celsius           *float64 `json:"celsius,omitempty"`
	WearPercent       *float64 `json:"wear_percent,omitempty"`  // used, of its rated life
	SparePercent      *float64 `json:"spare_percent,omitempty"` // left
	PowerOnHours      *uint64  `json:"power_on_hours,omitempty"`
	PowerCycles       *uint64  `json:"power_cycles,omitempty"`
	UnsafeShutdowns   *uint64  `json:"unsafe_shutdowns,omitempty"`
	MediaErrors       *uint64  `json:"media_errors,omitempty"`
	Reallocated       *uint64  `json:"reallocated,omitempty"`
	Pending           *uint64  `json:"pending,omitempty"`
	ReadBytes         *uint64  `json:"read_bytes,omitempty"`
	WrittenBytes      *uint64  `json:"written_bytes,omitempty"`
	ErrorLogEntries   *uint64  `json:"error_log_entries,omitempty"`
	LastSelfTest      string   `json:"last_self_test,omitempty"` // passed, failed, aborted, running
	LastSelfTestHours *uint64  `json:"last_self_test_hours,omitempty"`
	Warnings          []string `json:"warnings,omitempty" clean:"text" most:"16"` // as the drive words them
}

// ECCReading counts the memory errors of one DIMM, or of one controller where
// the kernel knows no more (EDAC).
type ECCReading struct {
	Name        string `json:"name"`
	Corrected   uint64 `json:"corrected"`
	Uncorrected uint64 `json:"uncorrected"`
}

// Link is one port's link.
type Link struct {
	MAC      MAC    `json:"mac"`
	Carrier  Switch `json:"carrier,omitempty"`
	LinkMbps int    `json:"link_mbps,omitempty"`
}

// Log is one log of the BMC: the SEL, or a Redfish log service.
type Log struct {
	Name       string     `json:"name"`
	Entries    int        `json:"entries"`
	FreeBytes  int        `json:"free_bytes,omitempty"`
	Overflowed bool       `json:"overflowed,omitempty"`
	LastErased *time.Time `json:"last_erased,omitempty"`
	Newest     []LogEntry `json:"newest,omitempty" most:"64"` // newest first
}

// LogEntry is one decoded record of a log.
type LogEntry struct {
	ID       string     `json:"id,omitempty" clean:"word"`
	Time     *time.Time `json:"time,omitempty"`
	Sensor   string     `json:"sensor,omitempty"`
	Severity string     `json:"severity,omitempty"`
	Text     string     `json:"text,omitempty" clean:"text"`
	Asserted Switch     `json:"asserted,omitempty"`
}

// Add takes what another source reads: lists one after the other, single
// facts where they are absent. It shares nothing with more.
func (r *Readings) Add(more Readings) {
	more = cloned(more)
	to, from := reflect.ValueOf(r).Elem(), reflect.ValueOf(&more).Elem()
	for i := range to.NumField() {
		switch {
		case to.Field(i).Kind() == reflect.Slice:
			to.Field(i).Set(reflect.AppendSlice(to.Field(i), from.Field(i)))
		case to.Field(i).IsZero():
			to.Field(i).Set(from.Field(i))
		}
	}
}

// Normalize cleans every text, bounds every list, and sets the schema.
func (r *Readings) Normalize() {
	v := reflect.ValueOf(r).Elem()
	cleanTexts(v)
	boundLists(v, func(string, int, int) {})
	r.Schema = ReadingsSchema
}

// View is what one source sees of a server.
type View struct {
	Inventory Inventory
	Readings  Readings
}

// DecodeReadings reads readings of the right schema, bounded in size,
// normalized. The bytes may come from a hostile node.
func DecodeReadings(b []byte) (Readings, error) {
	var r Readings
	if len(b) > 2*MaxInventoryBytes {
		return r, fmt.Errorf("decode readings: %d bytes, at most %d", len(b), 2*MaxInventoryBytes)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return Readings{}, fmt.Errorf("decode readings: %w", err)
	}
	if r.Schema != ReadingsSchema {
		return Readings{}, fmt.Errorf("decode readings: schema %q, want %q", r.Schema, ReadingsSchema)
	}
	r.Normalize()
	return r, nil
}
