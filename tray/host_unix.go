//go:build !windows && !darwin

package tray

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"

	"berth/internal/busaddr"
)

// watcherName is the bus name of panels with a tray. Stock GNOME has none.
const watcherName = "org.kde.StatusNotifierWatcher"

// registers is how long systray is given to register with a panel.
const registers = time.Second

// errBusGone says that the desktop session, or at least its bus, has ended.
// systray does not reconnect, so whatever started the tray must start it again.
var errBusGone = errors.New("the D-Bus session has ended, and the tray with it")

// withHost runs body as long as there is a session bus. It says in the log
// whether anything shows the icon; systray itself registers whenever that
// changes.
func withHost(ctx context.Context, log *slog.Logger, body func(ctx context.Context, hosted func() bool) error) error {
	address, err := busaddr.Session()
	if err != nil {
		return fmt.Errorf("show the tray: %w", err)
	}
	conn, err := dbus.Connect(address, dbus.WithContext(context.WithoutCancel(ctx)))
	if err != nil {
		return fmt.Errorf("show the tray: connect to the D-Bus session: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-conn.Context().Done():
			cancel(errBusGone)
		case <-ctx.Done():
		}
	}()
	var hosted atomic.Bool
	stop, err := watchHost(conn, log, &hosted)
	if err == nil {
		err = body(ctx, hosted.Load)
		stop()
	}
	cause := context.Cause(ctx)
	cancel(nil)
	<-watched
	_ = conn.Close() // nothing of ours is on it any more
	if errors.Is(cause, errBusGone) {
		return errBusGone
	}
	return err
}

// watchHost keeps in hosted whether anything shows the icon, and logs each
// change of it.
func watchHost(conn *dbus.Conn, log *slog.Logger, hosted *atomic.Bool) (stop func(), err error) {
	err = conn.AddMatchSignal(
		dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, watcherName),
	)
	if err != nil {
		return nil, fmt.Errorf("watch for a panel with a tray: %w", err)
	}
	changes := make(chan *dbus.Signal, queued)
	conn.Signal(changes)
	var there bool
	if err := conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, watcherName).Store(&there); err != nil {
		return nil, fmt.Errorf("look for a panel with a tray: %w", err)
	}
	hosted.Store(there)
	logHost(log, there)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		second := time.NewTimer(registers)
		defer second.Stop()
		for {
			var s *dbus.Signal
			var ok bool
			select {
			case <-done:
				return
			case <-second.C:
				if there {
					registerAgain(conn, log)
				}
				continue
			case s, ok = <-changes:
			}
			if !ok {
				return // the connection has ended, and closed it
			}
			if len(s.Body) != 3 || s.Body[0] != watcherName {
				continue // about another name on this connection
			}
			if now := s.Body[2] != ""; now != there {
				there = now
				hosted.Store(there)
				logHost(log, there)
				second.Reset(registers)
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}, nil
}

// registerAgain registers the icon if the panel does not have it. systray asks
// for the panel first and listens for it afterwards. It misses a panel that
// appears in between, as happens when a desktop starts both at once.
func registerAgain(conn *dbus.Conn, log *slog.Logger) {
	var items []string
	watcher := conn.Object(watcherName, "/StatusNotifierWatcher")
	if err := watcher.StoreProperty(watcherName+".RegisteredStatusNotifierItems", &items); err != nil {
		log.Debug("the panel does not tell which icons it shows", "error", err)
		return
	}
	trays, err := dbus.SessionBus() // the connection that systray has
	if err != nil {
		log.Debug("the tray is not on the bus", "error", err)
		return
	}
	ours := slices.Concat(trays.Names(), []string{fmt.Sprintf("org.kde.StatusNotifierItem-%d-1", os.Getpid())})
	for _, item := range items {
		// What stands in the list is NAME/PATH, or a name alone.
		if name, _, _ := strings.Cut(item, "/"); slices.Contains(ours, name) {
			return
		}
	}
	err = trays.Object(watcherName, "/StatusNotifierWatcher").
		Call(watcherName+".RegisterStatusNotifierItem", 0, "/StatusNotifierItem").Err
	if err != nil {
		log.Warn("the panel does not take the icon", "error", err)
		return
	}
	log.Info("the panel had missed the icon and has it now")
}

func logHost(log *slog.Logger, there bool) {
	if there {
		log.Info("a panel shows the icon")
		return
	}
	log.Warn("no panel shows the icon; it appears as soon as one with a StatusNotifierWatcher runs " +
		"(on GNOME: the AppIndicator extension); notifications and berth status work without it")
}
