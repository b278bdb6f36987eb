package uplink

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"golang.org/x/sys/unix"
)

// Config is what an uplink needs before it knows the bus.
type Config struct {
	Role   fleet.Role
	BootID string
	// Seed is the secret nkey ("SU…"); a new one is made when empty.
	Seed string
	// Nonce is the one that the grant must answer; made when empty.
	Nonce string
	// FirstSeq is the number of the first event; 1 when zero. A program that
	// speaks for a source for the second time in one boot gives [ResumeSeq].
	FirstSeq uint64
	// BootKey is what message IDs are made of, 32 bytes; made when empty. A
	// program that takes up Unacked must give the key of then.
	BootKey []byte
	// Unacked are the events that an earlier process of this boot had not seen
	// acknowledged; they are sent first, as they were numbered.
	Unacked []fleet.Event
	// Journal, if set, is given all that is not acknowledged after each change,
	// and before a new event is sent: what it keeps is Unacked for the next
	// process. It must be quick and not call the uplink.
	Journal func(unacked []fleet.Event)
	// SpoolBytes bounds what waits for the bus; 4 MiB when zero.
	SpoolBytes int
	// Log is for what is retried and repaired; discarded when nil.
	Log *slog.Logger
}

// Target is a bus and who asks to be let in.
type Target struct {
	Bus fleet.Bus
	// Enroll is sent with Schema, Role, Key, BootID and Nonce filled in.
	Enroll fleet.EnrollRequest
	// Waits is told what the uplink waits for whenever that changes, and ""
	// when it waits no longer. It must not block.
	Waits func(what string)
}

// Uplink is one role's end of the bus. Its methods may be called from several
// goroutines.
type Uplink struct {
	cfg     Config
	log     *slog.Logger
	key     nkeys.KeyPair
	pub     string
	bootKey []byte
	spool   *spool
	granted chan struct{}
	again   chan struct{} // the server refuses the session: enrol again
	cancel  context.CancelFunc
	ctx     context.Context
	wg      sync.WaitGroup

	mu      sync.Mutex
	nc      *nats.Conn
	reply   fleet.EnrollReply
	clock   string
	target  Target
	waiting string
	// The event before: see inOrder.
	lastTime   time.Time
	lastMonoNS int64
	// commands, if set, are heard.
	commands *Commands
}

// New makes an uplink that is not connected yet; events may be published to it.
func New(cfg Config) (*Uplink, error) {
	if cfg.Role != fleet.RoleAgent && cfg.Role != fleet.RoleResident {
		return nil, fmt.Errorf("uplink: role %.40q is not known", cfg.Role)
	}
	if cfg.BootID == "" {
		return nil, errors.New("uplink: no boot ID is given")
	}
	u := &Uplink{cfg: cfg, log: cfg.Log, granted: make(chan struct{}, 1), again: make(chan struct{}, 1), bootKey: cfg.BootKey}
	if u.log == nil {
		u.log = slog.New(slog.DiscardHandler)
	}
	if len(u.bootKey) == 0 {
		u.bootKey = NewBootKey()
	}
	if u.cfg.Nonce == "" {
		u.cfg.Nonce = rand.Text()
	}
	var err error
	if cfg.Seed == "" {
		u.key, err = nkeys.CreateUser()
	} else {
		u.key, err = nkeys.FromSeed([]byte(cfg.Seed))
	}
	if err == nil {
		u.pub, err = u.key.PublicKey()
	}
	if err == nil && !nkeys.IsValidPublicUserKey(u.pub) {
		err = errors.New("is no user key")
	}
	if err != nil {
		return nil, fmt.Errorf("uplink: nkey: %v", err)
	}
	u.spool = newSpool(max(cfg.FirstSeq, 1), cfg.SpoolBytes)
	u.spool.resume(cfg.Unacked)
	u.spool.journal = cfg.Journal
	u.ctx, u.cancel = context.WithCancel(context.Background())
	u.wg.Go(u.send)
	return u, nil
}

// NewBootKey makes what a boot's message IDs are made of.
func NewBootKey() []byte {
	b := make([]byte, 32)
	rand.Read(b) // never returns an error
	return b
}

// ResumeSeq is a first sequence number above all that an earlier process of
// this boot used: milliseconds since the kernel's start.
func ResumeSeq() uint64 { return uint64(monoNS()/int64(time.Millisecond)) + 1 }

// Key is the public nkey.
func (u *Uplink) Key() string { return u.pub }

// Nonce is the one that the grant must answer.
func (u *Uplink) Nonce() string { return u.cfg.Nonce }

// Node is the node ID that enrolment allotted, empty before.
func (u *Uplink) Node() fleet.NodeID { return u.enrolled().Node }

// Attempt is the number of this boot, 0 before enrolment.
func (u *Uplink) Attempt() int64 { return u.enrolled().Attempt }

func (u *Uplink) enrolled() fleet.EnrollReply {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.reply
}

