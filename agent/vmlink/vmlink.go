// Package vmlink is what a virtual machine and the resident agent of its server
// say to each other over a virtio-serial port: one JSON value a line. The VM
// holds no credential of the bus; the resident checks, stamps and relays.
//
//	VM → resident    hello      once, and again until a config came
//	resident → VM    config     what to run
//	VM → resident    layer      a container changed its state
//	VM → resident    log        a line for the console
//	VM → resident    heartbeat  every HeartbeatEvery, with all layers
//
// Either side treats what it reads as foreign: a line is bounded, an unknown
// key is let pass, a line that is no message is counted and dropped, since a
// kernel may write to a port that another program left half written.
package vmlink

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
)

// PortName is the name of the virtio-serial port.
const PortName = "org.ingot.vm.0"

// RootDrive is the serial of the virtio drive that holds a VM's root.
const RootDrive = "ingot-root"

// MaxLineBytes bounds one message.
const MaxLineBytes = 64 << 10

// HeartbeatEvery is how often a VM gives a sign of life; HeartbeatLost is the
// silence after which the resident says that the VM hangs.
const (
	HeartbeatEvery = 3 * time.Second
	HeartbeatLost  = 45 * time.Second
)

// Message is one line. Exactly one field is set.
type Message struct {
	Hello     *Hello       `json:"hello,omitempty"`
	Config    *Config      `json:"config,omitempty"`
	Layer     *fleet.Layer `json:"layer,omitempty"`
	Log       *Log         `json:"log,omitempty"`
	Heartbeat *Heartbeat   `json:"heartbeat,omitempty"`
}

// Hello is a VM's first word.
type Hello struct {
	// BootID is the VM kernel's.
	BootID string `json:"boot_id"`
	Kernel string `json:"kernel"`
	// UptimeSeconds is the VM kernel's uptime when it was said.
	UptimeSeconds float64 `json:"uptime_seconds"`
}

// Config tells a VM what to run.
type Config struct {
	VM string `json:"vm"`
	// Address (with its prefix length) and Gateway are the VM's own.
	Address    string      `json:"address"`
	Gateway    string      `json:"gateway"`
	Containers []Container `json:"containers"`
}

// Container is one container of a VM.
type Container struct {
	Name        string        `json:"name"`
	ImageDigest images.Digest `json:"image_digest"`
	// Drive is the serial of the virtio drive that holds the OCI archive.
	Drive string `json:"drive"`
	// Env is given to the container.
	Env map[string]string `json:"env,omitempty"`
	// HealthURL answers 200 when the container's service is well; empty when
	// it has none.
	HealthURL string `json:"health_url,omitempty"`
}

// Log is a line for people.
type Log struct {
	Text string `json:"text"`
}

// Heartbeat is a VM's sign of life.
type Heartbeat struct {
	BootID        string        `json:"boot_id"`
	UptimeSeconds float64       `json:"uptime_seconds"`
	Layers        []fleet.Layer `json:"layers,omitempty"`
}

// ErrMalformed is a line that is no message; the next one may be.
var ErrMalformed = errors.New("malformed message")

// parse reads one line.
func parse(line []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		return Message{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	set := 0
	for _, is := range []bool{m.Hello != nil, m.Config != nil, m.Layer != nil, m.Log != nil, m.Heartbeat != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return Message{}, fmt.Errorf("%w: %d kinds in one line, want one", ErrMalformed, set)
	}
	return m, nil
}

// Reader reads messages.
type Reader struct{ r *bufio.Reader }

// NewReader reads messages from r.
func NewReader(r io.Reader) *Reader { return &Reader{bufio.NewReaderSize(r, MaxLineBytes)} }

// Read gives the next message. With ErrMalformed the line was dropped and Read
// may be called again; any other error is the end.
func (r *Reader) Read() (Message, error) {
	line, err := r.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.r.ReadSlice('\n')
		}
		if err == nil {
			err = fmt.Errorf("%w: line is longer than %d bytes", ErrMalformed, MaxLineBytes)
		}
		return Message{}, err
	}
	if err != nil {
		if errors.Is(err, io.EOF) && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return Message{}, err
	}
	return parse(bytes.TrimSpace(line))
}

// Writer writes messages; it is safe for concurrent use.
type Writer struct {
	mu sync.Mutex
	w  io.Writer
}

// NewWriter writes messages to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes one message in one call.
func (w *Writer) Write(m Message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(line) >= MaxLineBytes {
		return fmt.Errorf("message is %d bytes, at most %d travel", len(line), MaxLineBytes-1)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err = w.w.Write(append(line, '\n'))
	return err
}
