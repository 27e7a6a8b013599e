//go:build !windows

package notify

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gen2brain/beeep"

	"berth/notify/internal/words"
)

// plainTime is for the last resort, which may wait until its popup is gone.
const plainTime = 10 * time.Second

// plainer shows a message in the plainest way there is.
type plainer struct {
	send func(title, body string, icon any) error
	icon any

	busy atomic.Bool // one is on its way
}

func newPlainer(cfg Config) *plainer {
	// The name goes into command lines and scripts too.
	beeep.AppName = words.Harmless(cfg.AppName)
	var icon any = ""
	if len(cfg.Icon) > 0 {
		icon = cfg.Icon
	}
	return &plainer{send: beeep.Notify, icon: icon}
}

// show shows the words of n. They pass through command lines: only harmless
// characters are let through.
func (p *plainer) show(ctx context.Context, n Notification) error {
	if p.busy.Swap(true) {
		return fmt.Errorf("%w (the message before has not gone out)", ErrUnavailable)
	}
	title, body := words.Harmless(n.Title), words.Harmless(n.Body)
	if title == "" {
		title = beeep.AppName
	}
	done := make(chan error, 1)
	go func() {
		defer p.busy.Store(false)
		done <- p.send(title, body, p.icon)
	}()
	timer := time.NewTimer(plainTime)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%w (%w)", ErrUnavailable, err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("%w (the last resort does not answer)", ErrUnavailable)
	case <-ctx.Done():
		return ctx.Err()
	}
}
