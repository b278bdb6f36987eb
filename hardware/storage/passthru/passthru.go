// Package passthru hands single commands to drives through the kernel: NVMe
// admin commands, and SCSI commands with ATA commands in them. It lets through
// only those that read: see [ReadOnlySCSI] and [ReadOnlyNVMe]. What comes back
// is bytes; packages nvme, ata and scsi know what they mean.
package passthru

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// commandMillis is how long the kernel waits for one command. It is not how
// long a reader waits: a time-out here makes the kernel abort the command and
// reset the drive, which a drive in use must never suffer for an inventory.
const commandMillis = 60_000

// ErrNotReadOnly is the refusal of a command that might change something.
var ErrNotReadOnly = errors.New("not a command that only reads")

// Device is an open drive.
type Device struct{ f *os.File }

// Open opens a device node for reading, without waiting for a medium.
func Open(path string) (Device, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	return Device{f}, err
}

// Close closes the node.
func (d Device) Close() error { return d.f.Close() }

func (d Device) ioctl(request uintptr, arg unsafe.Pointer) (uintptr, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, d.f.Fd(), request, uintptr(arg))
		switch errno {
		case 0:
			return r, nil
		case unix.EINTR:
		default:
			return r, errno
		}
	}
}

// Admin is one NVMe admin command (NVMe Base 2.0, figure 88).
type Admin struct {
	Opcode    uint8
	Namespace uint32
	CDW10     uint32
	CDW11     uint32
	Bytes     int // of the answer
}

// The opcodes that [ReadOnlyNVMe] lets through (NVMe Base 2.0, figure 138).
const (
	NVMeGetLogPage = 0x02
	NVMeIdentify   = 0x06
)

// maxAnswer bounds the answer to one command.
const maxAnswer = 1 << 20

// ReadOnlyNVMe reports whether an admin command changes nothing. A log page
// must be read with Retain Asynchronous Event, or the kernel misses the event.
func ReadOnlyNVMe(a Admin) bool {
	return a.Opcode == NVMeIdentify || a.Opcode == NVMeGetLogPage && a.CDW10&(1<<15) != 0
}

// nvmePassthruCmd is struct nvme_passthru_cmd of linux/nvme_ioctl.h.
type nvmePassthruCmd struct {
	opcode, flags                            uint8
	_                                        uint16
	nsid, cdw2, cdw3                         uint32
	metadata, addr                           uint64
	metadataLen, dataLen                     uint32
	cdw10, cdw11, cdw12, cdw13, cdw14, cdw15 uint32
	timeoutMillis, result                    uint32
}

const nvmeIoctlAdminCmd = 0xC0484E41 // _IOWR('N', 0x41, struct nvme_passthru_cmd)

// NVMe runs an admin command.
func (d Device) NVMe(a Admin) ([]byte, error) {
	if !ReadOnlyNVMe(a) || a.Bytes <= 0 || a.Bytes > maxAnswer {
		return nil, fmt.Errorf("NVMe admin command 0x%02x: %w", a.Opcode, ErrNotReadOnly)
	}
	b := make([]byte, a.Bytes)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&b[0])
	c := &nvmePassthruCmd{opcode: a.Opcode, nsid: a.Namespace, cdw10: a.CDW10, cdw11: a.CDW11, dataLen: uint32(len(b)),
		addr: uint64(uintptr(unsafe.Pointer(&b[0]))), timeoutMillis: commandMillis}
	status, err := d.ioctl(nvmeIoctlAdminCmd, unsafe.Pointer(c))
	if err != nil {
		return nil, fmt.Errorf("NVMe admin command 0x%02x: %w", a.Opcode, err)
	}
	if status != 0 {
		return nil, fmt.Errorf("NVMe admin command 0x%02x: status 0x%03x", a.Opcode, status)
	}
	return b, nil
}

