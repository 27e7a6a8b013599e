package autostart

import "path/filepath"

// path is where launchd looks for what a user wants started.
func path(env func(string) string) (string, error) {
	home, err := homeDir(env)
	if err != nil {
		return "", err
	}
	return filepath.Join(home, "Library", "LaunchAgents", launchLabel+".plist"), nil
}

func content(e Entry) []byte { return launchAgent(e) }

// Look says how e's entry is, and changes nothing.
func Look(e Entry, env func(string) string) (State, error) {
	path, err := path(env)
	if err != nil {
		return State{}, err
	}
	return lookAt(path, content(e))
}

// Uninstall takes the entry away. What runs goes on until it is quit.
func Uninstall(env func(string) string) (Result, error) {
	path, err := path(env)
	if err != nil {
		return Result{}, err
	}
	return removeEntry(path)
}
