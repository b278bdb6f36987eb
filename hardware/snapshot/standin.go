package snapshot

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf16"
)

// standins give each value another of the same length and shape. The same
// value has the same one throughout a snapshot, and another in the next.
type standins struct {
	key  [32]byte
	host string // the machine's own name
	// pairs are what is replaced, and by what, in every form that it takes.
	pairs map[string]string
	count int
}

// stream is a run of bytes that only this value has.
func (s *standins) stream(value []byte, n int) []byte {
	var out []byte
	for i := uint32(0); len(out) < n; i++ {
		m := hmac.New(sha256.New, s.key[:])
		m.Write(bytes.ToLower(value))
		m.Write(binary.BigEndian.AppendUint32(nil, i))
		out = m.Sum(out)
	}
	return out[:n]
}

// text is the stand-in of a text: a digit for a digit, a letter of the same
// case for a letter, hexadecimal for hexadecimal; the rest stays.
func (s *standins) text(v string) string {
	letters := byte(26)
	if strings.Trim(strings.ToLower(v), "0123456789abcdef-:. ") == "" {
		letters = 6
	}
	out := []byte(v)
	for i, x := range s.stream(out, len(out)) {
		switch c := out[i]; {
		case c >= '0' && c <= '9':
			out[i] = '0' + x%10
		case c >= 'a' && c <= 'z':
			out[i] = 'a' + x%letters
		case c >= 'A' && c <= 'Z':
			out[i] = 'A' + x%letters
		}
	}
	return string(out)
}

// pair notes that was is replaced by now.
func (s *standins) pair(was, now string) {
	if _, ok := s.pairs[was]; !ok && was != "" {
		s.pairs[was] = now
	}
}

// serial takes a serial number: as text, as ATA strings have it, in UTF-16,
// and in hexadecimal, as the kernel's names of NVMe drives have it.
func (s *standins) serial(v string) {
	v = strings.TrimSpace(strings.Trim(v, "\x00"))
	// A short number could as well be a size or a speed.
	if len(v) < 4 || len(v) < 6 && strings.Trim(v, "0123456789") == "" || len(v) > 256 || s.known(v) {
		return
	}
	now := s.text(v)
	for _, form := range []func(string) string{
		func(v string) string { return v }, strings.ToLower, strings.ToUpper,
		func(v string) string { return hex.EncodeToString([]byte(v)) },
		func(v string) string { return string(swap([]byte(v + strings.Repeat(" ", len(v)%2)))) },
		func(v string) string { return string(swap([]byte(" " + v + strings.Repeat(" ", 1-len(v)%2)))) },
		utf16LE,
	} {
		s.pair(form(v), form(now))
	}
}

func (s *standins) known(v string) bool {
	if _, ok := s.pairs[v]; ok {
		return true
	}
	s.count++
	return false
}

// binary takes a number that stands in binary and in hexadecimal: a MAC, a
// UUID, a world wide name. Its first keep bytes, which name the maker, stay.
func (s *standins) binary(v []byte, keep int, texts func([]byte) []string) {
	if len(v) < 6 || s.known(string(v)) {
		return
	}
	now := append(slices.Clone(v[:keep]), s.stream(v, len(v)-keep)...)
	s.pair(string(v), string(now))
	if len(v)%2 == 0 {
		s.pair(string(swap(v)), string(swap(now)))
	}
	was, is := texts(v), texts(now)
	for i := range was {
		s.pair(was[i], is[i])
		s.pair(strings.ToUpper(was[i]), strings.ToUpper(is[i]))
		if digits, ok := strings.CutPrefix(was[i], "0x"); ok {
			s.pair("0x"+strings.ToUpper(digits), "0x"+strings.ToUpper(is[i][2:]))
		}
	}
}

func (s *standins) mac(v []byte) {
	s.binary(v, 3, func(b []byte) []string {
		h := hex.EncodeToString(b)
		pairs := []string{h[:2], h[2:4], h[4:6], h[6:8], h[8:10], h[10:]}
		return []string{strings.Join(pairs, ":"), strings.Join(pairs, "-"), h, "enx" + h}
	})
}

func (s *standins) wwn(v []byte) {
	keep := 3 // of an EUI-64
	if len(v) == 8 && v[0]>>4 >= 2 {
		keep = 4 // NAA and 24 bits of the maker
	}
	if len(v) == 16 {
		keep = 0
	}
	s.binary(v, keep, func(b []byte) []string { return []string{hex.EncodeToString(b), "0x" + hex.EncodeToString(b)} })
}

// uuid takes a UUID in both byte orders (DSP0134 7.2.1).
func (s *standins) uuid(v []byte) {
	if len(v) != 16 {
		return
	}
	swapped := mixed(v)
	if _, ok := s.pairs[string(swapped)]; ok {
		return
	}
	texts := func(b []byte) []string {
		h, m := hex.EncodeToString(b), hex.EncodeToString(mixed(b))
		dashed := func(h string) string { return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-") }
		return []string{dashed(h), h, dashed(m), m}
	}
	s.binary(v, 0, texts)
	if now, ok := s.pairs[string(v)]; ok {
		s.pair(string(swapped), string(mixed([]byte(now))))
	}
}

func mixed(b []byte) []byte {
	c := slices.Clone(b)
	slices.Reverse(c[0:4])
	slices.Reverse(c[4:6])
	slices.Reverse(c[6:8])
	return c
}

// swap turns the bytes of each word round, as ATA has them.
func swap(b []byte) []byte {
	out := slices.Clone(b)
	for i := 0; i+1 < len(out); i += 2 {
		out[i], out[i+1] = out[i+1], out[i]
	}
	return out
}

func utf16LE(v string) string {
	var out []byte
	for _, u := range utf16.Encode([]rune(v)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return string(out)
}

// replacer replaces all pairs, the longest first. A short one is replaced only
// where it stands alone: a part of a longer word is another word.
type replacer struct {
	byFirst [256][]string // sorted, the longest first
	pairs   map[string]string
}

func (s *standins) replacer() *replacer {
	r := &replacer{pairs: s.pairs}
	for was := range s.pairs {
		r.byFirst[was[0]] = append(r.byFirst[was[0]], was)
	}
	for _, list := range r.byFirst {
		slices.SortFunc(list, func(a, b string) int {
			if len(a) != len(b) {
				return len(b) - len(a)
			}
			return strings.Compare(a, b)
		})
	}
	return r
}

// within is the length from which a value is replaced within a longer word
// too, in a binary table, where fields stand side by side.
const within = 8

func (r *replacer) replace(b []byte) []byte {
	binary := bytes.ContainsFunc(b, func(c rune) bool { return c < ' ' && c != '\n' && c != '\t' || c > '~' })
	var out []byte
	from := 0
	for i := 0; i < len(b); {
		n := r.at(b, i, binary)
		if n == 0 {
			i++
			continue
		}
		out = append(append(out, b[from:i]...), r.pairs[string(b[i:i+n])]...)
		i += n
		from = i
	}
	if from == 0 {
		return b
	}
	return append(out, b[from:]...)
}

// at is the length of the value that stands at i, 0 for none.
func (r *replacer) at(b []byte, i int, binary bool) int {
	for _, was := range r.byFirst[b[i]] {
		n := len(was)
		if i+n > len(b) || string(b[i:i+n]) != was {
			continue
		}
		if binary && n >= within || (i == 0 || !word(b[i-1]) || !word(b[i])) && (i+n == len(b) || !word(b[i+n]) || !word(b[i+n-1])) {
			return n
		}
	}
	return 0
}

func word(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