// The SCSI operation codes that [ReadOnlySCSI] lets through (SPC-5 table 31,
// SAT-4 12.2).
const (
	RequestSense    = 0x03
	Inquiry         = 0x12
	LogSense        = 0x4d
	ATAPassThrough  = 0x85 // of 16 bytes
	ATASmart        = 0xb0
	ATACheckPower   = 0xe5
	ATAIdentify     = 0xec
	ATAReadLogExt   = 0x2f
	SmartReadData   = 0xd0
	SmartThresholds = 0xd1
	SmartReadLog    = 0xd5
	SmartStatus     = 0xda
)

// ReadOnlySCSI reports whether a command changes nothing and needs no medium.
func ReadOnlySCSI(cdb []byte) bool {
	switch {
	case len(cdb) == 6 && (cdb[0] == RequestSense || cdb[0] == Inquiry):
		return true
	case len(cdb) == 10 && cdb[0] == LogSense:
		return cdb[1] == 0 // neither saves parameters nor resets
	case len(cdb) == 16 && cdb[0] == ATAPassThrough:
		return readOnlyATA(cdb[14], cdb[4])
	}
	return false
}

func readOnlyATA(command, feature byte) bool {
	switch command {
	case ATAIdentify, ATACheckPower, ATAReadLogExt:
		return true
	case ATASmart:
		return feature == SmartReadData || feature == SmartThresholds || feature == SmartReadLog || feature == SmartStatus
	}
	return false
}

// sgIOHdr is struct sg_io_hdr of scsi/sg.h on 64 bits.
type sgIOHdr struct {
	interfaceID                int32
	direction                  int32
	cmdLen, maxSense           uint8
	iovecs                     uint16
	dataLen                    uint32
	data, cmd, sense           unsafe.Pointer
	timeoutMillis, flags       uint32
	packID                     int32
	_                          [4]byte
	user                       unsafe.Pointer
	status, masked, msg, nSens uint8
	hostStatus, driverStatus   uint16
	residual                   int32
	duration, info             uint32
}

const (
	sgIO       = 0x2285
	sgFromDev  = -3
	sgNoData   = -1
	maxSense   = 252
	statusGood = 0x00
	checkCond  = 0x02
)

// Reply is what a SCSI command gave: its data, and sense data where the drive
// had some, which is no failure by itself.
type Reply struct {
	Data, Sense []byte
}

// SCSI runs a command that gives at most so many bytes.
func (d Device) SCSI(cdb []byte, most int) (Reply, error) {
	if !ReadOnlySCSI(cdb) || most < 0 || most > maxAnswer {
		return Reply{}, fmt.Errorf("SCSI command % x: %w", cdb, ErrNotReadOnly)
	}
	data, sense, cmd := make([]byte, max(most, 1)), make([]byte, maxSense), append([]byte(nil), cdb...)
	h := &sgIOHdr{interfaceID: 'S', direction: sgFromDev, cmdLen: uint8(len(cmd)), maxSense: maxSense, dataLen: uint32(most),
		data: unsafe.Pointer(&data[0]), cmd: unsafe.Pointer(&cmd[0]), sense: unsafe.Pointer(&sense[0]), timeoutMillis: commandMillis}
	if most == 0 {
		h.direction, h.data = sgNoData, nil
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&data[0])
	pin.Pin(&cmd[0])
	pin.Pin(&sense[0])
	if _, err := d.ioctl(sgIO, unsafe.Pointer(h)); err != nil {
		return Reply{}, fmt.Errorf("SCSI command 0x%02x: %w", cdb[0], err)
	}
	r := Reply{Sense: sense[:min(int(h.nSens), maxSense)]}
	if h.hostStatus != 0 || h.status != statusGood && h.status != checkCond {
		return Reply{}, fmt.Errorf("SCSI command 0x%02x: status 0x%02x, host status 0x%x", cdb[0], h.status, h.hostStatus)
	}
	if n := most - int(h.residual); n >= 0 && n <= most {
		r.Data = data[:n]
	}
	return r, nil
}
