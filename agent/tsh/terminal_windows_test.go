package tsh

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"berth/agent/state"

	"golang.org/x/sys/windows"
)

// useConsole makes up for what Wine lacks: it leaves the standard handles of a
// child in a console empty, where Windows fills them in.
func useConsole() error {
	if windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() != nil {
		return nil
	}
	in, err := os.OpenFile("CONIN$", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	out, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	os.Stdin, os.Stdout, os.Stderr = in, out, out
	return nil
}

// consoleLogin runs a login in a console; the test binary plays tsh.
func consoleLogin(t *testing.T, part, password string) (kinds []state.LoginKind, said string, err error) {
	t.Helper()
	var log bytes.Buffer
	cfg := LoginConfig{
		Path: useFake(t, part), Home: t.TempDir(), Proxy: "proxy.example.com:443", User: "alice", Terminal: true,
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Ask: func(p Prompt, answer func(string)) {
			kinds = append(kinds, p.Kind)
			said += p.Text + "\n"
			if p.Kind == state.LoginPassword {
				answer(password)
			}
		},
	}
	err = Login(t.Context(), cfg)
	for what, text := range map[string]string{"log": log.String(), "prompts": said} {
		if strings.Contains(text, password) {
			t.Errorf("the password is in the %s: %s", what, text)
		}
	}
	if err != nil && strings.Contains(err.Error(), password) {
		t.Errorf("the password is in the error: %v", err)
	}
	return kinds, said, err
}

func TestPasswordByConsole(t *testing.T) {
	kinds, said, err := consoleLogin(t, "console", consolePassword)
	if err != nil || len(kinds) == 0 || kinds[0] != state.LoginPassword {
		t.Fatalf("Login() = %v after %v:\n%s", err, kinds, said)
	}
	if strings.Contains(said, "Profile URL") {
		t.Errorf("what tsh says of the session is taken for a prompt:\n%s", said)
	}
}

func TestWrongPasswordByConsole(t *testing.T) {
	if _, said, err := consoleLogin(t, "console", "another"); !errors.Is(err, ErrBadLogin) {
		t.Fatalf("Login() = %v, want %v\n%s", err, ErrBadLogin, said)
	}
}

func TestShownPasswordIsDropped(t *testing.T) {
	if _, said, err := consoleLogin(t, "console_echo", consolePassword); err != nil {
		t.Fatalf("Login() = %v\n%s", err, said)
	}
}

func TestCancelledByConsole(t *testing.T) {
	program := useFake(t, "hangs")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(500*time.Millisecond, cancel)
	begin := time.Now()
	err := Login(ctx, LoginConfig{
		Path: program, Home: t.TempDir(), Proxy: "proxy.example.com:443", Terminal: true,
		Logger: slog.New(slog.DiscardHandler), Ask: func(Prompt, func(string)) {},
	})
	if !errors.Is(err, context.Canceled) || time.Since(begin) > 10*time.Second {
		t.Errorf("Login() = %v after %v, want %v at once", err, time.Since(begin), context.Canceled)
	}
}

func TestNoProgramForTheConsole(t *testing.T) {
	err := Login(t.Context(), LoginConfig{
		Path: `C:\no\such\tsh.exe`, Home: t.TempDir(), Proxy: "proxy.example.com:443", Terminal: true,
		Logger: slog.New(slog.DiscardHandler), Ask: func(Prompt, func(string)) {},
	})
	if _, ok := errors.AsType[*NotFoundError](err); !ok {
		t.Errorf("Login() = %v, want a NotFoundError", err)
	}
}
