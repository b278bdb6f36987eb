package lab

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	dialTimeout    = 5 * time.Second
	maxStreams     = 256 // per listener
	maxUDPClients  = 64
	udpIdle        = 90 * time.Second
	maxUDPDatagram = 64 << 10
)

// forwarder leads connections from the host's namespace to a target inside.
// target is asked for each connection, for a node's address is its lease's.
type forwarder struct {
	name   string
	target func() (string, error)
	log    *slog.Logger
}

// serveTCP accepts until the listener is closed, and waits for the streams.
func (f *forwarder) serveTCP(ctx context.Context, l net.Listener) {
	var streams sync.WaitGroup
	defer streams.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	slots := make(chan struct{}, maxStreams)
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				f.log.Warn("forwarder ends", "name", f.name, "cause", err)
			}
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close() // too many at once
			continue
		}
		streams.Go(func() {
			defer func() { <-slots }()
			f.stream(ctx, conn)
		})
	}
}

func (f *forwarder) stream(ctx context.Context, from net.Conn) {
	defer from.Close()
	target, err := f.target()
	if err != nil {
		f.log.Debug("forward", "name", f.name, "cause", err)
		return
	}
	d := net.Dialer{Timeout: dialTimeout}
	to, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		f.log.Debug("forward", "name", f.name, "cause", err)
		return
	}
	defer to.Close()
	stop := context.AfterFunc(ctx, func() { _ = from.Close(); _ = to.Close() })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() { pipe(from, to) })
	pipe(to, from)
	back.Wait()
}

// pipe copies one direction and passes its end on; an end by a fault ends the
// other direction too.
func pipe(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err == nil && ok && half.CloseWrite() == nil {
		return
	}
	_ = to.Close()
	_ = from.Close()
}

// udpClient is one peer of a UDP forwarder with its own socket inside, so that
// answers find back.
type udpClient struct {
	conn net.Conn
	used time.Time
}

// serveUDP forwards datagrams until the socket is closed.
func (f *forwarder) serveUDP(ctx context.Context, l net.PacketConn) {
	u := &udpForward{forwarder: f, out: l, clients: map[string]*udpClient{}}
	defer u.close()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	buf := make([]byte, maxUDPDatagram)
	for {
		n, peer, err := l.ReadFrom(buf)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				f.log.Warn("forwarder ends", "name", f.name, "cause", err)
			}
			return
		}
		c, err := u.client(peer)
		if err != nil {
			f.log.Debug("forward", "name", f.name, "cause", err)
			continue
		}
		if _, err := c.Write(buf[:n]); err != nil {
			f.log.Debug("forward", "name", f.name, "cause", err)
		}
	}
}

type udpForward struct {
	*forwarder
	out net.PacketConn

	mu      sync.Mutex
	clients map[string]*udpClient
	workers sync.WaitGroup
}

var errTooManyClients = errors.New("too many UDP clients at once")

func (u *udpForward) client(peer net.Addr) (net.Conn, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := peer.String()
	if c, ok := u.clients[key]; ok {
		c.used = time.Now()
		return c.conn, nil
	}
	if len(u.clients) >= maxUDPClients {
		return nil, errTooManyClients
	}
	target, err := u.target()
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("udp", target, dialTimeout)
	if err != nil {
		return nil, err
	}
	c := &udpClient{conn: conn, used: time.Now()}
	u.clients[key] = c
	u.workers.Go(func() { u.answer(key, c, peer) })
	return conn, nil
}

// answer carries datagrams back until the client has been idle for long.
func (u *udpForward) answer(key string, c *udpClient, peer net.Addr) {
	defer func() {
		u.mu.Lock()
		delete(u.clients, key)
		u.mu.Unlock()
		_ = c.conn.Close()
	}()
	buf := make([]byte, maxUDPDatagram)
	for {
		if c.conn.SetReadDeadline(time.Now().Add(udpIdle)) != nil {
			return
		}
		n, err := c.conn.Read(buf)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			u.mu.Lock()
			idle := time.Since(c.used)
			u.mu.Unlock()
			if idle >= udpIdle {
				return
			}
			continue
		case err != nil:
			return
		}
		if _, err := u.out.WriteTo(buf[:n], peer); err != nil {
			return
		}
	}
}

func (u *udpForward) close() {
	u.mu.Lock()
	for _, c := range u.clients {
		_ = c.conn.Close()
	}
	u.mu.Unlock()
	u.workers.Wait()
}
