//go:build !windows && !darwin

package notify

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"berth/internal/dbustest"
	"berth/internal/displaytest"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// realServers are notification services, with the paths where they may be.
var realServers = []struct {
	name    string
	paths   []string
	actions bool // it says that it has buttons
}{
	{"dunst", []string{"dunst"}, true},
	{"xfce4-notifyd", []string{"/usr/lib/x86_64-linux-gnu/xfce4/notifyd/xfce4-notifyd",
		"/usr/lib/aarch64-linux-gnu/xfce4/notifyd/xfce4-notifyd", "/usr/lib/xfce4/notifyd/xfce4-notifyd"}, true},
}

// TestRealServers shows, replaces, withdraws and restarts with real services on
// a display of the test's own.
func TestRealServers(t *testing.T) {
	testneeds.Time(t, "it starts a display")
	for _, tt := range realServers {
		t.Run(tt.name, func(t *testing.T) {
			path := ""
			for _, p := range tt.paths {
				if found, err := exec.LookPath(p); err == nil {
					path = found
				}
			}
			if path == "" {
				if tt.name == "dunst" {
					testneeds.Tool(t, tt.name, exec.ErrNotFound)
				}
				testneeds.Skip(t, tt.name, "it is tried where its desktop is installed")
			}
			bus := dbustest.Start(t)
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", bus.Address)
			t.Setenv("HOME", t.TempDir())
			t.Setenv("XDG_CONFIG_HOME", "")
			t.Setenv("NO_AT_BRIDGE", "1")
			t.Setenv("DISPLAY", displaytest.Start(t, "800x600x24"))
			t.Setenv("WAYLAND_DISPLAY", "")
			stop := startServer(t, path)
			d := newDesk(t, at(bus))
			d.ready(t)
			c := d.Capabilities()
			t.Logf("%+v", c)
			if c.Actions != tt.actions || !c.Replace || c.Problem != nil {
				t.Errorf("Capabilities() = %+v", c)
			}
			evil := request
			evil.Body = "<b>bold</b> & <img src='x'> \x1b[31m\u202e" + strings.Repeat("long ", 3000)
			d.showReal(t, evil)
			first := d.number(evil.ID)
			evil.Title = "<b>Other</b> &amp; words & <i>title</i> " + strings.Repeat("x", 70)
			d.showReal(t, evil)
			if again := d.number(evil.ID); first == 0 || again != first {
				t.Errorf("it was shown as %d and replaced by %d, want the same number", first, again)
			}
			d.showReal(t, Notification{ID: "two", Title: "Two"})
			d.Close("two")
			d.showReal(t, Notification{ID: "three", Title: "Three"}) // after the withdrawal
			if n := d.number("two"); n != 0 {
				t.Errorf("what was withdrawn is still there as %d", n)
			}
			stop()
			testwait.Eventually(t, "the loss", func() bool { return d.Capabilities().Server == "" })
			startServer(t, path)
			testwait.Eventually(t, "what was open", func() bool { return d.number(evil.ID) != 0 })
		})
	}
}

// showReal is mustShow for a service that a busy machine may keep from answering in
// time: it is asked again.
func (d *desk) showReal(t *testing.T, n Notification) {
	t.Helper()
	var err error
	testwait.Eventually(t, n.ID+" to be shown", func() bool {
		err = d.Show(t.Context(), n)
		return !errors.Is(err, errNoAnswer)
	})
	if err != nil {
		t.Fatalf("Show(%q) = %v, want nil", n.ID, err)
	}
}

// number is what the service calls a notification.
func (d *desk) number(id string) uint32 {
	d.backend.mu.Lock()
	defer d.backend.mu.Unlock()
	if d.backend.server.owner == "" {
		return 0
	}
	return d.backend.shown[id].num
}
func startServer(t *testing.T, path string) (stop func()) {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	return stop
}
