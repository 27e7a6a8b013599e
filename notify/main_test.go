package notify

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"berth/internal/testwait"
)

func TestMain(m *testing.M) {
	testwait.ManyAtOnce()
	goleak.VerifyTestMain(m)
}

// testLog sends the log to the test's.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
