package osevents

import (
	"context"
	"time"

	"github.com/godbus/dbus/v5"

	"berth/internal/busaddr"
)

// savers are the programs that blank and lock the screen, each with where it
// answers. The names are their interfaces as well.
var savers = map[string]dbus.ObjectPath{
	"org.freedesktop.ScreenSaver": "/org/freedesktop/ScreenSaver",
	"org.gnome.ScreenSaver":       "/org/gnome/ScreenSaver",
	"org.cinnamon.ScreenSaver":    "/org/cinnamon/ScreenSaver",
	"org.mate.ScreenSaver":        "/org/mate/ScreenSaver",
	"org.xfce.ScreenSaver":        "/org/xfce/ScreenSaver",
}

// GNOME's shell knows when the last key was pressed.
const (
	idleName = "org.gnome.Mutter.IdleMonitor"
	idlePath = dbus.ObjectPath("/org/gnome/Mutter/IdleMonitor/Core")
)

func listenScreenSaver(ctx context.Context, m *Monitor, up func()) error {
	address := m.cfg.SessionBus
	if address == "" {
		var err error
		if address, err = busaddr.Session(); err != nil {
			return err
		}
	}
	b, err := connect(ctx, address)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // nothing is to be sent any more
	defer m.idle.set("gnome", nil)
	for name := range savers {
		defer m.lock.forget(name)
		if err := b.follow(ctx, name, dbus.WithMatchMember("ActiveChanged")); err != nil {
			return err
		}
		askSaver(ctx, m, b, name)
	}
	if err := b.follow(ctx, idleName, dbus.WithMatchMember("WatchFired")); err != nil {
		return err
	}
	askIdle(m, b)
	up()
	return b.each(ctx, func(s *dbus.Signal) {
		switch name := b.newOwner(s); {
		case name == idleName:
			askIdle(m, b)
		case name != "":
			askSaver(ctx, m, b, name)
		default:
			saverSignal(m, b, s)
		}
	})
}

// askSaver asks a saver that has come whether it is active, and forgets one
// that has gone.
func askSaver(ctx context.Context, m *Monitor, b *bus, name string) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	var active bool
	if b.owner(name) == "" || b.Object(name, savers[name]).CallWithContext(ctx, name+".GetActive",
		dbus.FlagNoAutoStart).Store(&active) != nil {
		m.lock.forget(name) // or it only keeps others from blanking the screen
		return
	}
	m.lock.set(name, active)
}

func saverSignal(m *Monitor, b *bus, s *dbus.Signal) {
	for name := range savers {
		if s.Name != name+".ActiveChanged" || !b.from(s, name) || len(s.Body) != 1 {
			continue
		}
		if active, ok := s.Body[0].(bool); ok {
			m.lock.set(name, active)
		}
	}
}

// askIdle lets the shell be asked for as long as it is there.
func askIdle(m *Monitor, b *bus) {
	if b.owner(idleName) == "" {
		m.idle.set("gnome", nil)
		return
	}
	m.idle.set("gnome", func(ctx context.Context) (time.Duration, bool) {
		var ms uint64
		err := b.Object(idleName, idlePath).CallWithContext(ctx, idleName+".GetIdletime", dbus.FlagNoAutoStart).Store(&ms)
		return time.Duration(min(ms, 1<<40)) * time.Millisecond, err == nil
	})
}
