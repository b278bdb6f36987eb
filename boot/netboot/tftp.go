package netboot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pin/tftp/v3"
)

// Limits of TFTP: one client that vanishes holds a slot for retries × timeout.
const (
	tftpTimeout   = time.Second
	tftpRetries   = 5
	tftpTransfers = 512
)

// serveTFTP serves the loaders, read only, until ctx ends; transfers under way
// then end at their next block, or at tftpRetries × tftpTimeout when the client
// is gone.
func (s *Server) serveTFTP(ctx context.Context, c *net.UDPConn) error {
	defer c.Close()
	slots := make(chan struct{}, tftpTransfers)
	srv := tftp.NewServer(func(name string, rf io.ReaderFrom) error {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			return errors.New("too many transfers: ask again")
		}
		return s.readTFTP(ctx, name, rf)
	}, nil)
	srv.SetTimeout(tftpTimeout)
	srv.SetRetries(tftpRetries)
	srv.SetBackoff(func(int) time.Duration { return 0 })
	srv.SetBlockSize(1468) // one Ethernet frame
	stop := context.AfterFunc(ctx, srv.Shutdown)
	defer stop()
	err := srv.Serve(c)
	if ctx.Err() != nil {
		srv.Shutdown() // waits for the transfers
		return nil
	}
	return err
}

func (s *Server) readTFTP(ctx context.Context, name string, rf io.ReaderFrom) error {
	start := time.Now()
	file := strings.TrimLeft(name, "/")
	e := Event{Kind: KindTFTPRead, File: printable(file), Stage: StagePXE}
	if t, ok := rf.(tftp.OutgoingTransfer); ok {
		peer := t.RemoteAddr()
		s.identify(&e, addr4(peer.IP))
	}
	var err error
	if body, ok := s.loaders[file]; ok {
		e.Bytes, err = rf.ReadFrom(&stoppable{ctx, bytes.NewReader(body)})
	} else {
		err = errors.New("no such file")
	}
	if err != nil {
		e.Detail = printable(err.Error())
	}
	e.Time, e.Duration = time.Now(), time.Since(start)
	s.reports.emit(e)
	return err
}

// identify fills in who holds the address; a claim.
func (s *Server) identify(e *Event, a netip.Addr) {
	e.Address = a
	if l, ok := s.dhcp.holder(a); ok {
		e.MAC, e.UUID, e.UUIDSwapped = l.MAC, l.UUID, l.UUIDSwapped
	}
}

// stoppable is a reader that ends with the server. Seek lets TFTP learn the
// size.
type stoppable struct {
	ctx context.Context
	*bytes.Reader
}

func (r *stoppable) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, errors.New("the boot server stops")
	}
	return r.Reader.Read(b)
}

// printable bounds foreign text and takes control characters out of it.
func printable(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}
