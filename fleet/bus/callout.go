package bus

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ingot-metal/ingot/fleet"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Claim is a connection that asks to be let in. Its key is proven: the client
// signed this server's nonce with it.
type Claim struct {
	Key  string
	User string
	Host string
}

// Session is what a key may speak as.
type Session struct {
	Node fleet.NodeID
	Role fleet.Role
}

// Authorizer knows the sessions. It answers from memory: it stands in the way
// of every connection.
type Authorizer interface {
	Authorize(ctx context.Context, c Claim) (Session, error)
}

// authorizer wraps the interface for an atomic pointer.
type authorizer struct{ Authorizer }

// SetAuthorizer names who decides on nodes. Until then nodes are refused and
// come again.
func (s *Server) SetAuthorizer(a Authorizer) { s.authz.Store(&authorizer{a}) }

const authorizeTimeout = 5 * time.Second

func (s *Server) answerCallout() error {
	_, err := s.callout.Subscribe(server.AuthCalloutSubject, func(m *nats.Msg) {
		answer, err := s.decide(m.Data)
		if err != nil {
			s.log.Error("auth callout", "err", err)
			return
		}
		if err := m.Respond([]byte(answer)); err != nil {
			s.log.Error("auth callout: answer", "err", err)
		}
	})
	if err == nil {
		err = s.callout.Flush()
	}
	if err != nil {
		return fmt.Errorf("auth callout: %w", err)
	}
	return nil
}

// decide turns one request of the server into a signed answer. An error means
// that the request is not this server's and is not answered.
func (s *Server) decide(request []byte) (string, error) {
	req, err := jwt.DecodeAuthorizationRequestClaims(string(request))
	if err != nil {
		return "", fmt.Errorf("read request: %v", err)
	}
	// Apart, only the servers speak in the callout's account.
	if s.ns != nil && req.Issuer != s.ns.ID() {
		return "", fmt.Errorf("request is by %.60q, not by this server", req.Issuer)
	}
	resp := jwt.NewAuthorizationResponseClaims(req.UserNkey)
	resp.Audience = req.Server.ID
	claim, user, err := s.admit(req)
	if err != nil {
		s.log.Warn("connection refused", "user", claim.User, "key", claim.Key, "host", claim.Host, "why", err)
		resp.Error = err.Error()
	} else if resp.Jwt, err = user.Encode(s.issuer); err != nil {
		return "", fmt.Errorf("write user: %v", err)
	}
	return resp.Encode(s.issuer)
}

// admit proves the key and asks who it is.
func (s *Server) admit(req *jwt.AuthorizationRequestClaims) (Claim, *jwt.UserClaims, error) {
	o := req.ConnectOptions
	c := Claim{Key: o.Nkey, User: o.Username, Host: req.ClientInformation.Host}
	if err := prove(o.Nkey, req.ClientInformation.Nonce, o.SignedNonce); err != nil {
		return c, nil, err
	}
	u := jwt.NewUserClaims(req.UserNkey)
	// The name is what Kick finds connections by, and what control reads as
	// the proven key of an enrolment.
	u.Name = c.Key
	u.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard)
	switch c.User {
	case fleet.UserEnroll:
		u.Audience, u.Permissions = accountNodes, enrollLaws(c.Key)
		u.Expires = time.Now().Add(enrollLife).Unix()
	case fleet.UserNode:
		ss, err := s.session(c)
		if err != nil {
			return c, nil, err
		}
		// A session's end is a kick by control, not a timer in the server:
		// when control is away nobody who is in falls out.
		u.Audience, u.Permissions = accountNodes, nodeLaws(ss.Node, ss.Role)
	case fleet.UserOperator:
		if !s.operators[c.Key] {
			return c, nil, errors.New("the key is no operator's")
		}
		u.Audience, u.Permissions = accountIngot, operatorLaws(c.Key)
	case UserReconciler:
		if !slices.Contains(s.cfg.Reconcilers, c.Key) {
			return c, nil, errors.New("the key is no reconciler's")
		}
		u.Audience, u.Permissions = accountIngot, reconcilerLaws(c.Key)
	default:
		return c, nil, fmt.Errorf("user %.40q is not known", c.User)
	}
	return c, u, nil
}

func (s *Server) session(c Claim) (Session, error) {
	a := s.authz.Load()
	if a == nil {
		return Session{}, errors.New("control has not started yet")
	}
	ctx, cancel := context.WithTimeout(context.Background(), authorizeTimeout)
	defer cancel()
	ss, err := a.Authorize(ctx, c)
	if err != nil {
		return ss, err
	}
	if _, err := fleet.ParseNodeID(string(ss.Node)); err != nil {
		return ss, err
	}
	if !slices.Contains([]fleet.Role{fleet.RoleAgent, fleet.RoleResident}, ss.Role) {
		return ss, fmt.Errorf("role %.40q is not known", ss.Role)
	}
	return ss, nil
}

// prove checks that the client holds the secret half of key.
func prove(key, nonce, sig string) error {
	if !nkeys.IsValidPublicUserKey(key) {
		return errors.New("no user nkey is given")
	}
	if nonce == "" {
		return errors.New("the nonce is not signed")
	}
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		return fmt.Errorf("the signature of the nonce: %v", err)
	}
	pub, err := nkeys.FromPublicKey(key)
	if err != nil {
		return fmt.Errorf("the nkey: %v", err)
	}
	if err := pub.Verify([]byte(nonce), raw); err != nil {
		return errors.New("the signature of the nonce does not fit the nkey")
	}
	return nil
}
