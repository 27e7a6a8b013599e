//go:build windows || darwin

package tray

import (
	"context"
	"log/slog"
)

// withHost runs body: these systems always have a tray.
func withHost(ctx context.Context, _ *slog.Logger, body func(ctx context.Context, hosted func() bool) error) error {
	return body(ctx, func() bool { return true })
}
