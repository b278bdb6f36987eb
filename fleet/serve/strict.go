package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
)

// Source is a JSON file that was read, with the line at which each of its
// values begins, by path: "machines[1].macs".
type Source struct {
	path  string
	lines map[string]int
}

// at says where a value stands.
func (s Source) at(path string) string {
	return fmt.Sprintf("%s line %d", s.path, s.lines[path])
}

// ReadJSON reads a file of one value into v, and refuses what v's type does not
// know. Its errors name the file, the line and the key. It returns where each
// value stands.
func ReadJSON(path string, v any) (Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return Source{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return Source{}, err
	}
	if len(b) > maxFileBytes {
		return Source{}, fmt.Errorf("%s is larger than %d bytes", path, maxFileBytes)
	}
	lines, err := decodeStrict(b, v)
	if err != nil {
		return Source{}, fmt.Errorf("%s %w", path, err)
	}
	return Source{path: path, lines: lines}, nil
}

// decodeStrict decodes one JSON value. Its errors begin with the line.
func decodeStrict(b []byte, v any) (map[string]int, error) {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch err := json.Unmarshal(b, v); {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("line %d: %v", lineAt(b, syntax.Offset), syntax)
	case errors.As(err, &kind):
		return nil, fmt.Errorf("line %d: key %q holds a %s, want %s", lineAt(b, kind.Offset), kind.Field, kind.Value, kindOf(kind.Type))
	case err != nil:
		return nil, fmt.Errorf("line 1: %v", err)
	}
	w := walker{b: b, d: json.NewDecoder(bytes.NewReader(b)), lines: map[string]int{}}
	return w.lines, w.value("", reflect.TypeOf(v))
}

// lineAt is the line of the byte before an offset, counted from 1.
func lineAt(b []byte, offset int64) int {
	return 1 + bytes.Count(b[:max(0, min(offset-1, int64(len(b))))], []byte("\n"))
}

// kindOf says a type in the words of JSON.
func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "an array"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "an object"
	}
	return "a number"
}

// walker goes through a value that has been decoded once, and so is sound and
// of bounded depth, beside the type that it was decoded into.
type walker struct {
	b     []byte
	d     *json.Decoder
	lines map[string]int
}

func (w *walker) line() int { return lineAt(w.b, w.d.InputOffset()) }

func (w *walker) value(path string, t reflect.Type) error {
	token, err := w.d.Token()
	if err != nil {
		return fmt.Errorf("line %d: %v", w.line(), err)
	}
	w.lines[path] = w.line()
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch token {
	case json.Delim('{'):
		err = w.object(path, t)
	case json.Delim('['):
		var elem reflect.Type
		if t != nil && t.Kind() == reflect.Slice {
			elem = t.Elem()
		}
		for i := 0; err == nil && w.d.More(); i++ {
			err = w.value(fmt.Sprintf("%s[%d]", path, i), elem)
		}
	default:
		return nil
	}
	if err != nil {
		return err
	}
	_, err = w.d.Token() // the bracket that closes
	return err
}

func (w *walker) object(path string, t reflect.Type) error {
	fields := fieldsOf(t)
	seen := map[string]bool{}
	for w.d.More() {
		token, err := w.d.Token()
		if err != nil {
			return fmt.Errorf("line %d: %v", w.line(), err)
		}
		key := token.(string) // of an object, by the decoder's word
		if seen[key] {
			return fmt.Errorf("line %d: key %.80q stands twice in this object", w.line(), key)
		}
		seen[key] = true
		inner, known := fields.types[key]
		if fields.types != nil && !known {
			return fmt.Errorf("line %d: key %.80q is not known here: want %s", w.line(), key, strings.Join(fields.names, ", "))
		}
		if err := w.value(strings.TrimPrefix(path+"."+key, "."), inner); err != nil {
			return err
		}
	}
	return nil
}

// fields are the keys of an object by their names; types is nil where any key
// may stand.
type fields struct {
	names []string
	types map[string]reflect.Type
}

func fieldsOf(t reflect.Type) fields {
	if t == nil || t.Kind() != reflect.Struct {
		return fields{}
	}
	f := fields{types: map[string]reflect.Type{}}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			f.names, f.types[name] = append(f.names, name), t.Field(i).Type
		}
	}
	return f
}
