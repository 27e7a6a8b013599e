//go:build !windows && !darwin

package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"berth/internal/busaddr"
	"berth/internal/dbustest"
	"berth/internal/testwait"
)

func TestShowsWithButtons(t *testing.T) {
	bus := dbustest.Start(t)
	server := serve(t, bus, &fakeServer{can: everything})
	d := newDesk(t, at(bus))
	d.mustShow(t, request)
	got := server.last(t)
	want := note{
		app: "berth", icon: "berth", summary: "Approved: dba", num: 1,
		body:    "Until 18:00, for &lt;prod-pg&gt; &amp; more.",
		actions: []string{"assume:1", "Assume", "later:1", "Later", DefaultKey, "Details"},
		hints: map[string]dbus.Variant{
			"urgency": dbus.MakeVariant(byte(2)), "category": dbus.MakeVariant("x-berth.access-request"),
			"desktop-entry": dbus.MakeVariant("berth"),
		},
		expire: 0,
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(note{}), cmp.Comparer(func(a, b dbus.Variant) bool {
		return a.Value() == b.Value()
	})); diff != "" {
		t.Errorf("the service was given (-want +got):\n%s", diff)
	}
	if c := d.Capabilities(); c.Server != "fake 1.0" || !c.Actions || !c.Replace || c.Problem != nil || c.Plain {
		t.Errorf("Capabilities() = %+v", c)
	}
}

func TestClicks(t *testing.T) {
	t.Parallel()
	bus := dbustest.Start(t)
	server := serve(t, bus, &fakeServer{can: everything})
	d := newDesk(t, at(bus))

	t.Run("counts_once", func(t *testing.T) {
		d.mustShow(t, request)
		num := server.last(t).num
		server.click(num, "assume:1")
		server.click(num, "assume:1")
		d.want(t, event{"action", "request-1", "assume:1"})
		d.none(t)
	})
	t.Run("button_not_offered", func(t *testing.T) {
		d.mustShow(t, request)
		num := server.last(t).num
		_ = server.conn.Emit(serverPath, serverName+".ActionInvoked", num, "drop:1") // the third one was left out
		_ = server.conn.Emit(serverPath, serverName+".ActionInvoked", num, "approve:2")
		d.none(t)
		server.click(num, DefaultKey)
		d.want(t, event{"action", "request-1", "assume:1"})
	})
	t.Run("unknown_number", func(t *testing.T) {
		server.click(4711, "assume:1")
		d.none(t)
	})
	t.Run("after_close", func(t *testing.T) {
		d.mustShow(t, request)
		num := server.last(t).num
		d.Close("request-1")
		testwait.Eventually(t, "the withdrawal", func() bool { return len(server.withdrawn()) == 1 })
		server.click(num, "assume:1")
		d.none(t)
	})
	t.Run("dismissed", func(t *testing.T) {
		d.mustShow(t, request)
		server.dismiss(server.last(t).num, reasonDismissed)
		d.want(t, event{"closed", "request-1", ""})
	})
	t.Run("expired", func(t *testing.T) {
		d.mustShow(t, request)
		server.dismiss(server.last(t).num, 1)
		testwait.Eventually(t, "the end of it", func() bool { return !slices.Contains(openIDs(d.notifier), request.ID) })
		d.none(t)
	})
	t.Run("nonsense", func(t *testing.T) {
		d.mustShow(t, request)
		num := server.last(t).num
		for _, body := range [][]any{{}, {num}, {"assume:1", num}, {int64(num), "assume:1"}, {num, "assume:1", "more"}, {num, int32(2)}} {
			_ = server.conn.Emit(serverPath, serverName+".ActionInvoked", body...)
			_ = server.conn.Emit(serverPath, serverName+".NotificationClosed", body...)
		}
		d.none(t)
		server.click(num, "later:1")
		d.want(t, event{"action", "request-1", "later:1"})
	})
	t.Run("from_a_stranger", func(t *testing.T) {
		d.mustShow(t, request)
		num := server.last(t).num
		stranger := bus.Connect(t)
		_ = stranger.Emit(serverPath, serverName+".ActionInvoked", num, "assume:1")
		_ = stranger.Emit(serverPath, serverName+".NotificationClosed", num, uint32(reasonDismissed))
		d.none(t)
		// Even what the bus would deliver is not believed.
		d.backend.signal(&dbus.Signal{Sender: stranger.Names()[0], Path: serverPath,
			Name: serverName + ".ActionInvoked", Body: []any{num, "assume:1"}}, d.notifier)
		d.none(t)
	})
}

