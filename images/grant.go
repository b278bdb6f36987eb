package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Schemas of the signed documents beside the manifest.
const (
	RuleSchema       = "ingot.rule/v1"
	GrantSchema      = "ingot.grant/v1"
	DelegationSchema = "ingot.delegation/v1"
	BundleSchema     = "ingot.grant-bundle/v1"
)

// Payload types of the DSSE envelopes; a signature over one type is never
// taken for another.
const (
	ManifestType   = "application/vnd.ingot.stack.v1+json"
	RuleType       = "application/vnd.ingot.rule.v1+json"
	GrantType      = "application/vnd.ingot.grant.v1+json"
	DelegationType = "application/vnd.ingot.delegation.v1+json"
	HandoffType    = "application/vnd.ingot.handoff.v1+json"
	CommandType    = "application/vnd.ingot.command.v1+json"
	BaselineType   = "application/vnd.ingot.baseline.v1+gzip"
	ExpectedType   = "application/vnd.ingot.expected.v1+gzip"
)

// Envelope is a DSSE envelope (secure-systems-lab/dsse v1.0) as it travels.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []Signature `json:"signatures"`
}

// Signature is one signature of an [Envelope].
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// Role is what a delegated key may sign.
type Role string

// The roles. Operators sign manifests, rules, commands, baselines and what is
// expected; reconcilers sign grants.
const (
	RoleOperator   Role = "operator"
	RoleReconciler Role = "reconciler"
)

