package expected

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-metal/ingot/hardware"
	"go.yaml.in/yaml/v3"
)

// mostDepth is how deep the form nests, and more than that is not looked at.
const mostDepth = 6

var yamlLine = regexp.MustCompile(`line ([0-9]+): (.*)`)

// yaml reads the tree of the file, so that each value keeps its place.
func (f *file) yaml(b []byte) {
	if deep := tooDeep(b); deep.line > 0 {
		f.bad(deep, "brackets stand in each other more than 64 deep")
		return
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		at := cell{line: 1, column: 1}
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			at.line, err = strconv.Atoi(m[1])
			if text = m[2]; err != nil {
				at.line = 1
			}
		}
		f.bad(at, "%s", text)
		return
	}
	if len(doc.Content) == 0 {
		return
	}
	f.pairs(doc.Content[0], 0, func(key cell, value *yaml.Node) {
		switch key.text {
		case "schema":
			if v, ok := f.scalar(value); ok && v.text != hardware.ExpectedSchema {
				f.bad(v, "schema is %.40q, want %q", v.text, hardware.ExpectedSchema)
			}
		case "machines":
			f.items(value, f.machineNode)
		case "skus":
			f.pairs(value, 1, f.skuNode)
		default:
			f.bad(key, "key %.80q is not known; known are machines, skus, schema", key.text)
		}
	})
}

// tooDeep finds brackets that nest so deep that a parser would follow them for
// long: the form needs three.
func tooDeep(b []byte) cell {
	depth := 0
	for i, c := range b {
		switch c {
		case '[', '{':
			if depth++; depth > 64 {
				return place(append(slices.Clone(b[:i]), 0xff))
			}
		case ']', '}':
			depth = max(depth-1, 0)
		}
	}
	return cell{}
}

func at(n *yaml.Node) cell { return cell{n.Value, max(n.Line, 1), max(n.Column, 1)} }

// plain refuses what only makes a file hard to read.
func (f *file) plain(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		f.bad(at(n), "anchors and aliases are not taken: write it out")
		return false
	}
	return true
}

// pairs calls each with the keys and values of a mapping, each key once.
func (f *file) pairs(n *yaml.Node, depth int, each func(key cell, value *yaml.Node)) {
	if !f.plain(n) || depth > mostDepth || n.Tag == "!!null" { // nothing stands below the key
		return
	}
	if n.Kind != yaml.MappingNode {
		f.bad(at(n), "want keys with values here")
		return
	}
	seen := map[string]cell{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !f.plain(n.Content[i]) {
			continue
		}
		key, ok := f.scalar(n.Content[i])
		if !ok {
			continue
		}
		before := len(f.mistakes)
		if first(f, seen, key.text, key, "key"); len(f.mistakes) == before {
			each(key, n.Content[i+1])
		}
	}
}

func (f *file) items(n *yaml.Node, each func(*yaml.Node)) {
	if !f.plain(n) || n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.SequenceNode {
		f.bad(at(n), "want a list here: lines that begin with a dash")
		return
	}
	for _, item := range n.Content {
		each(item)
	}
}

// scalar is one value as it is written; a serial of digits stays what it is.
func (f *file) scalar(n *yaml.Node) (cell, bool) {
	if !f.plain(n) {
		return cell{}, false
	}
	c := at(n)
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		f.bad(c, "want one value here")
		return c, false
	}
	c.text = strings.TrimSpace(c.text)
	return c, true
}

func (f *file) machineNode(n *yaml.Node) {
	var m hardware.ExpectedMachine
	before := len(f.mistakes)
	f.pairs(n, 2, func(key cell, value *yaml.Node) {
		set, ok := machineFields[key.text]
		if !ok {
			f.bad(key, "key %.80q of a machine is not known; known are %s", key.text, known(machineFields))
			return
		}
		f.values(key, value, func(c cell) { set(f, &m, c) })
	})
	if len(f.mistakes) == before {
		f.addMachine(m, at(n))
	}
}

func (f *file) skuNode(name cell, n *yaml.Node) {
	var s hardware.SKU
	f.pairs(n, 2, func(key cell, value *yaml.Node) {
		set, ok := skuFields[key.text]
		if !ok {
			f.bad(key, "key %.80q of a bill of materials is not known; known are %s", key.text, known(skuFields))
			return
		}
		f.values(key, value, func(c cell) { set(f, &s, c) })
	})
	f.addSKU(name, s)
}

// values calls set with one value, or with those of a list where the key may
// have one. A mapping in the list of drives or ports is put into words first.
func (f *file) values(key cell, n *yaml.Node, set func(cell)) {
	if n.Kind == yaml.SequenceNode && slices.Contains(lists, key.text) {
		f.items(n, func(item *yaml.Node) {
			if item.Kind == yaml.MappingNode {
				if c, err := f.words(key.text, item); err == nil {
					set(c)
				}
				return
			}
			if c, ok := f.scalar(item); ok {
				set(c)
			}
		})
		return
	}
	if c, ok := f.scalar(n); ok {
		for _, v := range split(key.text, c) {
			set(v)
		}
	}
}

var errMistake = errors.New("a mistake was told")

// words is {count: 8, size: 3.84TB, transport: nvme} as "8x 3.84TB nvme".
func (f *file) words(list string, n *yaml.Node) (cell, error) {
	order := map[string][]string{"drives": {"count", "size", "size_bytes", "transport", "model"}, "nics": {"count", "mbps"}}[list]
	if order == nil {
		f.bad(at(n), "want one value here")
		return cell{}, errMistake
	}
	said := map[string]string{}
	before := len(f.mistakes)
	f.pairs(n, 3, func(key cell, value *yaml.Node) {
		if !slices.Contains(order, key.text) {
			f.bad(key, "key %.80q is not known; known are %s", key.text, strings.Join(order, ", "))
			return
		}
		if c, ok := f.scalar(value); ok {
			said[key.text] = c.text
		}
	})
	if len(f.mistakes) > before {
		return cell{}, errMistake
	}
	var out []string
	for _, key := range order {
		if text := said[key]; text != "" && key == "count" {
			out = append(out, text+"x")
		} else if text != "" {
			out = append(out, text)
		}
	}
	c := at(n)
	c.text = strings.Join(out, " ")
	return c, nil
}
