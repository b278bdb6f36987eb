package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/ingot-metal/ingot/images"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// Policy is what a machine needs to be enrolled.
type Policy string

// The policies. Open takes everybody and is for the lab.
const (
	PolicyOpen    Policy = "open"
	PolicyApprove Policy = "approve"
)

const (
	sessionLife    = 12 * time.Hour
	pendingSeconds = 10
	aliveSeconds   = 5
	enrollTimeout  = 10 * time.Second
	maxAliases     = 256
	// alive is how lately a session must have been heard to stand against a
	// newcomer; no machine reboots to its agent in less.
	alive = 10 * time.Second
)

var bootIDForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{3,63}$`)

// ParseEnrollRequest reads and checks what a stranger sent.
func ParseEnrollRequest(b []byte) (fleet.EnrollRequest, error) {
	var r fleet.EnrollRequest
	if len(b) > 64<<10 {
		return r, fmt.Errorf("enrolment: is %d bytes, at most %d are read", len(b), 64<<10)
	}
	if err := fleet.CheckMessage(b); err != nil {
		return r, fmt.Errorf("enrolment: %w", err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("enrolment: %v", err)
	}
	switch {
	case r.Schema != fleet.EnrollSchema:
		return r, fmt.Errorf("enrolment: schema is %.40q, want %q", r.Schema, fleet.EnrollSchema)
	case r.Role != fleet.RoleAgent && r.Role != fleet.RoleResident:
		return r, fmt.Errorf("enrolment: role %.40q is not known", r.Role)
	case !nkeys.IsValidPublicUserKey(r.Key):
		return r, errors.New("enrolment: key is no public user nkey")
	case !bootIDForm.MatchString(r.BootID):
		return r, fmt.Errorf("enrolment: boot ID %.80q is malformed", r.BootID)
	case len(r.Nonce) < 16 || len(r.Nonce) > 128:
		return r, fmt.Errorf("enrolment: nonce has %d characters, want 16 to 128", len(r.Nonce))
	case len(r.Aliases) > maxAliases || len(r.MACs) > maxAliases:
		return r, fmt.Errorf("enrolment: %d aliases and %d MAC addresses, at most %d are read", len(r.Aliases), len(r.MACs), maxAliases)
	case r.Role == fleet.RoleResident && r.Token == nil:
		return r, errors.New("enrolment: a resident needs a handoff token")
	}
	for _, s := range append([]string{r.Summary, r.Serial, r.UUID, r.Address}, append(slices.Clone(r.Aliases), r.MACs...)...) {
		if len(s) > 256 || strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
			return r, fmt.Errorf("enrolment: %.40q is too long or holds control characters", s)
		}
	}
	return r, nil
}

// answerEnroll is the handler of fleet.SubjectEnroll. Only a connection that
// proved the key may enrol it: the bus, not the request, says who asks.
func (c *Control) answerEnroll(m micro.Request) {
	ctx, cancel := context.WithTimeout(c.ctx, enrollTimeout)
	defer cancel()
	now := time.Now()
	req, err := ParseEnrollRequest(m.Data())
	var reply fleet.EnrollReply
	switch {
	case err != nil:
		reply = rejected(fleet.ReasonRequestMalformed, err.Error())
		if id, _, ok := c.reg.session(askedBy(m), now); ok {
			c.malformed(ctx, id, "enrolment", err)
		}
	case askedBy(m) != req.Key:
		reply = rejected(fleet.ReasonKeyNotProven, fmt.Sprintf("the connection is that of %.60q", askedBy(m)))
	default:
		if reply, err = c.enroll(ctx, req, now); err != nil {
			c.log.Error("enrol", "key", req.Key, "err", err)
			reply = fleet.EnrollReply{State: fleet.EnrollPending, Reason: fleet.ReasonControlTrouble, Hint: fleet.ReasonControlTrouble.Hint(), RetrySeconds: aliveSeconds}
		}
	}
	reply.Schema, reply.Time = fleet.EnrollSchema, now.UTC()
	c.log.Info("enrolment", "state", reply.State, "node", reply.Node, "attempt", reply.Attempt, "role", req.Role,
		"summary", req.Summary, "reason", reply.Reason, "hint", reply.Hint)
	if err := m.RespondJSON(reply); err != nil {
		c.log.Warn("enrol: answer", "err", err)
	}
}

// askedBy is the key that the asking connection proved, as the server tells it
// in the header of a request that crossed accounts. A client cannot set it: the
// server writes it anew.
func askedBy(m micro.Request) string {
	var who struct {
		User string `json:"user"`
	}
	if json.Unmarshal([]byte(m.Headers().Get("Nats-Request-Info")), &who) != nil {
		return ""
	}
	return who.User
}

// rejected says no; the hint is what was wrong and what to do.
func rejected(reason fleet.ReasonCode, evidence string) fleet.EnrollReply {
	return fleet.EnrollReply{State: fleet.EnrollRejected, Reason: reason, Hint: evidence + "; " + reason.Hint()}
}

func (c *Control) enroll(ctx context.Context, req fleet.EnrollRequest, now time.Time) (fleet.EnrollReply, error) {
	if req.Role == fleet.RoleResident {
		return c.enrollResident(ctx, req, now)
	}
	return c.enrollAgent(ctx, req, now)
}

func (c *Control) enrollAgent(ctx context.Context, req fleet.EnrollRequest, now time.Time) (fleet.EnrollReply, error) {
	aliases := aliasesOf(req.UUID, req.Serial, req.MACs, req.Aliases)
	if len(aliases) == 0 {
		return rejected(fleet.ReasonNoIdentity, "the firmware tells no UUID and no serial, and there is no network port"), nil
	}
	if id, revoked := c.reg.deniedKey(req.Key); revoked {
		return c.denied(id), nil
	}
	id, _ := c.reg.nodeByAliases(aliases)
	n, _ := c.reg.node(id)
	if state, why := c.standing(n, aliases); state != fleet.EnrollAccepted {
		if lives, reply := c.otherBoot(ctx, id, req, now); lives {
			return reply, nil
		}
		return c.hold(ctx, n, req, aliases, state, why, now), nil
	}
	id, conflicts, err := c.reg.claim(ctx, aliases)
	if err != nil {
		return fleet.EnrollReply{}, err
	}
	if lives, reply := c.otherBoot(ctx, id, req, now); lives {
		return reply, nil
	}
	for _, text := range conflicts {
		c.finding(ctx, id, fleet.ReasonAliasConflict, text)
	}
	seen := c.seenAs(aliases)
	attempt, err := c.att.agent(ctx, id, seen, req.BootID, now)
	if err != nil {
		return fleet.EnrollReply{}, err
	}
	if attempt.Reached >= fleet.StageResident {
		return rejected(fleet.ReasonBootIsOver, "this boot has handed over to its resident"), nil
	}
	ss := fleet.Session{Key: req.Key, Role: req.Role, BootID: req.BootID, Attempt: attempt.Attempt, Nonce: req.Nonce, Created: now.UTC(), Expires: now.Add(sessionLife).UTC()}
	renewed, err := c.bind(ctx, id, ss, func(n *fleet.Node) error {
		// An operator may have spoken since.
		if state, _ := c.standing(*n, aliases); state != fleet.EnrollAccepted || isDenied(*n, req.Key) {
			return errBarred
		}
		n.Aliases = union(n.Aliases, aliases)
		n.SeenAs = union(n.SeenAs, seen)
		n.Serial, n.UUID, n.MACs, n.Summary, n.Address = req.Serial, req.UUID, req.MACs, req.Summary, req.Address
		if m, ok := c.reg.machineByAliases(aliases); ok {
			n.Machine = m.Name
		}
		return nil
	})
	if errors.Is(err, errBarred) {
		return fleet.EnrollReply{State: fleet.EnrollPending, Reason: fleet.ReasonNotAccepted, Hint: "an operator speaks of it just now", RetrySeconds: 2}, nil
	}
	if err != nil {
		return fleet.EnrollReply{}, err
	}
	if !renewed || !c.announced(id, ss) {
		if err := c.announce(ctx, id, ss, req, now); err != nil {
			return fleet.EnrollReply{}, err
		}
	}
	return fleet.EnrollReply{State: fleet.EnrollAccepted, Node: id, Attempt: attempt.Attempt}, nil
}

// errBarred says that a word of an operator came between.
var errBarred = errors.New("it is not let in any more")

func isDenied(n fleet.Node, key string) bool {
	return slices.ContainsFunc(n.Denied, func(d fleet.DeniedKey) bool { return d.Key == key })
}

// otherBoot answers who claims to be a node that runs: the one that runs keeps
// running, and the newcomer is not shown in its place.
func (c *Control) otherBoot(ctx context.Context, id fleet.NodeID, req fleet.EnrollRequest, now time.Time) (bool, fleet.EnrollReply) {
	if heard := c.status.heard(id); !c.otherBootLives(id, req, heard, now) {
		return false, fleet.EnrollReply{}
	}
	c.finding(ctx, id, fleet.ReasonNodeAlive, "a machine with the same serial, UUID or MAC asked to be enrolled while this one runs: "+req.Summary)
	return true, fleet.EnrollReply{State: fleet.EnrollPending, Reason: fleet.ReasonNodeAlive, Hint: "the node " + string(id) + " is heard from another boot", RetrySeconds: aliveSeconds}
}

func (c *Control) otherBootLives(id fleet.NodeID, req fleet.EnrollRequest, heard time.Time, now time.Time) bool {
	n, ok := c.reg.node(id)
	if !ok || heard.IsZero() || now.Sub(heard) > alive {
		return false
	}
	return !slices.ContainsFunc(n.Sessions, func(s fleet.Session) bool { return s.Key == req.Key })
}

// seenAs are the keys that events of a machine with these aliases stand under
// from before it was a node.
func (c *Control) seenAs(aliases []string) []fleet.NodeID {
	var out []fleet.NodeID
	for _, a := range aliases {
		if mac, ok := strings.CutPrefix(a, "mac:"); ok {
			if k, err := fleet.MACKey(mac); err == nil {
				out = append(out, k)
			}
		}
	}
	if m, ok := c.reg.machineByAliases(aliases); ok {
		out = append(out, seenKey(m))
	}
	if len(out) == 0 { // a server that names no network port
		h := sha256.Sum256([]byte(aliases[0]))
		out = append(out, fleet.NodeID("s-"+hex.EncodeToString(h[:6])))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func union[T ~string](a, b []T) []T {
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}

// bind writes a session into a node's record; sessions of other boots end, and
// so does the agent's when its resident comes. renewed says that the session
// was there.
func (c *Control) bind(ctx context.Context, id fleet.NodeID, ss fleet.Session, more func(*fleet.Node) error) (renewed bool, err error) {
	var ended []string
	_, err = c.reg.change(ctx, id, func(n *fleet.Node) error {
		ended, renewed = nil, false
		if err := more(n); err != nil {
			return err
		}
		if n.Enrolled.IsZero() {
			n.Enrolled = ss.Created
		}
		for _, s := range n.Sessions {
			if s.Key != ss.Key || s.BootID != ss.BootID || s.Role != ss.Role {
				ended = append(ended, s.Key)
				continue
			}
			renewed = true
			ss.Created, ss.Nonce = s.Created, s.Nonce
		}
		n.Sessions = []fleet.Session{ss}
		return nil
	})
	if err != nil {
		return false, err
	}
	for _, k := range ended {
		c.kick(k)
	}
	return renewed, nil
}

// announced says whether the status has taken the word that a session began.
// Where it has not, control was ended between the session and the word, or the
// word is on its way.
func (c *Control) announced(id fleet.NodeID, ss fleet.Session) bool {
	st, ok := c.status.of(id)
	return ok && (st.BootID == ss.BootID || st.Attempt > ss.Attempt)
}

// announce says that a session began. Without that word the status does not
// know the boot, and nothing would be granted to it: who asks is answered only
// when the word is stored.
func (c *Control) announce(ctx context.Context, id fleet.NodeID, ss fleet.Session, req fleet.EnrollRequest, now time.Time) error {
	n, _ := c.reg.node(id)
	return c.pub.publishOnce(ctx, ss.Key+"/"+ss.BootID, id, ss.Attempt, fleet.SourceControl, fleet.KindEnrolled, now, fleet.EnrolledData{
		Role: string(req.Role), Level: "unverified", Policy: string(c.cfg.Policy), Summary: firstOf(req.Summary, n.Summary), Address: req.Address,
		BootID: req.BootID, Serial: n.Serial, UUID: n.UUID, MACs: n.MACs, SeenAs: n.SeenAs,
	})
}

// enrollResident takes a resident for its agent's node, by the token that the
// agent signed before the jump, once.
func (c *Control) enrollResident(ctx context.Context, req fleet.EnrollRequest, now time.Time) (fleet.EnrollReply, error) {
	if id, revoked := c.reg.deniedKey(req.Key); revoked {
		return c.denied(id), nil
	}
	// The same key again: its answer was lost, or it renews its session.
	if id, s, ok := c.reg.session(req.Key, now); ok && s.Role == fleet.RoleResident {
		if s.BootID != req.BootID {
			return rejected(fleet.ReasonTokenUsed, "the key is that of another boot"), nil
		}
		s.Expires = now.Add(sessionLife).UTC()
		_, err := c.bind(ctx, id, s, func(n *fleet.Node) error {
			if isDenied(*n, req.Key) {
				return errBarred
			}
			return nil
		})
		if errors.Is(err, errBarred) {
			return c.denied(id), nil
		}
		if err == nil && !c.announced(id, s) {
			err = c.contact(ctx, id, s, req, now)
		}
		return fleet.EnrollReply{State: fleet.EnrollAccepted, Node: id, Attempt: s.Attempt}, err
	}
	t, agent, why := c.checkToken(*req.Token, req.Key, now)
	if why != "" {
		c.log.Warn("handoff token refused", "why", why, "key", req.Key)
		return rejected(fleet.ReasonTokenRefused, why), nil
	}
	ss := fleet.Session{
		Key: req.Key, Role: fleet.RoleResident, BootID: req.BootID, Attempt: agent.Attempt, Nonce: req.Nonce,
		Created: now.UTC(), Expires: now.Add(sessionLife).UTC(), TokenNonce: t.Nonce,
	}
	taken := false
	_, err := c.bindResident(ctx, t, ss, &taken)
	switch {
	case err != nil:
		return fleet.EnrollReply{}, err
	case taken:
		return rejected(fleet.ReasonTokenUsed, "the agent's session has ended"), nil
	}
	if err := c.contact(ctx, t.Node, ss, req, now); err != nil {
		return fleet.EnrollReply{}, err
	}
	return fleet.EnrollReply{State: fleet.EnrollAccepted, Node: t.Node, Attempt: agent.Attempt}, nil
}

// contact writes down that a stack's resident is in.
func (c *Control) contact(ctx context.Context, id fleet.NodeID, ss fleet.Session, req fleet.EnrollRequest, now time.Time) error {
	if err := c.att.resident(ctx, id, ss.Attempt); err != nil {
		return err
	}
	return c.announce(ctx, id, ss, req, now)
}

// bindResident is bind that holds only while the agent's session stands: of
// two that bring the same token, one finds it gone.
func (c *Control) bindResident(ctx context.Context, t fleet.HandoffToken, ss fleet.Session, taken *bool) (fleet.Node, error) {
	n, err := c.reg.change(ctx, t.Node, func(n *fleet.Node) error {
		*taken = !slices.ContainsFunc(n.Sessions, func(s fleet.Session) bool {
			return s.Key == t.AgentKey && s.Role == fleet.RoleAgent
		})
		if *taken {
			return errUnchanged
		}
		n.Sessions = []fleet.Session{ss}
		return nil
	})
	if err == nil && !*taken {
		c.kick(t.AgentKey)
	}
	return n, err
}

// checkToken says whose resident a token makes the key, or why it does not.
func (c *Control) checkToken(st fleet.SignedToken, key string, now time.Time) (fleet.HandoffToken, fleet.Session, string) {
	var t fleet.HandoffToken
	if len(st.Token) > 16<<10 {
		return t, fleet.Session{}, "the token is too long"
	}
	if err := json.Unmarshal(st.Token, &t); err != nil {
		return t, fleet.Session{}, "the token is malformed: " + err.Error()
	}
	id, s, ok := c.reg.session(t.AgentKey, now)
	switch {
	case !ok || s.Role != fleet.RoleAgent:
		return t, s, "it is signed by a key that is no present agent's"
	case id != t.Node || s.BootID != t.BootID || s.Attempt != t.Attempt:
		return t, s, "it names another node or boot than its agent's"
	case t.ResidentKey != key:
		return t, s, "it is for another key"
	case t.Nonce == "":
		return t, s, "it has no nonce"
	case !now.Before(t.NotAfter):
		return t, s, "it expired at " + t.NotAfter.UTC().Format(time.RFC3339)
	}
	pub, err := nkeys.FromPublicKey(t.AgentKey)
	if err == nil {
		err = pub.Verify(dsse.PAE(images.HandoffType, st.Token), st.Signature)
	}
	if err != nil {
		return t, s, "its signature does not hold"
	}
	return t, s, ""
}

func (c *Control) finding(ctx context.Context, id fleet.NodeID, reason fleet.ReasonCode, evidence string) {
	c.tell(ctx, id, string(reason)+"/"+evidence, fleet.Problem{Reason: reason, Hint: reason.HintFor(id), Evidence: evidence})
}

// tell says a problem once in each boot of a server.
func (c *Control) tell(ctx context.Context, id fleet.NodeID, what string, p fleet.Problem) {
	attempt, err := c.att.current(ctx, id)
	if err != nil {
		c.log.Error("finding", "node", id, "what", what, "err", err)
		return
	}
	c.once(fmt.Sprintf("%s/%d/%s", id, attempt, what), func() error {
		return c.pub.publish(ctx, id, attempt, fleet.SourceControl, fleet.KindFinding, time.Now(), p)
	})
}
