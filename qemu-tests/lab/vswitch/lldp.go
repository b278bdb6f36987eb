package vswitch

import (
	"context"
	"encoding/binary"
	"time"
)

// linkLocal begins the group addresses that end at the nearest bridge
// (IEEE 802.1Q 8.6.3): 01-80-C2-00-00-00 to -0F.
var linkLocal = [5]byte{0x01, 0x80, 0xc2, 0x00, 0x00}

// Identity is what a switch says of itself.
type Identity struct {
	Name string
	MAC  MAC
	VLAN int // of every port
}

// Announce says on every port who the switch is and which port that is, by LLDP
// (IEEE 802.1AB), again and again until ctx ends.
func (s *Switch) Announce(ctx context.Context, id Identity, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		s.mu.RLock()
		for p := range s.ports {
			p.enqueue(id.frame(p.Name, every))
		}
		s.mu.RUnlock()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// frame is an LLDP data unit: chassis by MAC, port by its interface's name, and
// how long to believe it; then names, and the port's VLAN (802.1Q annex D).
func (id Identity) frame(port string, every time.Duration) []byte {
	out := append([]byte{0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e}, id.MAC[:]...)
	out = append(out, 0x88, 0xcc)
	tlv := func(kind uint16, value ...byte) {
		out = binary.BigEndian.AppendUint16(out, kind<<9|uint16(len(value)))
		out = append(out, value...)
	}
	tlv(1, append([]byte{4}, id.MAC[:]...)...)
	tlv(2, append([]byte{5}, port...)...)
	tlv(3, binary.BigEndian.AppendUint16(nil, uint16(max(4*every, 20*time.Second)/time.Second))...)
	tlv(4, []byte("to "+port)...)
	tlv(5, []byte(id.Name)...)
	tlv(127, 0x00, 0x80, 0xc2, 1, byte(id.VLAN>>8), byte(id.VLAN))
	tlv(0)
	return out
}
