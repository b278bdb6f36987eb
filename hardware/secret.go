package hardware

import "log/slog"

const redacted = "[redacted]"

// Secret is a password. However it is printed, logged or marshalled, what
// comes out is [redacted]; [Secret.Reveal] is the one way to the text.
type Secret string

// Reveal is the text.
func (s Secret) Reveal() string { return string(s) }

// String is [redacted].
func (Secret) String() string { return redacted }

// GoString is [redacted].
func (Secret) GoString() string { return redacted }

// LogValue is [redacted].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText is [redacted].
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
