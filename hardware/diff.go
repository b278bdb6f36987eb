package hardware

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// ChangeKind says how a part differs between two records of one server.
type ChangeKind string

// The kinds of changes.
const (
	Gone     ChangeKind = "gone"     // no longer there
	New      ChangeKind = "new"      // was not there
	Moved    ChangeKind = "moved"    // the same serial in another place
	Changed  ChangeKind = "changed"  // a fact differs
	Degraded ChangeKind = "degraded" // a fact differs, for the worse: smaller, slower, narrower
)

// Change is one difference. Was and Now are texts for a person; Field is the
// JSON path of the fact, empty where the whole part came or went.
type Change struct {
	Kind  ChangeKind `json:"kind"`
	Part  string     `json:"part"` // dimm DIMM_A1, drive serial S1, bios
	Field string     `json:"field,omitempty"`
	Was   string     `json:"was,omitempty"`
	Now   string     `json:"now,omitempty"`
}

// Shrinks reports whether the server has less than it had: a part is gone, or
// does less.
func (c Change) Shrinks() bool { return c.Kind == Gone || c.Kind == Degraded }

// String is one line for a person.
func (c Change) String() string {
	s := string(c.Kind) + ": " + c.Part
	if c.Field != "" {
		s += " " + c.Field
	}
	switch {
	case c.Was != "" && c.Now != "":
		return s + ": " + c.Was + " → " + c.Now
	case c.Was != "" || c.Now != "":
		return s + ": " + c.Was + c.Now
	}
	return s
}

// kind is how the parts of one list are told apart. A serial goes with the
// part, a place stays with the server.
type kind struct {
	name    string
	field   string // of Inventory
	serials []string
	places  []string
	what    []string // the facts that describe a part that came or went
}

// kinds are the lists that a diff looks at. DIMM slots follow from the DIMMs
// and firmware entries of the same name may be many: they have an ID.
var kinds = []kind{
	{"cpu", "CPUs", []string{"Serial"}, []string{"Socket"}, []string{"Model"}},
	{"numa node", "NUMANodes", nil, []string{"ID"}, []string{"CPUs"}},
	{"gpu", "GPUs", []string{"Serial", "UUID"}, []string{"BDF", "Slot", "Name"}, []string{"Manufacturer", "Model"}},
	{"dimm", "DIMMs", []string{"Serial"}, []string{"Slot"}, []string{"SizeBytes", "Manufacturer", "Part"}},
	{"drive", "Drives", []string{"Serial", "WWN"}, []string{"Slot", "BDF", "Name"}, []string{"Vendor", "Model", "SizeBytes"}},
	{"volume", "Volumes", []string{"WWN"}, []string{"ID", "Name"}, []string{"RAID", "SizeBytes"}},
	{"storage controller", "StorageControllers", []string{"Serial"}, []string{"BDF", "Slot", "Name"}, []string{"Manufacturer", "Model"}},
	{"enclosure", "Enclosures", []string{"Serial", "WWN"}, []string{"Name"}, []string{"Manufacturer", "Model"}},
	{"nic", "NICs", []string{"MAC"}, []string{"BDF", "Slot"}, []string{"Adapter"}},
	{"adapter", "Adapters", []string{"Serial"}, []string{"BDF", "Slot", "Name"}, []string{"Manufacturer", "Model"}},
	{"pci", "PCI", nil, []string{"BDF"}, []string{"Vendor", "Device"}},
	{"usb", "USB", []string{"Serial"}, []string{"Port"}, []string{"Manufacturer", "Product"}},
	{"psu", "PSUs", []string{"Serial"}, []string{"Slot", "Name"}, []string{"Manufacturer", "Model", "CapacityWatt"}},
	{"fan", "Fans", []string{"Serial"}, []string{"Slot", "Name"}, []string{"Model"}},
	{"watchdog", "Watchdogs", nil, []string{"Name"}, []string{"Identity"}},
	{"firmware", "Firmware", nil, []string{"ID", "Name"}, []string{"Name", "Version"}},
	{"boot entry", "BootEntries", nil, []string{"ID"}, []string{"Name"}},
	{"chassis part", "ChassisParts", []string{"Serial"}, []string{"Name"}, []string{"Manufacturer", "Model"}},
	{"fru", "FRUs", nil, []string{"ID"}, []string{"ProductManufacturer", "ProductName"}},
}

// Diff is what changed from a to b, in the order of the record. Facts that
// one of the two does not know are no change: the one may have been read by
// fewer sources. Kernel, findings and what moves are not compared, but for
// links that came down in width or speed.
func Diff(a, b Inventory) []Change {
	a, b = a.Normalized(), b.Normalized()
	var out []Change
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		f := va.Type().Field(i)
		if va.Field(i).Kind() == reflect.Struct && f.Name != "Kernel" {
			out = append(out, comparison{part: jsonName(f)}.facts("", va.Field(i), vb.Field(i))...)
		}
	}
	for _, k := range kinds {
		out = append(out, k.diff(va.FieldByName(k.field), vb.FieldByName(k.field))...)
	}
	return out
}

