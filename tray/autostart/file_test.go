//go:build !windows && !darwin

package autostart

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstallAndUninstall(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	env := func(name string) string {
		return map[string]string{"XDG_CONFIG_HOME": config, "XDG_CONFIG_DIRS": "/none"}[name]
	}
	e := Entry{Program: "/opt/my apps/berth", Args: []string{"tray", "--quiet"}}
	want := filepath.Join(config, "autostart", "berth-tray.desktop")

	check := func(step string, r Result, err error, changed, there bool) {
		t.Helper()
		if err != nil || r.Path != want || r.Changed != changed {
			t.Errorf("%s: %+v, %v; want path %s, changed %v", step, r, err, want, changed)
		}
		if _, err := os.Stat(want); (err == nil) != there {
			t.Errorf("%s: there %v, want %v", step, err == nil, there)
		}
	}
	r, err := Uninstall(env)
	check("uninstall of nothing", r, err, false, false)
	r, err = Install(e, env)
	check("install", r, err, true, true)
	r, err = Install(e, env)
	check("install again", r, err, false, true)

	text, err := os.ReadFile(want)
	if err != nil || !strings.Contains(string(text), "\nExec=\"/opt/my apps/berth\" tray --quiet\n") {
		t.Errorf("%s, %v", text, err)
	}
	if validate, err := exec.LookPath("desktop-file-validate"); err == nil {
		if out, err := exec.CommandContext(t.Context(), validate, want).CombinedOutput(); err != nil {
			t.Errorf("desktop-file-validate: %v\n%s", err, out)
		}
	}
	e.Program = "/usr/bin/berth"
	r, err = Install(e, env)
	check("install of a moved program", r, err, true, true)
	r, err = Uninstall(env)
	check("uninstall", r, err, true, false)
}

// A package's entry for all users starts the tray until this user wants it no longer.
func TestEntryForAllUsers(t *testing.T) {
	config, shared := t.TempDir(), t.TempDir()
	env := func(name string) string {
		return map[string]string{"XDG_CONFIG_HOME": config, "XDG_CONFIG_DIRS": "relative:" + shared}[name]
	}
	e := Entry{Program: "/usr/bin/berth", Args: []string{"tray", "--quiet"}}
	look := func(step string, want State) {
		t.Helper()
		if st, err := Look(e, env); err != nil || st != want {
			t.Errorf("%s: %+v, %v; want %+v", step, st, err, want)
		}
	}
	own, all := filepath.Join(config, "autostart", "berth-tray.desktop"), filepath.Join(shared, "autostart", "berth-tray.desktop")
	look("nothing", State{Path: own})
	if err := os.Mkdir(filepath.Dir(all), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(all, desktopEntry(e), 0o600); err != nil {
		t.Fatal(err)
	}
	look("the package's", State{Path: all, Installed: true, Current: true})
	if r, err := Uninstall(env); err != nil || !r.Changed {
		t.Errorf("uninstall: %+v, %v", r, err)
	}
	look("uninstalled", State{Path: own, Installed: true, Off: true})
	if r, err := Uninstall(env); err != nil || r.Changed {
		t.Errorf("uninstall again: %+v, %v", r, err)
	}
	if _, err := Install(e, env); err != nil {
		t.Error(err)
	}
	look("installed", State{Path: own, Installed: true, Current: true})
	if err := os.WriteFile(own, append(desktopEntry(e), "X-GNOME-Autostart-enabled=false\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	look("switched off in the desktop's settings", State{Path: own, Installed: true, Off: true})
}

func TestInstallWithoutAHome(t *testing.T) {
	if r, err := Install(Entry{Program: "/x"}, func(string) string { return "" }); err == nil {
		t.Errorf("installed at %s", r.Path)
	}
}
