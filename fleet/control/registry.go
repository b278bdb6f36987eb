package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/hardware"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	nodePrefix  = "node."
	aliasPrefix = "alias."
)

// aliasRecord makes an alias belong to one node: whoever creates it first.
type aliasRecord struct {
	Alias string       `json:"alias"`
	Node  fleet.NodeID `json:"node"`
}

// registry knows the nodes, their sessions and the expected machines. What it
// answers comes from memory; what it writes goes through the bucket first.
type registry struct {
	nodes   table[fleet.Node]
	aliases table[aliasRecord]

	mu       sync.RWMutex
	byID     map[fleet.NodeID]known
	byKey    map[string]fleet.NodeID // of sessions
	byAlias  map[string]fleet.NodeID
	denied   map[string]fleet.NodeID  // keys of revoked sessions
	machines map[string]fleet.Machine // by name
	imported imported
}

type known struct {
	node fleet.Node
	rev  uint64
}

func newRegistry(ctx context.Context, js jetstream.JetStream) (*registry, error) {
	nodes, err := openTable[fleet.Node](ctx, js, fleet.BucketNodes)
	if err != nil {
		return nil, err
	}
	return &registry{
		nodes: nodes, aliases: table[aliasRecord](nodes),
		byID: map[fleet.NodeID]known{}, byKey: map[string]fleet.NodeID{},
		byAlias: map[string]fleet.NodeID{}, denied: map[string]fleet.NodeID{}, machines: map[string]fleet.Machine{},
	}, nil
}

func aliasKey(a string) string {
	h := sha256.Sum256([]byte(a))
	return aliasPrefix + hex.EncodeToString(h[:16])
}

// learn takes a node's record into memory; older ones than known are passed
// over, and then it is false.
func (r *registry) learn(n fleet.Node, rev uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, ok := r.byID[n.ID]
	if ok && rev <= old.rev {
		return false
	}
	for _, s := range old.node.Sessions {
		delete(r.byKey, s.Key)
	}
	for _, s := range n.Sessions {
		r.byKey[s.Key] = n.ID
	}
	for _, a := range n.Aliases {
		r.byAlias[a] = n.ID
	}
	for _, d := range n.Denied {
		r.denied[d.Key] = n.ID
	}
	r.byID[n.ID] = known{n, rev}
	return true
}

// deniedKey says whether a key was revoked, and whose session it was.
func (r *registry) deniedKey(key string) (fleet.NodeID, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	id, ok := r.denied[key]
	return id, ok
}

// inside says whether a node has a session, and so may speak.
func (r *registry) inside(id fleet.NodeID) bool {
	n, ok := r.node(id)
	return ok && len(n.Sessions) > 0
}

func (r *registry) setMachine(name string, m *fleet.Machine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m == nil {
		delete(r.machines, name)
		return
	}
	r.machines[name] = *m
}

func (r *registry) allMachines() []fleet.Machine {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []fleet.Machine
	for _, m := range r.machines {
		out = append(out, m)
	}
	return out
}

// session is who a key may speak as, now.
func (r *registry) session(key string, now time.Time) (fleet.NodeID, fleet.Session, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	id, ok := r.byKey[key]
	if !ok {
		return "", fleet.Session{}, false
	}
	for _, s := range r.byID[id].node.Sessions {
		if s.Key == key {
			return id, s, now.Before(s.Expires)
		}
	}
	return "", fleet.Session{}, false
}

func (r *registry) node(id fleet.NodeID) (fleet.Node, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, ok := r.byID[id]
	return k.node, ok
}

// nodeByAliases is the node that the first known of the aliases belongs to;
// they come in the order of their weight.
func (r *registry) nodeByAliases(aliases []string) (fleet.NodeID, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, a := range aliases {
		if id, ok := r.byAlias[a]; ok {
			return id, true
		}
	}
	return "", false
}

// machineByAliases is the expected machine that shares one of the aliases.
func (r *registry) machineByAliases(aliases []string) (fleet.Machine, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, m := range r.machines {
		if slices.ContainsFunc(machineAliases(m), func(a string) bool { return slices.Contains(aliases, a) }) {
			return m, true
		}
	}
	return r.imported.machine(aliases)
}

// aliasesOf are the names that decide who a server is, the weightiest first.
// Chassis and board serials decide nothing: whole lots share them.
func aliasesOf(uuid, serial string, macs, told []string) []string {
	var uuids, serials, ms []string
	add := func(kind, v string) {
		switch kind {
		case hardware.AliasUUID:
			if u := hardware.ParseUUID(v); u != "" {
				uuids = append(uuids, "uuid:"+string(u), "uuid:"+string(u.Swapped()))
			}
		case hardware.AliasSerial:
			if v = strings.TrimSpace(v); v != "" && len(v) <= 64 {
				serials = append(serials, "serial:"+strings.ToLower(v))
			}
		case hardware.AliasMAC:
			if m := hardware.ParseMAC(v); m != "" {
				ms = append(ms, "mac:"+string(m))
			}
		}
	}
	add(hardware.AliasUUID, uuid)
	add(hardware.AliasSerial, serial)
	for _, m := range macs {
		add(hardware.AliasMAC, m)
	}
	for _, a := range told {
		add(hardware.Alias(a).Kind(), hardware.Alias(a).Value())
	}
	var out []string
	for _, part := range [][]string{uuids, serials, ms} {
		slices.Sort(part)
		out = append(out, slices.Compact(part)...)
	}
	return out
}

