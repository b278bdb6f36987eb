package ipmi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/ingot-metal/ingot/hardware"
)

// CompletionCode is a BMC's refusal of a command (IPMI 2.0 table 5-2).
type CompletionCode byte

// The codes that a reader acts upon.
const (
	codeBusy         CompletionCode = 0xc0
	codeUnknown      CompletionCode = 0xc1
	codeTimeout      CompletionCode = 0xc3
	codeReservation  CompletionCode = 0xc5
	codeTruncated    CompletionCode = 0xc6
	codeLength       CompletionCode = 0xc7
	codeTooLong      CompletionCode = 0xc8
	codeOutOfRange   CompletionCode = 0xc9
	codeTooManyBytes CompletionCode = 0xca
	codeNotPresent   CompletionCode = 0xcb
	codeUpdating     CompletionCode = 0xd0
	codeStarting     CompletionCode = 0xd2
	codePrivilege    CompletionCode = 0xd4
	codeUnspecified  CompletionCode = 0xff
)

func (c CompletionCode) Error() string {
	s := fmt.Sprintf("completion code %#02x", byte(c))
	if what := types.CompletionCode(c).String(); !strings.HasPrefix(what, "0x") {
		s += " (" + what + ")"
	}
	return s
}

// busy says that the same command may be answered a little later.
func (c CompletionCode) busy() bool {
	return c == codeBusy || c == codeTimeout || c == codeUpdating || c == codeStarting
}

// command is one IPMI command (appendix G), for one logical unit of the BMC.
type command struct {
	netFn, id byte
	lun       byte
	name      string
}

// transport sends one command and gives the answer without its completion
// code, which is an error where it is not zero.
type transport func(ctx context.Context, cmd command, data []byte) ([]byte, error)

// clientTransport is go-ipmi's, of KCS and of the LAN.
func clientTransport(c *client.Client) transport {
	return func(ctx context.Context, cmd command, data []byte) ([]byte, error) {
		if cmd.lun != 0 {
			ctx = client.WithCommandContext(ctx, (&client.CommandContext{}).WithResponderLUN(cmd.lun))
		}
		res, err := c.RawCommand(ctx, types.NetFn(cmd.netFn), cmd.id, data, cmd.name)
		if refused, ok := types.IsResponseError(err); ok && refused.CompletionCode() != 0 {
			return nil, CompletionCode(refused.CompletionCode())
		}
		if err != nil {
			return nil, err
		}
		return res.Response, nil
	}
}

// Stats say what a crawl cost the BMC. One command is in flight at a time.
type Stats struct {
	Requests int            // commands sent, with those sent again
	Steps    map[string]int // the same, by the kind of fact
	Repeated int            // sent again, for no answer or a busy BMC
	Refused  int            // answered with a completion code other than zero
	Dropped  int            // datagrams that were not well formed or not signed by the BMC
	Cipher   int            // the cipher suite of the session
	Took     time.Duration  // with logging in and out
}

const (
	// A BMC that was asked without a pause may freeze: after so many commands
	// it gets a rest.
	burst     = 32
	burstRest = 20 * time.Millisecond
	// A BMC that is busy is asked again after that, then after twice that.
	busyRest = 40 * time.Millisecond
	// mostSilent commands without an answer, one after the other, are the end.
	mostSilent = 2
)

// errSilent is the error of everything after a BMC went silent.
var errSilent = errors.New("the BMC stopped answering")

// session is one crawl of one BMC.
type session struct {
	own    *owner
	send   transport
	limit  time.Duration // of one try of one command
	tries  int
	big    int // bytes that one read of FRU or SDR asks for at first
	stats  Stats
	silent int

	view    hardware.View
	device  device
	records []sdrRecord
	lans    []int // channels that are LANs
}

