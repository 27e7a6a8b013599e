package secrets

import (
	"log/slog"
	"testing"
)

// TestCredentialManager uses the real one, under a name nobody else has.
func TestCredentialManager(t *testing.T) { roundTrip(t, New(slog.New(slog.DiscardHandler))) }
