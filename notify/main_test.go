package notify

import (
	"log/slog"
	"testing"

	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}

// testLog sends the log to the test's.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
