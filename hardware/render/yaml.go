package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// YAML is a JSON document as YAML 1.2, its fields in the same order. Strings
// are quoted as in JSON, which YAML reads, unless they are plain words. It is
// here because a library for YAML weighs more than all drives' readers, and
// the agent has little room.
func YAML(document []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	lines, _, err := yamlValue(d)
	if err != nil {
		return nil, fmt.Errorf("write as YAML: %w", err)
	}
	return []byte(strings.Join(lines, "\n") + "\n"), nil
}

// plain are strings that no YAML reads as anything else.
var (
	plain       = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./()+-]*( [A-Za-z0-9_./()+-]+)*$`)
	unprintable = regexp.MustCompile(`[\x{7f}-\x{9f}\x{feff}\x{fffe}\x{ffff}]`)
	special     = regexp.MustCompile(`(?i)^(true|false|null|yes|no|on|off|y|n)$`)
)

// yamlValue reads one value and gives its lines; scalar says that it is one
// that may stand behind a key.
func yamlValue(d *json.Decoder) (lines []string, scalar bool, err error) {
	t, err := d.Token()
	if err != nil {
		return nil, false, err
	}
	switch t := t.(type) {
	case json.Delim:
		for d.More() && err == nil {
			var more []string
			if t == '{' {
				more, err = yamlField(d)
			} else if more, _, err = yamlValue(d); err == nil {
				more = indented("- ", more)
			}
			lines = append(lines, more...)
		}
		if err == nil {
			_, err = d.Token() // the end of it
		}
		if len(lines) == 0 {
			return []string{map[json.Delim]string{'{': "{}", '[': "[]"}[t]}, true, err
		}
		return lines, false, err
	case string:
		return []string{yamlString(t)}, true, nil
	case nil:
		return []string{"null"}, true, nil
	}
	return []string{fmt.Sprint(t)}, true, nil
}

func yamlField(d *json.Decoder) ([]string, error) {
	key, err := d.Token()
	if err != nil {
		return nil, err
	}
	lines, scalar, err := yamlValue(d)
	name := yamlString(fmt.Sprint(key)) + ":"
	if scalar {
		return []string{name + " " + lines[0]}, err
	}
	return append([]string{name}, indented("  ", lines)...), err
}

// indented puts a mark before the first line and room before the others.
func indented(mark string, lines []string) []string {
	for i := range lines {
		lines[i] = mark + lines[i]
		mark = "  "
	}
	return lines
}

func yamlString(s string) string {
	if plain.MatchString(s) && !special.MatchString(s) {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return `""` // no string is without its JSON
	}
	// What JSON leaves as it is and YAML does not take (YAML 1.2.2 5.1).
	return unprintable.ReplaceAllStringFunc(strings.TrimSuffix(b.String(), "\n"), func(c string) string {
		r, _ := utf8.DecodeRuneInString(c)
		return fmt.Sprintf(`\u%04x`, r)
	})
}
