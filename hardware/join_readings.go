package hardware

import (
	"cmp"
	"reflect"
	"strings"
)

// Join adds what another source reads of the same server: single facts where
// they are absent, and of each list what is not there yet by its name (links by
// MAC, drives by serial). A server and its BMC read many sensors both.
func (r *Readings) Join(more Readings) {
	more = cloned(more)
	joinByName(&r.Temperatures, &more.Temperatures, func(t Temperature) string { return t.Name })
	joinByName(&r.Fans, &more.Fans, func(f Fan) string { return f.Name })
	joinByName(&r.Sensors, &more.Sensors, func(s Sensor) string { return s.Name + "/" + s.Kind })
	joinByName(&r.PSUs, &more.PSUs, func(p PSUReading) string { return p.Name })
	joinByName(&r.Drives, &more.Drives, func(d DriveReading) string { return cmp.Or(d.Serial, d.Name) })
	joinByName(&r.ECC, &more.ECC, func(e ECCReading) string { return e.Name })
	joinByName(&r.Links, &more.Links, func(l Link) string { return string(l.MAC) })
	joinByName(&r.Logs, &more.Logs, func(l Log) string { return l.Name })
	to, from := reflect.ValueOf(r).Elem(), reflect.ValueOf(&more).Elem()
	for i := range to.NumField() {
		if to.Field(i).Kind() != reflect.Slice && to.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
}

func joinByName[T any](out, more *[]T, name func(T) string) {
	known := map[string]bool{}
	for _, x := range *out {
		known[strings.ToLower(name(x))] = true
	}
	for _, x := range *more { // one source may have several of a name, and all of them stand
		if !known[strings.ToLower(name(x))] {
			*out = append(*out, x)
		}
	}
}
