package images

import (
	"cmp"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	ordered := []string{
		"0.9", "1-alpha", "1-rc1", "1-rc2", "1-rc10", "1", "1.0", "1.0.0-beta", "1.0.0", "1.0.1", "1.2", "1.10", "1.10a", "1.10b",
		"2", "10", "2024.01.31", "2026.11.28", "99999999999999999999", "100000000000000000000",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			if got, want := CompareVersions(a, b), cmp.Compare(i, j); got != want {
				t.Errorf("CompareVersions(%q, %q) = %d; want %d", a, b, got, want)
			}
		}
	}
	if CompareVersions("1.02", "1.2") != 0 {
		t.Error("1.02 and 1.2 differ; want zeros in front to count for nothing")
	}
}

// Two versions stand the same way round whoever is asked first.
func FuzzCompareVersions(f *testing.F) {
	f.Add("1.0-rc1", "1.0")
	f.Add("1..", "1-+")
	f.Fuzz(func(t *testing.T, a, b string) {
		if x, y := CompareVersions(a, b), CompareVersions(b, a); x != -y || CompareVersions(a, a) != 0 {
			t.Errorf("CompareVersions(%q, %q) = %d, the other way round %d", a, b, x, y)
		}
	})
}
