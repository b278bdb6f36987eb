package bmc

import (
	"context"
	"encoding/binary"

	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
)

// lanParams are the LAN parameters that go-ipmi's server lacks (IPMI 2.0,
// tables 23-4 and 23-5), by selector. Those with a set selector have it
// as their first byte.
func (b *BMC) lanParams(selector, set uint8) ([]byte, bool) {
	c := &b.cfg.Machine.Controller
	static := c.Address6.IsValid()
	switch selector {
	case 2: // authentication types, none at any privilege
		return make([]byte, 5), true
	case 20:
		if c.VLAN == 0 {
			return []byte{0, 0}, true
		}
		return binary.LittleEndian.AppendUint16(nil, uint16(c.VLAN)|0x8000), true
	case 22:
		return []byte{uint8(len(cipherSuites))}, true
	case 23:
		out := make([]byte, 17)
		for i, id := range cipherSuites {
			out[1+i] = uint8(id)
		}
		return out, true
	case 24: // administrator for each
		out := make([]byte, 9)
		for i := range cipherSuites {
			out[1+i/2] |= 4 << (4 * (i % 2))
		}
		return out, true
	case 50:
		return []byte{0x07}, true // IPv6 alone, beside IPv4, and for alerts
	case 51:
		if static {
			return []byte{2}, true
		}
		return []byte{0}, true
	case 55:
		if static {
			return []byte{1, 0, 3}, true
		}
		return []byte{0, 0, 3}, true
	case 56:
		return ipv6Param(set, c), true
	case 65:
		if !c.Gateway6.Is6() {
			return make([]byte, 16), true
		}
		a := c.Gateway6.As16()
		return a[:], true
	}
	return nil, false
}

// ipv6Param is the static address: set, enabled, address, prefix, active.
func ipv6Param(set uint8, c *Controller) []byte {
	out := make([]byte, 20)
	out[0] = set
	if set != 0 || !c.Address6.IsValid() {
		out[19] = 1 // disabled
		return out
	}
	out[1] = 0x80
	a := c.Address6.Addr().As16()
	copy(out[2:], a[:])
	out[18] = uint8(c.Address6.Bits())
	return out
}

// lanConfig answers Get LAN Configuration Parameters, with go-ipmi's own where
// it has one.
func (b *BMC) lanConfig() func(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	inner := handlers.NewRegistry()
	handlers.RegisterTransportHandlers(inner)
	get := types.CommandGetLanConfigParam
	return func(ctx context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
		if data, ok := b.lanParams(req[1], req[2]); ok && req[0]&0xf == lanChannel {
			return append([]byte{0x11}, data...), types.CodeOK
		}
		resp, cc, err := inner.Dispatch(ctx, h, uint8(get.NetFn), get.ID, req)
		if err != nil {
			b.cfg.Log.Warn("get LAN parameter", "server", b.cfg.Machine.Name, "cause", err)
			return nil, types.CodeUnspecifiedError
		}
		return resp, cc
	}
}

// channelAccess is always available, up to administrator (22.23).
func channelAccess(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	if req[0]&0xf != lanChannel {
		return nil, types.CodeRequestDataFieldInvalid
	}
	return []byte{0x02, 0x04}, types.CodeOK
}

// Power restore policies (28.8).
const (
	restoreAlwaysOff = 0
	restorePrevious  = 1
	restoreAlwaysOn  = 2
)

// chassisStatus is go-ipmi's, with the power restore policy.
func (b *BMC) chassisStatus() func(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode) {
	inner := handlers.NewRegistry()
	handlers.RegisterChassisHandlers(inner)
	get := types.CommandGetChassisStatus
	return func(ctx context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
		resp, cc, err := inner.Dispatch(ctx, h, uint8(get.NetFn), get.ID, req)
		if err != nil {
			return nil, types.CodeUnspecifiedError
		}
		if len(resp) > 0 {
			resp[0] = resp[0]&^0x60 | uint8(b.restore.Load())<<5
		}
		return resp, cc
	}
}

func (b *BMC) setRestore(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode) {
	const ask, supported = 3, 1<<restoreAlwaysOff | 1<<restorePrevious | 1<<restoreAlwaysOn
	switch p := req[0] & 7; {
	case p < ask:
		b.restore.Store(uint32(p))
	case p > ask:
		return nil, types.CodeRequestDataFieldInvalid
	}
	return []byte{supported}, types.CodeOK
}
