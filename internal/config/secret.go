package config

import (
	"fmt"
	"io"
)

const secretMask = "[secret]"

// Secret is a password that was read from outside the file. It shows itself as
// "[secret]" whatever it is printed with; Reveal alone gives it away. The zero
// Secret is none.
type Secret struct {
	// A pointer, because fmt prints the inside of unexported fields without
	// asking our methods, but never follows a pointer there.
	value *string
}

// NewSecret returns a secret, for callers that have it from elsewhere.
func NewSecret(value string) Secret { return Secret{&value} }

// Reveal returns the secret itself. It is "" for no secret, and for one that
// Options.SkipSecrets left unread.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsSet reports whether there is a secret that was read.
func (s Secret) IsSet() bool { return s.value != nil }

// String implements fmt.Stringer.
func (s Secret) String() string { return secretMask }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return secretMask }

// Format implements fmt.Formatter, for every verb.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, secretMask) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(secretMask), nil }

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + secretMask + `"`), nil }
