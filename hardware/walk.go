package hardware

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// The record is walked by its types, so that a new fact is cleaned, cloned,
// joined, bounded and digested without a line of its own. Tags say what the
// type alone does not:
//
//	clean:"serial"  a serial, part number or asset tag: see CleanSerial
//	clean:"word"    an identifier, of which none is a placeholder
//	clean:"text"    free text, kept but for what a console would obey
//	most:"64"       how many elements are kept
//	digest:"-"      moves between boots, and is in no digest

// cloned is a deep copy.
func cloned[T any](v T) T {
	return cloneValue(reflect.ValueOf(&v).Elem()).Interface().(T)
}

func cloneValue(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() { // a time is a value, and is copied already
				out.Field(i).Set(cloneValue(v.Field(i)))
			}
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(cloneValue(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for k, e := range v.Seq2() {
				out.SetMapIndex(k, e)
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(cloneValue(v.Elem()))
		}
	}
	return out
}

// eachSources calls f with the sources of every part.
func (inv *Inventory) eachSources(f func(*Sources)) {
	eachField(reflect.ValueOf(inv).Elem(), func(_ reflect.StructField, v reflect.Value) {
		if s, ok := v.Addr().Interface().(*Sources); ok {
			f(s)
		}
	})
}

// eachField calls f with every field of a struct and of the structs in it.
func eachField(v reflect.Value, f func(reflect.StructField, reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f(v.Type().Field(i), v.Field(i))
			eachField(v.Field(i), f)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Len() {
				eachField(v.Index(i), f)
			}
		}
	}
}

// withoutWhatMoves clears every field that is in no digest, and sources and
// raw texts.
func (inv *Inventory) withoutWhatMoves() {
	eachField(reflect.ValueOf(inv).Elem(), func(f reflect.StructField, v reflect.Value) {
		_, sources := v.Interface().(Sources)
		_, raw := v.Interface().(Raw)
		if f.Tag.Get("digest") == "-" || sources || raw {
			v.SetZero()
		}
	})
}

// cleanTexts cleans every text of a struct, in place, and keeps in its Raw
// what that changed.
func cleanTexts(v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	raw, _ := fieldOf[Raw](v)
	for i := range v.NumField() {
		field, x := v.Type().Field(i), v.Field(i)
		switch x.Kind() {
		case reflect.String:
			was := x.String()
			x.SetString(cleaned(x.Type(), field.Tag.Get("clean"), was))
			if raw != nil && field.Tag.Get("clean") == "" && x.Type() == reflect.TypeFor[string]() {
				raw.keep(jsonName(field), was, x.String())
			}
		case reflect.Struct:
			cleanTexts(x)
		case reflect.Slice:
			cleanList(field, x)
		case reflect.Map:
			if x.Type() != reflect.TypeFor[Raw]() {
				cleanMap(field, x)
			}
		}
	}
	raw.bound()
}

func fieldOf[T any](v reflect.Value) (*T, bool) {
	for i := range v.NumField() {
		if p, ok := v.Field(i).Addr().Interface().(*T); ok {
			return p, true
		}
	}
	return nil, false
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func cleanList(field reflect.StructField, v reflect.Value) {
	elem := v.Type().Elem()
	for i := range v.Len() {
		if elem.Kind() == reflect.String {
			v.Index(i).SetString(cleaned(elem, field.Tag.Get("clean"), v.Index(i).String()))
		} else {
			cleanTexts(v.Index(i))
		}
	}
	if elem.Kind() == reflect.String && elem != reflect.TypeFor[Alias]() {
		for i := v.Len() - 1; i >= 0; i-- {
			if v.Index(i).Len() == 0 {
				v.Set(reflect.AppendSlice(v.Slice(0, i), v.Slice(i+1, v.Len())))
			}
		}
	}
}

// cleanMap cleans keys and values, and keeps so many, the first by their keys.
func cleanMap(field reflect.StructField, v reflect.Value) {
	m, ok := v.Interface().(map[string]string)
	if !ok || m == nil {
		return
	}
	out := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if key, value := printable(k, maxWord), Clean(m[k]); key != "" && value != "" && len(out) < mostOf(field) {
			out[key] = value
		}
	}
	if len(out) == 0 {
		out = nil
	}
	v.Set(reflect.ValueOf(out))
}

