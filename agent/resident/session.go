package resident

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/agent/uplink"
	"github.com/ingot-metal/ingot/fleet"
)

const (
	sessionSchema = "ingot.resident/v1"
	// maxSessionBytes bounds a session: a handoff and a spool that is full.
	maxSessionBytes = 32 << 20
)

// session is what a resident that is killed leaves for the next one. It lies in
// memory beside the payload, readable by root alone, and ends with the boot.
type session struct {
	Schema string `json:"schema"`
	BootID string `json:"boot_id"`
	// Handoff is as the agent left it, with the resident's seed.
	Handoff fleet.Handoff `json:"handoff"`
	// BootKey and Unacked are the uplink's: an event that was sent and whose
	// acknowledgement was lost is sent again under the same ID.
	BootKey []byte        `json:"boot_key"`
	Unacked []fleet.Event `json:"unacked,omitempty"`
	Layers  []fleet.Layer `json:"layers,omitempty"`
	// VMs are those that were ever started, by name.
	VMs map[string]vmRecord `json:"vms,omitempty"`
}

// vmRecord is how the process of a virtual machine is found again.
type vmRecord struct {
	// PID is 0 from just before QEMU is started until it is.
	PID int `json:"pid,omitempty"`
	// StartTicks tells the process from a later one of the same PID: field 22
	// of /proc/PID/stat.
	StartTicks uint64 `json:"start_ticks,omitempty"`
	// Link is the socket of the virtio-serial port, Console that of the serial
	// console, Output what QEMU itself says.
	Link    string    `json:"link"`
	Console string    `json:"console"`
	Output  string    `json:"output"`
	Started time.Time `json:"started"`
	// Ended says that it did and that this was told, Stopped that an operator
	// wanted it to. Failures are its ends in a row.
	Ended    bool `json:"ended,omitempty"`
	Stopped  bool `json:"stopped,omitempty"`
	Failures int  `json:"failures,omitempty"`
}

// sessionFile is a session and the file that it stands in.
type sessionFile struct {
	path string
	mu   sync.Mutex
	s    session
}

// openSession takes up what lies in dir: the session of an earlier resident, or
// else the agent's handoff, which is deleted once its content is safe.
func openSession(dir, bootID string) (f *sessionFile, resumed bool, err error) {
	f = &sessionFile{path: filepath.Join(dir, "resident.json")}
	handoff := filepath.Join(dir, "handoff.json")
	b, err := readBounded(f.path, maxSessionBytes)
	switch {
	case err == nil:
		if err := f.parse(b, bootID); err != nil {
			return nil, false, fmt.Errorf("read session %s: %w", f.path, err)
		}
		return f, true, removeIfThere(handoff) // killed between the two
	case !errors.Is(err, os.ErrNotExist):
		return nil, false, fmt.Errorf("read session: %w", err)
	}
	h, err := readHandoff(handoff)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, fmt.Errorf("read handoff: %s is not there, nor is %s: either no agent started this stack, or its resident's session was removed", handoff, f.path)
	}
	if err == nil {
		err = f.update(func(s *session) {
			*s = session{Schema: sessionSchema, BootID: bootID, Handoff: h, BootKey: uplink.NewBootKey(), VMs: map[string]vmRecord{}}
		})
	}
	return f, false, errors.Join(err, os.Remove(handoff))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (f *sessionFile) parse(b []byte, bootID string) error {
	if err := json.Unmarshal(b, &f.s); err != nil {
		return err
	}
	if f.s.VMs == nil {
		f.s.VMs = map[string]vmRecord{}
	}
	switch {
	case f.s.Schema != sessionSchema:
		return fmt.Errorf("schema is %.40q, want %q", f.s.Schema, sessionSchema)
	case f.s.BootID != bootID:
		return fmt.Errorf("it is of boot %.80q, this is %s", f.s.BootID, bootID)
	case len(f.s.BootKey) != 32:
		return fmt.Errorf("its boot key has %d bytes, want 32", len(f.s.BootKey))
	}
	return checkHandoff(f.s.Handoff)
}

// now is a copy of the session as it stands.
func (f *sessionFile) now() session {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.s
	s.Unacked, s.Layers, s.VMs = slices.Clone(s.Unacked), slices.Clone(s.Layers), maps.Clone(s.VMs)
	return s
}

// update changes the session and writes it; a reader finds the old one or the
// new one, whenever this process is killed.
func (f *sessionFile) update(change func(*session)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.s)
	b, err := json.Marshal(&f.s)
	if err == nil {
		err = os.WriteFile(f.path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(f.path+".new", f.path)
	}
	if err != nil {
		return fmt.Errorf("keep session: %w", err)
	}
	return nil
}

// note changes the session; the next update writes it.
func (f *sessionFile) note(change func(*session)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.s)
}

func (f *sessionFile) vm(name string) (vmRecord, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rec, ok := f.s.VMs[name]
	return rec, ok
}

// keep is update for those that can only say what went wrong.
func (r *resident) keep(change func(*session)) {
	if err := r.session.update(change); err != nil {
		r.say("resident: %v: a resident started after this one would not know it", err)
	}
}

// journal is the uplink's.
func (r *resident) journal(unacked []fleet.Event) {
	r.keep(func(s *session) { s.Unacked = unacked })
}

// keepLayer puts a layer into the session. One that is told is written together
// with the event that tells it, so that a resident that is killed here neither
// says it twice nor never.
func (r *resident) keepLayer(l fleet.Layer, told bool) {
	put := func(s *session) {
		i := slices.IndexFunc(s.Layers, func(o fleet.Layer) bool { return o.Layer == l.Layer && o.Name == l.Name })
		if i < 0 {
			s.Layers = append(s.Layers, l)
			return
		}
		s.Layers[i] = l
	}
	if told {
		r.session.note(put)
		return
	}
	r.keep(put)
}