// Delegation is a root key's word that another key holds a role.
type Delegation struct {
	Schema string `json:"schema"`
	Role   Role   `json:"role"`
	// PublicKey is an Ed25519 public key, 32 bytes.
	PublicKey []byte    `json:"public_key"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Lab marks a key that nothing outside the lab accepts.
	Lab bool `json:"lab,omitempty"`
}

// Selector says which servers a rule is for.
type Selector struct {
	Nodes []string `json:"nodes"`
}

// Rule is an operator's word that the selected servers run one of the stacks.
type Rule struct {
	Schema   string            `json:"schema"`
	ID       string            `json:"id"`
	Selector Selector          `json:"selector"`
	Stacks   []Digest          `json:"stacks"`
	Params   map[string]string `json:"params,omitempty"`
	// Count is how many servers the rule may hold at once.
	Count     int       `json:"count"`
	Created   time.Time `json:"created"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// Grant gives one stack to one boot of one server.
type Grant struct {
	Schema      string `json:"schema"`
	Node        string `json:"node"`
	BootID      string `json:"boot_id"`
	Attempt     int64  `json:"attempt"`
	RuleDigest  Digest `json:"rule_digest"`
	StackDigest Digest `json:"stack_digest"`
	// Params are the values in force; ParamsDigest is that of their JSON.
	Params       map[string]string `json:"params,omitempty"`
	ParamsDigest Digest            `json:"params_digest"`
	// Placement says where the server stands, as far as control was told.
	Placement Placement `json:"placement,omitzero"`
	// AgentKey is the nkey of the boot that the grant is for.
	AgentKey string `json:"agent_key"`
	// Nonce is the one that the agent sent when it enrolled: freshness without
	// a clock.
	Nonce    string    `json:"nonce"`
	Issued   time.Time `json:"issued"`
	NotAfter time.Time `json:"not_after"`
}

// Placement is where a server stands.
type Placement struct {
	Name string `json:"name,omitempty"`
	Rack string `json:"rack,omitempty"`
	Unit int    `json:"unit,omitempty"`
}

// GrantBundle is the value of the grant bucket: the grant with all that a
// server needs to check it without asking anybody.
type GrantBundle struct {
	Schema      string     `json:"schema"`
	Grant       Envelope   `json:"grant"`
	Rule        Envelope   `json:"rule"`
	Stack       Envelope   `json:"stack"`
	Delegations []Envelope `json:"delegations"`
}

// ParseRule reads a rule.
func ParseRule(b []byte) (Rule, error) {
	var r Rule
	if err := decodeStrict(b, MaxManifestBytes, &r); err != nil {
		return Rule{}, fmt.Errorf("rule: %w", err)
	}
	return r, r.Validate()
}

// Validate checks what can be checked without the stack.
func (r Rule) Validate() error {
	var c checker
	c.that(r.Schema == RuleSchema, "schema: is %.40q, want %q", r.Schema, RuleSchema)
	c.that(versionForm.MatchString(r.ID), "id: %.80q is malformed", r.ID)
	c.that(len(r.Selector.Nodes) > 0, "selector.nodes: is empty")
	c.that(len(r.Stacks) > 0, "stacks: is empty")
	for _, d := range r.Stacks {
		_, err := ParseDigest(string(d))
		c.that(err == nil, "stacks: %v", err)
	}
	c.that(r.Count > 0, "count: %d is not positive", r.Count)
	c.that(r.NotAfter.After(r.NotBefore), "not_after: is not later than not_before")
	if len(c.errs) > 0 {
		return fmt.Errorf("rule %.80q: %w", r.ID, errors.Join(c.errs...))
	}
	return nil
}

// ParseGrant reads a grant.
func ParseGrant(b []byte) (Grant, error) {
	var g Grant
	if err := decodeStrict(b, MaxManifestBytes, &g); err != nil {
		return Grant{}, fmt.Errorf("grant: %w", err)
	}
	if g.Schema != GrantSchema {
		return Grant{}, fmt.Errorf("grant: schema is %.40q, want %q", g.Schema, GrantSchema)
	}
	return g, nil
}

// ParseDelegation reads a delegation.
func ParseDelegation(b []byte) (Delegation, error) {
	var d Delegation
	if err := decodeStrict(b, MaxManifestBytes, &d); err != nil {
		return Delegation{}, fmt.Errorf("delegation: %w", err)
	}
	if d.Schema != DelegationSchema {
		return Delegation{}, fmt.Errorf("delegation: schema is %.40q, want %q", d.Schema, DelegationSchema)
	}
	if d.Role != RoleOperator && d.Role != RoleReconciler {
		return Delegation{}, fmt.Errorf("delegation: role %.40q is not known", d.Role)
	}
	return d, nil
}

// BootIdentity is what a grant must fit to be carried out here.
type BootIdentity struct {
	Node     string
	BootID   string
	AgentKey string
	Nonce    string
	Now      time.Time
}

// Check says whether grant, rule and manifest belong together and to this
// boot. Their signatures are checked before, in images/sign.
func (g Grant) Check(me BootIdentity, rule Rule, ruleDigest Digest, m Manifest, stackDigest Digest) error {
	var c checker
	c.that(g.Node == me.Node, "grant is for node %.80q, this is %q", g.Node, me.Node)
	c.that(g.BootID == me.BootID, "grant is for boot %.80q, this is %q", g.BootID, me.BootID)
	c.that(g.AgentKey == me.AgentKey, "grant is for another agent key")
	c.that(g.Nonce == me.Nonce, "grant answers another nonce: it is not fresh")
	c.that(g.RuleDigest == ruleDigest, "grant names rule %s, the bundle holds %s", g.RuleDigest.Short(), ruleDigest.Short())
	c.that(g.StackDigest == stackDigest, "grant names stack %s, the bundle holds %s", g.StackDigest.Short(), stackDigest.Short())
	c.that(slices.Contains(rule.Stacks, stackDigest), "rule %.80q does not allow stack %s", rule.ID, stackDigest.Short())
	c.that(slices.Contains(rule.Selector.Nodes, me.Node), "rule %.80q does not select node %q", rule.ID, me.Node)
	c.that(!me.Now.After(g.NotAfter), "grant expired at %s", g.NotAfter.Format(time.RFC3339))
	c.that(!me.Now.After(rule.NotAfter), "rule %.80q expired at %s", rule.ID, rule.NotAfter.Format(time.RFC3339))
	d, err := ParamsDigest(g.Params)
	c.that(err == nil && d == g.ParamsDigest, "grant's parameters do not match their digest")
	want, err := m.ResolveParams(rule.Params)
	if err != nil {
		c.that(false, "rule's parameters: %v", err)
	} else if wd, err := ParamsDigest(want); err != nil || wd != g.ParamsDigest {
		c.that(false, "grant's parameters are not those that rule %.80q gives", rule.ID)
	}
	return errors.Join(c.errs...)
}

// ParamsDigest names a set of parameters.
func ParamsDigest(params map[string]string) (Digest, error) {
	if params == nil {
		params = map[string]string{}
	}
	b, err := json.Marshal(params)
	if err != nil {
		return "", fmt.Errorf("write parameters as JSON: %w", err)
	}
	return DigestOf(b), nil
}
