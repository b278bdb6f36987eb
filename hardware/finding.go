package hardware

import (
	"fmt"
	"slices"
	"strings"
)

// Severity says how much a finding matters.
type Severity string

// The severities.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Rank orders severities: the graver, the higher.
func (s Severity) Rank() int { return slices.Index([]Severity{Info, Warning, Critical}, s) }

// Code names a kind of finding, in kebab case.
type Code string

// The codes that this tree gives.
const (
	CodeReaderFailed       Code = "reader-failed"       // a reader returned an error
	CodeReaderPanicked     Code = "reader-panicked"     // a decoder met bytes that it cannot bear
	CodeReaderDeadline     Code = "reader-deadline"     // a reader hung and was left behind
	CodeSourceMalformed    Code = "source-malformed"    // a source answered nonsense; the rest was read
	CodeResourceMissing    Code = "resource-missing"    // a linked Redfish resource, or a file, is not there
	CodeBMCUnreachable     Code = "bmc-unreachable"     // the firmware names a BMC that the kernel does not show
	CodeAccessDenied       Code = "access-denied"       // the BMC refused the account, or this account that resource
	CodeBMCBusy            Code = "bmc-busy"            // the BMC said "not now" until patience was over
	CodePartUnhealthy      Code = "part-unhealthy"      // the BMC calls a part critical, or foresees its failure
	CodeLinkSlow           Code = "link-slow"           // a drive's link runs below what the drive can
	CodeInventoryTruncated Code = "inventory-truncated" // more parts than an inventory holds
	CodeSerialDisagrees    Code = "serial-disagrees"    // in-band and BMC name other serials
	CodeUUIDDisagrees      Code = "uuid-disagrees"      // in-band and BMC name other UUIDs
	CodeUUIDByteOrder      Code = "uuid-byte-order"     // the same UUID, its first fields the other way round
	CodeMemoryDisagrees    Code = "memory-disagrees"    // sizes differ
	CodeDIMMsDisagree      Code = "dimms-disagree"      // counts differ
	CodeCPUsDisagree       Code = "cpus-disagree"       // counts differ
	CodeDrivesDisagree     Code = "drives-disagree"     // one side sees a drive that the other does not
	CodeFirmwareDisagrees  Code = "firmware-disagrees"  // one part, two versions
	CodeModelDisagrees     Code = "model-disagrees"     // another model
	CodeSKUDiffers         Code = "sku-differs"         // not what the bill of materials says
	CodeNotPermitted       Code = "not-permitted"       // only root may read it
	CodeMemoryErrors       Code = "memory-errors"       // the kernel counts errors of a DIMM
	CodePCIeLinkReduced    Code = "pcie-link-reduced"   // a device runs below what it and its port can
	CodeLLDPByFirmware     Code = "lldp-by-firmware"    // a NIC keeps the neighbor's frames to itself
	CodeDriveFailing       Code = "drive-failing"       // SMART says that a drive fails, or will
	CodeDriveErrors        Code = "drive-errors"        // a drive has errors that it did not correct
	CodeDriveWorn          Code = "drive-worn"          // a drive's rated life is nearly used up
	CodeDriveHot           Code = "drive-hot"           // a drive is hotter than it may be
	CodeDriveHung          Code = "drive-hung"          // a drive did not answer in time
	CodeDriveLink          Code = "drive-link-reduced"  // a drive's link is slower than both ends can
	CodeDriveFirmware      Code = "drive-firmware"      // another firmware begins with the next reset
	CodeVolumeDegraded     Code = "volume-degraded"     // an array lacks a drive
	CodeEnclosureFault     Code = "enclosure-fault"     // a shelf reports a fault of a slot
	CodeBaselineDiffers    Code = "baseline-differs"    // not what an operator accepted
)

// The codes about a BMC itself, and about what it watches.
const (
	CodeBMCStopped         Code = "bmc-stopped"         // the BMC stopped answering; the rest was not asked
	CodeCipherZero         Code = "cipher-suite-0"      // the BMC lets sessions in without a password
	CodeAnonymousUser      Code = "anonymous-user"      // an account of the BMC without a name is enabled
	CodeDefaultAccount     Code = "default-account"     // the account that the BMC was delivered with is enabled
	CodeNullAuthentication Code = "null-authentication" // the BMC takes sessions without authentication
	CodeLogFull            Code = "log-full"            // the BMC's event log takes no more
	CodeSensorCritical     Code = "sensor-critical"     // a sensor is beyond a critical threshold, or reports a failure
)

// Finding is something that a reader noticed.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Part     string   `json:"part,omitempty" clean:"text"`     // "drive nvme0n1", "system"
	Evidence string   `json:"evidence,omitempty" clean:"text"` // what was seen
	Hint     string   `json:"hint,omitempty" clean:"text"`     // what to do about it
	Source   string   `json:"source,omitempty" clean:"word"`   // the reader
}

// Seen is the evidence with the part that it is about, each said once.
func (f Finding) Seen() string {
	if f.Part == "" || strings.Contains(f.Evidence, f.Part) {
		return f.Evidence
	}
	return strings.TrimSpace(f.Part + ": " + f.Evidence)
}

// String is one line for a person.
func (f Finding) String() string {
	s := fmt.Sprintf("%s: %s", f.Severity, f.Code)
	if f.Part != "" {
		s += " (" + f.Part + ")"
	}
	if f.Evidence != "" {
		s += ": " + f.Evidence
	}
	if f.Source != "" {
		s += " [" + f.Source + "]"
	}
	return s
}
