package images

import (
	"cmp"
	"strings"
)

// CompareVersions orders versions of one stack as people count them: part by
// part, numbers by their value and words by the alphabet. What follows a dash
// comes before the version without it: 2.0-rc1 before 2.0, and 2.0 before 2.0.1.
func CompareVersions(a, b string) int {
	for a != "" || b != "" {
		x, y := versionPart(a), versionPart(b)
		if c := cmp.Compare(versionRank(x), versionRank(y)); c != 0 {
			return c
		}
		if c := compareParts(x, y); c != 0 {
			return c
		}
		a, b = a[len(x):], b[len(y):]
	}
	return 0
}

// versionPart is what a version begins with: a number, a word, or one character
// of another kind; "" at its end.
func versionPart(v string) string {
	if v == "" {
		return ""
	}
	n := 1
	for n < len(v) && versionRank(v[:1]) >= rankWord && versionRank(v[n:n+1]) == versionRank(v[:1]) {
		n++
	}
	return v[:n]
}

// The kinds of parts, in their order where others are equal.
const (
	rankDash = iota
	rankEnd
	rankOther
	rankWord
	rankNumber
)

func versionRank(part string) int {
	switch {
	case part == "":
		return rankEnd
	case part[0] == '-':
		return rankDash
	case part[0] >= '0' && part[0] <= '9':
		return rankNumber
	case part[0] >= 'a' && part[0] <= 'z', part[0] >= 'A' && part[0] <= 'Z':
		return rankWord
	}
	return rankOther
}

// compareParts compares two parts of one kind.
func compareParts(x, y string) int {
	if versionRank(x) != rankNumber {
		return cmp.Compare(x, y)
	}
	x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
}
