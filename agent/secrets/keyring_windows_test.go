package secrets

import (
	"log/slog"
	"testing"
)

// TestCredentialManager uses the real one, under a name of its own.
func TestCredentialManager(t *testing.T) { roundTrip(t, New(slog.New(slog.DiscardHandler))) }