// ask sends one command, again where the BMC is busy or silent, and waits
// between the tries.
func (s *session) ask(ctx context.Context, cmd command, data ...byte) ([]byte, error) {
	if s.silent >= mostSilent || s.own.stuck {
		return nil, errSilent
	}
	for try := 1; ; try++ {
		if s.stats.Requests++; s.stats.Requests%burst == 0 {
			rest(ctx, burstRest)
		}
		var answer []byte
		err := s.own.do(ctx, s.limit, func(ctx context.Context, _ *client.Client) error {
			b, err := s.send(ctx, cmd, data)
			answer = b
			return err
		})
		var code CompletionCode
		refused := errors.As(err, &code)
		switch {
		case err == nil:
			s.silent = 0
			return answer, nil
		case over(ctx) != nil:
			return nil, over(ctx)
		case refused:
			s.silent = 0
			s.stats.Refused++
		}
		if refused && !code.busy() || try >= s.tries || s.own.stuck {
			if !refused {
				s.silent++
			}
			return nil, err
		}
		s.stats.Repeated++
		if refused {
			rest(ctx, busyRest<<(try-1))
		}
	}
}

// over is ctx.Err, which may come a moment after what was bound by the same
// deadline.
func over(ctx context.Context) error {
	if end, ok := ctx.Deadline(); ok && ctx.Err() == nil && time.Until(end) < 5*time.Millisecond {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// lost says that a command had no answer, but the BMC may have one to a
// smaller question.
func (s *session) lost(err error) bool {
	var code CompletionCode
	return err != nil && !errors.As(err, &code) && s.silent == 1 && !s.own.stuck
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// step is one kind of fact. Where it fails, the others are still read.
type step struct {
	name string
	f    func(context.Context, *session) error
}

// run takes the steps one after the other. The first has to succeed: without
// a device ID there is no BMC to speak of. What fails later is a finding.
func (s *session) run(ctx context.Context, steps []step) error {
	for i, st := range steps {
		before := s.stats.Requests
		err := s.take(ctx, st)
		if s.stats.Steps == nil {
			s.stats.Steps = map[string]int{}
		}
		s.stats.Steps[st.name] = s.stats.Requests - before
		switch {
		case err == nil:
		case errors.Is(err, codeUnknown) && i > 0: // a BMC without that command
		case i == 0 || errors.Is(err, context.Canceled):
			return fmt.Errorf("read %s: %w", st.name, err)
		case errors.Is(err, context.DeadlineExceeded):
			s.find(hardware.CodeReaderDeadline, hardware.Warning, "bmc", fmt.Sprintf("the time was up at %s", st.name), "what follows was not asked")
			return nil
		case s.silent >= mostSilent || s.own.stuck:
			s.find(hardware.CodeBMCStopped, hardware.Warning, "bmc", fmt.Sprintf("read %s: %v", st.name, err),
				"what follows was not asked; does another program hold the BMC busy, or does it need a reset?")
			return nil
		default:
			s.malformed("bmc", fmt.Errorf("read %s: %w", st.name, err))
		}
	}
	return nil
}

func (s *session) take(ctx context.Context, st step) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return st.f(ctx, s)
}

func (s *session) find(code hardware.Code, sev hardware.Severity, part, evidence, hint string) {
	s.view.Inventory.Findings = append(s.view.Inventory.Findings,
		hardware.Finding{Code: code, Severity: sev, Part: part, Evidence: evidence, Hint: hint, Source: Source})
}

// malformed is a finding about an answer that makes no sense, or none that
// was expected; a refusal for lack of privilege says so.
func (s *session) malformed(part string, err error) {
	hint := ""
	if errors.Is(err, codePrivilege) {
		hint = "this account may not ask that; one with administrator privilege may"
	}
	s.find(hardware.CodeSourceMalformed, hardware.Info, part, err.Error(), hint)
}

// le16 and le32 are numbers as IPMI has them, least significant byte first.
func le16(b []byte) int { return int(binary.LittleEndian.Uint16(b)) }

func le24(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// want is an answer of at least so many bytes.
func want(b []byte, err error, n int) ([]byte, error) {
	if err == nil && len(b) < n {
		err = fmt.Errorf("answer of %d bytes, want %d", len(b), n)
	}
	return b, err
}