func TestReplaces(t *testing.T) {
	bus := dbustest.Start(t)
	server := serve(t, bus, &fakeServer{can: everything})
	d := newDesk(t, at(bus))
	d.mustShow(t, request)
	d.mustShow(t, request) // the same words
	if n := len(server.got()); n != 1 {
		t.Errorf("the service was given %d notifications, want 1", n)
	}
	other := request
	other.Title = "Approved: dba and dev"
	other.Actions = []Action{{"assume:2", "Assume"}}
	d.mustShow(t, other)
	if got := server.last(t); got.replaces != 1 || got.summary != other.Title {
		t.Errorf("the service was given %q in the place of %d, want %q in the place of 1", got.summary, got.replaces, other.Title)
	}
	_ = server.conn.Emit(serverPath, serverName+".ActionInvoked", uint32(1), "assume:1") // of the words before
	d.none(t)
	d.mustShow(t, Notification{ID: "other", Title: "Other"})
	if got := server.last(t); got.replaces != 0 || got.num != 2 {
		t.Errorf("another ID took the place of %d", got.replaces)
	}
}

func TestServerWithoutActions(t *testing.T) {
	tests := []struct {
		name, summary, body string
		can                 []string
	}{
		{"body", "Approved: dba", "Until 18:00, for  & more.\nAssume, Later, Drop, Details: see berth's tray menu or \"berth status\".", []string{"body"}},
		{"markup", "Approved: dba", "Until 18:00, for &lt;prod-pg&gt; &amp; more.\nAssume, Later, Drop, Details: see berth&apos;s tray menu or &quot;berth status&quot;.",
			[]string{"body", "body-markup"}},
		{"summary_only", "Approved: dba: Until 18:00, for <prod-pg> & more. Assume, Later, Drop, Details: see berth's tray menu or \"berth status\".", "",
			[]string{"sound"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bus := dbustest.Start(t)
			server := serve(t, bus, &fakeServer{can: tt.can})
			d := newDesk(t, at(bus))
			d.mustShow(t, request)
			got := server.last(t)
			if got.summary != tt.summary || got.body != tt.body || len(got.actions) != 0 {
				t.Errorf("the service was given %q, %q, %q, want %q, %q without actions", got.summary, got.body, got.actions, tt.summary, tt.body)
			}
			if c := d.Capabilities(); c.Actions {
				t.Error("Capabilities() has actions")
			}
		})
	}
}

func TestServerRestarted(t *testing.T) {
	bus := dbustest.Start(t)
	first := serve(t, bus, &fakeServer{can: everything})
	d := newDesk(t, at(bus))
	d.mustShow(t, request)
	d.mustShow(t, Notification{ID: "closed", Title: "Closed"})
	d.mustShow(t, Notification{ID: "expired", Title: "Expired"})
	first.dismiss(3, 1)
	d.Close("closed")
	testwait.Eventually(t, "the withdrawal", func() bool { return len(first.withdrawn()) == 1 })
	testwait.Eventually(t, "the end of the expired one", func() bool { return len(openIDs(d.notifier)) == 1 })

	_ = first.conn.Close()
	second := serve(t, bus, &fakeServer{can: []string{"body"}, next: 40})
	testwait.Eventually(t, "what was open", func() bool { return len(second.got()) == 1 })
	got := second.last(t)
	if got.summary != request.Title || got.replaces != 0 || len(got.actions) != 0 {
		t.Errorf("the second service was given %+v", got)
	}
	d.knows(t, request.ID)
	second.click(got.num, "assume:1") // it has no actions, but says so; the key was offered
	d.want(t, event{"action", "request-1", "assume:1"})

	// One that dies of it again is not fed it again.
	d.mustShow(t, request)
	_ = second.conn.Close()
	third := serve(t, bus, &fakeServer{can: everything})
	testwait.Eventually(t, "what was open", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		c := d.open[request.ID]
		return len(third.got()) == 1 && c != nil && c.shown && !c.flying
	})
	_ = third.conn.Close()
	fourth := serve(t, bus, &fakeServer{can: everything})
	testwait.Eventually(t, "the fourth service", func() bool { return len(openIDs(d.notifier)) == 0 })
	if n := len(fourth.got()); n != 0 {
		t.Errorf("the fourth service was given %d notifications, want none", n)
	}
}

