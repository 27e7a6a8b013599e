//go:build !windows && !darwin

package notify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"berth/internal/dbustest"
)

// TestLastResort has the library itself show a notification where no service
// runs, through a notify-send that writes down what it was told.
func TestLastResort(t *testing.T) {
	bus := dbustest.Start(t)
	folder := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nfor a in \"$@\"; do printf '[%%s]\\n' \"$a\"; done > %s/args\n", folder)
	if err := os.WriteFile(filepath.Join(folder, "notify-send"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", bus.Address)
	t.Cleanup(func() { // the library keeps the process's shared connection
		if conn, err := dbus.SessionBus(); err == nil {
			_ = conn.Close()
		}
	})
	d := newDesk(t, at(bus))
	d.backend.plain = newPlainer(Config{AppName: "berth"})
	evil := request
	evil.Title, evil.Body = "--help $(touch x)", "<b>`id`</b>\nUntil 18:00."
	d.mustShow(t, evil)
	args, err := os.ReadFile(filepath.Join(folder, "args"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "[help (touch x)]\n[b id /b\nUntil 18:00.]\n"; !strings.HasPrefix(string(args), want) || !strings.Contains(string(args), "[berth]") {
		t.Errorf("notify-send got %q, want %q first and berth's name", args, want)
	}
	if c := d.Capabilities(); !c.Plain {
		t.Errorf("Capabilities() = %+v, want plain", c)
	}
	if err := os.Remove(filepath.Join(folder, "notify-send")); err != nil {
		t.Fatal(err)
	}
	if err := d.Show(t.Context(), Notification{ID: "other", Title: "Other"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Show() = %v, want ErrUnavailable", err)
	}
}
