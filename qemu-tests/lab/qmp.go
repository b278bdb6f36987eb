package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"
)

const qmpTimeout = 10 * time.Second

// qmp is a connection to QEMU's monitor (QMP): one command at a time, and
// events as they come.
type qmp struct {
	conn   net.Conn
	events chan string
	ended  chan struct{}

	mu      sync.Mutex // one command at a time
	answers chan qmpMessage
}

type qmpMessage struct {
	Event  string          `json:"event"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// dialQMP connects as soon as QEMU has made its socket, and at the latest when
// the context ends or QEMU does.
func dialQMP(ctx context.Context, path string, exited <-chan struct{}) (*qmp, error) {
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return newQMP(conn)
		}
		select {
		case <-exited:
			return nil, fmt.Errorf("connect to QEMU's monitor: QEMU has ended")
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to QEMU's monitor: %v (%v)", err, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func newQMP(conn net.Conn) (*qmp, error) {
	in := bufio.NewReaderSize(conn, 64<<10)
	if err := conn.SetReadDeadline(time.Now().Add(qmpTimeout)); err != nil {
		return nil, fmt.Errorf("connect to QEMU's monitor: %v", err)
	}
	if _, err := in.ReadBytes('\n'); err != nil { // the greeting
		_ = conn.Close()
		return nil, fmt.Errorf("read QEMU's greeting: %v", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("connect to QEMU's monitor: %v", err)
	}
	q := &qmp{conn: conn, events: make(chan string, 64), ended: make(chan struct{}), answers: make(chan qmpMessage, 1)}
	go q.read(in)
	if _, err := q.execute("qmp_capabilities", nil); err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

func (q *qmp) read(in *bufio.Reader) {
	defer close(q.ended)
	defer close(q.events)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return // QEMU is gone; who waits for an answer sees ended
		}
		var m qmpMessage
		if err := json.Unmarshal(line, &m); err != nil {
			return
		}
		if m.Event != "" {
			select {
			case q.events <- m.Event:
			default: // nobody reads; the events that matter are few
			}
			continue
		}
		select {
		case q.answers <- m:
		default: // an answer that came too late to be waited for
		}
	}
}

// execute runs one command and returns what QEMU returns.
func (q *qmp) execute(command string, arguments any) (json.RawMessage, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-q.answers: // of a command that was given up
	default:
	}
	body, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return nil, fmt.Errorf("QMP %s: %v", command, err)
	}
	if err := q.conn.SetWriteDeadline(time.Now().Add(qmpTimeout)); err != nil {
		return nil, fmt.Errorf("QMP %s: %v", command, err)
	}
	if _, err := q.conn.Write(append(body, '\n')); err != nil {
		return nil, fmt.Errorf("QMP %s: %v", command, err)
	}
	select {
	case m := <-q.answers:
		if m.Error != nil {
			return nil, fmt.Errorf("QMP %s: %s: %s", command, m.Error.Class, m.Error.Desc)
		}
		return m.Return, nil
	case <-q.ended:
		return nil, fmt.Errorf("QMP %s: QEMU has ended", command)
	case <-time.After(qmpTimeout):
		return nil, fmt.Errorf("QMP %s: no answer within %s", command, qmpTimeout)
	}
}

// setProperty sets a property of a device that was made with an id.
func (q *qmp) setProperty(device, property string, value any) error {
	_, err := q.execute("qom-set", map[string]any{"path": "/machine/peripheral/" + device, "property": property, "value": value})
	return err
}

func (q *qmp) close() {
	_ = q.conn.Close() // a read that waits ends by this
	<-q.ended
}
