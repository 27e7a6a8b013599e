package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

const remedy = `allow notifications for berth in the system's settings; until then look at berth's menu or "berth status"`

var errNoBundle = errors.New("berth runs outside its application bundle, which the system wants for notifications with buttons")

// userNotifications shows notifications through UNUserNotificationCenter. That
// stops a process without a bundle identifier, so that it is asked for first.
type userNotifications struct {
	cfg   Config
	log   *slog.Logger
	plain *plainer
	ready chan struct{} // closed once center and problem are known

	mu      sync.Mutex // guards what follows
	center  *center    // nil while it cannot be had
	problem error
	plainly bool
}

func newBackend(cfg Config) backend {
	return &userNotifications{cfg: cfg, log: cfg.Logger, plain: newPlainer(cfg), ready: make(chan struct{})}
}

// capabilities implements backend.
func (u *userNotifications) capabilities() Capabilities {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := Capabilities{Backend: "usernotifications", Problem: u.problem, Plain: u.plainly}
	if u.center != nil {
		c.Server, c.Actions, c.Replace = "macOS", true, true
	}
	return c
}

// run implements backend.
func (u *userNotifications) run(ctx context.Context, to sink) error {
	c, err := newCenter(u.log, func(id, key, text string) { u.response(id, key, text, to) })
	if err == nil {
		err = c.authorize(ctx)
	}
	u.mu.Lock()
	if err == nil {
		u.center = c
	} else if ctx.Err() == nil {
		u.problem = fmt.Errorf("%w (%w)", ErrUnavailable, err)
		u.log.Warn("notifications have no buttons", "err", err)
	}
	u.mu.Unlock()
	close(u.ready)
	to.fresh() // what came before the person gave permission
	<-ctx.Done()
	return nil
}

// The system's own answers: a click on the words, and putting it away.
const (
	responseText    = "com.apple.UNNotificationDefaultActionIdentifier"
	responseDismiss = "com.apple.UNNotificationDismissActionIdentifier"
)

// response handles a click; text is the key that one on the words stands for.
func (u *userNotifications) response(id, key, text string, to sink) {
	switch {
	case checkKey(id) != nil || checkKey(key) != nil:
		u.log.Debug("a click that is not ours")
	case key == responseText:
		to.acted(id, cmp.Or(text, DefaultKey))
	case key == responseDismiss:
		to.closed(id)
	default:
		to.acted(id, key)
	}
}

// show implements backend.
func (u *userNotifications) show(ctx context.Context, n Notification) error {
	select {
	case <-u.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	u.mu.Lock()
	c, err := u.center, u.problem
	u.mu.Unlock()
	if c != nil {
		err = c.add(ctx, n)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	plain := u.plain.show(ctx, n)
	u.mu.Lock()
	u.plainly = plain == nil
	u.mu.Unlock()
	if plain == nil {
		return nil
	}
	return err
}

// withdraw implements backend.
func (u *userNotifications) withdraw(_ context.Context, id string) error {
	u.mu.Lock()
	c := u.center
	u.mu.Unlock()
	if c != nil {
		c.remove(id)
	}
	return nil
}

// holds implements backend.
func (u *userNotifications) holds(string) bool { return true }
