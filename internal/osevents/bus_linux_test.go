package osevents

import (
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"berth/internal/dbustest"
	"berth/internal/testwait"
)

const (
	fakeUser    = dbus.ObjectPath("/org/freedesktop/login1/user/_me")
	fakeSession = dbus.ObjectPath("/org/freedesktop/login1/session/c1")
)

// fakeLogind is a login manager with one user and one session.
type fakeLogind struct {
	t    testing.TB
	conn *dbus.Conn
	user *prop.Properties
	ses  *prop.Properties
	asks chan *os.File // our ends of the inhibitors' pipes

	mu   sync.Mutex
	open []*os.File
}

// Inhibit hands out the end of a pipe: the other one reads EOF on its release.
func (f *fakeLogind) Inhibit(what, who, _, mode string) (dbus.UnixFD, *dbus.Error) {
	if what != "sleep" || who != "berth" || mode != "delay" {
		return 0, dbus.MakeFailedError(syscall.EINVAL)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	f.mu.Lock()
	fd := dbus.UnixFD(w.Fd())
	f.open = append(f.open, w)
	f.mu.Unlock()
	f.asks <- r
	return fd, nil
}

// closeOurs closes the fake's copies of the ends that it has handed out.
func (f *fakeLogind) closeOurs() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.open {
		_ = w.Close()
	}
	f.open = nil
}

func (f *fakeLogind) GetUser(uid uint32) (dbus.ObjectPath, *dbus.Error) {
	if int(uid) != os.Getuid() {
		return "", dbus.MakeFailedError(syscall.ESRCH)
	}
	return fakeUser, nil
}

type display struct {
	ID   string
	Path dbus.ObjectPath
}

func newFakeLogind(t testing.TB, bus *dbustest.Bus) *fakeLogind {
	t.Helper()
	f := &fakeLogind{t: t, conn: bus.Connect(t), asks: make(chan *os.File, 8)}
	t.Cleanup(f.closeOurs)
	if err := f.conn.Export(f, loginPath, loginManager); err != nil {
		t.Fatal(err)
	}
	changing := func(v any) *prop.Prop { return &prop.Prop{Value: v, Emit: prop.EmitTrue} }
	var err error
	if f.user, err = prop.Export(f.conn, fakeUser, prop.Map{loginUser: {
		"Display": changing(display{"c1", fakeSession}),
	}}); err != nil {
		t.Fatal(err)
	}
	if f.ses, err = prop.Export(f.conn, fakeSession, prop.Map{loginSession: {
		"Active": changing(true), "LockedHint": changing(false),
		"IdleHint": changing(false), "IdleSinceHint": changing(uint64(0)),
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.conn.RequestName(loginName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fakeLogind) sleep(begins bool) {
	if err := f.conn.Emit(loginPath, loginManager+".PrepareForSleep", begins); err != nil {
		f.t.Error(err)
	}
}

// monitorOn runs a monitor with Linux's bus sources only.
func monitorOn(t *testing.T, system, session string) (*Monitor, *recorder) {
	t.Helper()
	r := newRecorder()
	m := New(Config{Tell: r.tell, SystemBus: system, SessionBus: session})
	m.sources = nil
	if system != "" {
		m.sources = append(m.sources, source{name: "logind", covers: coverSleep, listen: listenLogind})
	}
	if session != "" {
		m.sources = append(m.sources, source{name: "screensaver", covers: coverSleep, listen: listenScreenSaver})
	}
	start(t, m)
	testwait.Eventually(t, "the bus", func() bool { return m.missing()&coverSleep == 0 })
	return m, r
}

// released reports whether an inhibitor was let go.
func released(f *fakeLogind, r *os.File, within time.Duration) bool {
	f.closeOurs()
	_ = r.SetReadDeadline(time.Now().Add(within))
	_, err := r.Read(make([]byte, 1))
	return err != nil && !os.IsTimeout(err)
}

func TestSleepIsHeldUpUntilEverybodyWasTold(t *testing.T) {
	bus := dbustest.Start(t)
	f := newFakeLogind(t, bus)
	_, r := monitorOn(t, bus.Address, "")
	inhibitor := <-f.asks
	defer inhibitor.Close()
	held := make(chan bool, 1)
	r.mu.Lock()
	r.before = func(e Event) {
		if e.Kind == Suspending {
			held <- !released(f, inhibitor, 200*time.Millisecond)
		}
	}
	r.mu.Unlock()
	f.sleep(true)
	r.want(t, Suspending)
	if !<-held {
		t.Error("the machine went to sleep before all listeners were called")
	}
	if !released(f, inhibitor, 5*time.Second) {
		t.Error("the machine's sleep is still held up after all listeners were called")
	}
	f.sleep(false)
	if e := r.want(t, Woke); e.Source != "logind" {
		t.Errorf("woken by %s, want logind", e.Source)
	}
	select {
	case next := <-f.asks: // for the next time
		_ = next.Close()
	case <-time.After(10 * time.Second):
		t.Error("the next sleep is not held up")
	}
}

func TestLockAndIdleOfTheSession(t *testing.T) {
	bus := dbustest.Start(t)
	f := newFakeLogind(t, bus)
	m, r := monitorOn(t, bus.Address, "")
	if p := m.Presence(); p != (Presence{LockKnown: true}) {
		t.Errorf("Presence() = %+v, want a known lock and nothing of idleness", p)
	}
	f.ses.SetMust(loginSession, "LockedHint", true)
	r.want(t, Locked)
	f.ses.SetMust(loginSession, "LockedHint", false)
	r.want(t, Unlocked)
	f.ses.SetMust(loginSession, "Active", false) // another user's turn
	r.want(t, Locked)
	f.ses.SetMust(loginSession, "Active", true)
	r.want(t, Unlocked)

	f.ses.SetMust(loginSession, "IdleHint", true)
	f.ses.SetMust(loginSession, "IdleSinceHint", uint64(time.Now().Add(-time.Hour).UnixMicro()))
	testwait.Eventually(t, "an hour of idleness", func() bool { p := m.Presence(); return p.IdleKnown && p.Idle.Round(time.Minute) == time.Hour })
	f.ses.SetMust(loginSession, "IdleHint", false)
	testwait.Eventually(t, "the user's return", func() bool { p := m.Presence(); return p.IdleKnown && p.Idle == 0 })

	if err := f.conn.Emit(fakeSession, loginSession+".Lock"); err != nil {
		t.Fatal(err)
	}
	r.want(t, Locked)
	if err := f.conn.Emit(fakeSession, loginSession+".Unlock"); err != nil {
		t.Fatal(err)
	}
	r.want(t, Unlocked)

	f.user.SetMust(loginUser, "Display", display{"", "/"})
	testwait.Eventually(t, "the session's end", func() bool { return m.Presence() == (Presence{}) })
}

func TestForgedSignalsAreNotBelieved(t *testing.T) {
	bus := dbustest.Start(t)
	f := newFakeLogind(t, bus)
	_, r := monitorOn(t, bus.Address, "")
	liar := bus.Connect(t)
	if err := liar.Emit(loginPath, loginManager+".PrepareForSleep", true); err != nil {
		t.Fatal(err)
	}
	// Straight to everybody who listens: the bus's matching does not apply.
	var names []string
	if err := liar.BusObject().Call(busName+".ListNames", 0).Store(&names); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name[0] != ':' {
			continue
		}
		liar.Send(&dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: dbus.MakeVariant(name),
			dbus.FieldPath:        dbus.MakeVariant(loginPath),
			dbus.FieldInterface:   dbus.MakeVariant(loginManager),
			dbus.FieldMember:      dbus.MakeVariant("PrepareForSleep"),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(true)),
		}, Body: []any{true}}, nil)
	}
	r.none(t, 300*time.Millisecond)
	f.sleep(true) // a true one still comes
	r.want(t, Suspending)
}

