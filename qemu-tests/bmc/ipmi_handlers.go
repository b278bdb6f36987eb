package bmc

import (
	"context"
	"encoding/binary"
	"sync/atomic"

	ipmi "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
)

// command is one IPMI command of ours: the least privilege that a session
// needs for it (IPMI 2.0, appendix G), the least bytes of its request, and
// what answers it.
type command struct {
	types.Command
	privilege ipmi.PrivilegeLevel
	minBytes  int
	answer    func(ctx context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode)
}

// registerHandlers adds what go-ipmi's server lacks, and replaces what it has
// otherwise than the specification.
func (b *BMC) registerHandlers(r *handlers.Registry) {
	user, operator, admin := ipmi.PrivilegeLevelUser, ipmi.PrivilegeLevelOperator, ipmi.PrivilegeLevelAdministrator
	enables := &globalEnables{}
	for _, c := range []command{
		{types.CommandGetSystemGUID, user, 0, b.systemGUID},
		// go-ipmi lets these two reset the host; they are resets of the BMC.
		{types.CommandColdReset, admin, 0, b.resetController},
		{types.CommandWarmReset, admin, 0, b.resetController},
		{types.CommandSetBMCGlobalEnables, admin, 1, enables.set},
		{types.CommandGetBMCGlobalEnables, user, 0, enables.get},
		{types.CommandGetMessageFlags, user, 0, noMessages},
		{types.CommandClearMessageFlags, user, 1, acknowledge},
		{types.CommandSetSystemBootOptions, operator, 1, b.setBootOptions()},
		{types.CommandResetWatchdogTimer, operator, 0, b.watchdogReset},
		{types.CommandSetWatchdogTimer, operator, 6, b.watchdogSet},
		{types.CommandGetWatchdogTimer, user, 0, b.watchdogGet},
		{types.CommandGetSELInfo, user, 0, b.selInfo},
		{types.CommandReserveSEL, user, 0, b.selReserve},
		{types.CommandGetSELEntry, user, 6, b.selEntry},
		{types.CommandAddSELEntry, operator, selRecordBytes, b.selAdd},
		{types.CommandClearSEL, operator, 6, b.selClear},
		{types.CommandGetSELTime, user, 0, b.selTime},
		{types.CommandSetSELTime, operator, 4, b.selSetTime},
	} {
		r.RegisterFunc(c.Command, c.handle)
	}
}

// registerBoard adds the commands that tell of the board: sensors, the SDR
// repository, network and chassis.
func (b *BMC) registerBoard(r *handlers.Registry) {
	h := b.board
	user, operator := ipmi.PrivilegeLevelUser, ipmi.PrivilegeLevelOperator
	for _, c := range []command{
		{types.CommandGetSDR, user, 6, h.sdrEntry},
		{types.CommandGetSensorReading, user, 1, h.sensorReading},
		{types.CommandGetSensorThresholds, user, 1, h.sensorThresholds},
		{types.CommandGetSensorHysteresis, user, 2, h.sensorHysteresis},
		{types.CommandGetLanConfigParam, operator, 4, b.lanConfig()},
		{types.CommandGetChannelAccess, user, 2, channelAccess},
		{types.CommandGetChassisStatus, user, 0, b.chassisStatus()},
		{types.CommandSetPowerRestorePolicy, operator, 1, b.setRestore},
		{types.CommandGetDCMIPowerReading, user, 4, h.powerReading},
	} {
		r.RegisterFunc(c.Command, c.handle)
	}
}

func (c command) handle(ctx context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if h.Session != nil && h.Session.PrivilegeLevel < c.privilege {
		return nil, types.CodeInsufficientPrivilege, nil
	}
	if len(req) < c.minBytes {
		return nil, types.CodeRequestDataTruncated, nil
	}
	resp, cc := c.answer(ctx, h, req)
	return resp, cc, nil
}

func (b *BMC) systemGUID(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	g := guid(b.cfg.Machine.UUID)
	return g[:], types.CodeOK
}

