package config

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret holds key material. It prints, logs and marshals as "[redacted]", and
// == on it does not compile. The zero value is the empty secret.
type Secret struct {
	_ [0]func()
	p *[]byte // behind a pointer: fmt skips methods on unexported fields
}

// NewSecret keeps a copy of b. No bytes make the empty secret.
func NewSecret(b []byte) Secret {
	if len(b) == 0 {
		return Secret{}
	}
	own := append([]byte(nil), b...)
	return Secret{p: &own}
}

// Bytes returns a copy that the caller owns; nil when the secret is empty.
func (s Secret) Bytes() []byte {
	if s.p == nil {
		return nil
	}
	return append([]byte(nil), *s.p...)
}

// Empty says whether nothing is held.
func (s Secret) Empty() bool { return s.p == nil }

// Equal compares in constant time. An empty secret equals nothing, not even
// another empty one, so that a missing key can never match a missing key.
func (s Secret) Equal(o Secret) bool {
	return s.p != nil && o.p != nil && subtle.ConstantTimeCompare(*s.p, *o.p) == 1
}

// Format is what every verb of fmt prints.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String is for code that asks for it by name.
func (Secret) String() string { return redacted }

// GoString is for %#v of code that does not go through Format.
func (Secret) GoString() string { return redacted }

// LogValue is what log/slog writes.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON never writes the secret.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText never writes the secret.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
