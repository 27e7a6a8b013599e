package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/user"
	"sync"
	"time"

	"berth/agent/state"
	"berth/proxies"
	"berth/proxies/guard"
)

// watchman keeps other users' programs out of the tunnels, where the system
// says who they are.
type watchman struct {
	works bool
	guard guard.Guard
}

// newWatchman finds out by trying whether the system says who a client is: in
// some containers it may not be asked.
func newWatchman(ctx context.Context, log *slog.Logger) *watchman {
	w := &watchman{}
	if err := w.guard.Try(ctx); err != nil {
		log.Warn("the system does not say whose program a client is: every user of it may use the tunnels", "err", err)
		return w
	}
	w.works = true
	return w
}

// state returns the snapshot's value for a tunnel's guard.
func (w *watchman) state(spec state.TunnelSpec) state.Guard {
	switch {
	case spec.Kind.Info().ShowsCert:
		return state.GuardNone
	case !spec.Guarded():
		return state.GuardOff
	case !w.works:
		return state.GuardNone
	default:
		return state.GuardOn
	}
}

// of is the guard of a tunnel's clients; nil means that all are served.
func (w *watchman) of(spec state.TunnelSpec) func(net.Conn) error {
	if w.state(spec) != state.GuardOn {
		return nil
	}
	return func(client net.Conn) error {
		err := w.guard.Check(client)
		if errors.Is(err, guard.ErrUnknown) {
			return proxies.ErrClientGone // it hung up before the guard could ask
		}
		return err
	}
}

// foreigners remembers whom the guard turned away from one tunnel.
type foreigners struct {
	mu     sync.Mutex // guards everything below
	user   string
	at     time.Time
	logged map[string]bool
}

// note notes a client that was turned away; each user is logged once.
func (f *foreigners) note(err error, at time.Time, log *slog.Logger) {
	var foreign *guard.ForeignError
	if !errors.As(err, &foreign) {
		return
	}
	name := userName(foreign.UID)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.user, f.at = name, at
	if f.logged == nil {
		f.logged = make(map[string]bool)
	}
	if !f.logged[foreign.UID] {
		f.logged[foreign.UID] = true
		log.Warn("another user's program was turned away", "uid", foreign.UID, "user", name, "client_pid", foreign.PID)
	}
}

func (f *foreigners) last() (name string, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.user, f.at
}

// userName names a user for a person: "bob (uid 1001)".
func userName(uid string) string {
	u, err := user.LookupId(uid)
	if err != nil {
		return "uid " + uid
	}
	return fmt.Sprintf("%s (uid %s)", u.Username, uid)
}

// turnedAway puts into a few words that a client was turned away; false means
// that it was not.
func turnedAway(err error) (string, bool) {
	var away *proxies.TurnedAwayError
	if !errors.As(err, &away) {
		return "", false
	}
	if foreign, ok := errors.AsType[*guard.ForeignError](err); ok {
		return "it belongs to " + userName(foreign.UID), true
	}
	return away.Err.Error(), true
}