func (b *BMC) resetController(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	b.sessions.clear()
	return nil, types.CodeOK
}

// globalEnables is the byte that the host's driver sets at its start
// (IPMI 2.0, 22.1).
type globalEnables struct{ v atomic.Uint32 }

func (g *globalEnables) set(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	g.v.Store(uint32(req[0]))
	return nil, types.CodeOK
}

func (g *globalEnables) get(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	return []byte{uint8(g.v.Load())}, types.CodeOK
}

func noMessages(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	return []byte{0}, types.CodeOK
}

func acknowledge(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	return nil, types.CodeOK
}

// setBootOptions adds parameter 0, "set in progress", which tools send first
// (IPMI 2.0, table 28-14); go-ipmi has the others.
func (b *BMC) setBootOptions() func(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	inner := handlers.NewRegistry()
	handlers.RegisterChassisHandlers(inner)
	set := types.CommandSetSystemBootOptions
	return func(ctx context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
		if types.BootOptionParamSelector(req[0]&0x7f) == types.BootOptionParamSelector_SetInProgress {
			return nil, types.CodeOK
		}
		resp, cc, err := inner.Dispatch(ctx, h, uint8(set.NetFn), set.ID, req)
		if err != nil {
			b.cfg.Log.Warn("set boot options", "server", b.cfg.Machine.Name, "cause", err)
			return nil, types.CodeUnspecifiedError
		}
		return resp, cc
	}
}

func (b *BMC) watchdogReset(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	if !b.watchdog.reset() {
		return nil, types.CodeResetWatchdogTimerUninitialized
	}
	return nil, types.CodeOK
}

func (b *BMC) watchdogSet(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	if req[1]&7 > watchdogPowerCycle {
		return nil, types.CodeRequestDataFieldInvalid
	}
	b.watchdog.configure(req[:6])
	return nil, types.CodeOK
}

func (b *BMC) watchdogGet(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	return b.watchdog.state(), types.CodeOK
}

func (b *BMC) selInfo(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	return b.sel.info(), types.CodeOK
}

func (b *BMC) selReserve(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	return binary.LittleEndian.AppendUint16(nil, b.sel.reserve()), types.CodeOK
}

func (b *BMC) selEntry(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	reservation, id := binary.LittleEndian.Uint16(req), binary.LittleEndian.Uint16(req[2:])
	offset, n := int(req[4]), int(req[5])
	if offset != 0 && !b.sel.reserved(reservation) {
		return nil, types.CodeReservationCanceled
	}
	rec, next, ok := b.sel.get(id)
	if !ok {
		return nil, types.CodeRequestedDataNotPresent
	}
	if offset >= len(rec) {
		return nil, types.CodeParameterOutOfRange
	}
	if n == 0xff {
		n = len(rec) - offset
	}
	if offset+n > len(rec) {
		return nil, types.CodeParameterOutOfRange
	}
	return append(binary.LittleEndian.AppendUint16(nil, next), rec[offset:offset+n]...), types.CodeOK
}

func (b *BMC) selAdd(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	id, ok := b.sel.append([selRecordBytes]byte(req))
	if !ok {
		return nil, types.CodeOutOfSpace
	}
	return binary.LittleEndian.AppendUint16(nil, id), types.CodeOK
}

func (b *BMC) selClear(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	const done, initiate, status = 0x01, 0xaa, 0x00
	if !b.sel.reserved(binary.LittleEndian.Uint16(req)) {
		return nil, types.CodeReservationCanceled
	}
	if string(req[2:5]) != "CLR" || (req[5] != initiate && req[5] != status) {
		return nil, types.CodeRequestDataFieldInvalid
	}
	if req[5] == initiate {
		b.sel.clear()
	}
	return []byte{done}, types.CodeOK
}

func (b *BMC) selTime(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	return binary.LittleEndian.AppendUint32(nil, b.sel.time()), types.CodeOK
}

func (b *BMC) selSetTime(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	b.sel.setTime(binary.LittleEndian.Uint32(req))
	return nil, types.CodeOK
}
