package lab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

func testForwarder(target string) *forwarder {
	return &forwarder{name: "test", target: func() (string, error) { return target, nil }, log: slog.New(slog.DiscardHandler)}
}

// echo answers with what it hears, once the peer has said all.
func echo(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				said, err := io.ReadAll(conn)
				if err == nil {
					_, _ = conn.Write(said)
				}
			}()
		}
	}()
	return l
}

func TestForwardTCP(t *testing.T) {
	before := runtime.NumGoroutine()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	f := testForwarder(echo(t).Addr().String())
	done.Go(func() { f.serveTCP(ctx, l) })
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("half-close"), 10000)
	if _, err := conn.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("echo = %d bytes, %v; want %d", len(got), err, len(want))
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	// A stream that hangs does not keep the forwarder from its end.
	hung, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	time.Sleep(50 * time.Millisecond)
	cancel()
	done.Wait()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+1; time.Sleep(5 * time.Millisecond) { // + the echo's
		if time.Now().After(end) {
			t.Fatalf("goroutines = %d; want %d", runtime.NumGoroutine(), before+1)
		}
	}
}

func TestForwardWithoutTarget(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{name: "test", target: func() (string, error) { return "", errors.New("no address yet") }, log: slog.New(slog.DiscardHandler)}
	var done sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	done.Go(func() { f.serveTCP(ctx, l) })
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read = %d, %v; want the connection closed", n, err)
	}
	_ = conn.Close()
	cancel()
	done.Wait()
}

func TestForwardUDP(t *testing.T) {
	target, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	peers := make(chan string, 1000)
	go func() { // answers each datagram with itself
		buf := make([]byte, 2048)
		for {
			n, peer, err := target.ReadFrom(buf)
			if err != nil {
				return
			}
			peers <- peer.String()
			_, _ = target.WriteTo(buf[:n], peer)
		}
	}()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	f := testForwarder(target.LocalAddr().String())
	done.Go(func() { f.serveUDP(ctx, l) })
	seen := map[string]bool{}
	answered := 0
	for i := range maxUDPClients + 8 {
		conn, err := net.Dial("udp", l.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		want := []byte{byte(i), 0xa5}
		if _, err := conn.Write(want); err != nil {
			t.Fatal(err)
		}
		wait := 2 * time.Second
		if i >= maxUDPClients {
			wait = 20 * time.Millisecond
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 16)
		n, err := conn.Read(got)
		if err != nil {
			continue
		}
		if !bytes.Equal(got[:n], want) {
			t.Errorf("client %d got %x; want its own %x", i, got[:n], want)
		}
		answered++
		seen[<-peers] = true
	}
	if answered != maxUDPClients || len(seen) != maxUDPClients {
		t.Errorf("clients answered = %d from %d sockets; want %d, each by its own", answered, len(seen), maxUDPClients)
	}
	cancel()
	done.Wait()
}