func openIDs(n *notifier) (ids []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.open {
		ids = append(ids, id)
	}
	return ids
}

func TestServerAbsent(t *testing.T) {
	bus := dbustest.Start(t)
	d := newDesk(t, at(bus))
	d.fail = errors.New("no popup either")
	err := d.Show(t.Context(), request)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "start a notification service") {
		t.Errorf("Show() = %v, want ErrUnavailable with a way out", err)
	}
	if got, want := <-d.plain, [2]string{"Approved: dba", "Until 18:00, for prod-pg more."}; got != want {
		t.Errorf("the plain way was given %q, want %q", got, want)
	}
	if c := d.Capabilities(); !errors.Is(c.Problem, ErrUnavailable) || c.Plain || c.Server != "" {
		t.Errorf("Capabilities() = %+v", c)
	}
	server := serve(t, bus, &fakeServer{can: everything})
	d.knows(t, request.ID)
	server.click(1, "assume:1")
	d.want(t, event{"action", "request-1", "assume:1"})
}

func TestPlainWay(t *testing.T) {
	bus := dbustest.Start(t)
	d := newDesk(t, at(bus))
	d.mustShow(t, request)
	<-d.plain
	if c := d.Capabilities(); !c.Plain {
		t.Errorf("Capabilities() = %+v, want plain", c)
	}
	server := serve(t, bus, &fakeServer{can: everything})
	testwait.Eventually(t, "buttons for what went out plainly", func() bool { return len(server.got()) == 1 })
	if c := d.Capabilities(); c.Plain || c.Server != "fake 1.0" {
		t.Errorf("Capabilities() = %+v, want the service", c)
	}
}

func TestNoBus(t *testing.T) {
	d := newDesk(t, func() (string, error) { return "", busaddr.ErrNone })
	err := d.Show(t.Context(), request)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, busaddr.ErrNone) {
		t.Errorf("Show() = %v, want ErrUnavailable because there is no bus", err)
	}
	if c := d.Capabilities(); !errors.Is(c.Problem, busaddr.ErrNone) {
		t.Errorf("Capabilities() = %+v", c)
	}
	if n := len(d.plain); n != 0 {
		t.Error("the plain way, which would launch a bus, was taken")
	}
}

func TestBusRestarted(t *testing.T) {
	t.Parallel()
	bus := dbustest.Start(t)
	serve(t, bus, &fakeServer{can: everything})
	d := newDesk(t, at(bus))
	d.mustShow(t, request)
	bus.Stop(t)
	testwait.Eventually(t, "the loss", func() bool { return d.Capabilities().Problem != nil })
	bus.Start(t)
	server := serve(t, bus, &fakeServer{can: everything})
	d.knows(t, request.ID)
	server.click(server.last(t).num, "assume:1")
	d.want(t, event{"action", "request-1", "assume:1"})
}

