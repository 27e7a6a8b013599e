package osservice

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func newTestAutostart(t *testing.T, cfg Config) *autostart {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	a, err := newAutostart(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAutostart(t *testing.T) {
	cfg := plain
	cfg.Program = filepath.Join(t.TempDir(), "berth")
	if err := os.WriteFile(cfg.Program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	a := newTestAutostart(t, cfg)
	check := func(want Status) {
		t.Helper()
		got, err := a.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want.Kind, want.File = KindAutostart, a.file
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
	}
	install := func(want Change) {
		t.Helper()
		if got, err := a.Install(t.Context()); got != want || err != nil {
			t.Errorf("Install() = %q, %v, want %q", got, err, want)
		}
	}
	check(Status{})
	if err := a.Uninstall(t.Context()); err != nil {
		t.Errorf("uninstall what was never installed: %v", err)
	}
	install(Created)
	install(Unchanged)
	check(Status{Installed: true, Enabled: true, Program: cfg.Program})

	// The user switches it off, and the program goes away.
	text, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, append(text, "Hidden=true\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(cfg.Program); err != nil {
		t.Fatal(err)
	}
	check(Status{Installed: true, Program: cfg.Program, ProgramMissing: true})
	install(Updated)
	check(Status{Installed: true, Enabled: true, Program: cfg.Program, ProgramMissing: true})
	if err := a.Start(t.Context()); err == nil {
		t.Error("a program that is not there was started")
	}
	for _, err := range []error{a.Stop(t.Context()), a.Restart(t.Context())} {
		if !errors.Is(err, errUnsupervised) {
			t.Errorf("err = %v, want ErrUnsupervised", err)
		}
	}
	if err := a.Uninstall(t.Context()); err != nil {
		t.Error(err)
	}
	check(Status{})
}