func TestBusAndLoginManagerComeBack(t *testing.T) {
	bus := dbustest.Start(t)
	f := newFakeLogind(t, bus)
	m, r := monitorOn(t, bus.Address, "")
	f.ses.SetMust(loginSession, "LockedHint", true)
	r.want(t, Locked)

	if _, err := f.conn.ReleaseName(loginName); err != nil {
		t.Fatal(err)
	}
	r.want(t, Unlocked)
	if p := m.Presence(); p.LockKnown {
		t.Errorf("Presence() = %+v without a login manager", p)
	}
	if _, err := f.conn.RequestName(loginName, 0); err != nil {
		t.Fatal(err)
	}
	r.want(t, Locked)

	bus.Stop(t)
	r.want(t, Unlocked)
	testwait.Eventually(t, "the loss of the bus", func() bool { return m.missing()&coverSleep != 0 })
	bus.Start(t)
	f = newFakeLogind(t, bus)
	testwait.Eventually(t, "the bus again", func() bool { return m.missing()&coverSleep == 0 })
	f.sleep(true)
	r.want(t, Suspending)
}

// fakeSaver is a screen saver, or GNOME's shell.
type fakeSaver struct{ active bool }

func (f *fakeSaver) GetActive() (bool, *dbus.Error) { return f.active, nil }

func (f *fakeSaver) GetIdletime() (uint64, *dbus.Error) { return 90_000, nil }

func TestScreenSaver(t *testing.T) {
	const name = "org.gnome.ScreenSaver"
	bus := dbustest.Start(t)
	m, r := monitorOn(t, "", bus.Address)
	if p := m.Presence(); p != (Presence{}) {
		t.Errorf("Presence() = %+v without a desktop", p)
	}
	conn := bus.Connect(t)
	for path, iface := range map[dbus.ObjectPath]string{savers[name]: name, idlePath: idleName} {
		if err := conn.Export(&fakeSaver{active: true}, path, iface); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.RequestName(iface, 0); err != nil {
			t.Fatal(err)
		}
	}
	r.want(t, Locked)
	if err := conn.Emit(savers[name], name+".ActiveChanged", false); err != nil {
		t.Fatal(err)
	}
	r.want(t, Unlocked)
	testwait.Eventually(t, "the shell's idle time", func() bool {
		return m.Presence() == Presence{LockKnown: true, Idle: 90 * time.Second, IdleKnown: true}
	})
	if err := bus.Connect(t).Emit(savers[name], name+".ActiveChanged", true); err != nil { // somebody else
		t.Fatal(err)
	}
	if err := conn.Emit(savers[name], name+".ActiveChanged", "nonsense"); err != nil {
		t.Fatal(err)
	}
	r.none(t, 200*time.Millisecond)
	if _, err := conn.ReleaseName(name); err != nil {
		t.Fatal(err)
	}
	testwait.Eventually(t, "the saver's end", func() bool { return !m.Presence().LockKnown })
}
