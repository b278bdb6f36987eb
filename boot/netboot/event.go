package netboot

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"
)

// Kind names what happened. The values are the ends of bus subjects.
type Kind string

const (
	KindDiscover Kind = "dhcp.discover" // a machine asks for an address
	KindOffer    Kind = "dhcp.offer"
	KindRequest  Kind = "dhcp.request"
	KindACK      Kind = "dhcp.ack"
	KindNAK      Kind = "dhcp.nak"     // Detail says why
	KindIgnore   Kind = "dhcp.ignore"  // no answer; Detail says why
	KindDecline  Kind = "dhcp.decline" // the client found its address in use
	KindRelease  Kind = "dhcp.release"
	KindInform   Kind = "dhcp.inform"
	KindTFTPRead Kind = "tftp.read" // at the end of a transfer
	KindHTTPGet  Kind = "http.get"  // at the end of a response
)

// Stage is which program on the machine speaks.
type Stage string

const (
	StagePXE  Stage = "pxe"  // PXE firmware (option 60 PXEClient)
	StageHTTP Stage = "http" // UEFI HTTP boot (option 60 HTTPClient)
	StageIPXE Stage = "ipxe" // iPXE (option 77)
	StageOS   Stage = "os"   // any other DHCP client: agent, hypervisor
)

// Event is one thing that the boot server saw. All that it says of the machine
// is the machine's own claim. The zero value of a field means that it is
// unknown or does not apply.
type Event struct {
	Kind  Kind      `json:"kind"`
	Time  time.Time `json:"time"`
	Stage Stage     `json:"stage,omitempty"`
	MAC   MAC       `json:"mac,omitzero"`
	// UUID is DHCP option 97, its bytes in the order sent; UUIDSwapped is the
	// same with the first three fields byte-swapped (SMBIOS 2.6 byte order).
	// Firmware disagrees on which is which, so alias matching wants both.
	UUID        string `json:"uuid,omitempty"`
	UUIDSwapped string `json:"uuid_swapped,omitempty"`
	// Arch is DHCP option 93 (RFC 4578); meaningful when HasArch.
	Arch    Arch       `json:"arch,omitempty"`
	HasArch bool       `json:"has_arch,omitempty"`
	Address netip.Addr `json:"address,omitzero"`
	Relay   netip.Addr `json:"relay,omitzero"` // giaddr
	// File is the path read, or the boot file that an offer or ACK names.
	File string `json:"file,omitempty"`
	// Bytes went out as the body. A transfer that the client broke off has
	// Detail set.
	Bytes    int64         `json:"bytes,omitempty"`
	Duration time.Duration `json:"duration_ns,omitempty"`
	Status   int           `json:"status,omitempty"` // HTTP status
	Method   string        `json:"method,omitempty"` // HTTP method
	Detail   string        `json:"detail,omitempty"`
}

// reporter hands events to an observer without ever blocking the sender.
type reporter struct {
	observe func(Event)
	queue   chan Event
	dropped atomic.Int64
	log     *slog.Logger
}

func newReporter(observe func(Event), log *slog.Logger) *reporter {
	return &reporter{observe: observe, queue: make(chan Event, 4096), log: log}
}

func (r *reporter) emit(e Event) {
	select {
	case r.queue <- e:
	default:
		r.dropped.Add(1)
	}
}

// run delivers until stop is closed, then delivers what is left.
func (r *reporter) run(stop <-chan struct{}) {
	for {
		select {
		case e := <-r.queue:
			r.deliver(e)
		case <-stop:
			for {
				select {
				case e := <-r.queue:
					r.deliver(e)
				default:
					return
				}
			}
		}
	}
}

func (r *reporter) deliver(e Event) {
	if n := r.dropped.Swap(0); n > 0 {
		r.log.Warn("netboot: observer too slow, events lost", "count", n)
	}
	r.log.Debug("netboot", "kind", e.Kind, "mac", e.MAC, "stage", e.Stage, "address", e.Address,
		"file", e.File, "bytes", e.Bytes, "status", e.Status, "duration", e.Duration, "detail", e.Detail)
	if r.observe != nil {
		r.observe(e)
	}
}
