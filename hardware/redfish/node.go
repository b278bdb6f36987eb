package redfish

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// node is one JSON object of a resource. Its getters never fail: what is
// absent, null or of the wrong kind is the zero value.
type node map[string]any

// decode reads one object. Depth is bounded by encoding/json (10,000), length
// by the transport.
func decode(r io.Reader) (node, error) {
	dec := json.NewDecoder(r)
	dec.UseNumber()
	var n node
	if err := dec.Decode(&n); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("no JSON: %w", err)
		}
		return nil, err
	}
	if n == nil {
		return nil, errors.New("null instead of a resource")
	}
	return n, nil
}

func (n node) at(path ...string) any {
	for _, k := range path[:len(path)-1] {
		n = n.obj(k)
	}
	return n[path[len(path)-1]]
}

func (n node) obj(path ...string) node {
	v := n[path[0]]
	if len(path) > 1 {
		v = n.at(path...)
	}
	switch v := v.(type) {
	case map[string]any:
		return v
	case []any: // some send an array of one
		if len(v) == 1 {
			if m, ok := v[0].(map[string]any); ok {
				return m
			}
		}
	}
	return nil
}

// str is a text; a number where a text belongs is its digits.
func (n node) str(path ...string) string {
	switch v := n.at(path...).(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// num is a number; a text of digits counts, "N/A" does not.
func (n node) num(path ...string) (float64, bool) {
	var s string
	switch v := n.at(path...).(type) {
	case json.Number:
		s = v.String()
	case string:
		s = strings.TrimSpace(v)
	default:
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// count is a number that counts something: from 0 to 2^53.
func (n node) count(path ...string) uint64 {
	f, ok := n.num(path...)
	if !ok || f < 0 || f > 1<<53 {
		return 0
	}
	return uint64(f)
}

func (n node) small(path ...string) int { return int(min(n.count(path...), math.MaxInt32)) }

// list are the objects of an array, or the one object in its place.
func (n node) list(path ...string) []node {
	switch v := n.at(path...).(type) {
	case map[string]any:
		return []node{v}
	case []any:
		var out []node
		for _, e := range v {
			if m, ok := e.(map[string]any); ok {
				out = append(out, m)
			}
		}
		return out
	}
	return nil
}

func (n node) texts(path ...string) []string {
	v, _ := n.at(path...).([]any)
	var out []string
	for _, e := range v {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// link is the @odata.id that a property leads to; empty unless it is a path
// of this service.
func (n node) link(path ...string) string { return n.obj(path...).id() }

func (n node) id() string {
	s, _ := n["@odata.id"].(string)
	s, _, _ = strings.Cut(s, "#")
	if !strings.HasPrefix(s, "/redfish/") || len(s) > 1024 || strings.ContainsAny(s, "?\\ \r\n") || strings.Contains(s, "..") {
		return ""
	}
	return s
}

// absent reports whether the resource stands for an empty place.
func (n node) absent() bool { return n.str("Status", "State") == "Absent" }
