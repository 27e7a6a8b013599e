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
