package tray

import (
	"context"
	"fmt"
	"time"

	"github.com/atotto/clipboard"
)

// Copy puts text on the clipboard.
func Copy(ctx context.Context, text string) error {
	done := make(chan error, 1)
	go func() { done <- clipboard.WriteAll(text) }() // the library gives up after a second
	timer := time.NewTimer(copyWait)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("put text on the clipboard: %w", err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("put text on the clipboard: no answer for %s", copyWait)
	case <-ctx.Done():
		return ctx.Err()
	}
}
