package hardware

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// whole is a record in which every field of every part is set, n to a list.
// Texts are what text makes of a count.
func whole[T any](n int, text func(int) string) T {
	var v T
	i := 0
	var set func(reflect.Value)
	set = func(v reflect.Value) {
		i++
		switch v.Kind() {
		case reflect.String:
			switch v.Type() {
			case reflect.TypeFor[MAC]():
				v.SetString(fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8&0xff, i&0xff))
			case reflect.TypeFor[UUID]():
				v.SetString(fmt.Sprintf("11223344-5566-4788-99aa-%012x", i))
			default:
				v.SetString(text(i))
			}
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int, reflect.Int64:
			v.SetInt(int64(i))
		case reflect.Uint64:
			v.SetUint(uint64(i))
		case reflect.Float64:
			v.SetFloat(float64(i))
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[time.Time]() {
				v.Set(reflect.ValueOf(time.Unix(int64(i), 0).UTC()))
				return
			}
			for j := range v.NumField() {
				set(v.Field(j))
			}
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for j := range n {
				set(v.Index(j))
			}
		case reflect.Map:
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(reflect.ValueOf(fmt.Sprintf("k%d", i)), reflect.ValueOf(text(i)))
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			set(v.Elem())
		default:
			panic("a field of kind " + v.Kind().String() + " that nothing sets")
		}
	}
	set(reflect.ValueOf(&v).Elem())
	return v
}

func plain(i int) string { return fmt.Sprintf("T%dx", i) }

func TestWholeRecordSurvivesTheWire(t *testing.T) {
	inv := whole[Inventory](3, plain)
	inv.Normalize()
	b, err := inv.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(inv, back); d != "" {
		t.Errorf("round trip (-want +got):\n%s", d)
	}
	r := whole[Readings](3, plain)
	r.Normalize()
	j := canonical(r)
	again, err := DecodeReadings(j)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, again); d != "" {
		t.Errorf("round trip of readings (-want +got):\n%s", d)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	inv := whole[Inventory](2, plain)
	c := cloned(inv)
	if d := cmp.Diff(inv, c); d != "" {
		t.Fatalf("clone (-want +got):\n%s", d)
	}
	eachField(reflect.ValueOf(&c).Elem(), func(_ reflect.StructField, v reflect.Value) {
		switch v.Kind() {
		case reflect.Map:
			v.SetMapIndex(reflect.ValueOf("changed"), reflect.ValueOf("x"))
		case reflect.Pointer:
			v.Elem().SetZero()
		case reflect.Slice:
			if v.Type().Elem().Kind() != reflect.Struct {
				v.Index(0).SetZero()
			}
		}
	})
	if d := cmp.Diff(whole[Inventory](2, plain), inv); d != "" {
		t.Errorf("a change of the clone changed its origin:\n%s", d)
	}
}

// TestDigestOfWholeRecord shuffles every list of parts and changes every field
// that moves.
func TestDigestOfWholeRecord(t *testing.T) {
	want := whole[Inventory](4, plain).Digest()
	inv := whole[Inventory](4, plain)
	top := reflect.ValueOf(&inv).Elem()
	for i := range top.NumField() {
		if v := top.Field(i); v.Kind() == reflect.Slice {
			rand.Shuffle(v.Len(), reflect.Swapper(v.Interface()))
		}
	}
	eachField(top, func(f reflect.StructField, v reflect.Value) {
		if f.Tag.Get("digest") == "-" {
			v.SetZero()
		}
	})
	if got := inv.Digest(); got != want {
		t.Error("order, or a field that moves, changes the digest")
	}
	if inv.NICs[0].Firmware = "other"; inv.Digest() == want {
		t.Error("other firmware does not change the digest")
	}
}

func TestHostileRecordIsCleaned(t *testing.T) {
	inv := whole[Inventory](70, func(i int) string { return "\x1b]0;pwn\a" + strings.Repeat("\n<x>", i%400) })
	inv.Normalize()
	eachField(reflect.ValueOf(&inv).Elem(), func(f reflect.StructField, v reflect.Value) {
		if v.Kind() == reflect.String && (strings.ContainsAny(v.String(), "\x1b\a\n") || v.Len() > maxEvidence) {
			t.Errorf("%s = %q after Normalize", f.Name, v.String())
		}
		if v.Kind() == reflect.Slice && v.Len() > mostOf(f) {
			t.Errorf("%s has %d elements, most %d", f.Name, v.Len(), mostOf(f))
		}
	})
	again := cloned(inv)
	again.Normalize()
	if d := cmp.Diff(inv, again); d != "" {
		t.Errorf("Normalize twice (-once +twice):\n%s", d)
	}
}

func TestRawKeepsWhatAVendorWrote(t *testing.T) {
	inv := Inventory{System: System{Manufacturer: "ACME\x01  Inc. ", Model: "To be filled by O.E.M.", Serial: " A1 "}}
	inv.Normalize()
	if d := cmp.Diff(System{Manufacturer: "ACME Inc.", Serial: "A1", Raw: Raw{"manufacturer": "ACME\x01  Inc. "}}, inv.System); d != "" {
		t.Errorf("system (-want +got):\n%s", d)
	}
}

func TestFillNamesWhoStandsBehindAFact(t *testing.T) {
	one, two := 1, 2
	a := Inventory{TPM: TPM{Version: "2.0", Sources: Sources{"tpm"}}, DIMMs: []DIMM{{Slot: "A", NUMANode: &one}},
		BMC: BMC{Addresses: []string{"10.0.0.1"}, Sources: Sources{"ipmi"}}}
	b := Inventory{TPM: TPM{Version: "1.2", Sources: Sources{"redfish"}}, DIMMs: []DIMM{{Slot: "B", NUMANode: &two}},
		BMC: BMC{Addresses: []string{"10.0.0.1"}, Firmware: "7", Sources: Sources{"redfish"}}}
	got := Fill(a, b)
	if d := cmp.Diff(TPM{Version: "2.0", Sources: Sources{"tpm"}}, got.TPM); d != "" {
		t.Errorf("TPM (-want +got):\n%s", d)
	}
	if d := cmp.Diff(Sources{"ipmi", "redfish"}, got.BMC.Sources); d != "" || got.BMC.Firmware != "7" || len(got.DIMMs) != 1 {
		t.Errorf("BMC %+v, DIMMs %+v", got.BMC, got.DIMMs)
	}
}