func mostOf(f reflect.StructField) int {
	if n, err := strconv.Atoi(f.Tag.Get("most")); err == nil {
		return n
	}
	return defaultMost
}

// cleaned is one text by the rule of its tag, or of its type.
func cleaned(t reflect.Type, rule, s string) string {
	switch t {
	case reflect.TypeFor[MAC]():
		return string(ParseMAC(s))
	case reflect.TypeFor[UUID]():
		return string(ParseUUID(s))
	case reflect.TypeFor[Digest]():
		return string(ParseDigest(s))
	}
	switch {
	case rule == "serial":
		return CleanSerial(s)
	case rule == "text":
		return printable(s, maxEvidence)
	case rule == "word", t != reflect.TypeFor[string](): // enumerations have types
		return word(s)
	}
	return Clean(s)
}

// keep remembers what a vendor wrote, unless only the space around it or
// everything went.
func (r *Raw) keep(name, was, now string) {
	if now == "" || strings.Trim(was, " \x00") == now || (*r)[name] != "" {
		return
	}
	if *r == nil {
		*r = Raw{}
	}
	(*r)[name] = strings.ToValidUTF8(was[:min(len(was), maxText)], "\uFFFD")
}

// bound holds raw texts that came over the wire to what keep would write.
func (r *Raw) bound() {
	if r == nil || len(*r) == 0 {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(*r)) {
		v := (*r)[k]
		if len(k) > maxWord || word(k) != k || len(*r) > defaultMost {
			delete(*r, k)
		} else if v = strings.ToValidUTF8(v, "\uFFFD"); len(v) > 2*maxText {
			(*r)[k] = strings.ToValidUTF8(v[:2*maxText], "")
		} else {
			(*r)[k] = v
		}
	}
}

// boundLists cuts every list to its most. What was cut from the record's own
// lists is told.
func boundLists(v reflect.Value, told func(what string, kept, of int)) {
	for i := range v.NumField() {
		field, x := v.Type().Field(i), v.Field(i)
		switch x.Kind() {
		case reflect.Struct:
			boundLists(x, told)
		case reflect.Slice:
			if most, n := mostOf(field), x.Len(); n > most {
				x.Set(x.Slice(0, most))
				if field.Name != "Findings" {
					told(jsonName(field), most, n)
				}
			}
			if x.Type().Elem().Kind() == reflect.Struct {
				for j := range x.Len() {
					boundLists(x.Index(j), told)
				}
			}
		}
	}
}

// fillStruct sets the facts of a struct that are absent and another has. It
// reports whether the other stands behind one of the facts. Sources are
// added where it does.
func fillStruct(to, from reflect.Value) bool {
	stands := false
	for i := range to.NumField() {
		a, b := to.Field(i), from.Field(i)
		switch {
		case a.Type() == reflect.TypeFor[Sources](), a.Type() == reflect.TypeFor[Raw](), b.IsZero():
		case a.IsZero():
			a.Set(b)
			stands = true
		case a.Kind() == reflect.Struct:
			stands = fillStruct(a, b) || stands
		case a.Kind() == reflect.Slice, a.Kind() == reflect.Map, a.Kind() == reflect.Pointer:
			stands = stands || reflect.DeepEqual(a.Interface(), b.Interface())
		default:
			stands = stands || a.Interface() == b.Interface()
		}
	}
	if mine, ok := fieldOf[Sources](to); ok && stands {
		theirs, _ := fieldOf[Sources](from)
		*mine = append(slices.Clip(*mine), *theirs...)
	}
	return stands
}

// fillPart is fillStruct for one part.
func fillPart[T any](to *T, from T) bool {
	return fillStruct(reflect.ValueOf(to).Elem(), reflect.ValueOf(&from).Elem())
}
