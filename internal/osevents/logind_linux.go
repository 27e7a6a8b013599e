package osevents

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	loginName    = "org.freedesktop.login1"
	loginPath    = dbus.ObjectPath("/org/freedesktop/login1")
	loginManager = loginName + ".Manager"
	loginSession = loginName + ".Session"
	loginUser    = loginName + ".User"

	// toldWithin is how long the machine's sleep is held up for.
	toldWithin = 3 * time.Second
)

// logind is one connection to the login manager.
type logind struct {
	*bus

	m         *Monitor
	inhibitor *os.File        // holds up the sleep; nil: does not
	session   dbus.ObjectPath // the user's graphical one; empty: there is none
}

func listenLogind(ctx context.Context, m *Monitor, up func()) error {
	b, err := m.connectSystem(ctx)
	if err != nil {
		return err
	}
	defer b.Close() //nolint:errcheck // nothing is to be sent any more
	l := &logind{bus: b, m: m}
	defer l.leave()
	// One match for all of its objects: the user's session comes and goes.
	if err := b.follow(ctx, loginName); err != nil {
		return err
	}
	if b.owner(loginName) == "" {
		return fmt.Errorf("%s is not running", loginName)
	}
	if err := l.enter(ctx); err != nil {
		return err
	}
	up()
	return b.each(ctx, func(s *dbus.Signal) { l.signal(ctx, s) })
}

// enter begins with a login manager that has just appeared.
func (l *logind) enter(ctx context.Context) error {
	l.inhibit(ctx)
	return l.findSession(ctx)
}

// leave forgets what a login manager said that has gone.
func (l *logind) leave() {
	l.release()
	l.session = ""
	l.m.lock.cancelRequest("logind request")
	l.m.lock.forget("logind")
	l.m.idle.set("logind", nil)
}

func (l *logind) signal(ctx context.Context, s *dbus.Signal) {
	if l.newOwner(s) == loginName {
		l.leave()
		if l.owner(loginName) == "" {
			return
		}
		if err := l.enter(ctx); err != nil {
			l.m.log.Debug("login manager not understood", "err", err)
		}
		return
	}
	if !l.from(s, loginName) {
		return
	}
	switch s.Name {
	case loginManager + ".PrepareForSleep":
		if len(s.Body) == 1 {
			l.sleep(ctx, s.Body[0] == true)
		}
	case loginManager + ".SessionNew", loginManager + ".SessionRemoved":
		l.refresh(ctx)
	case loginSession + ".Lock":
		if s.Path == l.session && l.session != "" {
			l.m.lock.requested("logind request")
		}
	case loginSession + ".Unlock":
		if s.Path == l.session {
			l.m.lock.cancelRequest("logind request")
		}
	case propsChanged:
		if s.Path == l.session && l.session != "" || len(s.Body) > 0 && s.Body[0] == loginUser {
			l.refresh(ctx)
		}
	}
}

// sleep handles logind's signals before and after the machine sleeps.
func (l *logind) sleep(ctx context.Context, begins bool) {
	if !begins {
		l.m.lookAtClock("logind", true)
		l.inhibit(ctx)
		return
	}
	select {
	case <-l.m.suspending("logind"):
	case <-time.After(toldWithin):
	case <-ctx.Done():
	}
	l.release()
}

// inhibit asks for a moment before the machine sleeps. Without it the news may
// come too late, that is all.
func (l *logind) inhibit(ctx context.Context) {
	l.release()
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	var fd dbus.UnixFD
	err := l.Object(loginName, loginPath).CallWithContext(ctx, loginManager+".Inhibit", dbus.FlagNoAutoStart,
		"sleep", "berth", "Telling tunnels that the machine goes to sleep", "delay").Store(&fd)
	if err != nil {
		l.m.log.Debug("sleep is not held up", "err", err)
		return
	}
	l.inhibitor = os.NewFile(uintptr(fd), "inhibitor")
}

func (l *logind) release() {
	if l.inhibitor != nil {
		_ = l.inhibitor.Close() // this is what lets the machine sleep
		l.inhibitor = nil
	}
}

func (l *logind) refresh(ctx context.Context) {
	if err := l.findSession(ctx); err != nil {
		l.m.log.Debug("session not read", "err", err)
	}
}

// findSession finds the user's graphical session, and reads what it says. The
// agent runs as a service of the user, outside of any session.
func (l *logind) findSession(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	var user dbus.ObjectPath
	if err := l.Object(loginName, loginPath).CallWithContext(ask, loginManager+".GetUser", dbus.FlagNoAutoStart,
		uint32(os.Getuid())).Store(&user); err != nil {
		l.noSession()
		return nil //nolint:nilerr // no user is logged in: there is no screen to watch
	}
	var display struct {
		ID   string
		Path dbus.ObjectPath
	}
	if err := l.get(ctx, loginName, user, loginUser, "Display", &display); err != nil {
		l.noSession()
		return err
	}
	if display.ID == "" || display.Path == "/" {
		l.noSession()
		return nil
	}
	l.session = display.Path
	return l.readSession(ctx)
}

func (l *logind) noSession() {
	l.session = ""
	l.m.lock.forget("logind")
	l.m.idle.set("logind", nil)
}

func (l *logind) readSession(ctx context.Context) error {
	var active, locked, idle bool
	var idleSince uint64 // microseconds of the wall clock
	for property, v := range map[string]any{
		"Active": &active, "LockedHint": &locked, "IdleHint": &idle, "IdleSinceHint": &idleSince,
	} {
		if err := l.get(ctx, loginName, l.session, loginSession, property, v); err != nil {
			return err
		}
	}
	l.m.lock.set("logind", locked || !active)
	if locked {
		l.m.lock.cancelRequest("logind request") // from now on the hint tells
	}
	if idleSince == 0 { // the desktop has never said
		l.m.idle.set("logind", nil)
		return nil
	}
	since := time.UnixMicro(int64(min(idleSince, 1<<62)))
	l.m.idle.set("logind", func(context.Context) (time.Duration, bool) {
		if !idle {
			return 0, true
		}
		return time.Since(since), true
	})
	return nil
}
