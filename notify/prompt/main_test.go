package prompt

import (
	"log/slog"
	"testing"

	"berth/internal/testwait"
)

func TestMain(m *testing.M) { testwait.NoLeaks(m) }

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
