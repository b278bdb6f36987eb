package fleet

import (
	"fmt"
	"unicode/utf8"
)

// MaxDepth is how deep a message may nest arrays and objects.
const MaxDepth = 64

// CheckMessage refuses bytes that no reader should be given: more than
// [MaxMessageBytes], text that is not UTF-8 (encoding/json mends it in silence,
// so that what is shown is not what was signed), and nesting beyond [MaxDepth].
// Whether it is JSON is for the decoder to say.
func CheckMessage(b []byte) error {
	if len(b) > MaxMessageBytes {
		return fmt.Errorf("it is %d bytes, at most %d are read", len(b), MaxMessageBytes)
	}
	if !utf8.Valid(b) {
		return fmt.Errorf("it is not UTF-8 from byte %d on", firstBad(b))
	}
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > MaxDepth {
				return fmt.Errorf("it is nested deeper than %d at byte %d", MaxDepth, i)
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return nil
}

func firstBad(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return len(b)
}
