package bmc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ipmi "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"golang.org/x/sync/errgroup"
)

// PowerAction is what a face asks of the server.
type PowerAction string

// The power actions. Restart is a shutdown that the operating system agrees
// to, followed by a start; Reset does not ask.
const (
	PowerOn       PowerAction = "on"
	PowerOff      PowerAction = "off"
	PowerShutdown PowerAction = "shutdown"
	PowerRestart  PowerAction = "restart"
	PowerReset    PowerAction = "reset"
	PowerCycle    PowerAction = "cycle"
)

// ErrOff is returned by [Server.Power] for what only a running server can do.
var ErrOff = errors.New("the server is off")

// Server is the machine that a BMC works. Its owner calls [BMC.Booted] each
// time that the firmware begins.
type Server interface {
	On() bool
	Power(ctx context.Context, action PowerAction) error
	// SetBoot says where the firmware shall look at its next start: "" is
	// the server's own order.
	SetBoot(ctx context.Context, target BootTarget) error
}

// Credentials are the one account of a BMC.
type Credentials struct {
	User     string   `json:"user"`
	Password Password `json:"password"`
}

// Password prints as [redacted].
type Password string

func (Password) String() string   { return "[redacted]" }
func (Password) GoString() string { return "[redacted]" }

// LogValue keeps the password out of logs.
func (Password) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Config describes a BMC. Machine, Server and Credentials are needed.
type Config struct {
	Machine     Machine
	Server      Server
	Credentials Credentials
	// MaxSessions bounds the Redfish sessions; 0 means 8.
	MaxSessions int
	// SessionTimeout ends an idle Redfish session; 0 means 30 minutes.
	SessionTimeout time.Duration
	// MaxSDRRead is what one Get SDR may ask for, as some BMCs have it; 0 means
	// a whole record.
	MaxSDRRead int
	// Log may be nil.
	Log *slog.Logger
}

// BMC is one management controller.
type BMC struct {
	cfg      Config
	ipmi     *ipmi.BMC
	registry *handlers.Registry
	board    *board
	sel      eventLog
	watchdog watchdog
	sessions sessions
	redfish  map[string]resource
	cert     tls.Certificate
	restore  atomic.Uint32 // power restore policy

	mu   sync.Mutex // guards what follows
	boot BootOverride
}

// New makes a BMC that answers nobody yet; see [BMC.Serve].
func New(cfg Config) (*BMC, error) {
	if cfg.Server == nil {
		return nil, errors.New("make BMC: no server to work")
	}
	if cfg.Credentials.User == "" || cfg.Credentials.Password == "" {
		return nil, errors.New("make BMC: no user or no password")
	}
	if len(cfg.Credentials.User) > ipmi.MaxUserNameLen || len(cfg.Credentials.Password) > ipmi.MaxPasswordLen {
		return nil, fmt.Errorf("make BMC: IPMI allows %d bytes of user name and %d of password", ipmi.MaxUserNameLen, ipmi.MaxPasswordLen)
	}
	if cfg.MaxSessions == 0 {
		cfg.MaxSessions = 8
	}
	if cfg.SessionTimeout == 0 {
		cfg.SessionTimeout = 30 * time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Machine.CPUs = slices.Clone(cfg.Machine.CPUs)
	cert, err := selfSigned(cfg.Machine.Controller.Address.Addr(), cfg.Machine.Name)
	if err != nil {
		return nil, err
	}
	b := &BMC{cfg: cfg, cert: cert, boot: BootOverride{Enabled: BootDisabled, Target: BootNone, Mode: firmwareMode(cfg.Machine.UEFI)}}
	b.sessions = sessions{max: cfg.MaxSessions, idle: cfg.SessionTimeout}
	b.watchdog.fire = b.watchdogFired
	b.sel.add(eventSELCleared)
	if err := b.makeIPMI(); err != nil {
		return nil, err
	}
	b.redfish = b.resources()
	return b, nil
}

// Listeners are the sockets of the three faces. A nil one is a face that is
// not served.
type Listeners struct {
	IPMI    *net.UDPConn
	KCS     net.Listener
	Redfish net.Listener
}

// Serve answers on all faces until the context ends, and closes the sockets.
func (b *BMC) Serve(ctx context.Context, l Listeners) error {
	g, ctx := errgroup.WithContext(ctx)
	if l.IPMI != nil {
		g.Go(func() error { return b.serveIPMI(ctx, l.IPMI) })
	}
	if l.KCS != nil {
		g.Go(func() error { return b.serveKCS(ctx, l.KCS) })
	}
	if l.Redfish != nil {
		g.Go(func() error { return b.serveRedfish(ctx, l.Redfish) })
	}
	err := g.Wait()
	b.watchdog.stop()
	return err
}

func (b *BMC) power(ctx context.Context, face string, action PowerAction) error {
	b.cfg.Log.Info("power", "server", b.cfg.Machine.Name, "face", face, "action", string(action))
	if err := b.cfg.Server.Power(ctx, action); err != nil {
		return fmt.Errorf("power %s: %w", action, err)
	}
	switch action {
	case PowerOff, PowerCycle:
		b.watchdog.stop()
	}
	return nil
}

// Booted says that the server's firmware has begun: a boot override that holds
// for one boot is used up, and the event log gets its entry.
func (b *BMC) Booted(ctx context.Context) {
	b.sel.add(eventBootInitiated)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.boot.Enabled != BootOnce {
		return
	}
	b.boot.Enabled, b.boot.Target = BootDisabled, BootNone
	if err := b.cfg.Server.SetBoot(ctx, ""); err != nil {
		b.cfg.Log.Warn("take back the boot override", "server", b.cfg.Machine.Name, "cause", err)
	}
}

// Stopped says that the server went off, for whatever cause.
func (b *BMC) Stopped() {
	b.watchdog.stop()
	b.sel.add(eventPoweredOff)
}
