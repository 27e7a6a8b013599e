//go:build windows || darwin

package tray

import (
	"context"
	"log/slog"
)

// withHost runs body: these systems always have a tray.
func withHost(ctx context.Context, _ *slog.Logger, body func(context.Context) error) error {
	return body(ctx)
}
