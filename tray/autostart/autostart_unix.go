//go:build !windows && !darwin

package autostart

import "path/filepath"

// Install has the desktop start e at login.
func Install(e Entry, env func(string) string) (Result, error) {
	path, err := path(env)
	if err != nil {
		return Result{}, err
	}
	return writeEntry(path, desktopEntry(e))
}

// Look says how e's entry is, and changes nothing.
func Look(e Entry, env func(string) string) (State, error) {
	path, err := path(env)
	if err != nil {
		return State{}, err
	}
	return lookAt(path, desktopEntry(e))
}

// Uninstall takes the entry away.
func Uninstall(env func(string) string) (Result, error) {
	path, err := path(env)
	if err != nil {
		return Result{}, err
	}
	return removeEntry(path)
}

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
	return filepath.Join(config, "autostart", Name+".desktop"), nil
}