// Without is a record less the parts that this source alone knows: what to
// compare with where the source was not read.
func (inv Inventory) Without(source string) Inventory {
	out := cloned(inv)
	v := reflect.ValueOf(&out).Elem()
	for i := range v.NumField() {
		list := v.Field(i)
		if list.Kind() != reflect.Slice {
			continue
		}
		kept := reflect.MakeSlice(list.Type(), 0, list.Len())
		for j := range list.Len() {
			from := list.Index(j).FieldByName("Sources")
			if !from.IsValid() || from.Len() != 1 || from.Index(0).String() != source {
				kept = reflect.Append(kept, list.Index(j))
			}
		}
		list.Set(kept)
	}
	return out
}

// diff matches the parts of two lists: by serial, then by place.
func (k kind) diff(a, b reflect.Value) []Change {
	if a.Len() == 0 || b.Len() == 0 && k.unknowable() {
		return k.news(a, b)
	}
	pairs := k.match(a, b)
	var out []Change
	taken := make([]bool, b.Len())
	for i := range a.Len() {
		j := pairs[i]
		if j < 0 {
			out = append(out, Change{Kind: Gone, Part: k.label(a.Index(i)), Was: k.describe(a.Index(i))})
			continue
		}
		taken[j] = true
		x, y := a.Index(i), b.Index(j)
		if was, now := first(x, k.places), first(y, k.places); len(k.serials) > 0 && was != now && was != "" && now != "" && samePlaceKind(x, y, k.places) {
			out = append(out, Change{Kind: Moved, Part: k.label(y), Was: was, Now: now})
		}
		out = append(out, comparison{k.label(y), k.places, asleep(x, y)}.facts("", x, y)...)
	}
	for j := range b.Len() {
		if !taken[j] {
			out = append(out, Change{Kind: New, Part: k.label(b.Index(j)), Now: k.describe(b.Index(j))})
		}
	}
	return out
}

// unknowable are lists that only some sources have: a record without any was
// made without that source.
func (k kind) unknowable() bool {
	switch k.field {
	case "CPUs", "DIMMs", "Drives", "NICs", "GPUs", "PCI":
		return false
	}
	return true
}

// news are the parts of a list that had none before: new where that is a
// fact, and nothing where the older record had no source for them.
func (k kind) news(a, b reflect.Value) []Change {
	if k.unknowable() || a.Len() > 0 {
		return nil
	}
	var out []Change
	for j := range b.Len() {
		out = append(out, Change{Kind: New, Part: k.label(b.Index(j)), Now: k.describe(b.Index(j))})
	}
	return out
}

// match gives each part of a its like in b, or -1. Two parts whose serials
// are known and differ are never alike. Parts of which neither serial nor place
// is known are alike when they are described alike.
func (k kind) match(a, b reflect.Value) []int {
	pairs := make([]int, a.Len())
	taken := make([]bool, b.Len())
	for i := range pairs {
		pairs[i] = -1
	}
	pass := func(alike func(x, y reflect.Value) bool) {
		for i := range pairs {
			for j := 0; j < b.Len() && pairs[i] < 0; j++ {
				if !taken[j] && alike(a.Index(i), b.Index(j)) {
					pairs[i], taken[j] = j, true
				}
			}
		}
	}
	for _, s := range k.serials {
		pass(func(x, y reflect.Value) bool {
			return text(x, s) != "" && strings.EqualFold(text(x, s), text(y, s)) && (first(x, k.places) == first(y, k.places))
		})
		pass(func(x, y reflect.Value) bool { return text(x, s) != "" && strings.EqualFold(text(x, s), text(y, s)) })
	}
	for _, p := range k.places {
		pass(func(x, y reflect.Value) bool {
			return text(x, p) != "" && text(x, p) == text(y, p) && !k.apart(x, y)
		})
	}
	nameless := func(v reflect.Value) bool { return first(v, k.places) == "" && first(v, k.serials) == "" }
	pass(func(x, y reflect.Value) bool { return nameless(x) && nameless(y) && k.describe(x) == k.describe(y) })
	return pairs
}

func (k kind) apart(x, y reflect.Value) bool {
	for _, s := range k.serials {
		if a, b := text(x, s), text(y, s); a != "" && b != "" && !strings.EqualFold(a, b) {
			return true
		}
	}
	return false
}

