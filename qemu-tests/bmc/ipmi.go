package bmc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	ipmi "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/transport/udp"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/bougou/go-ipmi/pkg/vmproto"
)

const (
	lanChannel   = 1
	adminSlot    = 2
	maxUsers     = 16   // as most BMCs have
	ipmiVersion2 = 0x02 // IPMI 2.0, table 20-2: the low nibble is the major version
)

var cipherSuites = []types.CipherSuiteID{types.CipherSuiteID3, types.CipherSuiteID17}

// makeIPMI builds go-ipmi's state and the commands of both IPMI faces.
func (b *BMC) makeIPMI() error {
	major, minor := firmwareVersion(b.cfg.Machine.Controller.Firmware)
	info := ipmi.DeviceInfo{
		DeviceID: 0x20, DeviceRevision: 1,
		FirmwareMajor: major, FirmwareMinor: minor,
		IPMIVersion: ipmiVersion2, ManufacturerID: 0, ProductID: 1,
		// Chassis, SEL and sensor device (table 20-2); go-ipmi adds FRU and SDR.
		AdditionalDeviceSupport: 0x85,
	}
	h, err := newHAL(b)
	if err != nil {
		return err
	}
	b.board = h
	b.ipmi = ipmi.New(info, guid(b.cfg.Machine.UUID), h,
		ipmi.WithV15Disabled(),
		ipmi.WithCipherSuites(cipherSuites))
	b.ipmi.Users = ipmi.NewUserStore(ipmi.WithMaxUsers(maxUsers))
	if err := b.makeUsers(); err != nil {
		return err
	}
	b.registry = handlers.NewRegistry()
	handlers.RegisterAllHandlers(b.registry)
	b.registerHandlers(b.registry)
	b.registerBoard(b.registry)
	return nil
}

func (b *BMC) makeUsers() error {
	// Slot 1 is the anonymous user, without a password and enabled from birth.
	if err := b.ipmi.Users.Update(1, func(u *ipmi.User) error { u.Enabled = false; return nil }); err != nil {
		return fmt.Errorf("disable the anonymous user: %w", err)
	}
	user, err := b.ipmi.Users.Add(adminSlot, b.cfg.Credentials.User)
	if err != nil {
		return fmt.Errorf("add user %q: %w", b.cfg.Credentials.User, err)
	}
	user.SetPassword([]byte(b.cfg.Credentials.Password))
	user.Enabled = true
	user.ChannelAccess[lanChannel] = ipmi.UserChannelAccess{MaxPrivilege: ipmi.PrivilegeLevelAdministrator, Enabled: true}
	return nil
}

func (b *BMC) serveIPMI(ctx context.Context, conn *net.UDPConn) error {
	srv := server.NewServer(b.ipmi, udp.Wrap(conn), server.WithHandlerRegistry(b.registry))
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err := srv.Serve(ctx)
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("serve IPMI: %w", err)
	}
	return nil
}

func (b *BMC) serveKCS(ctx context.Context, l net.Listener) error {
	srv := vmproto.NewVMServer(b.ipmi, vmproto.WithVMHandlerRegistry(b.registry))
	if err := srv.Serve(ctx, l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve KCS: %w", err)
	}
	return nil
}

// guid puts a UUID into the order of IPMI, which is the reverse of RFC 9562
// (IPMI 2.0, table 20-10).
func guid(uuid [16]byte) [16]byte {
	slices.Reverse(uuid[:])
	return uuid
}

func firmwareVersion(s string) (major, minor uint8) {
	var a, b uint8
	if n, err := fmt.Sscanf(s, "%d.%d", &a, &b); n != 2 || err != nil {
		return 0, 0
	}
	return a & 0x7f, b/10<<4 | b%10 // the minor number is BCD
}

// board is the HAL that go-ipmi works the BMC through.
type board struct {
	b       *BMC
	fru     map[uint8][]byte
	sensors []sensor
	sdr     [][]byte
}

func newHAL(b *BMC) (*board, error) {
	frus, err := packFRUs(&b.cfg.Machine)
	if err != nil {
		return nil, err
	}
	h := &board{b: b, fru: frus, sensors: sensors(&b.cfg.Machine)}
	h.sdr = h.records()
	return h, nil
}

func (h *board) Chassis() hal.ChassisHAL { return (*powerHAL)(h) }
func (h *board) Storage() hal.StorageHAL { return h }
func (h *board) Network() hal.NetworkHAL { return h }
func (h *board) FRU() hal.FRUStore       { return fruStore{h} }
func (h *board) SDR() hal.SDRStore       { return sdrStore{h} }

// Sensors are answered for in sensors.go. A lab server has no GPIO or I2C, and
// its console is read elsewhere; go-ipmi answers for an absent part by itself.
func (h *board) Sensors() hal.SensorHAL  { return nil }
func (h *board) GPIO() hal.GPIOHAL       { return nil }
func (h *board) I2C() hal.I2CHAL         { return nil }
func (h *board) Console() hal.ConsoleHAL { return nil }
func (h *board) Close() error            { return nil }

// GetConfig is the BMC's own network port (IPMI 2.0, table 23-4).
func (h *board) GetConfig(context.Context) (*hal.IPConfig, error) {
	c := &h.b.cfg.Machine.Controller
	if !c.Address.Addr().Is4() {
		return nil, hal.ErrNotSupported
	}
	cfg := &hal.IPConfig{IP: c.Address.Addr().As4()}
	copy(cfg.Mask[:], net.CIDRMask(c.Address.Bits(), 32))
	if c.Gateway.Is4() {
		cfg.Gateway = c.Gateway.As4()
	}
	copy(cfg.MAC[:], c.MAC)
	return cfg, nil
}

// SetConfig is refused: the lab gives the address.
func (h *board) SetConfig(context.Context, *hal.IPConfig) error { return hal.ErrNotSupported }

type fruStore struct{ h *board }

func (s fruStore) Read(_ context.Context, id uint8) ([]byte, error) {
	b, ok := s.h.fru[id]
	if !ok {
		return nil, hal.ErrNotFound
	}
	return slices.Clone(b), nil
}
func (fruStore) Write(context.Context, uint8, []byte) error { return hal.ErrNotSupported }
func (fruStore) Delete(context.Context, uint8) error        { return hal.ErrNotSupported }
func (s fruStore) DeviceIDs(context.Context) (ids []uint8, _ error) {
	return slices.Sorted(maps.Keys(s.h.fru)), nil
}

type sdrStore struct{ h *board }

func (s sdrStore) Read(_ context.Context, id uint16) ([]byte, error) {
	if id == 0 || int(id) > len(s.h.sdr) {
		return nil, hal.ErrNotFound
	}
	return slices.Clone(s.h.sdr[id-1]), nil
}
func (sdrStore) Write(context.Context, uint16, []byte) error { return hal.ErrNotSupported }
func (sdrStore) Delete(context.Context, uint16) error        { return hal.ErrNotSupported }
func (s sdrStore) RecordIDs(context.Context) ([]uint16, error) {
	ids := make([]uint16, len(s.h.sdr))
	for i := range ids {
		ids[i] = uint16(i + 1)
	}
	return ids, nil
}
