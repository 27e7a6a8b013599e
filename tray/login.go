package tray

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/notify/prompt"
)

// login logs in at a proxy, or takes part in a login that runs there already:
// pages open in the browser, secrets are asked for in a window, and go to the
// agent alone.
func (f *front) login(ctx context.Context, proxy string, renew bool) {
	start := client.LoginStart{Proxy: proxy, Renew: renew}
	f.try(ctx, Action{Do: DoLogin, Proxy: proxy}, "Not logged in", func(ctx context.Context) error {
		l := &login{front: f, asking: make(map[int64]context.CancelFunc)}
		defer l.end()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		err := f.Agent.Login(ctx, start, func(e client.LoginEvent, answer func(string)) error {
			l.step(ctx, cancel, e, answer)
			return nil
		})
		if cause := context.Cause(ctx); errors.Is(cause, prompt.ErrCanceled) {
			// Whoever closes the dialog does not want to log in now; others who
			// take part in it may.
			f.Logger.Info("login left", "profile", proxy)
			return nil
		} else if cause != nil && !errors.Is(cause, context.Canceled) {
			return cause
		}
		return err
	})
}

// login is the tray's part in one login.
type login struct {
	*front

	parts  sync.WaitGroup
	mu     sync.Mutex
	asking map[int64]context.CancelFunc // closes the dialog of a prompt; guarded by mu
}

// end closes the dialogs that are open.
func (l *login) end() {
	l.mu.Lock()
	for _, cancel := range l.asking {
		cancel()
	}
	l.mu.Unlock()
	l.parts.Wait()
}

// step takes one step of a login. A touch of the security key is asked for by
// a notice of the agent's.
func (l *login) step(ctx context.Context, leave context.CancelCauseFunc, e client.LoginEvent, answer func(string)) {
	switch e.Kind {
	case state.LoginURL:
		l.parts.Go(func() { l.browse(ctx, e) })
	case state.LoginPassword, state.LoginOTP, state.LoginPIN:
		l.ask(ctx, leave, e, answer)
	case state.LoginSettled:
		l.mu.Lock()
		if cancel := l.asking[e.ID]; cancel != nil {
			cancel() // answered elsewhere
		}
		l.mu.Unlock()
	default:
		l.Logger.Debug("login goes on", "step", e.Kind)
	}
}

func (l *login) browse(ctx context.Context, e client.LoginEvent) {
	err := l.Browse(ctx, e.URL, e.Browser, e.Proxy)
	if err == nil || ctx.Err() != nil {
		return
	}
	l.Logger.Warn("login page not opened", "profile", e.Proxy, "err", err)
	l.tell("The login page was not opened", sentence(err)+" Choose \"Open the login page\" in the tray's menu, or run berth login.")
}

// ask opens a dialog for a secret.
func (l *login) ask(ctx context.Context, leave context.CancelCauseFunc, e client.LoginEvent, answer func(string)) {
	asking, cancel := context.WithCancel(ctx)
	l.mu.Lock()
	l.asking[e.ID] = cancel
	l.mu.Unlock()
	l.parts.Go(func() {
		defer cancel()
		ask := l.Prompter.Password
		if e.Kind == state.LoginOTP {
			ask = l.Prompter.Code
		}
		secret, err := ask(asking, prompt.Question{
			Title: fmt.Sprintf("Log in to %s", plain.Short(hostOf(e.Proxy), maxName)), Text: plain.Short(e.Text, maxTold/2), OK: "Log in",
		})
		switch {
		case err == nil:
			answer(secret)
		case asking.Err() == nil:
			leave(err)
		}
	})
}
