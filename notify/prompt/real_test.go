//go:build !windows && !darwin

package prompt

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"

	"berth/internal/displaytest"
	"berth/internal/testneeds"
)

// TestRealDialog types into dialogs that real programs draw.
func TestRealDialog(t *testing.T) {
	testneeds.Time(t, "it starts a display")
	var dialogs []string
	for _, name := range []string{"zenity", "kdialog"} {
		if _, err := exec.LookPath(name); err == nil {
			dialogs = append(dialogs, name)
		}
	}
	if len(dialogs) == 0 {
		testneeds.Tool(t, "zenity", exec.ErrNotFound)
	}
	testneeds.Program(t, "xdotool")
	for name, value := range map[string]string{
		"DISPLAY": displaytest.Start(t, "800x600x24"), "WAYLAND_DISPLAY": "", "QT_QPA_PLATFORM": "xcb",
		"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent", "HOME": t.TempDir(), "NO_AT_BRIDGE": "1",
	} {
		t.Setenv(name, value)
	}
	q := Question{Title: "berth test", Text: "Password of <b>alice</b> & co_op", OK: "Log in", Cancel: "Not now"}
	for _, name := range dialogs {
		t.Run(name, func(t *testing.T) {
			if name == "kdialog" {
				t.Setenv("XDG_CURRENT_DESKTOP", "KDE")
			}
			a := New(Config{Logger: testLog(t), Limit: time.Minute})
			tests := []struct {
				name     string
				keys     []string
				ask      func(context.Context, Question) (string, error)
				want     string
				canceled bool
			}{
				{"password", []string{"type", "pass word$1"}, a.Password, "pass word$1", false},
				{"code", []string{"type", "123456"}, a.Code, "123456", false},
				{"canceled", []string{"key", "Escape"}, a.Password, "", true},
				{"no_is_suggested", []string{"key", "Return"},
					func(ctx context.Context, q Question) (string, error) { return "", a.Confirm(ctx, q) }, "", true},
			}
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					var answer string
					var err error
					done := make(chan struct{})
					go func() { defer close(done); answer, err = tt.ask(ctx, q) }()
					focus(ctx, t)
					xdotool(ctx, tt.keys...)
					if tt.keys[0] == "type" {
						xdotool(ctx, "key", "Return")
					}
					<-done
					if answer != tt.want || errors.Is(err, ErrCanceled) != tt.canceled || (err != nil) != tt.canceled {
						t.Errorf("got %q, %v, want %q (canceled %v)", answer, err, tt.want, tt.canceled)
					}
				})
			}
		})
	}
}

// focus gives the dialog the keyboard, once it is there: there is no window
// manager to do so.
func focus(ctx context.Context, t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(ctx, "xdotool", "search", "--sync", "--onlyvisible", "--limit", "1", "--name", "^berth test$",
		"windowfocus", "--sync").CombinedOutput(); err != nil {
		t.Errorf("find the dialog: %v: %s", err, out)
	}
	time.Sleep(300 * time.Millisecond) // for the program to notice the focus
}

func xdotool(ctx context.Context, args ...string) {
	_ = exec.CommandContext(ctx, "xdotool", args...).Run()
}
