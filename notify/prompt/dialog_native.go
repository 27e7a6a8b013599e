//go:build windows || darwin

package prompt

import "context"

// available returns nil: the system itself draws the dialogs.
func available() error { return nil }

func (d dialogs) show(ctx context.Context, k kind, q Question) (string, error) {
	return d.zenity(ctx, k, q)
}