// samePlaceKind reports whether two parts name their places in the same way:
// by slot both, or by BDF both.
func samePlaceKind(x, y reflect.Value, places []string) bool {
	for _, p := range places {
		if a, b := text(x, p) != "", text(y, p) != ""; a || b {
			return a && b && p != "Name"
		}
	}
	return false
}

func (k kind) label(v reflect.Value) string {
	if place := first(v, k.places); place != "" {
		return k.name + " " + place
	}
	if serial := first(v, k.serials); serial != "" {
		return k.name + " serial " + serial
	}
	return k.name
}

func (k kind) describe(v reflect.Value) string {
	var words []string
	for _, f := range k.what {
		if s := text(v, f); s != "" {
			words = append(words, s)
		}
	}
	if s := first(v, k.serials); s != "" {
		words = append(words, "serial "+s)
	}
	return strings.Join(words, " ")
}

func first(v reflect.Value, names []string) string {
	for _, n := range names {
		if s := text(v, n); s != "" {
			return s
		}
	}
	return ""
}

// text is a field for a person; empty where it is absent.
func text(v reflect.Value, name string) string {
	x := v.FieldByName(name)
	if x.IsZero() && name != "ID" {
		return ""
	}
	return shown(name, x)
}

// shown is a fact for a person.
func shown(name string, v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if n, ok := v.Interface().(uint64); ok && strings.HasSuffix(name, "Bytes") {
		return FormatBytes(n)
	}
	return fmt.Sprint(v.Interface())
}

// worse are the facts that degrade when they fall, where both are known;
// links are compared although they move.
var worse = []string{"SizeBytes", "CapacityBytes", "MemoryBytes", "Cores", "Threads", "ConfiguredMTs", "SpeedGTs", "Width",
	"LinkMbps", "Ranks", "CacheBytes", "Slots", "Ports"}

// comparison is of two records of one part.
type comparison struct {
	part   string
	places []string // fields that say where it is, compared elsewhere
	asleep bool     // what its link runs at says nothing now
}

// facts are those that differ, by their JSON path.
func (c comparison) facts(path string, x, y reflect.Value) []Change {
	var out []Change
	for i := range x.NumField() {
		f := x.Type().Field(i)
		a, b := x.Field(i), y.Field(i)
		name := strings.TrimPrefix(path+"."+jsonName(f), ".")
		fell, moves := slices.Contains(worse, f.Name), f.Tag.Get("digest") == "-"
		switch {
		case f.Type == reflect.TypeFor[Sources](), f.Type == reflect.TypeFor[Raw](), slices.Contains(c.places, f.Name):
		case moves && (!fell || c.asleep):
		case a.Kind() == reflect.Struct:
			out = append(out, c.facts(name, a, b)...)
		case a.IsZero() || b.IsZero() || reflect.DeepEqual(a.Interface(), b.Interface()):
		case fell && less(b, a):
			out = append(out, Change{Kind: Degraded, Part: c.part, Field: name, Was: shown(f.Name, a), Now: shown(f.Name, b)})
		case !moves:
			out = append(out, c.difference(name, f.Name, a, b)...)
		}
	}
	return out
}

// asleep reports whether a link's speed says nothing: it is down, or belongs
// to a display device or an accelerator, which slow their links when idle.
func asleep(x, y reflect.Value) bool {
	for _, v := range []reflect.Value{x, y} {
		if c := v.FieldByName("Carrier"); c.IsValid() && c.String() == string(Disabled) {
			return true
		}
		if c := v.FieldByName("Class"); c.IsValid() && (strings.HasPrefix(c.String(), "03") || strings.HasPrefix(c.String(), "12")) {
			return true
		}
	}
	return false
}

func less(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Uint64:
		return a.Uint() < b.Uint()
	case reflect.Float64:
		return a.Float() < b.Float()
	}
	return a.Int() < b.Int()
}

// difference names the elements of lists and maps that differ, not the whole.
func (c comparison) difference(name, field string, a, b reflect.Value) []Change {
	switch was := a.Interface().(type) {
	case []string:
		now := b.Interface().([]string)
		return []Change{{Kind: Changed, Part: c.part, Field: name,
			Was: strings.Join(without(was, now), " "), Now: strings.Join(without(now, was), " ")}}
	case map[string]string:
		var out []Change
		for k, v := range was {
			if now, ok := b.Interface().(map[string]string)[k]; ok && now != v {
				out = append(out, Change{Kind: Changed, Part: c.part, Field: name + "." + k, Was: v, Now: now})
			}
		}
		slices.SortFunc(out, func(a, b Change) int { return cmp.Compare(a.Field, b.Field) })
		return out
	}
	return []Change{{Kind: Changed, Part: c.part, Field: name, Was: shown(field, a), Now: shown(field, b)}}
}

func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}
