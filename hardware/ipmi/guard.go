package ipmi

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"

	"github.com/bougou/go-ipmi/pkg/crypto"
	"github.com/bougou/go-ipmi/pkg/types"
)

// guard stands between the socket and go-ipmi, which believes what it
// receives: it takes weaker algorithms than it asked for, does not look at
// signatures, and decrypts in a goroutine where nobody recovers a panic. A
// datagram that is not well formed, or in a session not signed by the BMC, is
// dropped here, as if it were lost.
type guard struct {
	user, password string
	cipher         int
	dropped        atomic.Int64
}

// Dial is for go-ipmi's WithUDPProxy.
func (g *guard) Dial(network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	return &guardedConn{Conn: c, guard: g}, nil
}

// suite is what the cipher suites that we use stand for (table 22-20).
type suite struct {
	auth      types.AuthAlg
	integrity types.IntegrityAlg
}

// suites sign and encrypt. 3 is what every BMC has, 17 is the better one.
var suites = map[int]suite{
	3:  {types.AuthAlg_HMAC_SHA1, types.IntegrityAlg_HMAC_SHA1_96},
	17: {types.AuthAlg_HMAC_SHA256, types.IntegrityAlg_HMAC_SHA256_128},
}

// guardedConn learns the session's keys from its handshake, as go-ipmi does.
// go-ipmi writes and reads by turns.
type guardedConn struct {
	net.Conn
	*guard

	console       []byte // our ID of the session
	consoleRandom []byte
	role          byte
	expects       byte // the payload that answers the last one of the handshake
	k1, k2        []byte
}

// The layout of an RMCP+ datagram (tables 13-1, 13-8).
const (
	rmcpPlus      = 6 // authentication type
	rmcpHeader    = 4
	plusHeader    = rmcpHeader + 12
	plainHeader   = rmcpHeader + 10
	payloadIPMI   = 0x00
	payloadOpen   = 0x10
	payloadOpened = 0x11
	payloadRAKP1  = 0x12
	payloadRAKP2  = 0x13
	payloadRAKP3  = 0x14
	payloadRAKP4  = 0x15
	encrypted     = 0x80
	signed        = 0x40
)

func (g *guardedConn) Write(b []byte) (int, error) {
	if len(b) >= plusHeader+28 && b[rmcpHeader] == rmcpPlus && b[5] == payloadRAKP1 {
		p := b[plusHeader:]
		g.consoleRandom, g.role = append([]byte(nil), p[8:24]...), p[24]
	}
	if len(b) >= plusHeader+8 && b[rmcpHeader] == rmcpPlus {
		if b[5] == payloadOpen {
			g.console = append([]byte(nil), b[plusHeader+4:plusHeader+8]...)
		}
		g.expects = map[byte]byte{payloadOpen: payloadOpened, payloadRAKP1: payloadRAKP2, payloadRAKP3: payloadRAKP4}[b[5]]
	}
	return g.Conn.Write(b)
}

// Read returns at the connection's deadline, however much is dropped.
func (g *guardedConn) Read(b []byte) (int, error) {
	for {
		n, err := g.Conn.Read(b)
		if err != nil || g.takes(b[:n]) {
			return n, err
		}
		g.dropped.Add(1)
	}
}

func (g *guardedConn) takes(b []byte) bool {
	if len(b) < plainHeader || b[0] != 6 || b[3] != 7 {
		return false
	}
	if b[rmcpHeader]&0xf != rmcpPlus { // IPMI 1.5, before the session only
		n := int(b[13])
		return b[rmcpHeader] == 0 && g.k1 == nil && len(b) >= plainHeader+n && message(b[plainHeader:plainHeader+n])
	}
	if len(b) < plusHeader {
		return false
	}
	n, kind := le16(b[14:]), b[5]
	if n == 0 || len(b) < plusHeader+n {
		return false
	}
	payload := b[plusHeader : plusHeader+n]
	switch {
	case g.k1 != nil && kind == payloadIPMI|signed|encrypted:
		return g.signedByBMC(b, payload)
	case g.k1 != nil && kind != payloadRAKP4:
		return false
	case kind == payloadIPMI:
		return le32(b[6:]) == 0 && message(payload)
	case kind != g.expects || len(payload) < 8 || !bytes.Equal(payload[4:8], g.console):
		return false // an answer that comes twice, or to somebody else
	case kind == payloadOpened:
		return g.opened(payload)
	case kind == payloadRAKP2:
		return g.rakp2(payload)
	}
	return kind == payloadRAKP4
}

// message is an IPMI message with both of its checksums right (13.8).
func message(b []byte) bool {
	sum := func(b []byte) (s byte) {
		for _, x := range b {
			s += x
		}
		return s
	}
	return len(b) >= 8 && sum(b[:3]) == 0 && sum(b[3:]) == 0
}

// opened is an answer to Open Session with the algorithms that were asked
// for, or a refusal (13.18).
func (g *guardedConn) opened(p []byte) bool {
	s := suites[g.cipher]
	return p[1] != 0 || len(p) >= 36 && p[16] == byte(s.auth) && p[24] == byte(s.integrity) && p[32] == byte(types.CryptAlg_AES_CBC_128)
}

// rakp2 brings the last that the keys are made of (13.21, 13.31).
func (g *guardedConn) rakp2(p []byte) bool {
	if p[1] != 0 {
		return true
	}
	if len(p) < 40 || g.consoleRandom == nil {
		return false
	}
	auth := suites[g.cipher].auth
	_, k1, k2, err := crypto.DeriveSessionKeys(auth, g.consoleRandom, p[8:24], g.role, g.user, crypto.PadPassword20([]byte(g.password)))
	if err != nil {
		return false
	}
	g.k1, g.k2 = k1, k2
	return true
}

// signedByBMC checks the signature (13.28.4), then that what it covers
// decrypts to a message.
func (g *guardedConn) signedByBMC(b, payload []byte) bool {
	integrity := suites[g.cipher].integrity
	size, ok := crypto.IntegrityAuthCodeLen(integrity)
	at := len(b) - size
	if !ok || at < plusHeader+len(payload)+2 {
		return false
	}
	mine, err := crypto.SessionIntegrityAuthCode(integrity, b[rmcpHeader:at], g.k1, "")
	if err != nil || len(mine) != size || !crypto.Equal(mine, b[at:]) {
		return false
	}
	if len(payload) < 32 || len(payload)%16 != 0 {
		return false
	}
	plain, err := crypto.DecryptAES(payload[16:], g.k2[:16], payload[:16])
	return err == nil && len(plain)-1-int(plain[len(plain)-1]) >= 7
}
