//go:build !windows && !darwin

package notify

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"berth/internal/dbustest"
	"berth/internal/testwait"
)

// note is what a service was given.
type note struct {
	app, icon, summary, body string
	replaces, num            uint32
	actions                  []string
	hints                    map[string]dbus.Variant
	expire                   int32
}

// fakeServer is a notification service.
type fakeServer struct {
	conn *dbus.Conn
	can  []string
	slow chan struct{} // nil means that it answers at once; else Notify waits until it is closed
	mute chan struct{} // the same for questions about its capabilities
	num0 bool          // it gives 0 as number

	mu     sync.Mutex // guards what follows
	next   uint32
	notes  []note
	closed []uint32
}

// serve starts a service on the bus.
func serve(t *testing.T, bus *dbustest.Bus, s *fakeServer) *fakeServer {
	t.Helper()
	s.conn = bus.Connect(t)
	if err := s.conn.Export(s, serverPath, serverName); err != nil {
		t.Fatal(err)
	}
	if reply, err := s.conn.RequestName(serverName, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("own the service's name: %v, %v", reply, err)
	}
	return s
}

func (s *fakeServer) Notify(app string, replaces uint32, icon, summary, body string, actions []string,
	hints map[string]dbus.Variant, expire int32) (uint32, *dbus.Error) {
	if s.slow != nil {
		<-s.slow
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	num := replaces
	if num == 0 {
		s.next++
		num = s.next
	}
	s.notes = append(s.notes, note{app, icon, summary, body, replaces, num, actions, hints, expire})
	if s.num0 {
		return 0, nil
	}
	return num, nil
}

func (s *fakeServer) CloseNotification(num uint32) *dbus.Error {
	s.mu.Lock()
	s.closed = append(s.closed, num)
	s.mu.Unlock()
	_ = s.conn.Emit(serverPath, serverName+".NotificationClosed", num, uint32(3))
	return nil
}

func (s *fakeServer) GetCapabilities() ([]string, *dbus.Error) {
	if s.mute != nil {
		<-s.mute
	}
	return s.can, nil
}

func (s *fakeServer) GetServerInformation() (name, vendor, version, spec string, err *dbus.Error) {
	return "fake", "berth", "1.0", "1.2", nil
}

// got returns what the service was given so far.
func (s *fakeServer) got() []note {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.notes)
}

func (s *fakeServer) withdrawn() []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.closed)
}

func (s *fakeServer) last(t *testing.T) note {
	t.Helper()
	notes := s.got()
	if len(notes) == 0 {
		t.Fatal("the service was given nothing")
	}
	return notes[len(notes)-1]
}

// click emits what a service does when a button is pressed.
func (s *fakeServer) click(num uint32, key string) {
	_ = s.conn.Emit(serverPath, serverName+".ActionInvoked", num, key)
	_ = s.conn.Emit(serverPath, serverName+".NotificationClosed", num, uint32(reasonDismissed))
}

func (s *fakeServer) dismiss(num, reason uint32) {
	_ = s.conn.Emit(serverPath, serverName+".NotificationClosed", num, reason)
}

// event is what the caller was told.
type event struct{ what, id, key string }

// desk is a Notifier on a private bus.
type desk struct {
	*notifier
	backend *bus
	events  chan event
	plain   chan [2]string // what went out plainly
	fail    error          // what the plain way returns
}

// newDesk starts a Notifier that ends with the test, and is as patient with a service as
// a busy machine needs.
func newDesk(t *testing.T, address func() (string, error), change ...func(*Config)) *desk {
	t.Helper()
	return newDeskOf(t, address, testwait.Patience, change...)
}

// newDeskOf is newDesk with another patience.
func newDeskOf(t *testing.T, address func() (string, error), patience time.Duration, change ...func(*Config)) *desk {
	t.Helper()
	d := &desk{events: make(chan event, 64), plain: make(chan [2]string, 64)}
	cfg := Config{
		Logger: testLog(t), AppName: "berth", DesktopEntry: "berth",
		OnAction: func(id, key string) { d.events <- event{"action", id, key} },
		OnClosed: func(id string) { d.events <- event{"closed", id, ""} },
	}
	for _, f := range change {
		f(&cfg)
	}
	d.backend = newBus(cfg, address, &plainer{icon: "", send: func(title, body string, _ any) error {
		d.plain <- [2]string{title, body}
		return d.fail
	}})
	d.backend.patience = patience
	d.notifier = newNotifier(cfg, d.backend)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
		case <-time.After(testwait.Patience):
			t.Error("Run does not end")
		}
	})
	testwait.Eventually(t, "the bus, or that there is none", func() bool {
		d.backend.mu.Lock()
		defer d.backend.mu.Unlock()
		return d.backend.conn != nil || d.backend.tried
	})
	return d
}

func at(bus *dbustest.Bus) func() (string, error) {
	return func() (string, error) { return bus.Address, nil }
}

// want fails unless the next event is e.
func (d *desk) want(t *testing.T, e event) {
	t.Helper()
	select {
	case got := <-d.events:
		if got != e {
			t.Fatalf("got %v, want %v", got, e)
		}
	case <-time.After(testwait.Patience):
		t.Fatalf("nothing came, want %v", e)
	}
}

// none fails if anything comes within a while.
func (d *desk) none(t *testing.T) {
	t.Helper()
	select {
	case got := <-d.events:
		t.Fatalf("got %v, want nothing", got)
	case <-time.After(150 * time.Millisecond):
	}
}

func (d *desk) mustShow(t *testing.T, n Notification) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
	defer cancel()
	if err := d.Show(ctx, n); err != nil {
		t.Fatalf("Show(%q) = %v, want nil", n.ID, err)
	}
}

// knows waits until the service's answer has come, without which a click on
// the notification means nothing. No one presses as fast as a test.
func (d *desk) knows(t *testing.T, id string) {
	t.Helper()
	testwait.Eventually(t, "the number of "+id, func() bool { return d.number(id) != 0 })
}

// ready waits until the service is known.
func (d *desk) ready(t *testing.T) {
	t.Helper()
	testwait.Eventually(t, "the service", func() bool { return d.Capabilities().Server != "" })
}

var everything = []string{"actions", "body", "body-markup", "persistence"}

// request is a notification as berth has them.
var request = Notification{
	ID: "request-1", Title: "Approved: dba", Body: "Until 18:00, for <prod-pg> & more.", Urgency: UrgencyCritical, Group: "access_request",
	Actions: []Action{{"assume:1", "Assume"}, {"later:1", "Later"}, {"drop:1", "Drop"}, {DefaultKey, "Details"}},
}
