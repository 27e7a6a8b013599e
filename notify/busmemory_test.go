//go:build !windows && !darwin

package notify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/dbustest"
	"berth/internal/testwait"
)

// TestAfterBeingKilled starts a Notifier with what one that was killed has left.
func TestAfterBeingKilled(t *testing.T) {
	bus := dbustest.Start(t)
	server := serve(t, bus, &fakeServer{can: everything})
	path := filepath.Join(t.TempDir(), "notifications.json")
	remembers := func(c *Config) { c.StateFile = path }
	var left []byte
	t.Run("first", func(t *testing.T) {
		d := newDesk(t, at(bus), remembers)
		d.mustShow(t, request)
		d.mustShow(t, Notification{ID: "two", Title: "Two", Actions: []Action{{"ok:2", "OK"}}})
		d.mustShow(t, Notification{ID: "three", Title: "Three", Actions: []Action{{"ok:3", "OK"}, {DefaultKey, "OK"}}})
		testwait.Eventually(t, "the state file", func() bool {
			left, _ = os.ReadFile(path)
			return strings.Contains(string(left), "ok:3")
		})
	})
	kept, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(kept), `"shown":{}`) {
		t.Errorf("an orderly end left %s, %v, want nothing shown", kept, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the state file is %v, %v, want 0600", info.Mode(), err)
	}
	write := func(t *testing.T, data string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("takes_over", func(t *testing.T) {
		write(t, string(left))
		d := newDesk(t, at(bus), remembers)
		d.ready(t)
		d.mustShow(t, request)
		if got := server.last(t); got.replaces != 1 {
			t.Errorf("it took the place of %d, want 1", got.replaces)
		}
		server.click(2, "ok:2") // of the process before
		d.want(t, event{"action", "two", "ok:2"})
		server.click(3, DefaultKey)
		d.want(t, event{"action", "three", "ok:3"})
	})
	t.Run("another_service", func(t *testing.T) {
		write(t, strings.Replace(string(left), `"server":":`, `"server":":9`, 1))
		d := newDesk(t, at(bus), remembers)
		d.mustShow(t, request)
		if got := server.last(t); got.replaces != 0 {
			t.Errorf("it took the place of %d, which is another service's", got.replaces)
		}
	})
	for name, data := range map[string]string{"nonsense": "{", "wrong_types": `{"shown":[1]}`, "huge": strings.Repeat(" ", 1<<20) + "{}"} {
		t.Run(name, func(t *testing.T) {
			write(t, data)
			d := newDesk(t, at(bus), remembers)
			d.mustShow(t, request)
			if got := server.last(t); got.replaces != 0 {
				t.Errorf("it took the place of %d", got.replaces)
			}
		})
	}
}