func machineAliases(m fleet.Machine) []string { return aliasesOf(m.UUID, m.Serial, m.MACs, nil) }

// keyOf is under which key events and status of an expected machine stand: its
// node's, once it is enrolled.
func (r *registry) keyOf(m fleet.Machine) fleet.NodeID {
	if id, ok := r.nodeByAliases(machineAliases(m)); ok {
		return id
	}
	return seenKey(m)
}

// seenKey is the key of a machine that is not enrolled.
func seenKey(m fleet.Machine) fleet.NodeID {
	for _, mac := range m.MACs {
		if k, err := fleet.MACKey(mac); err == nil {
			return k
		}
	}
	if id, err := fleet.ParseNodeID("m-" + strings.ToLower(m.Name)); err == nil {
		return id
	}
	h := sha256.Sum256([]byte(m.Name))
	return fleet.NodeID("m-" + hex.EncodeToString(h[:6]))
}

// machineOf is the expected machine that a key stands for.
func (r *registry) machineOf(key fleet.NodeID) (fleet.Machine, bool) {
	if n, ok := r.node(key); ok {
		return r.machineByAliases(n.Aliases)
	}
	for _, m := range r.allMachines() {
		if seenKey(m) == key {
			return m, true
		}
	}
	if m, ok := r.importedAt(key); ok {
		return m, true
	}
	if hex, ok := strings.CutPrefix(string(key), "mac-"); ok {
		return r.machineByAliases([]string{"mac:" + string(hardware.ParseMAC(hex))})
	}
	return fleet.Machine{}, false
}

// find resolves what an operator calls a server: key or name.
func (r *registry) find(name string) (fleet.NodeID, fleet.Machine, bool) {
	r.mu.RLock()
	m, named := r.machines[name]
	if !named {
		m, named = at(r.imported, r.imported.byName, name)
	}
	r.mu.RUnlock()
	if named {
		return r.keyOf(m), m, true
	}
	id, err := fleet.ParseNodeID(name)
	if err != nil {
		return "", fleet.Machine{}, false
	}
	m, expected := r.machineOf(id)
	if expected {
		return r.keyOf(m), m, true
	}
	_, isNode := r.node(id)
	return id, fleet.Machine{}, isNode
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newNodeID() fleet.NodeID {
	var b [5]byte
	rand.Read(b[:]) //nolint:errcheck // crypto/rand.Read never fails
	return fleet.NodeID("n-" + idEncoding.EncodeToString(b[:]))
}

// claim allots the node that the aliases belong to, or a new one. Concurrent
// claims of the same aliases, here or in another control, get the same node:
// the alias records decide. conflict names aliases that belong to another node.
func (r *registry) claim(ctx context.Context, aliases []string) (id fleet.NodeID, conflict []string, err error) {
	if len(aliases) == 0 {
		return "", nil, errors.New("no UUID, serial or MAC address says which server this is")
	}
	id, ok := r.nodeByAliases(aliases)
	if !ok {
		id = newNodeID()
	}
	settled := ok
	for _, a := range aliases {
		rec, rev, err := r.aliases.get(ctx, aliasKey(a))
		if err != nil {
			return "", nil, err
		}
		if rev == 0 {
			rec = aliasRecord{Alias: a, Node: id}
			if _, err = r.aliases.put(ctx, aliasKey(a), rec, 0); errors.Is(err, errConflict) {
				rec, _, err = r.aliases.get(ctx, aliasKey(a))
			}
			if err != nil {
				return "", nil, err
			}
		}
		switch {
		case rec.Node == id:
			settled = true
		case !settled: // another claim was quicker, or memory is behind
			id, settled = rec.Node, true
		default:
			conflict = append(conflict, fmt.Sprintf("%s belongs to %s", a, rec.Node))
		}
	}
	return id, conflict, nil
}

// change writes a node's record and takes it into memory.
func (r *registry) change(ctx context.Context, id fleet.NodeID, f func(*fleet.Node) error) (fleet.Node, error) {
	n, rev, err := r.nodes.update(ctx, nodePrefix+string(id), func(n *fleet.Node, there bool) error {
		if !there {
			*n = fleet.Node{Schema: fleet.NodeSchema, ID: id}
		}
		return f(n)
	})
	if err != nil {
		return n, err
	}
	r.learn(n, rev)
	return n, nil
}
