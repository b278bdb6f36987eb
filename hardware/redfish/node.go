package redfish

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
)

// node is one JSON object of a resource. Its getters never fail: what is
// absent, null or of the wrong kind is the zero value.
type node map[string]any

// decode reads one object. Depth is bounded by encoding/json (10,000), length
// by the transport.
func decode(body []byte) (node, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var n node
	if err := dec.Decode(&n); err != nil {
		return nil, fmt.Errorf("no JSON object: %w", err)
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

// flag is a yes, a no, or nothing; texts count.
func (n node) flag(path ...string) hardware.Switch {
	switch v := n.at(path...).(type) {
	case bool:
		return hardware.SwitchOf(v)
	case string:
		switch strings.ToLower(v) {
		case "true", "enabled", "yes", "on":
			return hardware.Enabled
		case "false", "disabled", "no", "off":
			return hardware.Disabled
		}
	}
	return ""
}

// bytes is a size in the given unit. A text may name its own: "16 GiB".
func (n node) bytes(unit float64, path ...string) uint64 {
	f, ok := n.num(path...)
	if !ok {
		s := strings.ToUpper(strings.TrimSpace(n.str(path...)))
		i := strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789.", r) })
		if i <= 0 {
			return 0
		}
		var err error
		if f, err = strconv.ParseFloat(s[:i], 64); err != nil {
			return 0
		}
		own, ok := units[strings.TrimSpace(s[i:])]
		if !ok {
			return 0
		}
		unit = own
	}
	if f *= unit; f < 0 || f > 1<<62 {
		return 0
	}
	return uint64(f)
}

// units of sizes; those of memory are binary whatever they are called.
var units = map[string]float64{"B": 1, "KB": kib, "KIB": kib, "MB": mib, "MIB": mib, "GB": gib, "GIB": gib, "TB": tib, "TIB": tib}

const kib, mib, gib, tib = 1 << 10, 1 << 20, 1 << 30, 1 << 40

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
func (n node) link(path ...string) string {
	if s, ok := n.at(path...).(string); ok {
		return node{"@odata.id": s}.id()
	}
	return n.obj(path...).id()
}

// id is the path that a resource, or a link to one, names.
func (n node) id() string {
	s, _ := n["@odata.id"].(string)
	if s == "" {
		s, _ = n["href"].(string) // before Redfish 1.0
	}
	s, _, _ = strings.Cut(s, "#")
	if strings.Contains(s, "?") {
		return ""
	}
	return servicePath(s)
}

// next is the path of a collection's next page, which has a query.
func (n node) next() string {
	for _, k := range []string{"Members@odata.nextLink", "@odata.nextLink"} {
		switch v := n[k].(type) {
		case string:
			return servicePath(v)
		case map[string]any:
			s, _ := v["@odata.id"].(string)
			return servicePath(s)
		}
	}
	return ""
}

func servicePath(s string) string {
	if !strings.HasPrefix(s, "/redfish/") && !strings.HasPrefix(s, "/rest/v1/") || len(s) > 1024 ||
		strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f || r == '\\' }) || strings.Contains(s, "..") {
		return ""
	}
	return s
}

// key is what two ways of writing one path have in common.
func key(path string) string { return strings.TrimRight(strings.ToLower(path), "/") }

// leaf is the last part of a path: the Id, nearly always.
func leaf(path string) string {
	path = strings.TrimRight(path, "/")
	return path[strings.LastIndex(path, "/")+1:]
}

// absent reports whether the resource stands for an empty place.
func (n node) absent() bool { return strings.EqualFold(n.str("Status", "State"), "Absent") }

// first is the first text that is one once it is cleaned, as it was written.
func first(texts ...string) string {
	for _, s := range texts {
		if hardware.Clean(s) != "" {
			return s
		}
	}
	return ""
}
