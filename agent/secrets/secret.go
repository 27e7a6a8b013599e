package secrets

import (
	"fmt"
	"log/slog"
)

// redacted is printed in place of a secret.
const redacted = "[redacted]"

// Secret is a text that no log, error or JSON shows. Reveal does.
type Secret struct{ text string }

// NewSecret returns text as a secret.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text.
func (s Secret) Reveal() string { return s.text }

// String hides the text.
func (Secret) String() string { return redacted }

// Format hides the text from every verb of fmt.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) } // the printer reports what fails

// LogValue hides the text from logs.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the text from JSON and the like.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
