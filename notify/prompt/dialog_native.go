//go:build windows || darwin

package prompt

import "context"

// available returns nil: the system itself draws the dialogs.
func available() error { return nil }

func showDialog(ctx context.Context, k kind, q Question) (string, error) {
	return zenityDialog(ctx, k, q)
}