func TestSlowServer(t *testing.T) {
	t.Parallel()
	bus := dbustest.Start(t)
	slow := make(chan struct{})
	server := serve(t, bus, &fakeServer{can: everything, slow: slow})
	d := newDeskOf(t, at(bus), 500*time.Millisecond)
	d.ready(t)
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if err := d.Show(ctx, request); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Show() = %v, want that time ran out", err)
	}
	if err := d.Show(t.Context(), Notification{ID: "second", Title: "Second"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Show() = %v, want ErrUnavailable", err)
	}
	d.Close("second") // its answer is still to come
	testwait.Eventually(t, "the end of the second", func() bool { return len(openIDs(d.notifier)) == 1 })
	testwait.Never(t, "the withdrawal of what is not shown yet", func() bool { return len(server.withdrawn()) > 0 })
	close(slow)

	testwait.Eventually(t, "both", func() bool { return len(server.got()) == 2 })
	testwait.Eventually(t, "the withdrawal", func() bool { return len(server.withdrawn()) == 1 })
	for _, n := range server.got() {
		if n.summary == "Second" && server.withdrawn()[0] != n.num {
			t.Errorf("withdrew %d, want %d", server.withdrawn()[0], n.num)
		}
	}
	testwait.Eventually(t, "a number for the first", func() bool {
		d.backend.mu.Lock()
		defer d.backend.mu.Unlock()
		return d.backend.shown["request-1"].num != 0
	})
	for _, n := range server.got() {
		if n.summary == request.Title {
			server.click(n.num, "assume:1")
		}
	}
	d.want(t, event{"action", "request-1", "assume:1"})
}

func TestServerThatDoesNotSayWhatItCan(t *testing.T) {
	t.Parallel()
	bus := dbustest.Start(t)
	mute := make(chan struct{})
	server := serve(t, bus, &fakeServer{can: everything, mute: mute})
	d := newDeskOf(t, at(bus), 3*time.Second)
	d.mustShow(t, request)
	if got := server.last(t); len(got.actions) != 0 || !strings.Contains(got.body, "berth status") {
		t.Errorf("the service was given %q, %q", got.body, got.actions)
	}
	close(mute)
	testwait.Eventually(t, "an answer", func() bool { return d.Capabilities().Actions })
}

func TestHostileServer(t *testing.T) {
	bus := dbustest.Start(t)
	server := serve(t, bus, &fakeServer{can: everything, num0: true})
	d := newDesk(t, at(bus))
	if err := d.Show(t.Context(), request); err == nil || !strings.Contains(err.Error(), "gave no number") {
		t.Errorf("Show() = %v, want that there is no number", err)
	}
	server.click(0, "assume:1")
	d.none(t)
}

func TestMany(t *testing.T) {
	bus := dbustest.Start(t)
	server := serve(t, bus, &fakeServer{can: everything})
	d := newDesk(t, at(bus))
	d.ready(t)
	start := time.Now()
	for i := range 200 {
		n := Notification{ID: fmt.Sprint(i), Title: fmt.Sprint(i)}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		err := d.Show(ctx, n)
		cancel()
		if i >= maxOpen && !errors.Is(err, ErrTooMany) {
			t.Fatalf("Show() of number %d = %v, want ErrTooMany", i, err)
		}
	}
	urgent, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := d.Show(urgent, Notification{ID: "urgent", Urgency: UrgencyCritical, Title: "urgent"}); errors.Is(err, ErrTooMany) {
		t.Error("what is urgent finds no room")
	}
	if open := openIDs(d.notifier); len(open) != maxOpen || slices.Contains(open, "0") || !slices.Contains(open, "urgent") {
		t.Errorf("open: %q, want the urgent one in place of the oldest", open)
	}
	d.Close("urgent")
	if n, limit := len(server.got()), burst+int(time.Since(start)/interval)+1; n > limit {
		t.Errorf("%d were shown at once, want at most %d", n, limit)
	}
	for i := range 200 {
		d.Close(fmt.Sprint(i))
	}
	testwait.Eventually(t, "all to be withdrawn", func() bool { return len(openIDs(d.notifier)) == 0 })
}

func TestWithdrawsAtTheEnd(t *testing.T) {
	bus := dbustest.Start(t)
	server := serve(t, bus, &fakeServer{can: everything})
	t.Run("run", func(t *testing.T) { newDesk(t, at(bus)).mustShow(t, request) })
	testwait.Eventually(t, "the withdrawal", func() bool { return len(server.withdrawn()) == 1 })
}