// SetClock says where the time of day is from: "rtc", "floor", "http",
// "synced". Events that still wait get their time from the clock as it is when
// they are sent.
func (u *Uplink) SetClock(state string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clock = state
}

// Publish puts an event at the end of the spool and returns; it is sent as soon
// as the bus is there. An event that is malformed, not this role's, or that
// finds the spool full is refused and said so.
func (u *Uplink) Publish(source fleet.Source, kind string, data any) error {
	_, err := u.enqueue(source, kind, data)
	return err
}

// PublishAcked is [Uplink.Publish] that waits until JetStream has acknowledged
// the event and all before it.
func (u *Uplink) PublishAcked(ctx context.Context, source fleet.Source, kind string, data any) error {
	done, err := u.enqueue(source, kind, data)
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("publish %s: not acknowledged (%s): %w", kind, u.Waiting(), context.Cause(ctx))
	case <-u.ctx.Done():
		return fmt.Errorf("publish %s: the uplink is closed", kind)
	}
}

// Flush waits until everything published so far is acknowledged.
func (u *Uplink) Flush(ctx context.Context) error {
	select {
	case <-u.spool.drained():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("flush: %d events wait (%s): %w", u.spool.length(), u.Waiting(), context.Cause(ctx))
	case <-u.ctx.Done():
		return errors.New("flush: the uplink is closed")
	}
}

func (u *Uplink) enqueue(source fleet.Source, kind string, data any) (<-chan struct{}, error) {
	if !u.mine(source) {
		return nil, fmt.Errorf("publish %s.%s: the role %s does not speak for that source", source, kind, u.cfg.Role)
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("publish %s: write JSON: %v", kind, err)
	}
	e := fleet.Event{
		Schema: fleet.EventSchema, BootID: u.cfg.BootID, Source: source, Kind: kind,
		Data: raw, MonoNS: monoNS(), Seq: 1, Node: "probe", Time: time.Now(),
	}
	if err := checkEvent(e); err != nil {
		return nil, fmt.Errorf("publish %s: %w", kind, err)
	}
	return u.spool.add(e)
}

// checkEvent finds what the stream or its readers would refuse, before the
// event blocks those behind it.
func checkEvent(e fleet.Event) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	// Room for the node ID, the numbers and the header.
	if len(b) > fleet.MaxMessageBytes-1024 {
		return fmt.Errorf("event is %d bytes, at most %d fit", len(b), fleet.MaxMessageBytes-1024)
	}
	if strings.Contains(e.Kind+".", "..") {
		return fmt.Errorf("event: kind %.80q is no subject", e.Kind)
	}
	_, err = fleet.ParseEvent(b)
	return err
}

func (u *Uplink) mine(s fleet.Source) bool {
	if u.cfg.Role == fleet.RoleAgent {
		return s == fleet.SourceAgent
	}
	return s == fleet.SourceResident || s == fleet.SourceVM
}

// Waiting is what the uplink waits for, empty when it is in.
func (u *Uplink) Waiting() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.waiting
}

func (u *Uplink) waits(what string) {
	u.mu.Lock()
	changed := u.waiting != what
	u.waiting = what
	tell := u.target.Waits
	u.mu.Unlock()
	if changed && tell != nil {
		tell(what)
	}
}

// SignHandoff signs a token with this uplink's key, for the resident.
func (u *Uplink) SignHandoff(t fleet.HandoffToken) (fleet.SignedToken, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return fleet.SignedToken{}, fmt.Errorf("sign handoff token: %v", err)
	}
	sig, err := u.key.Sign(dsse.PAE(images.HandoffType, b))
	if err != nil {
		return fleet.SignedToken{}, fmt.Errorf("sign handoff token: %v", err)
	}
	return fleet.SignedToken{Token: b, Signature: sig}, nil
}

// NewSeed makes an nkey for a resident: its seed and its public half.
func NewSeed() (seed, public string, err error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return "", "", fmt.Errorf("make nkey: %v", err)
	}
	s, err := kp.Seed()
	if err != nil {
		return "", "", fmt.Errorf("make nkey: %v", err)
	}
	public, err = kp.PublicKey()
	return string(s), public, err
}

// Granted hears that there may be a new grant: a hint, after which
// [Uplink.Grant] asks for the value.
func (u *Uplink) Granted() <-chan struct{} { return u.granted }

func (u *Uplink) hint() {
	select {
	case u.granted <- struct{}{}:
	default: // a hint already waits
	}
}

// Close ends the connection at once; what still waits in the spool is lost.
func (u *Uplink) Close() {
	u.cancel()
	u.mu.Lock()
	nc := u.nc
	u.nc = nil
	u.mu.Unlock()
	if nc != nil {
		nc.Close()
	}
	u.wg.Wait()
	u.key.Wipe()
}

// Drain flushes what waits, as long as ctx lasts, and closes.
func (u *Uplink) Drain(ctx context.Context) error {
	defer u.Close()
	return u.Flush(ctx)
}

// monoNS is nanoseconds since the kernel started, sleep included.
func monoNS() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // the field is left out
	}
	return ts.Nano()
}
