//go:build !windows && !darwin

package autostart

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// path is where desktops look for what a user wants started.
func path(env func(string) string) (string, error) {
	config := env("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		home, err := homeDir(env)
		if err != nil {
			return "", err
		}
		config = filepath.Join(home, ".config")
	}
	return filepath.Join(config, "autostart", name+".desktop"), nil
}

func content(e Entry) []byte { return desktopEntry(e) }

// Look says how e's entry is, and changes nothing. Without an entry of the user's, that
// of a package for all users counts.
func Look(e Entry, env func(string) string) (State, error) {
	path, err := path(env)
	if err != nil {
		return State{}, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if shared := forAll(env); shared != "" {
			return State{Path: shared, Installed: true, Current: true}, nil
		}
	}
	st, err := lookAt(path, content(e))
	st.Off = slices.ContainsFunc(strings.Split(string(text), "\n"), switchedOff)
	return st, err
}

// switchedOff reports whether a line of an entry keeps desktops from starting it: their
// own settings write such lines, and so does Uninstall.
func switchedOff(line string) bool {
	key, value, _ := strings.Cut(line, "=")
	switch strings.TrimSpace(key) {
	case "Hidden":
		return strings.TrimSpace(value) == "true"
	case "X-GNOME-Autostart-enabled":
		return strings.TrimSpace(value) == "false"
	}
	return false
}

// hidden is an entry that starts nothing. The user's goes before the one for all users.
const hidden = `[Desktop Entry]
Type=Application
Name=berth
Hidden=true
`

// Uninstall takes the entry away, and hides one for all users from this user's desktop.
// What runs goes on until it is quit.
func Uninstall(env func(string) string) (Result, error) {
	path, err := path(env)
	if err != nil {
		return Result{}, err
	}
	if forAll(env) != "" {
		return writeEntry(path, []byte(hidden))
	}
	return removeEntry(path)
}

// forAll is the entry that a package has for all users; empty when there is none.
func forAll(env func(string) string) string {
	for _, dir := range filepath.SplitList(cmp.Or(env("XDG_CONFIG_DIRS"), "/etc/xdg")) {
		path := filepath.Join(dir, "autostart", name+".desktop")
		if _, err := os.Stat(path); err == nil && filepath.IsAbs(dir) {
			return path
		}
	}
	return ""
}
